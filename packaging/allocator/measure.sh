#!/usr/bin/env bash
# What musl's allocator costs beside glibc's, both static, in turns in one run: pairs of malloc and free in a second of CPU, and the
# ratio of the medians. Why packages are of glibc.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v musl-gcc >/dev/null || fail "musl-gcc is missing: apt-get install musl-tools"
source=$root/packaging/allocator/pattern.c
gcc -O2 -static -pthread -o "$work/glibc" "$source"
musl-gcc -O2 -static -pthread -o "$work/musl" "$source"
for ((turn = 0; turn < ${TURNS:-5}; turn++)); do
    for library in glibc musl; do
        "$work/$library" >>"$work/$library.all"
    done
done
median() { sort -n "$1" | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
glibc=$(median "$work/glibc.all") musl=$(median "$work/musl.all")
awk -v glibc="$glibc" -v musl="$musl" 'BEGIN {
    printf "glibc %.2f, musl %.2f million pairs in a second of CPU: glibc is %.1f times as fast\n", glibc, musl, glibc / musl }'
