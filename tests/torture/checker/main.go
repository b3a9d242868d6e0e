// Command checker judges a run of the torture campaign with code that is not the proxy's: what is stored is opened by
// kube-apiserver's own transformers, and what clients saw is held against a register by porcupine.
//
//	checker read --endpoints URL,… --config FILE --prefix PREFIX     one JSON line for each stored value
//	checker judge --history FILE --timeout DURATION                  one JSON line for each key
package main

import (
	"fmt"
	"os"
)

func main() {
	verbs := map[string]func([]string) error{"read": read, "judge": judge}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "checker: read or judge")
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "checker %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
