#!/bin/sh
# Writes kubernetes-VERSION.tsv: where kube-apiserver of that version keeps which resource in etcd, as its own test of that
# has it (test/integration/etcd/data.go of k8s.io/kubernetes, from the Go module proxy). Needs Go and awk.
#
#   tests/keyspace/extract.sh 1.20.15 1.31.14 1.37.2
#
# Columns: API group and resource, the group that its objects are stored as, and an etcd key, with NAMESPACE in the place of a
# namespace's name. A resource is listed once, however many versions of it are served.
set -eu
cd "$(dirname "$0")"
for version in "$@"; do
  dir=$(GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  {
    echo "# Facts of k8s.io/kubernetes v$version, test/integration/etcd/data.go, taken by extract.sh. Do not edit."
    awk '
      function quoted(text, which, parts) { split(text, parts, "\""); return parts[which * 2] }
      function put() {
        if (path != "" && !seen[group, resource, stored]++) print group "\t" resource "\t" stored "\t" path
        path = ""
      }
      /gvr\("[^"]*", "[^"]*", "[^"]*"\)[]]?( =|:) / { put(); group = stored = quoted($0, 1); resource = quoted($0, 3) }
      /ExpectedEtcdPath: / && /"/ {
        path = $0
        sub(/^[^:]*: */, "", path)
        gsub(/" \+ namespace \+ "/, "NAMESPACE", path)
        gsub(/[",]/, "", path)
      }
      /ExpectedGVK: / { stored = quoted($0, 1) }
      END { put() }
    ' "$dir/test/integration/etcd/data.go" | LC_ALL=C sort
  } > "kubernetes-$version.tsv"
done
