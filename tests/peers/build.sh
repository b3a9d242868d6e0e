#!/usr/bin/env bash
# build.sh NAME TARGET: builds the programs of tests/peers/NAME, whose modules are those of its go.sum, into the folder TARGET.
# Two minutes for an etcd on two cores, where nothing is compiled yet. Nothing is published here: TARGET is the caller's.
set -euo pipefail

name=$1
target=$(realpath -m "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/$name"

case $name in
etcd-*)
    export CGO_ENABLED=0
    programs=(etcd=go.etcd.io/etcd/server/v3 etcdctl=go.etcd.io/etcd/etcdctl/v3 etcdutl=go.etcd.io/etcd/etcdutl/v3)
    ;;
kine-*)
    # SQLite is C.
    export CGO_ENABLED=1
    programs=(kine=github.com/k3s-io/kine)
    ;;
*)
    echo "build.sh: no such peer: $name" >&2
    exit 2
    ;;
esac

go=$(../../go.sh)
mkdir -p "$target"
for program in "${programs[@]}"; do
    # The build yields to whatever else the machine does.
    nice -n 5 "$go" build -p 2 -mod=readonly -trimpath -ldflags '-s -w' -o "$target/${program%%=*}" "${program#*=}"
done
