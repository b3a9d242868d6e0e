# What the scripts of this folder share; sourced by them. Everything that is made is a function of the commit and of the tools:
# times are the commit's, owners root, orders sorted, paths mapped away.
set -euo pipefail
export LC_ALL=C TZ=UTC

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=etcd-encryption-proxy
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/$name

# From an unpacked source archive, both have to be given.
if [[ -z ${BUILD_COMMIT:-} ]]; then
    BUILD_COMMIT=$(git -C "$root" rev-parse HEAD)
    [[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] || BUILD_COMMIT+=-changed
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export BUILD_COMMIT SOURCE_DATE_EPOCH

# Where the image is pulled from; `localhost` is what an archive that was loaded has.
image=${IMAGE:-localhost/$name}
maintainer=${MAINTAINER:-etcd-encryption-proxy maintainers <maintainers@etcd-encryption-proxy.dev>}

log() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
fail() {
    log "$*"
    exit 1
}

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

# triple ARCH: what compilers call it, as Debian does and as Rust does.
triple() {
    case $1 in
    amd64) echo x86_64-linux-gnu ;;
    arm64) echo aarch64-linux-gnu ;;
    *) fail "the architecture $1 is not built: amd64 and arm64 are" ;;
    esac
}
target() {
    case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) fail "the architecture $1 is not built: amd64 and arm64 are" ;;
    esac
}
host() { dpkg --print-architecture; }

# archive FOLDER FILE.tar: every run the same bytes.
archive() {
    tar --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode='u+rw,go+r,go-w' -C "$1" -cf "$2" .
}
