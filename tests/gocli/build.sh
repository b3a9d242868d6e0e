#!/usr/bin/env bash
# Builds gocli, a client of etcd's own library for Go, to the path given. The modules are those of go.sum.
set -euo pipefail

target=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
# Quick when nothing has changed.
[[ -x $target && -z $(find . -type f -newer "$target") ]] && exit 0

go=$(../go.sh)
mkdir -p "${target%/*}"
# The build yields to whatever else the machine does.
nice -n 10 "$go" build -mod=readonly -o "$target" .
