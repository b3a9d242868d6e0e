#!/usr/bin/env bash
# Builds helm and kubeconform to the folder given. The modules are those of go.sum.
set -euo pipefail

target=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
# Quick when nothing has changed.
[[ -x $target/helm && -x $target/kubeconform && -z $(find . -type f -newer "$target/helm") ]] && exit 0

go=$(../../tests/go.sh)
mkdir -p "$target"
# The build yields to whatever else the machine does.
nice -n 5 "$go" build -mod=readonly -trimpath -ldflags='-s -w' -o "$target/" github.com/yannh/kubeconform/cmd/kubeconform helm.sh/helm/v4/cmd/helm
touch "$target/helm"
