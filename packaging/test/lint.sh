#!/usr/bin/env bash
# lint.sh FOLDER: lintian and rpmlint find nothing in the packages of a release, and the SBOM is what it says.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

dist=$1
failed=0
for deb in "$dist"/*.deb; do
    said=$(lintian --no-cfg --allow-root --fail-on none --tag-display-limit 0 "$deb" 2>&1 | grep -v '^N:' || true)
    [[ -z $said ]] || { log "${deb##*/}: $said"; failed=1; }
done
for rpm in "$dist"/*.rpm; do
    said=$(rpmlint --config "$root/packaging/rpm/rpmlint.toml" "$rpm" 2>&1) && continue
    log "${rpm##*/}: $said"
    failed=1
done
for sbom in "$dist"/*.cdx.json; do
    jq -e '.bomFormat == "CycloneDX" and (.components | length > 100) and all(.components[]; .hashes and .licenses and .purl)
        and ([.dependencies[].dependsOn[]] - [.components[]."bom-ref"] == [])' "$sbom" >/dev/null ||
        { log "${sbom##*/}: something is missing"; failed=1; }
done
[[ $failed == 0 ]] && log "nothing is wrong"
exit "$failed"
