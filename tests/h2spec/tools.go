//go:build tools

// Package tools names the program that build.sh builds, so that its modules are those of go.sum.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
