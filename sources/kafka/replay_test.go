package kafka_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

// The topic that is replayed covers a minute in partitions of very different
// sizes, one of them empty.
var replaySizes = []int{1000, 300, 120, 40, 3, 0}

const (
	replaySpan     = 60 * time.Second
	replayDisorder = 2 * time.Second
	replayLateness = 1500 * time.Millisecond
)

func replayWorld(t *testing.T, latest time.Duration) (*world, *brake) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: int32(len(replaySizes))})
	w.writeDisorder(latest)
	return w, newBrake(w)
}

// writeDisorder writes hits that are up to the disorder bound older than the
// newest of their partition, and every twentieth up to latest.
func (w *world) writeDisorder(latest time.Duration) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(16, 4))
	for p, n := range replaySizes {
		newest := int64(0)
		var some []*kgo.Record
		for i := range n {
			at := int64(i) * replaySpan.Milliseconds() / int64(n)
			back := random.Int64N(replayDisorder.Milliseconds() + 1)
			if i%20 == 7 {
				back = latest.Milliseconds() - random.Int64N(min(latest.Milliseconds(), 1000))
			}
			newest = max(newest, at)
			h := hit{fmt.Sprintf("/page/%d", random.IntN(3)), max(newest-back, 0)}
			some = append(some, &kgo.Record{
				Topic: "hits", Partition: int32(p), Timestamp: time.UnixMilli(h.Time),
				Value: fmt.Appendf(nil, `{"Page":%q,"Time":%d}`, h.Page, h.Time),
			})
			if len(some) == 20 || i == n-1 { // a batch, of which a fetch has one at least
				w.write(some...)
				some = nil
			}
			newest = max(newest, h.Time)
		}
	}
}

// replay is one way to read the topic: partitions that get an answer to every
// so-manieth fetch only, and sizes of batches and fetches.
type replay struct {
	every          map[int32]int
	batch          int
	partitionBytes int
	fetchBytes     int
}

var replays = []replay{
	{nil, 512, 1 << 20, 16 << 20},
	{map[int32]int{0: 4}, 16, 2000, 4000},
	{map[int32]int{1: 5, 2: 3}, 1, 1, 1},
	{map[int32]int{3: 8, 4: 6}, 64, 5000, 1 << 20},
	{map[int32]int{0: 2, 1: 3, 2: 5, 4: 7}, 7, 3000, 3000},
}

func (r replay) String() string {
	return fmt.Sprintf("every=%v/batch=%d/partition=%d/fetch=%d", r.every, r.batch, r.partitionBytes, r.fetchBytes)
}

func (r replay) config(w *world) kafka.Config {
	cfg := bounded(w.config("hits"))
	cfg.PartitionBytes, cfg.FetchBytes = r.partitionBytes, r.fetchBytes
	cfg.Client = append(cfg.Client, kgo.DisableFetchSessions()) // or a request would not name what it asks for
	return cfg
}

// brake makes the broker answer as a replay says.
type brake struct {
	mu    sync.Mutex
	every map[int32]int // guarded by mu
	round int           // guarded by mu
}

func newBrake(w *world) *brake {
	b := &brake{}
	respond(w, func(req *kmsg.FetchRequest) kmsg.Response {
		b.apply(req)
		return nil
	})
	return b
}

func (b *brake) set(r replay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.every, b.round = r.every, 0
}

// apply takes the partitions out of a request that are not to be answered.
func (b *brake) apply(req *kmsg.FetchRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round++
	for i := range req.Topics {
		t := &req.Topics[i]
		t.Partitions = slices.DeleteFunc(t.Partitions, func(p kmsg.FetchRequestTopicPartition) bool {
			every := b.every[p.Partition]
			return every > 0 && b.round%every != 0
		})
	}
	req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool { return len(t.Partitions) == 0 })
}

// counted is what a job made of the topic, sorted.
type counted struct{ results, late []string }

