#!/usr/bin/env bash
# The proxy at work in one command: an etcd and the proxy on free ports, a Secret stored through the proxy, what a client
# sees and what lies in etcd, then both left running until Ctrl-C. Everything it writes is in a temporary folder that is
# removed at the end. QUICKSTART_EXIT=1 ends it once all has been shown.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

tests/install-tools.sh
etcd_bin=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy/etcd-3.5
say "Building (some minutes the first time)"
cargo build --locked --release
proxy_bin=${CARGO_TARGET_DIR:-target}/release/etcd-encryption-proxy

work=$(mktemp -d)
pids=()
finish() {
    trap - EXIT INT TERM
    # The proxy before etcd, so that it drains in peace.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

# Ports that are free now; both stay bound until both are known, so that they differ.
read -r client peer < <(python3 - <<'PY'
import socket
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])
PY
)

say "1. An etcd"
"$etcd_bin/etcd" --name quickstart --data-dir "$work/etcd" --log-level error \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "quickstart=http://127.0.0.1:$peer" >"$work/etcd.log" 2>&1 &
pids+=($!)
etcdctl() { ETCDCTL_API=3 "$etcd_bin/etcdctl" --dial-timeout=5s "$@"; }
for _ in $(seq 100); do
    etcdctl --endpoints "127.0.0.1:$client" endpoint health >/dev/null 2>&1 && break
    kill -0 "${pids[0]}" 2>/dev/null || { cat "$work/etcd.log" >&2; exit 1; }
    sleep 0.1
done

say "2. An EncryptionConfiguration with a new key, and the proxy"
cat >"$work/encryption.yaml" <<YAML
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: $(head -c 32 /dev/urandom | base64)
      - identity: {}
YAML
sed 's/\(secret: \).*/\1<32 random bytes, base64>/' "$work/encryption.yaml"
"$proxy_bin" serve --etcd-servers="http://127.0.0.1:$client" --listen-client-urls=http://127.0.0.1:0 \
    --encryption-provider-config="$work/encryption.yaml" 2>"$work/proxy.log" &
pids+=($!)
url=
for _ in $(seq 100); do
    url=$(sed -n 's/.*serving client traffic.*url="\([^"]*\)".*/\1/p' "$work/proxy.log")
    [[ -n $url ]] && break
    kill -0 "${pids[1]}" 2>/dev/null || break
    sleep 0.1
done
cat "$work/proxy.log"
[[ -n $url ]] || exit 1
through=${url#http://}

say "3. A Secret, stored through the proxy"
key=/registry/secrets/default/db
# kube-apiserver stores protobuf; what it holds does not matter to the proxy.
printf '{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"default"},"data":{"password":"aHVudGVyMg=="}}' |
    etcdctl --endpoints "$through" put "$key"

say "4. As kube-apiserver would see it, through the proxy"
etcdctl --endpoints "$through" get "$key" --print-value-only

say "5. As it lies in etcd"
etcdctl --endpoints "127.0.0.1:$client" get "$key" --print-value-only >"$work/stored"
python3 - "$work/stored" <<'PY'
import sys
data = open(sys.argv[1], "rb").read()[:-1]
for at in range(0, min(len(data), 96), 16):
    row = data[at:at + 16]
    print(f"{at:08x}  {row.hex(' '):<47}  " + "".join(chr(b) if 32 <= b < 127 else "." for b in row))
print(f"... {len(data)} bytes in all")
if not data.startswith(b"k8s:enc:aescbc:v1:key1:") or b"password" in data:
    sys.exit("quickstart: the value in etcd is not sealed")
PY

[[ -z ${QUICKSTART_EXIT:-} ]] || exit 0
say "Both run until Ctrl-C. Try:"
echo "  ETCDCTL_API=3 $etcd_bin/etcdctl --endpoints $through get $key          # through the proxy"
echo "  ETCDCTL_API=3 $etcd_bin/etcdctl --endpoints 127.0.0.1:$client get $key  # what etcd has"
wait "${pids[1]}"
