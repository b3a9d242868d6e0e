#!/usr/bin/env bash
# rpm.sh ARCH BINARY PAGES FOLDER: a package for distributions with rpm and glibc 2.31 or later, with rpmbuild.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arch=$1 binary=$2 pages=$3 out=$4
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) fail "the architecture $arch is not built" ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree

"$root/packaging/stage.sh" "$binary" "$pages" "$tree" rpm
install -D -m 644 "$root/LICENSE" "$tree/usr/share/licenses/$name/LICENSE"
install -m 644 "$root/CHANGELOG.md" "$tree/usr/share/doc/$name/CHANGELOG.md"
find "$tree" -type d -exec chmod 755 {} +
find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
# The compiler of rpm on Debian does not know other machines; nothing is compiled here.
rpmbuild -bb --quiet --target "$machine-linux" \
    --define "_topdir $work/rpm" --define "_rpmdir $work/out" --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
    --define "_binary_payload w19.zstdio" --define "_source_filedigest_algorithm 8" --define "_binary_filedigest_algorithm 8" \
    --define "_tree $tree" --define "_proxy_version ${version//-/\~}" --define "_proxy_maintainer $maintainer" \
    --define "_proxy_date $(date -ud "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" \
    "$root/packaging/rpm/$name.spec"
mkdir -p "$out"
mv "$work"/out/*.rpm "$out/"
