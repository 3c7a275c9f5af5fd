//go:build integration

package postgres_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/postgres"
)

// TestIntegrationTLS writes to a real server by TLS, and not to one whose certificate
// nobody has signed.
func TestIntegrationTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	der, err := x509.MarshalPKCS8PrivateKey(certified.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "millrace-certificate-") // not within one of the test's own, which only its user may enter
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in the system's temporary folder
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: certified.Certificate().Raw}, key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if u, err := user.Lookup("postgres"); err == nil && os.Getuid() == 0 { // as the server runs
		uid, _ := strconv.Atoi(u.Uid) // a number on Unix
		if err := errors.Join(os.Chown(dir, uid, -1), os.Chown(cert, uid, -1), os.Chown(key, uid, -1)); err != nil {
			t.Fatal(err)
		}
	}
	server := realserver.NewPostgres(t, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key)
	d := connect(t, server.URL("postgres"))
	d.exec("CREATE TABLE t (n bigint, s text)")
	cfg := postgres.Config{URL: strings.Replace(d.url, "sslmode=disable", "sslmode=verify-full", 1), Table: "t", StartTimeout: 10 * time.Second}
	_, err = open(t, postgres.Structs[item](cfg), pipeline.SinkEnv{Run: "b"})
	wantError(t, err, "certificate")
	cfg.StartTimeout, cfg.Connection = 0, func(c *pgx.ConnConfig) error {
		c.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
		return nil
	}
	o := mustOpen(t, postgres.Structs[item](cfg), pipeline.SinkEnv{Run: "a"})
	o.write(itemOf(1))
	o.commit(o.prepare(1))
	d.want("SELECT n FROM t", "1")
	d.want("SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl", "true")
}
