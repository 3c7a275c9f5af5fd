//go:build integration

package redis_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/redis"
)

// BenchmarkIntegrationScores sets scores with and without the sink, in checkpoints of
// fifty thousand, on a server that does not wait for its disk. An operation is a score.
func BenchmarkIntegrationScores(b *testing.B) {
	const perCheckpoint, perBatch = 50_000, 1000
	w := connect(b, realserver.NewRedis(b, "--appendfsync", "everysec").URL())
	member := func(i int) string { return "member-" + strconv.Itoa(i*7919%10_007) }
	b.Run("plain pipeline", func(b *testing.B) {
		p := w.Pipeline()
		for i := range b.N {
			p.Do(b.Context(), "ZADD", "plain", i, member(i))
			if (i+1)%perBatch == 0 || i == b.N-1 {
				if _, err := p.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	for _, delivery := range []redis.Delivery{redis.AtLeastOnce, redis.ExactlyOnce} {
		b.Run(fmt.Sprintf("sink/delivery=%d", delivery), func(b *testing.B) {
			cfg := w.config()
			cfg.Delivery = delivery
			o := mustOpen(b, redis.SortedSets(cfg, func(i int) (key, m string, score float64) { return "sink", member(i), float64(i) }), pipeline.SinkEnv{Run: "a"})
			b.ResetTimer()
			batch := &pipeline.Records[int]{}
			for i := range b.N {
				batch.Values, batch.Times = append(batch.Values, i), append(batch.Times, int64(i))
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
