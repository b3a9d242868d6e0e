#!/usr/bin/env bash
# The systemd unit, alone and with each drop-in: systemd finds nothing wrong with it, and its exposure is 2.0 at most. Needs
# systemd-analyze, and no systemd that runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit=2.0
unit=etcd-encryption-proxy.service
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# What the units name has to be there for `verify`.
mkdir -p "$root"/{usr/bin,bin,etc/systemd/system,usr/lib/systemd/system}
for program in usr/bin/etcd-encryption-proxy bin/kill; do
    printf '#!/bin/sh\n' >"$root/$program"
    chmod 755 "$root/$program"
done
for standard in sysinit basic shutdown multi-user network-online; do
    printf '[Unit]\nDescription=%s\n' "$standard" >"$root/usr/lib/systemd/system/$standard.target"
done
for slice in system -; do
    printf '[Unit]\nDescription=slice\nDefaultDependencies=no\n' >"$root/usr/lib/systemd/system/$slice.slice"
done

failed=0
examine() {
    local name=$1 dropin=${2:-} said exposure
    rm -rf "$root/etc/systemd/system/"*
    cp "deploy/systemd/$unit" "$root/etc/systemd/system/$unit"
    if [[ -n $dropin ]]; then
        mkdir "$root/etc/systemd/system/$unit.d"
        cp "$dropin" "$root/etc/systemd/system/$unit.d/"
    fi
    # It ends with 0 although it warns.
    said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --root="$root" --man=no --generators=no "/etc/systemd/system/$unit" 2>&1) ||
        said="$said (exit $?)"
    said=$(grep -v 'Proceeding WITHOUT firewalling' <<<"$said" || true)
    if [[ -n $said ]]; then
        printf 'units: %s: %s\n' "$name" "$said" >&2
        failed=1
    fi
    exposure=$(systemd-analyze security --offline=yes --root="$root" "$unit" |
        sed -n 's/^.*Overall exposure level for [^:]*: \([0-9.]*\) .*$/\1/p')
    if ! awk -v exposure="${exposure:-none}" -v limit="$limit" 'BEGIN { exit !(exposure ~ /^[0-9.]+$/ && exposure <= limit) }'; then
        printf 'units: %s: exposure %s, %s at most\n' "$name" "${exposure:-unknown}" "$limit" >&2
        failed=1
    else
        printf 'units: %s: verified, exposure %s\n' "$name" "$exposure"
    fi
}

examine "$unit"
for dropin in deploy/systemd/*.conf; do
    examine "$unit with ${dropin##*/}" "$dropin"
done
exit "$failed"
