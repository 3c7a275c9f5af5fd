package kafka_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

func (w *world) ordered(topics ...string) kafka.Config {
	cfg := bounded(w.config(topics...))
	cfg.Ordered = true
	return cfg
}

// writeAt writes a record whose value is its time in seconds.
func (w *world) writeAt(topic string, partition int32, seconds ...int64) {
	w.t.Helper()
	for _, s := range seconds {
		w.write(&kgo.Record{Topic: topic, Partition: partition, Timestamp: time.Unix(s, 0), Value: fmt.Append(nil, s)})
	}
}

// story reads a source to its end and tells all it said: values with their
// partitions, what is rejected, which splits end.
func story(t *testing.T, r *reading[string]) string {
	t.Helper()
	var all []string
	for {
		var b pipeline.SourceBatch[string]
		err := r.reader.Read(t.Context(), &b)
		for _, v := range b.Values {
			all = append(all, fmt.Sprintf("%s from %s", v, b.Split))
		}
		for _, d := range b.Rejected {
			all = append(all, fmt.Sprintf("%s rejected", d.Raw))
		}
		if _, _, finished := b.News(); len(finished) > 0 {
			all = append(all, "end of "+strings.Join(finished, ", "))
		}
		if errors.Is(err, pipeline.ErrEndOfInput) {
			return strings.Join(all, "; ")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantStory(t *testing.T, got string, want ...string) {
	t.Helper()
	if want := strings.Join(want, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestOrderedMerge has records out of order within a partition, which stay
// where they are, equal times, two topics, and a partition without records.
func TestOrderedMerge(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 2}, devkafka.Topic{Name: "b", Partitions: 2})
	w.writeAt("a", 0, 1, 5, 2, 6)
	w.writeAt("a", 1, 3, 5)
	w.writeAt("b", 1, 1, 4, 9)
	wantStory(t, story(t, open(t, text(w.ordered("a", "b")), env(0, 1))),
		"end of b/0", "1 from a/0", "1 from b/1", "3 from a/1", "4 from b/1", "5 from a/0", "2 from a/0",
		"5 from a/1", "end of a/1", "6 from a/0", "end of a/0", "9 from b/1", "end of b/1")
}

// TestOrderedBy merges by a time that only the value has, and rejects what has
// none.
func TestOrderedBy(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 2})
	w.produce("a", 0, "t1", "x", "t4", "", "t2")
	w.produce("a", 1, "t2", "", "t3")
	r := open(t, text(w.ordered("a")).OrderedBy(func(v string) int64 { return int64(v[1]) }), env(0, 1))
	var values []string
	for err := error(nil); err == nil; {
		var b pipeline.SourceBatch[string]
		err = r.reader.Read(t.Context(), &b)
		values = append(values, b.Values...)
		r.rejected = append(r.rejected, b.Rejected...)
	}
	if want := []string{"t1", "t2", "t3", "t4", "t2"}; !slices.Equal(values, want) {
		t.Errorf("got %q, want %q", values, want)
	}
	if len(r.rejected) != 3 {
		t.Errorf("got %d rejected, want 3: %v", len(r.rejected), r.rejected)
	}
	for _, d := range r.rejected {
		if !strings.Contains(d.Error, "index out of range") {
			t.Errorf("got the error %q", d.Error)
		}
	}
}

// TestOrderedRejects has more bad records at a partition's head, and at its
// end, than a batch may hold.
func TestOrderedRejects(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 2})
	bad := func(n int) (records []*kgo.Record) {
		for range n {
			records = append(records, &kgo.Record{Topic: "a", Timestamp: time.Unix(1, 0), Value: []byte("bad")})
		}
		return records
	}
	w.write(bad(25)...)
	w.writeAt("a", 0, 1, 4)
	w.write(bad(12)...)
	w.writeAt("a", 1, 2, 3, 5)
	src := kafka.Decode(w.ordered("a"), func(r *kgo.Record) (string, error) {
		switch string(r.Value) {
		case "bad":
			panic("bad")
		case "3":
			return "", kafka.ErrSkip
		}
		return string(r.Value), nil
	})
	r := open(t, src, env(0, 1))
	got := strings.ReplaceAll(story(t, r), "bad rejected; ", "")
	wantStory(t, got, "1 from a/0", "2 from a/1", "4 from a/0", "end of a/0", "5 from a/1", "end of a/1")
	r = open(t, src, env(0, 1))
	for err := error(nil); err == nil; {
		before := len(r.rejected)
		err = r.read(t.Context())
		if n := len(r.rejected) - before; n > 10 {
			t.Errorf("a batch has %d rejected records, want at most 10", n)
		}
	}
	if len(r.rejected) != 37 {
		t.Errorf("got %d rejected, want 37", len(r.rejected))
	}
}

// TestOrderedTransactions has aborted records and markers between the others,
// and at the end of a partition.
func TestOrderedTransactions(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 2})
	c := w.newClient(kgo.TransactionalID("writer"))
	at := func(partition int32, seconds int64) *kgo.Record {
		return &kgo.Record{Topic: "a", Partition: partition, Timestamp: time.Unix(seconds, 0), Value: fmt.Append(nil, seconds)}
	}
	w.inTransaction(c, kgo.TryCommit, []*kgo.Record{at(0, 1), at(1, 2)})
	w.inTransaction(c, kgo.TryAbort, []*kgo.Record{at(0, 2), at(1, 1)})
	w.inTransaction(c, kgo.TryCommit, []*kgo.Record{at(0, 3), at(1, 4)})
	w.inTransaction(c, kgo.TryAbort, []*kgo.Record{at(0, 9)})
	wantStory(t, story(t, open(t, text(w.ordered("a")), env(0, 1))),
		"1 from a/0", "2 from a/1", "3 from a/0", "end of a/0", "4 from a/1", "end of a/1")
}