// countReplay counts hits by page and second. What is too late goes to an
// output of its own.
func countReplay(pw *pipelinetest.World, src pipeline.Source[hit], strategy pipeline.WatermarkStrategy[hit], batch, parallelism int) func(...pipeline.Option) *pipeline.Pipeline {
	return func(opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(2), pipeline.BatchSize(batch)}, opts...)...)
		hits := pipeline.From(p, "hits", pipelinetest.Watched(pw, src), strategy, pipeline.Parallelism(parallelism))
		tooLate := pipeline.NewTag[hit]("late")
		counts := operators.Aggregate(pipeline.KeyBy(hits, func(h hit) string { return h.Page }), "count",
			window.Tumbling(time.Second), operators.Count[hit](), operators.AllowedLateness(replayLateness), operators.LateTo(tooLate))
		pipeline.To(counts, "counts", pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts"))
		pipeline.To(pipeline.SideOutput(counts, tooLate), "late", pipelinetest.NewLedger[hit](pw, "late"))
		return p
	}
}

// last keeps the last result of each page and second.
func last(results []pipelinetest.Record[operators.Result[string, int64]]) []string {
	type id struct {
		page string
		w    window.Window
	}
	latest := map[id]operators.Result[string, int64]{}
	for _, r := range results {
		k := id{r.Value.Key, r.Value.Window}
		if before, ok := latest[k]; !ok || before.Pane.Index < r.Value.Pane.Index {
			latest[k] = r.Value
		}
	}
	var lines []string
	for k, r := range latest {
		lines = append(lines, fmt.Sprintf("%s %v %d", k.page, k.w, r.Value))
	}
	slices.Sort(lines)
	return lines
}

func sortedLines[T any](records []pipelinetest.Record[T]) []string {
	var lines []string
	for _, r := range records {
		lines = append(lines, r.String())
	}
	slices.Sort(lines)
	return lines
}

func wantSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: got %d, want %d; the first that differs is number %d:\n%q\n%q",
		what, len(got), len(want), i, got[i:min(i+3, len(got))], want[i:min(i+3, len(want))])
}

func byTime(h hit) int64 { return h.Time }

