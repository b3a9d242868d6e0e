// Puts etcd-encryption-proxy before the etcd that a test has started: run.sh lays this file into a copy of the package
// k8s.io/apiserver/pkg/storage/etcd3/testserver, and has its client connect to what Proxied returns. The tests stay as they are.

package testserver

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A rule for everything, so that every key is sealed.
const encryption = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ["*.*"]
  providers:
  - aescbc: {keys: [{name: conformance, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]}
`

// Proxied starts a proxy before the endpoints and returns its own. It ends with the test.
func Proxied(t testing.TB, endpoints []string) []string {
	t.Helper()
	program := os.Getenv("CONFORMANCE_PROXY")
	if program == "" {
		t.Fatal("CONFORMANCE_PROXY is the path of the proxy's program")
	}
	ports, err := getAvailablePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
	folder := t.TempDir()
	config := filepath.Join(folder, "encryption.yaml")
	if err := os.WriteFile(config, []byte(encryption), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := []string{
		"serve",
		"--etcd-servers=" + strings.Join(endpoints, ","),
		"--listen-client-urls=http://" + address,
		"--encryption-provider-config=" + config,
		"--etcd-prefix=/",
		"--threads=2",
	}
	arguments = append(arguments, strings.Fields(os.Getenv("CONFORMANCE_FLAGS"))...)
	proxy := exec.Command(program, arguments...)
	output, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	proxy.Stdout, proxy.Stderr = output, output
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = proxy.Process.Kill()
		_ = proxy.Wait()
		_ = output.Close()
	})
	for deadline := time.Now().Add(60 * time.Second); ; {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			return []string{"http://" + address}
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(output.Name())
			t.Fatalf("the proxy does not listen: %s", said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
