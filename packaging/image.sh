#!/usr/bin/env bash
# image.sh FOLDER ARCH=BINARY…: an image for each architecture in one OCI archive, and for each a tarball as k3s and RKE2 load it on
# nodes without a registry (FOLDER of images below their agent). Built without a daemon, as root or with a user namespace.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

out=$(realpath -m "$1")
shift
work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage=(--root "$work/storage" --runroot "$work/run")
trap 'buildah "${storage[@]}" rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
mkdir -p "$out"

reference=$image:$version
manifest=$name-all
buildah "${storage[@]}" manifest create "$manifest" >/dev/null
for pair in "$@"; do
    arch=${pair%%=*}
    context=$work/$arch
    mkdir "$context"
    install -m 755 "${pair#*=}" "$context/$name"
    touch -d "@$SOURCE_DATE_EPOCH" "$context/$name"
    buildah "${storage[@]}" build --quiet --arch "$arch" --os linux --timestamp "$SOURCE_DATE_EPOCH" --format oci \
        --label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$BUILD_COMMIT" \
        --identity-label=false --file "$root/packaging/image/Containerfile" --tag "$reference" "$context" >/dev/null
    # Under the name that manifests pull, so that nothing is pulled.
    buildah "${storage[@]}" push --quiet "$reference" "docker-archive:$work/$arch.tar:$reference" >/dev/null
    zstd --quiet --force -12 --threads=1 "$work/$arch.tar" -o "$out/$name-images-$arch.tar.zst"
    buildah "${storage[@]}" manifest add --arch "$arch" "$manifest" "$reference" >/dev/null
done
buildah "${storage[@]}" manifest push --quiet --all --format oci "$manifest" "oci-archive:$work/image.tar:$version" >/dev/null
# buildah's own archive has the times of its making.
mkdir "$work/image"
tar -C "$work/image" -xf "$work/image.tar"
archive "$work/image" "$out/$name-$version-image.oci.tar"
