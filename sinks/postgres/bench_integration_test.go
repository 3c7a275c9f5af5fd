//go:build integration

package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/postgres"
)

// BenchmarkIntegrationRows writes rows with and without the sink, in checkpoints of a
// hundred thousand. An operation is a row.
func BenchmarkIntegrationRows(b *testing.B) {
	const perCheckpoint, perBatch = 100_000, 1000
	row := func(i int) visit {
		return visit{int64(i), visitorOf(int64(i)), time.UnixMilli(1_700_000_000_000 + int64(i)).UTC()}
	}
	table := func(b *testing.B) (*database, string) {
		d := newDatabase(b)
		name := realserver.UniqueName("visits")
		d.exec("CREATE TABLE " + name + " (id bigint, visitor bigint, at timestamptz NOT NULL)")
		return d, name
	}
	b.Run("plain COPY", func(b *testing.B) {
		d, name := table(b)
		b.ResetTimer()
		for from := 0; from < b.N; from += perCheckpoint {
			n := min(perCheckpoint, b.N-from)
			_, err := d.CopyFrom(b.Context(), pgx.Identifier{name}, []string{"id", "visitor", "at"}, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
				v := row(from + i)
				return []any{v.ID, v.Visitor, v.At}, nil
			}))
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, delivery := range []postgres.Delivery{postgres.AtLeastOnce, postgres.ExactlyOnce} {
		b.Run(fmt.Sprintf("sink/delivery=%d", delivery), func(b *testing.B) {
			d, name := table(b)
			o := mustOpen(b, postgres.Structs[visit](postgres.Config{URL: d.url, Table: name, Delivery: delivery}), pipeline.SinkEnv{Run: "a"})
			b.ResetTimer()
			batch := &pipeline.Records[visit]{}
			for i := range b.N {
				batch.Values, batch.Times = append(batch.Values, row(i)), append(batch.Times, int64(i))
				if len(batch.Values) == perBatch || i == b.N-1 {
					if err := o.w.Write(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
					batch.Values, batch.Times = batch.Values[:0], batch.Times[:0]
				}
				if (i+1)%perCheckpoint == 0 || i == b.N-1 {
					if err := o.w.(pipeline.Flusher).Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
					if _, ok := o.w.(pipeline.Committer); ok {
						o.commit(o.prepare(int64(i)))
					}
				}
			}
		})
	}
}
