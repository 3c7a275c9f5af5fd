//go:build integration

package devclickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// Blocks are inserted one after the other, each with its token, while the server is
// killed at random and started again; what was not acknowledged is inserted again.
// In the end each block is there once.
func TestIntegrationKilledWhileInserting(t *testing.T) {
	const kills, rows = 30, 500
	server := devclickhouse.New(t, devclickhouse.Options{})
	conn := open(t, server.DSN())
	must(t, conn.Exec(t.Context(), `CREATE TABLE blocks (block UInt64, row UInt64, text String) ENGINE = MergeTree ORDER BY (block, row)
		SETTINGS non_replicated_deduplication_window = 1000`))
	random := rand.New(rand.NewPCG(1, 2))
	block, acknowledged := uint64(0), uint64(0)
	for kill := range kills {
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(random.IntN(60_000))*time.Microsecond, func() {
			server.Kill()
			close(killed)
		})
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := insertBlock(ctx, conn, block, rows)
			cancel()
			if err != nil {
				var e *clickhouse.Exception
				if errors.As(err, &e) {
					t.Fatalf("kill %d, block %d: %v", kill, block, err)
				}
				break
			}
			acknowledged++
			block++
		}
		<-killed
		must(t, conn.Close())
		must(t, server.Restart(t.Context()))
		conn = open(t, server.DSN())
		must(t, insertBlock(t.Context(), conn, block, rows))
		block++
		wantBlocks(t, conn, kill, block, rows)
	}
	t.Logf("%d blocks, %d of them acknowledged before a kill", block, acknowledged)
}

func insertBlock(ctx context.Context, conn driver.Conn, block uint64, rows int) error {
	ctx = withSettings(ctx, clickhouse.Settings{"insert_deduplication_token": fmt.Sprint("block ", block)})
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO blocks")
	if err != nil {
		return err
	}
	for row := range uint64(rows) {
		if err := batch.Append(block, row, fmt.Sprint(block, row)); err != nil {
			return err
		}
	}
	return batch.Send()
}

func wantBlocks(t *testing.T, conn driver.Conn, kill int, blocks uint64, rows uint64) {
	t.Helper()
	var n, different uint64
	must(t, conn.QueryRow(t.Context(), "SELECT count(), uniqExact(block, row) FROM blocks").Scan(&n, &different))
	if n != blocks*rows || different != n {
		t.Fatalf("after kill %d: %d rows, %d different ones, want %d", kill, n, different, blocks*rows)
	}
}

// The engine keeps up with a client that inserts much, and a result may be large.
func TestIntegrationMillionsOfRows(t *testing.T) {
	server := devclickhouse.Shared(t)
	for name, dsn := range map[string]string{"native": server.DSN(), "http": server.HTTPDSN()} {
		t.Run(name, func(t *testing.T) {
			conn := open(t, dsn)
			table := table(t, conn, "(id UInt64, text String)"+mergeTree)
			const rows, batches = 250_000, 4
			began := time.Now()
			for b := range batches {
				batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
				must(t, err)
				ids, texts := make([]uint64, rows), make([]string, rows)
				for i := range rows {
					ids[i] = uint64(b*rows + i)
					texts[i] = fmt.Sprint("row ", ids[i])
				}
				must(t, errors.Join(batch.Column(0).Append(ids), batch.Column(1).Append(texts)))
				must(t, batch.Send())
			}
			t.Logf("%d rows inserted in %v", rows*batches, time.Since(began))
			began = time.Now()
			result, err := conn.Query(t.Context(), "SELECT id, text FROM "+table)
			must(t, err)
			var n, sum uint64
			for result.Next() {
				var id uint64
				var text string
				must(t, result.Scan(&id, &text))
				n, sum = n+1, sum+id
			}
			must(t, result.Err())
			t.Logf("%d rows selected in %v", n, time.Since(began))
			if want := uint64(rows * batches); n != want || sum != want*(want-1)/2 {
				t.Errorf("%d rows that add up to %d, want %d", n, sum, want)
			}
		})
	}
}
