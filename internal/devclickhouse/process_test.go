package devclickhouse_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// What was acknowledged is there after kill -9, and so are the tokens: what is
// inserted again with one is not inserted.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	server := devclickhouse.New(t, devclickhouse.Options{})
	addr := server.Addr()
	ctx := t.Context()
	conn := open(t, server.DSN())
	must(t, conn.Exec(ctx, `CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id
		SETTINGS non_replicated_deduplication_window = 100`))
	insert := func(token string, from, to uint64) {
		t.Helper()
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO kept (id)")
		must(t, err)
		for id := from; id < to; id++ {
			must(t, batch.Append(id))
		}
		must(t, batch.Send())
	}
	for round := range uint64(3) {
		insert("old", 0, 1) // repeated
		insert("token "+string(rune('a'+round)), 1000*(round+1), 1000*(round+1)+1000)
		server.Kill()
		must(t, server.Restart(ctx))
		if server.Addr() != addr {
			t.Fatalf("the server is at %s after a restart, want %s", server.Addr(), addr)
		}
		conn = open(t, server.DSN())
		insert("token "+string(rune('a'+round)), 1000*(round+1), 1000*(round+1)+1000)
		var count uint64
		must(t, conn.QueryRow(ctx, "SELECT count() FROM kept").Scan(&count))
		if want := 1 + 1000*(round+1); count != want {
			t.Errorf("round %d: %d rows, want %d", round, count, want)
		}
	}
}

// A paused server keeps its clients waiting, and stops all the same.
func TestPausedServer(t *testing.T) {
	server := devclickhouse.New(t, devclickhouse.Options{Dir: t.TempDir()})
	conn := open(t, server.DSN())
	must(t, conn.Ping(t.Context()))
	must(t, server.Pause())
	eventually(t, "the paused server no longer answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return conn.Ping(ctx) != nil
	})
	must(t, server.Resume())
	eventually(t, "the server answers again", func() bool { return conn.Ping(t.Context()) == nil })
	must(t, server.Pause())
	server.Stop()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a stopped server answers")
	}
	if err := server.Pause(); err == nil {
		t.Error("a stopped server is paused")
	}
}

func TestSecondServerOnADirectory(t *testing.T) {
	server := devclickhouse.New(t, devclickhouse.Options{Dir: t.TempDir()})
	_, err := devclickhouse.Start(t.Context(), devclickhouse.Options{Dir: server.Dir()})
	if err == nil || !strings.Contains(err.Error(), "is another one using it?") {
		t.Errorf("got %v, want that the directory is in use", err)
	}
}
