package kafka_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

type hit struct {
	Page string
	Time int64
}

const jobPartitions = 6

// writeHits writes n hits to each partition, in transactions some of which are
// aborted, with a poison record now and then. It returns what counting them by
// page and second should give, and how many records are bad.
func (w *world) writeHits(n int) (counts map[string]int, bad int) {
	w.t.Helper()
	c := w.newClient(kgo.TransactionalID("writer"))
	counts = map[string]int{}
	const each = 20
	for from := 0; from < n; from += each {
		var good, never []*kgo.Record
		for p := range int32(jobPartitions) {
			for i := from; i < from+each; i++ {
				h := hit{fmt.Sprintf("/page/%d", (i+int(p))%7), int64(i) * 50}
				value := fmt.Sprintf(`{"Page":%q,"Time":%d}`, h.Page, h.Time)
				never = append(never, &kgo.Record{Topic: "hits", Partition: p, Value: []byte(value)})
				if i%37 == 5 {
					value, bad = value[:9], bad+1
				} else {
					counts[fmt.Sprintf("%s in [%d,%d)", h.Page, h.Time/1000*1000, h.Time/1000*1000+1000)]++
				}
				good = append(good, &kgo.Record{Topic: "hits", Partition: p, Value: []byte(value)})
			}
		}
		w.inTransaction(c, kgo.TryAbort, never)
		w.inTransaction(c, kgo.TryCommit, good)
	}
	w.inTransaction(c, kgo.TryAbort, []*kgo.Record{{Topic: "hits", Value: []byte("the end")}})
	return counts, bad
}

func (w *world) inTransaction(c *kgo.Client, end kgo.TransactionEndTry, records []*kgo.Record) {
	w.t.Helper()
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	if err := c.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	w.settle(c)
	if err := c.EndTransaction(w.t.Context(), end); err != nil {
		w.t.Fatal(err)
	}
}

// countJob counts hits by page and second. Each start has another parallelism.
func countJob(w *world, starts *int) func(*pipelinetest.World, ...pipeline.Option) *pipeline.Pipeline {
	return func(pw *pipelinetest.World, opts ...pipeline.Option) *pipeline.Pipeline {
		*starts++
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(1 + *starts%3), pipeline.BatchSize(8)}, opts...)...)
		cfg := bounded(w.config("hits"))
		hits := pipeline.From(p, "hits", pipelinetest.Watched(pw, kafka.JSON[hit](cfg)),
			pipeline.BoundedDisorder(func(h hit) int64 { return h.Time }, time.Second).MaxDrift(time.Second))
		byPage := pipeline.KeyBy(hits, func(h hit) string { return h.Page })
		counts := operators.Aggregate(byPage, "count", window.Tumbling(time.Second), operators.Count[hit]())
		pipeline.To(counts, "counts", pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts"))
		bad := operators.Map(pipeline.DeadLetters(p), "bad", func(d pipeline.DeadLetter) string {
			return fmt.Sprintf("%s %d %s", d.Split, d.Offset, d.Raw)
		})
		pipeline.To(bad, "rejected", pipelinetest.NewLedger[string](pw, "rejected"))
		return p
	}
}

// TestJobCountsExactly kills a job a few times, and compares what it delivered
// with what was written.
func TestJobCountsExactly(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: jobPartitions})
	counts, bad := w.writeHits(100)
	pw := pipelinetest.NewWorld(t)
	pw.CheckpointEvery(6)
	for _, n := range []int{40, 150, 200} {
		pw.KillAt(pipelinetest.AtRead, n)
	}
	starts := 0
	job := countJob(w, &starts)
	if err := pw.Run(func(opts ...pipeline.Option) *pipeline.Pipeline { return job(pw, opts...) }); err != nil {
		t.Fatal(err)
	}
	if n := pw.Kills()[pipelinetest.AtRead]; n != 3 {
		t.Errorf("%d kills, want 3", n)
	}
	var got, want []string
	for _, r := range pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts").Records() {
		got = append(got, fmt.Sprintf("%s in [%d,%d) %d", r.Value.Key, r.Value.Window.Start, r.Value.Window.End, r.Value.Value))
	}
	for page, n := range counts {
		want = append(want, fmt.Sprintf("%s %d", page, n))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d counts\n%q\nwant %d\n%q", len(got), got, len(want), want)
	}
	if n := len(pipelinetest.NewLedger[string](pw, "rejected").Records()); n != bad {
		t.Errorf("got %d dead letters, want %d", n, bad)
	}
}

// TestRule26_JobSurvives kills it at random moments of all kinds.
func TestRule26_JobSurvives(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: jobPartitions})
	w.writeHits(60)
	starts := 0
	pipelinetest.Survive(t, pipelinetest.Ordeal{Kills: 15}, countJob(w, &starts))
}

// TestRule16_PartitionsStayTogether reads two partitions that cover the same
// time, one with ten times the records of the other. Read in turns, they would
// drift apart until one had ended.
func TestRule16_PartitionsStayTogether(t *testing.T) {
	const length, batch = 1000 * time.Second, 8
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	spacing := []time.Duration{500 * time.Millisecond, 5 * time.Second}
	var records []*kgo.Record
	for p, step := range spacing {
		for at := time.Duration(0); at < length; at += step {
			records = append(records, &kgo.Record{Topic: "hits", Partition: int32(p), Timestamp: time.UnixMilli(at.Milliseconds()), Value: []byte("0")})
		}
	}
	w.write(records...)
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.BatchSize(batch))
	in := pipeline.From(p, "hits", kafka.JSONRecords[int](bounded(w.config("hits"))),
		pipeline.BoundedDisorder(func(r kafka.Record[int]) int64 { return r.Time }, 0).MaxDrift(10*time.Second))
	var reached [2]int64
	var apart time.Duration
	seen := operators.Map(in, "seen", func(r kafka.Record[int]) int64 {
		reached[r.Partition] = r.Time
		apart = max(apart, time.Duration(reached[1]-reached[0])*time.Millisecond)
		return r.Time
	})
	out := memory.Collect(seen, "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out.Len() != len(records) {
		t.Errorf("got %d records, want %d", out.Len(), len(records))
	}
	if most := 10*time.Second + 2*batch*spacing[1]; apart > most {
		t.Errorf("the partitions were %v apart, want at most %v", apart, most)
	}
}
