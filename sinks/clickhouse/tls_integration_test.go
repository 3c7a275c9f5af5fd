//go:build integration

package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// newTLSProxy has a server reached by TLS, and returns its address and who has signed
// its certificate.
func newTLSProxy(t *testing.T, to string) (addr string, roots *x509.CertPool) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	roots = x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go forward(c, to)
		}
	}()
	return l.Addr().String(), roots
}

func forward(client net.Conn, to string) {
	defer client.Close() //nolint:errcheck // it has ended
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it has ended
	go func() {
		_, _ = io.Copy(server, client) // until one of them ends
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// TestIntegrationTLS writes by TLS over both protocols, and refuses at once a server
// whose certificate nobody has signed.
func TestIntegrationTLS(t *testing.T) {
	server := devclickhouse.Shared(t)
	for _, c := range []struct{ protocol, before, to, after string }{
		{"native", "clickhouse://", server.Addr(), "/default?secure=true&compress=lz4"},
		{"http", "https://", server.HTTPAddr(), "/default?secure=true&compress=lz4"},
	} {
		addr, roots := newTLSProxy(t, c.to)
		table := makeTable(t, server.DSN(), visitTable+window)
		cfg := Config{URL: c.before + addr + c.after, Table: table, Connection: func(o *clickhouse.Options) error {
			o.TLS = &tls.Config{RootCAs: roots}
			return nil
		}}
		sub := mustOpen(t, Structs[visit](cfg), vfs.NewMem(), devclickhouse.UniqueName("r"))
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range int64(3) {
			sub.write(newVisit(rng, i))
			if err := sub.commit(sub.prepare()); err != nil {
				t.Fatalf("%s: %v", c.protocol, err)
			}
		}
		if got := contentOf(t, server.DSN(), table).Rows; got != 3 {
			t.Errorf("%s: %d rows, want 3", c.protocol, got)
		}
		cfg.Connection, cfg.StartTimeout = nil, 10*time.Second
		_, err := open(t, Structs[visit](cfg), vfs.NewMem(), "a")
		if wantError(t, err, addr, "certificate"); strings.Contains(err.Error(), "no answer") {
			t.Errorf("%s: it has waited for another certificate: %v", c.protocol, err)
		}
	}
}
