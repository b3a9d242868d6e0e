#!/usr/bin/env bash
# packages.sh DEB: the package's life on a bare Debian 11, whose C library is the oldest that is promised: installed, served from,
# upgraded while it runs, removed, purged. A systemctl that only notes what it is asked shows that nothing is enabled, started or
# restarted behind the operator's back. As root; etcd is the one of tests/install-tools.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

deb=$(realpath "$1")
release=bullseye
base=$cache/debian-$release.tar
work=$(mktemp -d)
etcd=
clean_up() {
    [[ -z $etcd ]] || kill "$etcd" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

if [[ ! -e $base ]]; then
    log "making a Debian of $release"
    debootstrap --variant=minbase --include=adduser,curl "$release" "$work/base" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap failed: $(tail -n 3 "$work/debootstrap.log")"
    tar -C "$work/base" -cf "$base.new" .
    mv "$base.new" "$base"
    rm -rf "$work/base"
fi
tree=$work/tree
mkdir "$tree"
tar -C "$tree" -xf "$base"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
client=$(free_port) peer=$(free_port) listen=$(free_port) metrics=$(free_port)
"$cache/etcd-3.5/etcd" --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    >"$work/etcd.log" 2>&1 &
etcd=$!

cp "$deb" "$tree/first.deb"
# The same as a later version.
dpkg-deb -R "$deb" "$work/later"
sed -i 's/^\(Version: .*\)-[0-9]*$/\1-99/' "$work/later/DEBIAN/control"
dpkg-deb --root-owner-group --build "$work/later" "$tree/second.deb" >/dev/null

mkdir -p "$tree/run/systemd/system"
for program in systemctl deb-systemd-invoke; do
    printf '#!/bin/sh\necho "%s $*" >>/asked\n' "$program" >"$tree/usr/bin/$program"
    chmod 755 "$tree/usr/bin/$program"
done

cat >"$tree/life.sh" <<'LIFE'
set -euo pipefail
unit=etcd-encryption-proxy
own=/etc/$unit
here() { printf 'packages: %s\n' "$*"; }
wrong() { printf 'packages: WRONG: %s\n' "$*" >&2; exit 1; }
asked() { sort -u /asked 2>/dev/null; rm -f /asked; }
mount -t proc proc /proc

dpkg -i /first.deb >/dev/null
getent passwd "$unit" >/dev/null || wrong "the user is missing"
[[ -e /usr/lib/systemd/system/$unit.service ]] || wrong "the unit is missing"
! find /etc/systemd -name "$unit.service" | grep . || wrong "it is enabled"
[[ $(asked) == 'systemctl --system daemon-reload' ]] || wrong "installing asked systemd for more than to look again"
[[ $(stat -c '%a %U %G' $own/proxy.env) == "640 root $unit" ]] || wrong "proxy.env: $(stat -c '%a %U %G' $own/proxy.env)"
/usr/bin/$unit version
here "installed: a user, a unit, nothing enabled or started"

# As the unit has it: its environment file, its user.
sed -i -e '/CERT\|KEY_FILE\|KEYFILE\|CAFILE\|TRUSTED/d' \
    -e "s|^\(ETCD_ENCRYPTION_PROXY_ETCD_SERVERS\)=.*|\1=http://127.0.0.1:$CLIENT|" \
    -e "s|^\(ETCD_ENCRYPTION_PROXY_LISTEN_CLIENT_URLS\)=.*|\1=http://127.0.0.1:$LISTEN|" \
    -e "s|^\(ETCD_ENCRYPTION_PROXY_LISTEN_METRICS_URLS\)=.*|\1=http://127.0.0.1:$METRICS|" $own/proxy.env
{
    printf 'apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n  - resources: [secrets]\n    providers:\n'
    $unit config key --type secretbox | sed 's/^/      /'
    printf '      - identity: {}\n'
} >$own/encryption.yaml
chown "$unit" $own/encryption.yaml
chmod 600 $own/encryption.yaml
start() {
    (
        set -a
        . $own/proxy.env
        set +a
        exec setpriv --reuid "$unit" --regid "$unit" --clear-groups --no-new-privs --bounding-set=-all /usr/bin/$unit serve
    ) >/log 2>&1 &
    pid=$!
    until curl -fs "http://127.0.0.1:$METRICS/readyz" >/dev/null; do
        kill -0 "$pid" 2>/dev/null || wrong "it ended: $(cat /log)"
        sleep 0.2
    done
}
start
here "started as $unit: $(curl -fs "http://127.0.0.1:$METRICS/readyz")"

dpkg -i /second.deb >/dev/null 2>/upgrade
kill -0 "$pid" || wrong "the upgrade ended it"
said=$(asked)
! grep -E 'restart|start|stop|enable' <<<"$said" || wrong "the upgrade asked for more than to look again"
grep -q "restart it on one server after the other" /upgrade || wrong "the upgrade does not say that the old one runs: $(cat /upgrade)"
grep -q "=http://127.0.0.1:$CLIENT" $own/proxy.env || wrong "the upgrade lost what was written in proxy.env"
curl -fs "http://127.0.0.1:$METRICS/readyz" >/dev/null || wrong "it does not serve any more"
kill "$pid"
wait "$pid" || wrong "it did not end well: $(cat /log)"
start
here "upgraded: the old one ran on, and the new one has the old one's flags"
kill "$pid"
wait "$pid"

dpkg -r $unit >/dev/null
[[ $(asked) == *'deb-systemd-invoke stop etcd-encryption-proxy.service'* ]] || wrong "removing does not stop it"
[[ -e $own/proxy.env && -e $own/encryption.yaml ]] || wrong "removing took the configuration"
dpkg -P $unit >/dev/null 2>/purge
[[ ! -e $own/proxy.env ]] || wrong "a purge leaves proxy.env"
[[ -e $own/encryption.yaml ]] || wrong "a purge took the keys"
grep -q 'is left as it is' /purge || wrong "a purge does not say that the keys are left: $(cat /purge)"
[[ -z $(find / -xdev -path /proc -prune -o -name '*etcd-encryption-proxy*' -print | grep -v -e '^/etc/etcd-encryption-proxy$' -e '^/var/cache') ]] ||
    wrong "a purge leaves $(find / -xdev -path /proc -prune -o -name '*etcd-encryption-proxy*' -print)"
here "removed and purged: the keys are still there"
LIFE
unshare --mount --pid --fork --kill-child \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CLIENT="$client" LISTEN="$listen" METRICS="$metrics" \
    chroot "$tree" /bin/bash /life.sh
