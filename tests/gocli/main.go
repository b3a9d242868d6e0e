// Command gocli is a client of etcd as kube-apiserver is one: etcd's own library for Go, with kube-apiserver's timeouts and pings.
// It says `ready` when it is connected, works until its input ends, and then prints what it saw as one line of JSON.
//
//	gocli load -endpoints URL,… -below /registry/secrets/default/a- [-every 20ms] [-deadline 30s]
//	gocli watch -endpoints URL,… -key KEY [-watches N] [-clients N] [-own-streams]
//
// `load` begins with the first line that it is given. `watch` takes lines meanwhile: `cancel N` cancels so many watches at once, and `look` prints what it has seen so far.
//
// It never prints a value.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// connect makes a client with what kube-apiserver sets (its staging/src/k8s.io/apiserver/pkg/storage/storagebackend/factory/etcd3.go).
func connect(endpoints string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(endpoints, ","),
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zap.NewNop(),
	})
}

func report(what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(line))
	return err
}

func run() error {
	if len(os.Args) < 2 {
		return fmt.Errorf("a mode is missing: load or watch")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	endpoints := flags.String("endpoints", "", "URLs of members or proxies, separated by commas")
	switch os.Args[1] {
	case "load":
		return load(flags, endpoints)
	case "watch":
		return watch(flags, endpoints)
	}
	return fmt.Errorf("unknown mode %q: load or watch", os.Args[1])
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gocli:", err)
		os.Exit(1)
	}
}
