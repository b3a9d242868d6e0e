#!/usr/bin/env bash
# Brings the clients that are not ours: gRPC for Python and for Node to the cache folder, h2load, nghttp, curl, and Node itself
# where there is none, to the machine. Idempotent, and quick when nothing is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy
grpcio=1.85.3
protobuf=7.36.2

log() { printf 'clients: %s\n' "$*" >&2; }

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    local -a missing=()
    command -v curl >/dev/null || missing+=(curl)
    command -v h2load >/dev/null && command -v nghttp >/dev/null || missing+=(nghttp2-client)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [[ ${#missing[@]} == 0 ]] && return
    log "installing ${missing[*]}"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# Moves a finished folder into place in one step: an interrupted run must not look like a finished one.
publish() {
    rm -rf "${2:?}"
    mv "$1" "$2"
}

install_python() {
    local folder=$cache/grpc-python-$grpcio
    [[ -d $folder ]] && return
    log "fetching grpcio $grpcio and protobuf $protobuf from PyPI"
    local work
    work=$(mktemp -d "$cache/grpc-python.XXXXXX")
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --only-binary :all: --target "$work/lib" "grpcio==$grpcio" "protobuf==$protobuf" >&2
    publish "$work/lib" "$folder"
    rm -rf "$work"
}

install_node() {
    local folder
    folder=$cache/grpc-node-$(sha256sum node/package-lock.json | cut -c1-16)
    if [[ ! -d $folder ]]; then
        log "fetching the packages of tests/clients/node/package-lock.json from npm"
        local work
        work=$(mktemp -d "$cache/grpc-node.XXXXXX")
        cp node/package.json node/package-lock.json "$work/"
        npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$work" >&2
        publish "$work" "$folder"
    fi
    ln -sfn "$folder" "$cache/grpc-node"
}

mkdir -p "$cache"
exec 9>"$cache/install.lock"
flock 9
install_packages
install_python
ln -sfn "$cache/grpc-python-$grpcio" "$cache/grpc-python"
install_node
