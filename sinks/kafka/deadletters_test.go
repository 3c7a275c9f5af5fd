package kafka_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
)

func headers(r *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

func wantHeaders(t *testing.T, r *kgo.Record, want map[string]string) {
	t.Helper()
	if got := headers(r); !maps.Equal(got, want) {
		t.Errorf("got headers %q\nwant        %q", got, want)
	}
}

// TestPoison has a source reject records: they get into a topic as they were, and
// say where they come from.
func TestPoison(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "in", Partitions: 2}, devkafka.Topic{Name: "dead"})
	poison := []*kgo.Record{
		{Topic: "in", Partition: 1, Key: []byte("k"), Value: []byte("{poison"), Timestamp: time.UnixMilli(5000),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("7")}}},
		{Topic: "in", Partition: 1, Key: []byte("gone")},
	}
	c := w.client()
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Partition: 1, Value: []byte("1")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(t.Context(), poison...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	p := pipeline.New(pipeline.Name("poisoned"), pipeline.Logger(quiet), asked(t.TempDir()))
	in := pipeline.From(p, "in", source.Decode(source.Config{Brokers: w.brokers, Topics: []string{"in"}, Bounded: true},
		func(r *kgo.Record) (int, error) {
			if string(r.Value) != "1" {
				return 0, fmt.Errorf("%d bytes of poison", len(r.Value))
			}
			return 1, nil
		}))
	pipeline.To(in, "nowhere", discard.Sink[int]())
	pipeline.To(pipeline.DeadLetters(p), "dead", kafka.DeadLetters(kafka.NewProducer(w.config()), "dead"))
	mustRun(t, p)
	got := w.records("dead", 2)
	for i, r := range got {
		if string(r.Key) != string(poison[i].Key) || string(r.Value) != string(poison[i].Value) || (r.Value == nil) != (poison[i].Value == nil) {
			t.Errorf("got %+v, want %+v", r, poison[i])
		}
		h := headers(r)
		delete(h, kafka.HeaderTime)
		delete(h, kafka.HeaderSubtask) // whose partition it is
		want := map[string]string{
			kafka.HeaderError: fmt.Sprintf("%d bytes of poison", len(r.Value)), kafka.HeaderOperator: "in",
			kafka.HeaderTopic: "in", kafka.HeaderPartition: "1", kafka.HeaderOffset: fmt.Sprint(1 + i),
		}
		if i == 0 {
			want["trace"] = "7"
		}
		if !maps.Equal(h, want) {
			t.Errorf("got headers %q\nwant        %q", h, want)
		}
	}
}

// Dead letters of an operator, and of the sink beside, in the same transaction.
func TestLettersOfOperators(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "out"}, devkafka.Topic{Name: "dead"})
	p := pipeline.New(pipeline.Name("picky"), pipeline.Logger(quiet), pipeline.DefaultParallelism(1), asked(t.TempDir()))
	even := pipeline.Process(pipeline.From(p, "feed", ended(10)), "even", pipeline.Func(
		func(c *pipeline.Context[pipeline.NoKey, int], n int) error {
			if n == 3 {
				return errors.New("odd")
			}
			c.Emit(n)
			return nil
		}))
	out := kafka.NewProducer(w.config())
	pipeline.To(even, "out", kafka.Encode(out, "out", func(n int, r *kgo.Record) error {
		if n == 7 {
			r.Key, r.Value = []byte("k"), make([]byte, 2<<20)
		}
		return nil
	}))
	pipeline.To(pipeline.DeadLetters(p), "dead", kafka.DeadLetters(out, "dead"))
	mustRun(t, p)
	if got := w.read("out"); len(got) != 8 {
		t.Errorf("%d records, want 8", len(got))
	}
	for _, r := range w.records("dead", 2) {
		h := headers(r)
		delete(h, kafka.HeaderTime)
		switch h[kafka.HeaderOperator] {
		case "even":
			if string(r.Value) != "3" || r.Key != nil {
				t.Errorf("got %+v", r)
			}
			wantHeaders(t, &kgo.Record{Headers: []kgo.RecordHeader{
				{Key: kafka.HeaderError, Value: []byte(h[kafka.HeaderError])}, {Key: kafka.HeaderOperator, Value: []byte("even")},
				{Key: kafka.HeaderSubtask, Value: []byte("0")},
			}}, h)
		case "out":
			if h[kafka.HeaderCut] != fmt.Sprint(2<<20) || string(r.Key) != "k" || len(r.Value) < 1<<19 || !strings.Contains(h[kafka.HeaderError], "max.message.bytes") {
				t.Errorf("a letter of %d bytes, headers %q", len(r.Value), h)
			}
		default:
			t.Errorf("got headers %q", h)
		}
	}
}

// Letters of any shape fit into their topic.
func TestLettersAreCut(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "dead"})
	w.topicLimit("dead", 10_000)
	out := openWriter(t, kafka.DeadLetters(kafka.NewProducer(w.leastOnce()), "dead"))
	big := []byte(strings.Repeat("x", 20_000))
	out.write(0,
		pipeline.DeadLetter{Split: "access.log", Offset: 12, Raw: big, Key: []byte("k"), Error: "bad"},
		pipeline.DeadLetter{Key: big, Raw: big, Error: string(big)},
		pipeline.DeadLetter{Headers: []pipeline.Header{{Key: "h", Value: big}}, Record: "text", Error: "bad", Time: 5},
	)
	if len(out.rejected) > 0 {
		t.Errorf("rejected: %s", out.rejected[0].Error)
	}
	got := w.records("dead", 3)
	wantHeaders(t, got[0], map[string]string{
		kafka.HeaderError: "bad", kafka.HeaderOperator: "", kafka.HeaderSubtask: "0", kafka.HeaderSplit: "access.log",
		kafka.HeaderOffset: "12", kafka.HeaderCut: "20000",
	})
	if n := len(got[0].Value); string(got[0].Key) != "k" || n < 9000 {
		t.Errorf("key %q and %d bytes", got[0].Key, n)
	}
	if got[1].Key != nil || len(got[1].Value) < 4000 || headers(got[1])[kafka.HeaderCut] != "20000" {
		t.Errorf("key %d and %d bytes", len(got[1].Key), len(got[1].Value))
	}
	if string(got[2].Value) != "text" || headers(got[2])["h"] != "" || headers(got[2])[kafka.HeaderTime] != "5" {
		t.Errorf("got %+v", got[2])
	}
}
