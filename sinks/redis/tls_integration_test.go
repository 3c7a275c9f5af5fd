//go:build integration

package redis_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/redis"
)

// certify writes a certificate and its key for a server, and returns who has signed it.
func certify(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	roots = x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	der, err := x509.MarshalPKCS8PrivateKey(certified.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", certified.Certificate().Raw), write("key.pem", "PRIVATE KEY", der), roots
}

// TestIntegrationTLS writes to a real server by TLS.
func TestIntegrationTLS(t *testing.T) {
	cert, key, roots := certify(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr) // it has one
	_ = l.Close()
	w, _ := realWorld(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	cfg := redis.Config{Client: &goredis.UniversalOptions{Addrs: []string{addr}, Password: realserver.Password, TLSConfig: &tls.Config{RootCAs: roots}}}
	o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
	o.write(func(c *redis.Commands) { c.Set("n", 1, 0) })
	o.commit(o.prepare(1))
	w.want("1", "GET", "n")
	_, err = open(t, runs(redis.Config{URL: fmt.Sprintf("rediss://:%s@%s", realserver.Password, addr), StartTimeout: 2 * time.Second}), pipeline.SinkEnv{Run: "b"})
	wantError(t, err, addr, "certificate")
}
