#!/usr/bin/env bash
# pages.sh BINARY FOLDER: man pages and completions, as the program itself writes them. The program must run on this machine.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

binary=$1 out=$2
mkdir -p "$out"
"$binary" man-pages "$out"
"$binary" completion bash >"$out/$name.bash"
"$binary" completion zsh >"$out/_$name"
"$binary" completion fish >"$out/$name.fish"
