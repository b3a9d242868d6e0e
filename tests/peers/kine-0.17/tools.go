//go:build tools

// Package tools names the programs that build.sh builds, so that their modules are those of go.sum.
package tools

import (
	_ "github.com/k3s-io/kine"
)
