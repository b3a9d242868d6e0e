#!/usr/bin/env bash
# static-pod.sh FOLDER: the image of a release in FOLDER (make dist) runs from the manifest that is shipped for kubeadm, with podman's
# `play kube` in kubelet's place: certificates laid out as kubeadm lays them out, etcd with mutual TLS on the host, a value written by a
# client with kube-apiserver's certificate and sealed in etcd. As root. Only ports and folders are others than in the manifest.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

dist=$(realpath "$1")
work=$(mktemp -d)
etcd=
export CONTAINERS_CONF=$work/containers.conf STORAGE_DRIVER=vfs
podman=(podman --root "$work/storage" --runroot "$work/run" --storage-driver vfs --runtime runc --cgroup-manager cgroupfs --log-level error)
clean_up() {
    "${podman[@]}" pod rm --force --all >/dev/null 2>&1 || true
    [[ -z $etcd ]] || kill "$etcd" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >"$CONTAINERS_CONF"

# kubeadm's layout and names.
pki=$work/pki
mkdir -p "$pki/etcd" "$work/encryption"
request() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "$2" 2>/dev/null |
        openssl x509 -req -CA "$pki/etcd/ca.crt" -CAkey "$pki/etcd/ca.key" -CAcreateserial -days 2 -out "$1.crt" \
            -extfile <(printf 'extendedKeyUsage=%s\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n' "$3") 2>/dev/null
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=etcd-ca -keyout "$pki/etcd/ca.key" \
    -out "$pki/etcd/ca.crt" 2>/dev/null
request "$pki/etcd/server" /CN=node serverAuth,clientAuth
request "$pki/apiserver-etcd-client" /CN=kube-apiserver-etcd-client clientAuth
chmod 600 "$pki"/*.key "$pki"/etcd/*.key

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
client=$(free_port) peer=$(free_port) listen=$(free_port) metrics=$(free_port)
"$cache/etcd-3.5/etcd" --data-dir "$work/etcd" --listen-client-urls "https://127.0.0.1:$client" \
    --advertise-client-urls "https://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    --client-cert-auth --trusted-ca-file "$pki/etcd/ca.crt" --cert-file "$pki/etcd/server.crt" --key-file "$pki/etcd/server.key" \
    >"$work/etcd.log" 2>&1 &
etcd=$!
etcdctl() {
    local port=$1
    shift
    ETCDCTL_API=3 "$cache/etcd-3.5/etcdctl" --endpoints "https://127.0.0.1:$port" --cacert "$pki/etcd/ca.crt" \
        --cert "$pki/apiserver-etcd-client.crt" --key "$pki/apiserver-etcd-client.key" "$@"
}

log "loading the tarball for nodes without a registry"
zstd -qdc "$dist/$name-images-$(host).tar.zst" | "${podman[@]}" load --quiet
"${podman[@]}" run --rm --network host "$image:$version" version

(umask 077 && {
    printf 'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n  - resources: [secrets]\n    providers:\n'
    "${podman[@]}" run --rm --network host "$image:$version" config key --type secretbox | sed 's/^/      /'
    printf '      - identity: {}\n'
} >"$work/encryption/encryption.yaml")

sed -e "s|path: /etc/kubernetes/pki|path: $pki|" -e "s|path: /etc/etcd-encryption-proxy|path: $work/encryption|" \
    -e "s|127.0.0.1:2379|127.0.0.1:$client|" -e "s|127.0.0.1:3379|127.0.0.1:$listen|" \
    -e "s|127.0.0.1:3381|127.0.0.1:$metrics|" -e "s|port: 3381|port: $metrics|" \
    -e "s|image: .*|image: $image:$version|" "$root/deploy/kubeadm/$name.yaml" >"$work/pod.yaml"
"${podman[@]}" play kube --build=false --network host "$work/pod.yaml" >/dev/null
for ((tries = 0; ; tries++)); do
    ! curl -fs "http://127.0.0.1:$metrics/readyz" >/dev/null || break
    ((tries < 150)) || fail "the pod does not become ready: $("${podman[@]}" logs "$name-proxy" 2>&1 | tail -n 5)"
    sleep 0.2
done
etcdctl "$listen" put /registry/secrets/default/a 'a secret of the static pod' >/dev/null
[[ $(etcdctl "$listen" get --print-value-only /registry/secrets/default/a) == 'a secret of the static pod' ]] || fail "the value does not come back"
etcdctl "$client" get --print-value-only /registry/secrets/default/a >"$work/stored"
grep -qa '^k8s:enc:secretbox:v1:' "$work/stored" || fail "etcd holds the value unsealed"
! grep -qa 'a secret of' "$work/stored" || fail "etcd holds the value in the clear"
with=(--cert "$pki/apiserver-etcd-client.crt" --key "$pki/apiserver-etcd-client.key")
curl -fs --cacert "$pki/etcd/ca.crt" "${with[@]}" "https://127.0.0.1:$listen/version" >/dev/null || fail "a client with a certificate is not served"
! curl -fs --cacert "$pki/etcd/ca.crt" "https://127.0.0.1:$listen/version" >/dev/null || fail "a client without a certificate is served"
log "the image runs from the static pod's manifest, serves over mutual TLS and seals"
