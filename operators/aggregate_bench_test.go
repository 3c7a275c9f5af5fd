package operators_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

type hit struct {
	Key  string
	Time int64
}

func (h hit) time() int64 { return h.Time }
func (h hit) key() string { return h.Key }

// traffic are hits of keys, nearly in order, perWindow of them in each minute.
func traffic(n, keys, perWindow int) []hit {
	r := rand.New(rand.NewPCG(1, 2))
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("tracking-id-%08d", i)
	}
	hits := make([]hit, n)
	for i := range hits {
		ts := int64(i)*60_000/int64(perWindow) - r.Int64N(1000)
		hits[i] = hit{names[r.IntN(keys)], ts}
	}
	return hits
}

// hitSource hands out slices of one big one.
type hitSource struct{ hits []hit }

func (s hitSource) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[hit], error) {
	return &hitReader{s.hits, env.BatchSize}, nil
}

type hitReader struct {
	hits []hit
	size int
}

func (r *hitReader) Read(_ context.Context, b *pipeline.SourceBatch[hit]) error {
	if len(r.hits) == 0 {
		return pipeline.ErrEndOfInput
	}
	n := min(r.size, len(r.hits))
	b.Split = "hits"
	b.Values = append(b.Values, r.hits[:n]...)
	r.hits = r.hits[n:]
	return nil
}

type discard[T any] struct{ n int }

func (d *discard[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return d, nil
}

func (d *discard[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	d.n += len(b.Values)
	return nil
}

func benchCount() operators.Aggregation[hit, int64, int64] {
	return operators.Aggregation[hit, int64, int64]{
		Add:    func(acc *int64, _ hit) { *acc++ },
		Merge:  func(acc, other *int64) { *acc += *other },
		Result: func(acc *int64) int64 { return *acc },
	}
}

// byHand is the loop one would write: a map for each minute, given out when
// the newest time is a second past its end.
func byHand(hits []hit) (results int) {
	open := map[int64]map[string]int64{}
	newest := int64(-1 << 62)
	for _, h := range hits {
		minute := h.Time - ((h.Time%60_000)+60_000)%60_000
		counts := open[minute]
		if counts == nil {
			counts = map[string]int64{}
			open[minute] = counts
		}
		counts[h.Key]++
		if h.Time > newest {
			newest = h.Time
			for m, counts := range open {
				if m+60_000+1000 <= newest {
					results += len(counts)
					delete(open, m)
				}
			}
		}
	}
	for _, counts := range open {
		results += len(counts)
	}
	return results
}

// throughPipeline runs source to sink, with or without the keyed count between.
func throughPipeline(b *testing.B, hits []hit, count bool) (results int) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	src := pipeline.From(p, "hits", hitSource{hits}, pipeline.BoundedDisorder(hit.time, time.Second))
	counts, passed := &discard[operators.Result[string, int64]]{}, &discard[hit]{}
	if count {
		out := operators.Aggregate(pipeline.KeyBy(src, hit.key), "count", window.Tumbling(time.Minute), benchCount())
		pipeline.To(out, "out", counts)
	} else {
		pipeline.To(src, "out", passed)
	}
	if err := p.Run(context.Background()); err != nil {
		b.Fatal(err)
	}
	return counts.n
}

// BenchmarkTumblingCount compares KeyBy and Aggregate with the loop by hand.
// What a job without them costs is taken off: the loop has its records in a
// slice, too. The goal is a ratio of at most 1.5.
func BenchmarkTumblingCount(b *testing.B) {
	for _, keys := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchTumblingCount(b, keys) })
	}
}

func benchTumblingCount(b *testing.B, keys int) {
	const n = 4_000_000
	hits := traffic(n, keys, 2_000_000)
	var hand, job, source time.Duration
	timed := func(into *time.Duration, f func()) {
		runtime.GC()
		start := time.Now()
		f()
		*into += time.Since(start)
	}
	for range b.N {
		var want, got int
		timed(&hand, func() { want = byHand(hits) })
		timed(&job, func() { got = throughPipeline(b, hits, true) })
		timed(&source, func() { throughPipeline(b, hits, false) })
		if got != want {
			b.Fatalf("got %d results, want %d", got, want)
		}
	}
	perRecord := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(b.N) / n }
	b.ReportMetric(perRecord(hand), "hand-ns/rec")
	b.ReportMetric(perRecord(job-source), "count-ns/rec")
	b.ReportMetric(perRecord(source), "source-ns/rec")
	b.ReportMetric(float64(job-source)/float64(hand), "ratio")
	b.ReportMetric(0, "ns/op")
}

// endless feeds the same batch for as long as it is asked to, and so lets a
// benchmark count what a record allocates.
type endless struct {
	batch   []hit
	records int
}

func (s endless) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[hit], error) {
	return &s, nil
}

func (s *endless) Read(_ context.Context, b *pipeline.SourceBatch[hit]) error {
	if s.records <= 0 {
		return pipeline.ErrEndOfInput
	}
	b.Split = "hits"
	b.Values = append(b.Values, s.batch...)
	s.records -= len(s.batch)
	return nil
}

// A record in a window that its key has already touched allocates nothing,
// whatever the windows.
func TestRecordsDoNotAllocate(t *testing.T) {
	batch := traffic(256, 20, 2_000_000)
	for _, by := range []window.Assigner{
		window.Tumbling(time.Hour), window.Sliding(time.Hour, time.Minute), window.Cumulative(time.Hour, time.Minute),
		window.Session(time.Hour), window.Global(), plain{window.Sliding(time.Hour, 30*time.Minute)},
	} {
		checkAllocs(t, fmt.Sprint(by), batch, func(in pipeline.KeyedStream[string, hit]) pipeline.Stream[operators.Result[string, int64]] {
			return operators.Aggregate(in, "count", by, benchCount())
		})
	}
	checkAllocs(t, "rollup", batch, func(in pipeline.KeyedStream[string, hit]) pipeline.Stream[operators.Result[string, int64]] {
		return operators.Rollup(in, "count", []time.Duration{time.Minute, time.Hour}, benchCount())
	})
}

func checkAllocs(t *testing.T, name string, batch []hit, count func(pipeline.KeyedStream[string, hit]) pipeline.Stream[operators.Result[string, int64]]) {
	t.Helper()
	allocs := func(records int) float64 {
		return testing.AllocsPerRun(1, func() {
			p := pipeline.New(pipeline.DefaultParallelism(1))
			src := pipeline.From(p, "hits", endless{batch, records}, pipeline.BoundedDisorder(hit.time, time.Minute))
			pipeline.To(count(pipeline.KeyBy(src, hit.key)), "out", &discard[operators.Result[string, int64]]{})
			if err := p.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
	}
	// Both runs start and end alike; the engine is given a few for its timers.
	const records = 500_000
	if few, many := allocs(1000), allocs(records); many-few > records/1000 {
		t.Errorf("%s: %v allocations more for %d records more", name, many-few, records)
	}
}
