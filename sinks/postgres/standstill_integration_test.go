//go:build integration

package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/realserver"
)

// TestIntegrationStandstill has a run stand still with locks that the next one needs,
// where stopping its process would have to meet two messages.
func TestIntegrationStandstill(t *testing.T) {
	for _, c := range []struct {
		name  string
		still func(ctx context.Context, c *pgx.Conn, l *ledger) error // leaves a transaction open
	}{
		{"in a claim", func(ctx context.Context, c *pgx.Conn, l *ledger) error {
			if _, err := c.Exec(ctx, brief.BeginQuery); err != nil {
				return err
			}
			return l.claim(ctx, c, nil, true)
		}},
		{"before a COMMIT of rows", func(ctx context.Context, c *pgx.Conn, l *ledger) error {
			if err := pgx.BeginFunc(ctx, c, func(pgx.Tx) error { return l.claim(ctx, c, nil, true) }); err != nil {
				return err
			}
			if _, err := c.Exec(ctx, "BEGIN"); err != nil {
				return err
			}
			return l.hold(ctx, c)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := realserver.SharedPostgres(t).NewDatabase(t)
			first, second := connectTo(t, url), connectTo(t, url)
			l := ledger{schema: "millrace", id: "sink", run: "a"}
			if err := c.still(t.Context(), first, &l); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			l.run = "b"
			err := pgx.BeginTxFunc(ctx, second, brief, func(pgx.Tx) error { return l.claim(ctx, second, nil, true) })
			if err != nil {
				t.Fatalf("a second run cannot claim the sink: %v", err)
			}
			if _, err := first.Exec(t.Context(), "COMMIT"); err == nil || !passes(err) {
				t.Errorf("the first run's COMMIT ends with %v, not an error after which it asks again", err)
			}
		})
	}
}

func connectTo(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}
