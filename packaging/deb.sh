#!/usr/bin/env bash
# deb.sh ARCH BINARY PAGES FOLDER: a package for Debian 11 and later, with Debian's own dpkg-deb, which needs no second list of what
# dpkg knows.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arch=$1 binary=$2 pages=$3 out=$4
revision=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
doc=$tree/usr/share/doc/$name

"$root/packaging/stage.sh" "$binary" "$pages" "$tree" deb
install -m 644 "$root/packaging/deb/copyright" "$doc/copyright"
gzip -9nc "$root/CHANGELOG.md" >"$doc/changelog.gz"
gzip -9nc >"$doc/changelog.Debian.gz" <<CHANGES
$name ($version-$revision) unstable; urgency=medium

  * See changelog.gz. Built from commit
    $BUILD_COMMIT.

 -- $maintainer  $(date -uRd "@$SOURCE_DATE_EPOCH")
CHANGES
install -D -m 644 "$root/packaging/deb/lintian-overrides" "$tree/usr/share/lintian/overrides/$name"
chmod 644 "$doc"/*.gz

mkdir -p "$tree/DEBIAN"
sed -e "s|@VERSION@|$version-$revision|" -e "s|@ARCH@|$arch|" -e "s|@MAINTAINER@|$maintainer|" \
    -e "s|@SIZE@|$(du -k --apparent-size -s "$tree" | cut -f1)|" "$root/packaging/deb/control" >"$tree/DEBIAN/control"
echo "/etc/$name/proxy.env" >"$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$root/packaging/deb/$script" "$tree/DEBIAN/$script"
done
(cd "$tree" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"

find "$tree" -type d -exec chmod 755 {} +
find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
dpkg-deb --root-owner-group ${DEB_COMPRESSION:--Zxz} --build "$tree" "$out/${name}_$version-${revision}_$arch.deb" >/dev/null