// TestOrderedResumes goes on from the positions after every possible batch.
func TestOrderedResumes(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 3})
	w.writeAt("a", 0, 1, 5, 2, 6, 7, 7)
	w.writeAt("a", 1, 3, 5)
	w.writeAt("a", 2, 1, 4, 9)
	src := text(w.ordered("a"))
	straight := valuesOf(t, open(t, src, env(0, 1)), 1000)
	for stop := range len(straight) {
		r := open(t, src, env(0, 1))
		before := valuesOf(t, r, stop)
		e := env(0, 1)
		e.Positions = r.positions
		if got := append(before, valuesOf(t, open(t, src, e), 1000)...); !slices.Equal(got, straight) {
			t.Errorf("stopped after %d records:\ngot  %q\nwant %q", len(before), got, straight)
		}
	}
}

// valuesOf reads batches until it has n values or the source ends.
func valuesOf(t *testing.T, r *reading[string], n int) (values []string) {
	t.Helper()
	for len(values) < n {
		var b pipeline.SourceBatch[string]
		err := r.reader.Read(t.Context(), &b)
		values = append(values, b.Values...)
		if b.Position != nil {
			r.positions[b.Split] = b.Position
		}
		if errors.Is(err, pipeline.ErrEndOfInput) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func TestOrderedRefused(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "a"})
	cfg := w.ordered("a")
	cfg.Bounded = false
	wantError(t, startError(t, cfg, nil), "invalid config", "without Bounded")
	cfg = w.ordered("a")
	cfg.Reset = kafka.ResetEarliest
	wantError(t, startError(t, cfg, nil), "invalid config", "Reset")
	_, err := text(w.ordered("a")).Open(t.Context(), env(0, 2))
	wantError(t, err, "one subtask", "the source has 2", "pipeline.Parallelism(1)")

	p := pipeline.New(pipeline.DefaultParallelism(1))
	in := pipeline.From(p, "a", text(w.ordered("a")), pipeline.BoundedDisorder[string](nil, 0).MaxDrift(time.Second))
	memory.Collect(in, "out")
	wantError(t, p.Run(t.Context()), "MaxDrift")
}

// TestOrderedHoldsFastPartitions gives no answer for one partition until the
// client has stopped asking for the other one, far before its end.
func TestOrderedHoldsFastPartitions(t *testing.T) {
	const records = 2000
	w := newWorld(t, devkafka.Topic{Name: "a", Partitions: 2})
	values := rand.NewChaCha8([32]byte{}) // a fetch is limited by compressed bytes, and should take many
	for from := int64(0); from < records; from += 10 {
		var some []*kgo.Record
		for i := from; i < from+10; i++ {
			value := make([]byte, 100)
			_, _ = values.Read(value) // never fails
			some = append(some, &kgo.Record{Topic: "a", Timestamp: time.Unix(i, 0), Value: value})
		}
		w.write(some...)
	}
	w.writeAt("a", 1, 5)
	cfg := w.ordered("a")
	cfg.PartitionBytes = 5000
	cfg.Client = append(cfg.Client, kgo.DisableFetchSessions())
	var mu sync.Mutex
	furthest, without := int64(0), 0
	respond(w, func(req *kmsg.FetchRequest) kmsg.Response {
		mu.Lock()
		defer mu.Unlock()
		fast := false
		for i := range req.Topics {
			ps := &req.Topics[i].Partitions
			for _, p := range *ps {
				if p.Partition == 0 && without < 3 {
					fast, furthest = true, max(furthest, p.FetchOffset)
				}
			}
			if without < 3 && furthest < records {
				*ps = slices.DeleteFunc(*ps, func(p kmsg.FetchRequestTopicPartition) bool { return p.Partition == 1 })
			}
		}
		req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool { return len(t.Partitions) == 0 })
		if !fast {
			without++
		}
		return nil
	})
	r := open(t, kafka.Raw(cfg), env(0, 1))
	r.toEnd()
	if r.count() != records+1 {
		t.Errorf("got %d records, want %d", r.count(), records+1)
	}
	if furthest > records/4 {
		t.Errorf("the client went on to offset %d while the other partition was waited for", furthest)
	}
}

// BenchmarkOrdered compares a job that reads in turns with one that merges
// partitions that take turns in time, record by record, which is the worst case:
// every batch holds a single record.
func BenchmarkOrdered(b *testing.B) {
	w := benchTopic(b)
	when := func(e benchEvent) int64 { return e.Time }
	for _, ordered := range []bool{false, true} {
		b.Run(fmt.Sprintf("ordered=%v", ordered), func(b *testing.B) {
			for b.Loop() {
				cfg := bounded(w.config("events"))
				cfg.Client, cfg.Ordered = nil, ordered
				p := pipeline.New(pipeline.DefaultParallelism(1))
				events := pipeline.From(p, "events", kafka.JSON[benchEvent](cfg).OrderedBy(when), pipeline.BoundedDisorder(when, time.Second))
				byPage := pipeline.KeyBy(events, func(e benchEvent) string { return e.Page })
				memory.Collect(operators.Aggregate(byPage, "count", window.Tumbling(time.Minute), operators.Count[benchEvent]()), "out")
				if err := p.Run(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			perRecord(b)
		})
	}
}
