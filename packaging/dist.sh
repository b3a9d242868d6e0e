#!/usr/bin/env bash
# make dist: everything that a release has, in target/dist. DIST_ARCHS (amd64 arm64) chooses architectures; IMAGE names the image;
# MINISIGN_KEY_FILE, with MINISIGN_PASSWORD where it has one, signs. Packages, archives and images are functions of the commit and the tools.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

read -ra archs <<<"${DIST_ARCHS:-amd64 arm64}"
out=${CARGO_TARGET_DIR:-$root/target}/dist
built=${CARGO_TARGET_DIR:-$root/target}/dist-built
packaging=$root/packaging
cd "$root"
rm -rf "$out"
mkdir -p "$out"

for arch in "${archs[@]}"; do
    "$packaging/build.sh" "$arch" "$built/$arch"
done

# The pages are the same for each architecture; they are written by one that runs here.
runs=${archs[0]}
for arch in "${archs[@]}"; do
    [[ $arch != "$(host)" ]] || runs=$arch
done
rm -rf "$built/pages"
"$packaging/pages.sh" "$built/$runs/static" "$built/pages"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
images=()
for arch in "${archs[@]}"; do
    log "packages of $arch"
    "$packaging/deb.sh" "$arch" "$built/$arch/dynamic" "$built/pages" "$out"
    "$packaging/rpm.sh" "$arch" "$built/$arch/dynamic" "$built/pages" "$out"
    tarball=$name-$version-linux-$arch
    mkdir -p "$work/$arch/$tarball"
    install -m 755 "$built/$arch/dynamic" "$work/$arch/$tarball/$name"
    cp -r "$built/pages" "$work/$arch/$tarball/pages"
    cp -r LICENSE README.md CHANGELOG.md SECURITY.md docs deploy "$work/$arch/$tarball/"
    archive "$work/$arch" "$work/$tarball.tar"
    gzip -9n <"$work/$tarball.tar" >"$out/$tarball.tar.gz"
    "$packaging/sbom.py" "$(target "$arch")" >"$out/$name-$version-linux-$arch.cdx.json"
    images+=("$arch=$built/$arch/static")
done
log "images"
"$packaging/image.sh" "$out" "${images[@]}"

(cd "$out" && find . -type f -printf '%P\n' | sort | xargs sha256sum >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
if [[ -n ${MINISIGN_KEY_FILE:-} ]]; then
    # It asks for the password of a key that has one on standard input.
    minisign -S -s "$MINISIGN_KEY_FILE" -m "$out/SHA256SUMS" -t "$name $version, commit $BUILD_COMMIT" <<<"${MINISIGN_PASSWORD:-}" >/dev/null
    log "SHA256SUMS is signed"
else
    log "SHA256SUMS is not signed: MINISIGN_KEY_FILE is not set"
fi
(cd "$out" && ls -l >&2)
