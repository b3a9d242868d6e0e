#!/usr/bin/env bash
# Brings what `make dist` and its checks run to the machine: Debian's tools for packages and images, cargo-auditable; and to the
# cache folder:
#   sysroot-ARCH/   C libraries of Debian 11, which the binary of the packages is linked with, so that it runs there and later
#   rust-VERSION/   Debian's Rust with the standard library of arm64, only where rustup cannot fetch that
# Idempotent, and quick when nothing is missing. Debian 12, as root or with sudo.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The release that is linked with; its glibc is the least that the packages run on.
release=bullseye
rust=1.97.1+dfsg1-1
rust_release=sid
auditable=0.7.7

install_packages() {
    local -a missing=()
    local -A programs=(
        [buildah]=buildah [podman]=podman [runc]=runc [skopeo]=skopeo [zstd]=zstd [minisign]=minisign [lintian]=lintian
        [rpmbuild]=rpm [rpmlint]=rpmlint [debootstrap]=debootstrap [qemu-aarch64-static]=qemu-user-static
        [aarch64-linux-gnu-gcc]=gcc-aarch64-linux-gnu [systemd-analyze]=systemd [man]=man-db [jq]=jq [catatonit]=catatonit [gcc]=gcc [python3]=python3
    )
    local program
    for program in "${!programs[@]}"; do
        command -v "$program" >/dev/null || missing+=("${programs[$program]}")
    done
    [[ -e /usr/aarch64-linux-gnu/lib/libc.a ]] || missing+=(libc6-dev-arm64-cross)
    [[ -e /usr/lib/x86_64-linux-gnu/libc.a ]] || missing+=(libc6-dev)
    [[ ${#missing[@]} == 0 ]] && return
    log "installing ${missing[*]}"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

install_auditable() {
    cargo auditable --version >/dev/null 2>&1 || cargo install cargo-auditable --version "$auditable" --locked
}

# apt ARGUMENT…: an apt of its own, which knows the packages of both releases and architectures and installs none.
apt() {
    APT_CONFIG=$cache/apt/conf "$@"
}

set_up_apt() {
    mkdir -p "$cache"/apt/{lists/partial,archives/partial}
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror suite
    # The one that the machine uses.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [[ -n $mirror ]] || fail "apt knows no mirror of Debian: apt-get update"
    for suite in "$@"; do
        echo "deb [signed-by=$keyring] $mirror $suite main"
    done >"$cache/apt/sources.list"
    cat >"$cache/apt/conf" <<CONF
Dir::Etc::sourcelist "$cache/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$cache/apt/lists";
Dir::Cache "$cache/apt";
Dir::State::status "/dev/null";
APT::Architectures {"amd64";"arm64";};
APT::Sandbox::User "root";
CONF
    apt apt-get update -qq
}

# unpack FOLDER PACKAGE…: into FOLDER, which appears in one step.
unpack() {
    local folder=$1 work
    shift
    work=$(mktemp -d "$folder.XXXXXX")
    mkdir "$work/debs" "$work/root"
    (cd "$work/debs" && apt apt-get download -qq "$@") >&2
    local package
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    rm -rf "${folder:?}"
    mv "$work/root" "$folder"
    rm -rf "$work"
}

install_sysroot() {
    local arch=$1 package
    [[ -d $cache/sysroot-$arch ]] && return
    log "fetching the C libraries of $release for $arch"
    set_up_apt "$release"
    local -a packages=()
    for package in libc6-dev libc6 linux-libc-dev libgcc-10-dev libgcc-s1 libcrypt1; do
        packages+=("$package:$arch")
    done
    unpack "$cache/sysroot-$arch.new" "${packages[@]}"
    # A link to /lib means the sysroot's, and a linker takes it for the machine's.
    local link
    find "$cache/sysroot-$arch.new" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
        ln -sfrn "$cache/sysroot-$arch.new$(readlink "$link")" "$link"
    done
    mv "$cache/sysroot-$arch.new" "$cache/sysroot-$arch"
}

# Where rustup can fetch a target's library, that is used, and this is not.
install_rust() {
    local folder=$cache/rust-${rust%%+*} target
    target=$(target arm64)
    [[ -d $(rustc --print target-libdir --target "$target") || -d $folder ]] && return
    if command -v rustup >/dev/null && rustup target add "$target" >&2; then
        return
    fi
    log "rustup has no $target here; fetching Debian's Rust ${rust%%+*}"
    set_up_apt "$rust_release"
    # What rustc itself runs on comes along: the machine's C library may be older.
    unpack "$folder" "rustc:amd64=$rust" "libstd-rust-dev:amd64=$rust" "libstd-rust-dev:arm64=$rust" \
        "libstd-rust-$(cut -d. -f1,2 <<<"$rust"):amd64=$rust" libllvm22:amd64 libc6:amd64 libgcc-s1:amd64 libstdc++6:amd64 \
        libzstd1:amd64 zlib1g:amd64 libedit2:amd64 libffi8:amd64 libxml2-16:amd64 libz3-4:amd64 libgmp10:amd64 libbsd0:amd64 \
        libtinfo6:amd64 libmd0:amd64 liblzma5:amd64
    # A program by name, for cargo.
    cat >"$folder/rustc" <<RUSTC
#!/bin/sh
exec $folder/usr/lib64/ld-linux-x86-64.so.2 --library-path $folder/usr/lib/x86_64-linux-gnu $folder/usr/bin/rustc \\
    --sysroot $folder/usr "\$@"
RUSTC
    chmod 755 "$folder/rustc"
}

mkdir -p "$cache"
exec 9>"$cache/dist.lock"
flock 9
install_packages
install_auditable
for arch in amd64 arm64; do
    install_sysroot "$arch"
done
install_rust
log "all is there"
