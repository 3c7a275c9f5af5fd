//go:build integration

package realserver_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/realserver"
)

// TestIntegrationPostgresKilled writes, kills the server, and finds what was written.
func TestIntegrationPostgresKilled(t *testing.T) {
	p := realserver.NewPostgres(t)
	exec := func(statements string) string {
		t.Helper()
		out, err := p.Exec(t.Context(), "postgres", statements)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	exec("CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	p.Kill()
	if out, err := p.Exec(t.Context(), "postgres", "SELECT 1"); err == nil {
		t.Fatalf("a killed server says %q", out)
	}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := exec("SELECT * FROM t ORDER BY n"), "1|a\n2|b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if log := p.Log(); !strings.Contains(log, "not properly shut down") {
		t.Errorf("it was shut down rather than killed:\n%s", log)
	}
}

// TestIntegrationRedisKilled kills a server and starts it again on its port.
func TestIntegrationRedisKilled(t *testing.T) {
	r := realserver.NewRedis(t)
	r.Kill()
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestIntegrationDatabases makes two on one server.
func TestIntegrationDatabases(t *testing.T) {
	p := realserver.SharedPostgres(t)
	if a, b := p.NewDatabase(t), p.NewDatabase(t); a == b {
		t.Errorf("both are %s", a)
	}
}
