package kafka

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
)

func TestPosition(t *testing.T) {
	id := topicID{0x5f, 1: 0x1c, 15: 0x54}
	for want, p := range map[string]position{
		`{"v":1,"offset":0}`: {epoch: -1},
		`{"v":1,"offset":4096,"epoch":3,"topic":"5f1c0000000000000000000000000054"}`:   {4096, 3, id},
		`{"v":1,"offset":9223372036854775807,"epoch":0}`:                               {1<<63 - 1, 0, topicID{}},
		`{"v":1,"offset":1,"topic":"5f1c0000000000000000000000000054"}`:                {1, -1, id},
		`{"v":1,"offset":1,"epoch":2147483647}`:                                        {1, 1<<31 - 1, topicID{}},
		`{"v":1,"offset":17,"epoch":1,"topic":"5f1c0000000000000000000000000054"}`:     {17, 1, id},
		`{"v":1,"offset":123456789012,"topic":"5f1c0000000000000000000000000054"}`:     {123456789012, -1, id},
		`{"v":1,"offset":2,"epoch":12,"topic":"5f1c0000000000000000000000000054"}`:     {2, 12, id},
		`{"v":1,"offset":3,"epoch":100000,"topic":"5f1c0000000000000000000000000054"}`: {3, 100000, id},
	} {
		if got := string(p.append(nil)); got != want {
			t.Errorf("encoded %+v: got %s, want %s", p, got, want)
		}
		if got, err := decodePosition([]byte(want)); err != nil || got != p {
			t.Errorf("decoded %s: got %+v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "7", "{}", `{"v":0,"offset":1}`, `{"v":2,"offset":1}`, `{"v":1,"offset":-1}`, `{"v":1,"offset":1,"epoch":-2}`,
		`{"v":1,"offset":1,"topic":"5f"}`, `{"v":1,"offset":1,"topic":"zz1c0000000000000000000000000054"}`, `{"v":1,"offset":1e99}`, `{"v":1,"offset":1}x`} {
		if p, err := decodePosition([]byte(bad)); err == nil {
			t.Errorf("decoded %s: got %+v, want an error", bad, p)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(`{"v":1,"offset":4096,"epoch":3,"topic":"5f1c0000000000000000000000000054"}`))
	f.Add([]byte(`{"v":1,"offset":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil {
			return
		}
		again, err := decodePosition(p.append(nil))
		if err != nil || again != p {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

func TestParsePartition(t *testing.T) {
	p := partition{"some.topic-1", 17}
	if got, err := parsePartition(p.String()); err != nil || got != p {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "topic", "/1", "topic/", "topic/-1", "topic/1/2", "topic/4294967296"} {
		if p, err := parsePartition(bad); err == nil {
			t.Errorf("parsed %q as %v", bad, p)
		}
	}
}

// TestOwnersStay holds on to who reads what: were it to change, subtasks of one
// job in two versions would disagree.
func TestOwnersStay(t *testing.T) {
	got := ""
	for _, topic := range []string{"hits", "users", "a", "b", "c"} {
		for n := range int32(4) {
			for i := range 3 {
				if mine(&pipeline.SourceEnv{Subtask: i, Parallelism: 3}, partition{topic, n}) {
					got += fmt.Sprint(i)
				}
			}
		}
		got += " "
	}
	if want := "0120 0120 1201 1201 0120 "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCut(t *testing.T) {
	var pending []*kgo.Record
	for _, offset := range []int64{5, 6, 8, 9} {
		pending = append(pending, &kgo.Record{Offset: offset})
	}
	for _, c := range []struct {
		end, next, fetched int64
		left               int
	}{{20, 5, 10, 4}, {10, 5, 10, 4}, {9, 5, 9, 3}, {7, 5, 7, 2}, {5, 5, 5, 0}, {2, 2, 2, 0}} {
		s := &split{next: 5, epoch: 1, pending: pending}
		if s.cut(c.end); s.next != c.next || len(s.pending) != c.left || s.fetched() != c.fetched {
			t.Errorf("cut at %d: next %d, %d pending, fetched to %d, want %+v", c.end, s.next, len(s.pending), s.fetched(), c)
		}
	}
}

// filled returns a reader with one partition and a record to be read as often
// as is asked for.
func filled[T any](src *Source[T], batch, records int) (r *reader[T], s *split, again func()) {
	r = newReader(src, &cluster{}, &pipeline.SourceEnv{BatchSize: batch}, nil)
	s = &split{partition: partition{"hits", 0}, name: "hits/0", behind: new(pipeline.Gauge)}
	pending := make([]*kgo.Record, records)
	for i := range pending {
		pending[i] = &kgo.Record{Value: bytes.Repeat([]byte("x"), 100), Offset: int64(i)}
	}
	return r, s, func() { s.pending, s.next, r.ready = pending, 0, r.ready[:0] }
}

// TestReadingDoesNotAllocate but for a batch's position.
func TestReadingDoesNotAllocate(t *testing.T) {
	src := Decode(Config{}, func(r *kgo.Record) (int, error) { return len(r.Value), nil })
	r, s, again := filled(src, 256, 256)
	var b pipeline.SourceBatch[int]
	allocs := testing.AllocsPerRun(100, func() {
		again()
		b.Reset()
		r.fill(s, &b)
	})
	if len(b.Values) != 256 || allocs > 2 {
		t.Errorf("%d records, %v allocations, want at most 2", len(b.Values), allocs)
	}
}

func BenchmarkFill(b *testing.B) {
	for _, batch := range []int{64, 512} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			r, s, again := filled(Decode(Config{}, func(r *kgo.Record) (int, error) { return len(r.Value), nil }), batch, batch)
			var sb pipeline.SourceBatch[int]
			for b.Loop() {
				again()
				sb.Reset()
				r.fill(s, &sb)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/record")
		})
	}
}