// TestRule16_ReplayAtDifferentSpeeds reads one topic five times, each time with
// other partitions slow. No record is later than the disorder bound plus the
// allowed lateness, so none is lost and every window ends with the same count,
// though which records came after its first result may differ.
func TestRule16_ReplayAtDifferentSpeeds(t *testing.T) {
	w, brake := replayWorld(t, replayDisorder+replayLateness)
	var first []string
	for i, r := range replays {
		brake.set(r)
		pw := pipelinetest.NewWorld(t)
		strategy := pipeline.BoundedDisorder(byTime, replayDisorder).MaxDrift(5 * time.Second).IdleAfter(time.Minute)
		job := countReplay(pw, kafka.JSON[hit](r.config(w)), strategy, r.batch, 1+i%3)
		if err := pw.Run(job); err != nil {
			t.Fatal(err)
		}
		got := last(pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts").Records())
		if late := pipelinetest.NewLedger[hit](pw, "late").Records(); len(late) > 0 {
			t.Errorf("replay %v: %d records are late, the first is %v", r, len(late), late[0])
		}
		if i == 0 {
			first = got
			wantSame(t, "counts and what was written", got, w.truth())
		}
		wantSame(t, "replay "+r.String(), got, first)
	}
}

// truth counts what is in the topic by hand.
func (w *world) truth() []string {
	r := open(w.t, kafka.JSON[hit](bounded(w.config("hits"))), env(0, 1))
	r.toEnd()
	counts := map[string]map[window.Window]int{}
	for _, hits := range r.values {
		for _, h := range hits {
			second := h.Time / 1000 * 1000
			if counts[h.Page] == nil {
				counts[h.Page] = map[window.Window]int{}
			}
			counts[h.Page][window.Window{Start: second, End: second + 1000}]++
		}
	}
	var lines []string
	for page, windows := range counts {
		for at, n := range windows {
			lines = append(lines, fmt.Sprintf("%s %v %d", page, at, n))
		}
	}
	slices.Sort(lines)
	return lines
}

// orderedReplay runs the job in ordered mode, killed after so many records.
func orderedReplay(t *testing.T, w *world, brake *brake, r replay, kills ...int) counted {
	t.Helper()
	brake.set(r)
	pw := pipelinetest.NewWorld(t)
	if len(kills) > 0 {
		pw.CheckpointEvery(20)
	}
	for _, n := range kills {
		pw.KillAt(pipelinetest.AtRead, n)
	}
	cfg := r.config(w)
	cfg.Ordered = true
	src := kafka.JSON[hit](cfg).OrderedBy(byTime)
	if err := pw.Run(countReplay(pw, src, pipeline.BoundedDisorder(byTime, replayDisorder), r.batch, 1)); err != nil {
		t.Fatal(err)
	}
	if n := pw.Kills()[pipelinetest.AtRead]; n != len(kills) {
		t.Errorf("%d kills, want %d", n, len(kills))
	}
	return counted{
		results: sortedLines(pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts").Records()),
		late:    sortedLines(pipelinetest.NewLedger[hit](pw, "late").Records()),
	}
}

// TestRule16_OrderedReplay reads a topic with records that are too late, five
// times, each time with other partitions slow: every result, also those of
// windows that are corrected, and every late record is the same.
func TestRule16_OrderedReplay(t *testing.T) {
	w, brake := replayWorld(t, 3*(replayDisorder+replayLateness))
	first := orderedReplay(t, w, brake, replays[0])
	if n := len(first.late); n < 20 {
		t.Fatalf("only %d records are late, so there is little to compare", n)
	}
	for _, r := range replays[1:] {
		got := orderedReplay(t, w, brake, r)
		wantSame(t, "results of replay "+r.String(), got.results, first.results)
		wantSame(t, "late records of replay "+r.String(), got.late, first.late)
	}
}

// TestRule16_OrderedReplayKilled also kills it, several times in the middle, and
// lets it go on from a checkpoint.
func TestRule16_OrderedReplayKilled(t *testing.T) {
	w, brake := replayWorld(t, 3*(replayDisorder+replayLateness))
	first := orderedReplay(t, w, brake, replays[0])
	for i, r := range []replay{replays[1], replays[4]} {
		got := orderedReplay(t, w, brake, r, 200+100*i, 300, 400)
		wantSame(t, "results of replay "+r.String(), got.results, first.results)
		wantSame(t, "late records of replay "+r.String(), got.late, first.late)
	}
}

// TestRule16_OrderedSequence compares the order of records with that of a merge
// by hand.
func TestRule16_OrderedSequence(t *testing.T) {
	w, brake := replayWorld(t, 3*(replayDisorder+replayLateness))
	plain := open(t, kafka.JSONRecords[hit](bounded(w.config("hits"))), env(0, 1))
	plain.toEnd()
	want := mergeByHead(plain.values)
	for _, r := range replays {
		brake.set(r)
		cfg := r.config(w)
		cfg.Ordered = true
		e := env(0, 1)
		e.BatchSize = r.batch
		wantSame(t, "replay "+r.String(), sequence(t, kafka.JSONRecords[hit](cfg), e), want)
	}
}

// mergeByHead takes the lowest of all first records, again and again.
func mergeByHead(splits map[string][]kafka.Record[hit]) []string {
	var merged []string
	for {
		var heads []kafka.Record[hit]
		for _, s := range splits {
			if len(s) > 0 {
				heads = append(heads, s[0])
			}
		}
		if len(heads) == 0 {
			return merged
		}
		lowest := slices.MinFunc(heads, func(a, b kafka.Record[hit]) int {
			return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Partition, b.Partition))
		})
		name := fmt.Sprintf("hits/%d", lowest.Partition)
		splits[name] = splits[name][1:]
		merged = append(merged, coordinates(lowest))
	}
}

func coordinates(r kafka.Record[hit]) string {
	return fmt.Sprintf("%d/%d at %d", r.Partition, r.Offset, r.Time)
}

// sequence reads a source to its end.
func sequence(t *testing.T, src pipeline.Source[kafka.Record[hit]], e *pipeline.SourceEnv) []string {
	t.Helper()
	r := open(t, src, e)
	var all []string
	for {
		var b pipeline.SourceBatch[kafka.Record[hit]]
		err := r.reader.Read(t.Context(), &b)
		for _, rec := range b.Values {
			all = append(all, coordinates(rec))
		}
		switch {
		case errors.Is(err, pipeline.ErrEndOfInput):
			return all
		case err != nil:
			t.Fatal(err)
		case len(b.Values) > e.BatchSize:
			t.Errorf("a batch has %d records, want at most %d", len(b.Values), e.BatchSize)
		}
	}
}
