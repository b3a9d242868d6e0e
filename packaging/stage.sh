#!/usr/bin/env bash
# stage.sh BINARY PAGES FOLDER KIND: lays out in FOLDER what a package installs; KIND is deb or rpm. PAGES has the man pages and
# completions that packaging/pages.sh wrote.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

binary=$1 pages=$2 out=$3 kind=$4
cd "$root"

put() { install -D -m "$1" "$2" "$out/$3"; }

put 755 "$binary" "usr/bin/$name"
put 644 "deploy/systemd/$name.service" "usr/lib/systemd/system/$name.service"
install -d -m 755 "$out/etc/$name"
put 640 deploy/systemd/proxy.env "etc/$name/proxy.env"
for page in "$pages"/*.1; do
    put 644 "$page" "usr/share/man/man1/${page##*/}"
done
gzip -9n "$out"/usr/share/man/man1/*.1
put 644 "$pages/$name.bash" "usr/share/bash-completion/completions/$name"
put 644 "$pages/$name.fish" "usr/share/fish/vendor_completions.d/$name.fish"
case $kind in
deb) put 644 "$pages/_$name" "usr/share/zsh/vendor-completions/_$name" ;;
rpm) put 644 "$pages/_$name" "usr/share/zsh/site-functions/_$name" ;;
*) fail "$kind is neither deb nor rpm" ;;
esac

doc=usr/share/doc/$name
for text in README.md SECURITY.md; do
    put 644 "$text" "$doc/$text"
done
for page in docs/*.md docs/install/*.md; do
    put 644 "$page" "$doc/$page"
done
for example in systemd prometheus grafana kubeadm rke2 kustomize jobs ansible; do
    [[ -d deploy/$example ]] || continue
    (cd deploy && find "$example" -type f ! -name "$name.service" ! -name '*_test.yaml' -print0) |
        while IFS= read -r -d '' file; do
            put 644 "deploy/$file" "$doc/examples/$file"
        done
done
