#!/usr/bin/env bash
# build.sh ARCH FOLDER: the program of one architecture (amd64, arm64), stripped, in two links of the same code:
#   FOLDER/dynamic   for packages: with the C library that is there, from Debian 11's (glibc 2.31) on
#   FOLDER/static    for images: needs nothing but the kernel
# Why glibc, and why not one static binary for both: docs/install/packages.md.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arch=$1
out=$(realpath -m "$2")
target=$(target "$arch")
triple=$(triple "$arch")
sysroot=$cache/sysroot-$arch
[[ -d $sysroot ]] || fail "$sysroot is missing: packaging/install-tools.sh fetches it"
mkdir -p "$out"
cd "$root"

# rustup's compiler where it has the target's library, else Debian's.
if [[ ! -d $(rustc --print target-libdir --target "$target" 2>/dev/null) ]]; then
    RUSTC=$(find "$cache" -maxdepth 2 -path '*/rust-*/rustc' -type f | sort | tail -n 1)
    [[ -n $RUSTC ]] || fail "there is no standard library for $target: packaging/install-tools.sh fetches one"
    export RUSTC
fi
rust_sysroot=$("${RUSTC:-rustc}" --print sysroot)

# Neither the folder of the checkout nor those of the tools are to be found in what is built.
folder=${CARGO_TARGET_DIR:-$root/target}/dist-$arch
maps=("$root=/build" "$folder=/build/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$rust_sysroot=/rust")
rustflags='' cflags=''
for map in "${maps[@]}"; do
    rustflags+=" --remap-path-prefix=$map"
    cflags+=" -ffile-prefix-map=$map"
done
export CARGO_TARGET_DIR=$folder CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false CARGO_INCREMENTAL=0
export RUSTFLAGS="$rustflags"
export "CFLAGS_${target//-/_}=$cflags"
linker=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_LINKER
if [[ $arch != "$(host)" ]]; then
    export "$linker=$triple-gcc" "CC_${target//-/_}=$triple-gcc" "AR_${target//-/_}=$triple-ar"
fi

# Only the last step differs: what is linked with.
link() {
    local kind=$1
    shift
    log "$arch, $kind"
    cargo auditable rustc --locked --quiet --release --target "$target" --bin "$name" -- "$@"
    install -m 755 "$folder/$target/release/$name" "$out/$kind"
}
# gcc looks into its own folders before the sysroot, so those of the sysroot are named.
link dynamic -C link-arg="--sysroot=$sysroot" -C link-arg="-B$sysroot/usr/lib/$triple" \
    -C link-arg="-L$sysroot/usr/lib/$triple" -C link-arg="-L$sysroot/lib/$triple"
link static -C target-feature=+crt-static

# What was promised is looked at.
needed=$("$triple-objdump" -T "$out/dynamic" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
[[ $(printf '%s\n' GLIBC_2.31 "$needed" | sort -V | tail -n 1) == GLIBC_2.31 ]] ||
    fail "$out/dynamic needs $needed, and GLIBC_2.31 is promised"
if "$triple-readelf" -d "$out/static" | grep -q NEEDED; then
    fail "$out/static needs libraries"
fi
for kind in dynamic static; do
    for map in "${maps[@]}"; do
        ! grep -qaF "${map%%=*}/" "$out/$kind" || fail "$out/$kind names ${map%%=*}"
    done
done
log "$arch needs $needed at most"
