package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
)

// stored is what one key holds, as kube-apiserver would see it.
type stored struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

// read opens every value below a prefix with the configuration that kube-apiserver would be given.
func read(args []string) error {
	flags := flag.NewFlagSet("read", flag.ExitOnError)
	endpoints := flags.String("endpoints", "", "etcd's members, separated by commas")
	file := flags.String("config", "", "an EncryptionConfiguration")
	prefix := flags.String("prefix", "/registry/secrets/", "what keys begin with")
	_ = flags.Parse(args)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, *file, false, "torture")
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	transformer := config.Transformers[schema.GroupResource{Resource: "secrets"}]
	if transformer == nil {
		return fmt.Errorf("%s has no rule for secrets", *file)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(*endpoints, ","),
		DialTimeout: 10 * time.Second,
		Context:     ctx,
	})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer client.Close()
	answer, err := client.Get(ctx, *prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	for _, kv := range answer.Kvs {
		found := stored{Key: string(kv.Key)}
		plaintext, _, err := transformer.TransformFromStorage(ctx, kv.Value, value.DefaultContext(kv.Key))
		if err != nil {
			found.Error = err.Error()
		} else {
			found.Value = string(plaintext)
		}
		if err := out.Encode(found); err != nil {
			return err
		}
	}
	return nil
}
