#!/usr/bin/env bash
# Runs Kubernetes' own tests of its storage in etcd (k8s.io/apiserver/pkg/storage/etcd3) with the proxy before each etcd that they
# start, every key sealed. The tests are not changed; Go refuses overlays of the module cache, so they run in a copy of the module.
#
#   run.sh PROXY FOLDER [FLAGS]   the proxy's program, where the copy goes, and flags of the proxy
#
# Prints the tests that failed, and how many passed. CONFORMANCE_EXPECTED names tests that are expected to fail, separated by spaces.
set -euo pipefail

version=v0.37.2
sum='h1:9Jq73PeHAA0RThpW7ou6lBcO2+SxLcPrAgleONSMUNQ='
proxy=$(realpath "$1")
folder=$(realpath -m "$2")
export CONFORMANCE_PROXY=$proxy CONFORMANCE_FLAGS=${3-}

cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
go=$(../go.sh)
mkdir -p "$folder"
cd "$folder"
if [[ ! -f $version/go.mod ]]; then
    cat >go.mod <<END
module etcd-encryption-proxy.test/conformance
go 1.26.0
END
    found=$("$go" mod download -json "k8s.io/apiserver@$version")
    grep -qF "\"Sum\": \"$sum\"" <<<"$found" || { echo "conformance: k8s.io/apiserver $version is not what it was" >&2; exit 1; }
    from=$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<<"$found")
    rm -rf "$version.new"
    cp -r "$from" "$version.new"
    chmod -R u+w "$version.new"
    mv "$version.new" "$version"
fi
cd "$version"
server=pkg/storage/etcd3/testserver
cp "$here/proxied.go" "$server/proxied.go"
sed -i 's/Endpoints: *e\.Server\.Cluster()\.ClientURLs(),/Endpoints: Proxied(t, e.Server.Cluster().ClientURLs()),/' "$server/test_server.go"
grep -q 'Proxied(t, ' "$server/test_server.go" || { echo "conformance: the test server is not as expected" >&2; exit 1; }

status=0
nice -n 10 "$go" test -count=1 -timeout 20m -json ./pkg/storage/etcd3/... >"$folder/results.json" 2>"$folder/errors" || status=$?
# Whole tests, not their parts.
results() { grep -E "\"Action\":\"$1\"" "$folder/results.json" | sed -n 's/.*"Test":"\([^"\/]*\)".*/\1/p' | sort -u; }
passed=$(results pass | wc -l)
mapfile -t failed < <(results fail)
unexpected=()
for name in "${failed[@]}"; do
    [[ " ${CONFORMANCE_EXPECTED-} " == *" $name "* ]] || unexpected+=("$name")
done
printf 'conformance: %s of %s passed' "$passed" "$((passed + ${#failed[@]}))"
((${#failed[@]} == 0)) || printf '; failed: %s' "${failed[*]}"
printf '\n'
if ((passed == 0)) || ((${#unexpected[@]} > 0)); then
    tail -n 20 "$folder/errors" >&2
    for name in "${unexpected[@]}"; do
        echo "--- $name" >&2
        grep "\"Test\":\"$name" "$folder/results.json" | sed -n 's/.*"Output":"\(.*\)".*/\1/p' | tail -n 30 >&2
    done
    exit 1
fi
