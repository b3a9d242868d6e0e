#!/usr/bin/env bash
# Shows what the proxy does, on this machine alone: starts an etcd and the proxy with a key made on the spot, stores a
# Secret through the proxy, prints it as kube-apiserver would see it and as it lies in etcd, and shows that one that was stored
# in the clear before has been encrypted. Both run until Ctrl-C; with QUICKSTART_EXIT=1 it ends after showing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests/install-tools.sh quickstart
cargo build --locked
binary=${CARGO_TARGET_DIR:-target}/debug/etcd-encryption-proxy
etcd_bin=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy/etcd-3.5
export ETCDCTL_API=3

work=$(mktemp -d)
pids=()
stop() {
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf 'quickstart: %s\n' "$1" >&2
    tail -n 20 "$work"/*.log >&2 || true
    exit 1
}

# Waits for a command to succeed, and gives up when the process it waits for ends.
await() {
    local what=$1 pid=$2
    shift 2
    for ((i = 0; i < 300; i++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        kill -0 "$pid" 2>/dev/null || fail "$what ended"
        sleep 0.1
    done
    fail "$what does not become ready"
}

swept() {
    python3 -c '
import sys, urllib.request
sys.exit(not urllib.request.urlopen(sys.argv[1]).read().startswith(b"ok: done"))' "$metrics_url/readyz/sweep"
}

# Both at once, so that they differ.
read -r client_port peer_port < <(python3 -c '
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in held])')
etcd_url=http://127.0.0.1:$client_port
peer_url=http://127.0.0.1:$peer_port

"$etcd_bin/etcd" --name=quickstart --data-dir="$work/data" --listen-client-urls="$etcd_url" \
    --advertise-client-urls="$etcd_url" --listen-peer-urls="$peer_url" --initial-advertise-peer-urls="$peer_url" \
    --initial-cluster="quickstart=$peer_url" --log-outputs=stderr >"$work/etcd.log" 2>&1 &
pids+=($!)
await etcd $! "$etcd_bin/etcdctl" --endpoints="$etcd_url" endpoint health

umask 077
cat >"$work/encryption.yaml" <<YAML
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: quickstart
              secret: $(head -c 32 /dev/urandom | base64)
      - identity: {}
YAML
key=/registry/secrets/default/database
secret='{"apiVersion":"v1","kind":"Secret","metadata":{"name":"database","namespace":"default"},"data":{"password":"aHVudGVyMg=="}}'
# Stored before anybody thought of encryption.
"$etcd_bin/etcdctl" --endpoints="$etcd_url" put "$key-of-old" "$secret" >/dev/null

"$binary" serve --etcd-servers="$etcd_url" --listen-client-urls=http://127.0.0.1:0 \
    --listen-metrics-urls=http://127.0.0.1:0 --encryption-provider-config="$work/encryption.yaml" >"$work/proxy.log" 2>&1 &
pids+=($!)
await "the proxy" $! grep -q 'serving client traffic' "$work/proxy.log"
proxy_url=$(grep 'serving client traffic' "$work/proxy.log" | grep -o 'http://127.0.0.1:[0-9]*' | head -n 1)
metrics_url=$(grep 'serving metrics and health' "$work/proxy.log" | grep -o 'http://127.0.0.1:[0-9]*' | head -n 1)

"$etcd_bin/etcdctl" --endpoints="$proxy_url" put "$key" "$secret" >/dev/null

printf '\n%s, through the proxy, as kube-apiserver sees it:\n\n' "$key"
"$etcd_bin/etcdctl" --endpoints="$proxy_url" get "$key" --print-value-only
printf '\nThe same, as it lies in etcd (the first 96 bytes):\n\n'
"$etcd_bin/etcdctl" --endpoints="$etcd_url" get "$key" --print-value-only | od -A d -t x1z -N 96
printf '\nOne that had been stored in the clear has been encrypted in the background:\n\n'
await "the sweep" "${pids[1]}" swept
"$etcd_bin/etcdctl" --endpoints="$etcd_url" get "$key-of-old" --print-value-only | od -A d -t x1z -N 96
printf '\nWhat etcd holds now, under which key:\n\n'
"$binary" sweep --dry-run --etcd-servers="$etcd_url" --encryption-provider-config="$work/encryption.yaml"
printf '\nTry it:\n\n'
printf '  ETCDCTL_API=3 %s --endpoints=%s get --prefix /registry   # the proxy\n' "$etcd_bin/etcdctl" "$proxy_url"
printf '  ETCDCTL_API=3 %s --endpoints=%s get --prefix /registry   # etcd itself\n' "$etcd_bin/etcdctl" "$etcd_url"
printf '  curl "%s/readyz?verbose"; curl %s/metrics\n' "$metrics_url" "$metrics_url"

if [[ ${QUICKSTART_EXIT:-} == 1 ]]; then
    exit 0
fi
printf '\nBoth run until Ctrl-C.\n'
wait -n || true
fail "a process ended by itself"
