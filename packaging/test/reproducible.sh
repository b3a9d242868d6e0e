#!/usr/bin/env bash
# Builds one architecture (DIST_ARCHS, amd64) in two folders of different names and compares everything to the byte.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

arch=${DIST_ARCHS:-amd64}
work=${REPRODUCIBLE_FOLDER:-$(mktemp -d)}
for copy in a/first another/deeper/second; do
    rm -rf "${work:?}/$copy"
    mkdir -p "$work/$copy"
    git -C "$root" archive HEAD | tar -C "$work/$copy" -x
    (cd "$work/$copy" && unset CARGO_TARGET_DIR && DIST_ARCHS=$arch packaging/dist.sh)
done
cd "$work"
cmp a/first/target/dist/SHA256SUMS another/deeper/second/target/dist/SHA256SUMS
log "equal to the byte, $arch:"
cat a/first/target/dist/SHA256SUMS
