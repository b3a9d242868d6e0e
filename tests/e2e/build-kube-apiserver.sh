#!/usr/bin/env bash
# Builds kube-apiserver 1.20.2 and its kubectl from Debian bookworm's source package `kubernetes`, for `make e2e`.
#
# Debian ships no kube-apiserver binary, only the source; a registry that carries one cannot be assumed to be
# reachable. The binaries go to a cache folder outside the checkout, so that a clean clone does not build again.
# Runs as root on Debian 12 (it installs Go and the source's tools by apt) and prints the folder of the binaries.
set -euo pipefail

version=1.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-encryption-proxy
apiserver=$cache/kube-apiserver-$version
kubectl=$cache/kubectl-$version

log() { printf 'build-kube-apiserver: %s\n' "$*" >&2; }

if [[ -x $apiserver && -x $kubectl ]]; then
    log "already built: $apiserver, $kubectl"
    exit 0
fi

mkdir -p "$cache"
# Two runs at once would build twice and race for the same file.
exec 9>"$cache/build.lock"
flock 9
if [[ -x $apiserver && -x $kubectl ]]; then
    exit 0
fi

build=$cache/build-$version
log "building in $build (about five minutes on two cores)"
rm -rf "$build"
mkdir -p "$build"
trap 'rm -rf "$build"' EXIT

packages=()
# reflect2 1.0.1, which the source vendors, reaches into the runtime's maps and crashes under Go 1.18 and later.
for package in golang-go golang-github-modern-go-reflect2-dev dpkg-dev make rsync; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || packages+=("$package")
done
if ((${#packages[@]})); then
    log "installing ${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
fi

# The source index goes to a folder of its own, so that the machine's apt configuration stays as it is.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 == "bookworm" { print $1; exit }')
mirror=${mirror:-http://deb.debian.org/debian}
mkdir -p "$build/apt/lists/partial" "$build/src"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >"$build/apt/sources.list"
apt_source=(-o "Dir::Etc::SourceList=$build/apt/sources.list" -o Dir::Etc::SourceParts=-
    -o "Dir::State::Lists=$build/apt/lists" -o APT::Sandbox::User=root)
apt-get "${apt_source[@]}" update -qq >&2
(cd "$build/src" && apt-get "${apt_source[@]}" source -qq --only-source kubernetes) >&2

tree=$build/go/src/k8s.io/kubernetes
mkdir -p "${tree%/*}"
mv "$build"/src/kubernetes-*/ "$tree"
reflect2=$tree/vendor/github.com/modern-go/reflect2
rm -rf "$reflect2"
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 "$reflect2"

export GOPATH=$build/go GO111MODULE=off GOFLAGS= GOCACHE=$build/gocache
unset CDPATH
cd "$tree"
# The build yields to whatever else the machine does: tests with deadlines may run beside it.
log "make generated_files"
nice -n 10 make generated_files >"$build/make.log" 2>&1 || { tail -n 50 "$build/make.log" >&2; exit 1; }
info=k8s.io/kubernetes/vendor/k8s.io/component-base/version
ldflags="-s -w -X $info.gitVersion=v$version -X $info.gitMajor=1 -X $info.gitMinor=20"
for binary in kube-apiserver kubectl; do
    log "go build $binary"
    nice -n 10 go build -ldflags "$ldflags" -o "$build/$binary" "k8s.io/kubernetes/cmd/$binary"
    # Renamed into place only when whole: an interrupted build must not look like a finished one.
    mv "$build/$binary" "$cache/$binary-$version"
done
log "built: $apiserver, $kubectl"
