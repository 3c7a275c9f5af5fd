package kafka_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/kafka"
)

// fill writes n numbered values to each of the topic's partitions and returns
// all of them.
func (w *world) fill(topic string, partitions int32, n int) []string {
	w.t.Helper()
	var all []string
	var records []*kgo.Record
	for p := range partitions {
		for i := range n {
			v := fmt.Sprintf("%s %d %d", topic, p, i)
			all = append(all, v)
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte(v)})
		}
	}
	w.write(records...)
	return all
}

func TestSource(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 3}, devkafka.Topic{Name: "users", Partitions: 1}, devkafka.Topic{Name: "empty"})
	want := append(w.fill("hits", 3, 13), w.fill("users", 1, 5)...)
	for name, cfg := range map[string]kafka.Config{
		"bounded": bounded(w.config("hits", "users", "empty")),
		"endless": w.config("users", "hits", "empty"),
	} {
		t.Run(name, func(t *testing.T) {
			pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
				New: func(testing.TB) pipeline.Source[string] { return text(cfg) }, Want: want, Endless: !cfg.Bounded,
			})
		})
	}
}

// TestSourceWithRejected runs the suite where one record in three is bad.
func TestSourceWithRejected(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	var want []int
	for i := range 12 {
		value := fmt.Sprint(i)
		if i%3 == 1 {
			value = "not a number"
		} else {
			want = append(want, i)
		}
		w.produce("hits", int32(i%2), value)
	}
	pipelinetest.TestSource(t, pipelinetest.SourceCase[int]{
		New: func(testing.TB) pipeline.Source[int] { return kafka.JSON[int](bounded(w.config("hits"))) }, Want: want, Rejected: 4,
	})
}

func TestStart(t *testing.T) {
	at := time.UnixMilli
	for _, c := range []struct {
		name        string
		start       kafka.Start
		first, then []string // of partition 0, and of partition 1 with "y" that is written later
	}{
		{"earliest", kafka.Earliest(), []string{"a", "b", "c", "d"}, []string{"x", "y"}},
		{"zero", kafka.Start{}, []string{"a", "b", "c", "d"}, []string{"x", "y"}},
		{"latest", kafka.Latest(), nil, []string{"y"}},
		{"time", kafka.FromTime(at(1500)), []string{"c", "d"}, []string{"y"}},
		{"offsets", kafka.FromOffsets(map[string]map[int32]int64{"hits": {0: 3}}), []string{"d"}, []string{"x", "y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
			for i, v := range []string{"a", "b", "c", "d"} {
				w.write(&kgo.Record{Topic: "hits", Value: []byte(v), Timestamp: at(int64(1000 * i))})
			}
			w.write(&kgo.Record{Topic: "hits", Partition: 1, Value: []byte("x"), Timestamp: at(0)})
			cfg := w.config("hits")
			cfg.Start = c.start
			r := open(t, text(cfg), env(0, 1))
			r.placed(2)
			w.produce("hits", 1, "y")
			r.records(len(c.first) + len(c.then))
			if got := r.values["hits/0"]; !slices.Equal(got, c.first) {
				t.Errorf("partition 0: got %q, want %q", got, c.first)
			}
			if got := r.values["hits/1"]; !slices.Equal(got, c.then) {
				t.Errorf("partition 1: got %q, want %q", got, c.then)
			}
		})
	}
}

// TestLatestKeepsItsPlace restarts a job that began at the end and had read
// nothing yet.
func TestLatestKeepsItsPlace(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	w.produce("hits", 0, "before")
	cfg := w.config("hits")
	cfg.Start = kafka.Latest()
	first := open(t, text(cfg), env(0, 1))
	first.placed(1)
	first.close()
	w.produce("hits", 0, "while it was down")
	e := env(0, 1)
	e.Positions = first.positions
	second := open(t, text(cfg), e)
	second.records(1)
	if got := second.values["hits/0"]; got[0] != "while it was down" {
		t.Errorf("got %q", got)
	}
}

func TestTransactions(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	c := w.newClient(kgo.TransactionalID("writer"))
	w.transaction(c, kgo.TryCommit, "hits", 0, "a", "b")
	w.transaction(c, kgo.TryAbort, "hits", 0, "never")
	w.produce("hits", 0, "plain")
	w.transaction(c, kgo.TryCommit, "hits", 0, "c")
	w.transaction(c, kgo.TryAbort, "hits", 0, "never")
	check := func(name string, cfg kafka.Config, want ...string) {
		t.Helper()
		r := open(t, text(cfg), env(0, 1))
		r.toEnd() // although the last thing in the log is a marker
		if got := r.values["hits/0"]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if !slices.Equal(r.finished, []string{"hits/0"}) {
			t.Errorf("%s: finished %q", name, r.finished)
		}
	}
	uncommitted := bounded(w.config("hits"))
	uncommitted.ReadUncommitted = true
	check("committed", bounded(w.config("hits")), "a", "b", "plain", "c")
	check("uncommitted", uncommitted, "a", "b", "never", "plain", "c", "never")

	// An open transaction: the end is before it.
	w.begin(c, "hits", 0, "open")
	w.produce("hits", 0, "behind it")
	check("open, committed", bounded(w.config("hits")), "a", "b", "plain", "c")
	check("open, uncommitted", uncommitted, "a", "b", "never", "plain", "c", "never", "open", "behind it")
	if err := c.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	check("committed at last", bounded(w.config("hits")), "a", "b", "plain", "c", "open", "behind it")
}

// TestUncommittedPositionBehindOpenTransaction goes on from beyond the last
// stable offset.
func TestUncommittedPositionBehindOpenTransaction(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	c := w.newClient(kgo.TransactionalID("writer"))
	w.begin(c, "hits", 0, "open")
	cfg := w.config("hits")
	cfg.ReadUncommitted = true
	first := open(t, text(cfg), env(0, 1))
	first.records(1)
	first.close()
	e := env(0, 1)
	e.Positions = first.positions
	open(t, text(bounded(w.config("hits"))), e).toEnd()
}

func TestBoundedIgnoresLaterRecords(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	w.fill("hits", 2, 25)
	r := open(t, text(bounded(w.config("hits"))), env(0, 1))
	r.placed(2)
	w.fill("hits", 2, 25)
	r.toEnd()
	if r.count() != 50 {
		t.Errorf("got %d records, want the 50 that were there at the start", r.count())
	}
}

func TestPattern(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits-eu"}, devkafka.Topic{Name: "hits-us"}, devkafka.Topic{Name: "old-hits-eu"})
	w.fill("hits-eu", 1, 1)
	w.fill("hits-us", 1, 1)
	w.fill("old-hits-eu", 1, 1)
	cfg := bounded(w.config())
	cfg.Pattern = "hits-.."
	r := open(t, text(cfg), env(0, 1))
	r.toEnd()
	slices.Sort(r.splits)
	if want := []string{"hits-eu/0", "hits-us/0"}; !slices.Equal(r.splits, want) {
		t.Errorf("got splits %q, want %q", r.splits, want)
	}
}

func (w *world) addPartitions(topic string, n int32) {
	w.t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, n
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(context.Background(), w.client); err != nil {
		w.t.Fatal(err)
	}
	w.client.PurgeTopicsFromProducing(topic) // or it would not know them yet
}

func (w *world) addTopic(name string) {
	w.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(context.Background(), w.client); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteTopic(name string) {
	w.t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = kmsg.StringPtr(name)
	req.Topics, req.TopicNames = append(req.Topics, rt), []string{name}
	if _, err := req.RequestWith(context.Background(), w.client); err != nil {
		w.t.Fatal(err)
	}
}

// TestNewPartitions adds partitions and a topic to a running job, which began
// with the latest records: those of new partitions are all later.
func TestNewPartitions(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits-a", Partitions: 2})
	w.fill("hits-a", 2, 3)
	cfg := w.config()
	cfg.Pattern, cfg.Start, cfg.Refresh = "hits-.*", kafka.Latest(), 10*time.Millisecond
	readers := []*reading[string]{open(t, text(cfg), env(0, 2)), open(t, text(cfg), env(1, 2))}
	for _, r := range readers {
		r.placed(1)
	}
	w.addPartitions("hits-a", 4)
	w.addTopic("hits-b")
	w.fill("hits-b", 1, 1)
	w.produce("hits-a", 2, "two")
	w.produce("hits-a", 3, "three")
	total := func() int { return readers[0].count() + readers[1].count() }
	deadline := time.Now().Add(long)
	for total() < 3 {
		for _, r := range readers {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if err := r.read(ctx); err != nil && (!errors.Is(err, context.DeadlineExceeded) || time.Now().After(deadline)) {
				t.Fatalf("after %d records: %v", total(), err)
			}
			cancel()
		}
	}
	var splits []string
	positions := map[string][]byte{}
	for _, r := range readers {
		splits = append(splits, r.splits...)
		if n := len(r.splits); n < 2 || n > 3 {
			t.Errorf("a subtask has splits %q, want two or three of five", r.splits)
		}
		for split, at := range r.positions {
			positions[split] = at
		}
		r.close()
	}
	slices.Sort(splits)
	if want := []string{"hits-a/0", "hits-a/1", "hits-a/2", "hits-a/3", "hits-b/0"}; !slices.Equal(splits, want) {
		t.Errorf("got splits %q, want %q", splits, want)
	}

	// The same while the job is down.
	w.addPartitions("hits-a", 5)
	w.addTopic("hits-c")
	w.produce("hits-a", 4, "four")
	w.produce("hits-c", 0, "c")
	e := env(0, 1)
	e.Positions = positions
	r := open(t, text(cfg), e)
	r.records(2)
	if r.values["hits-a/4"][0] != "four" || r.values["hits-c/0"][0] != "c" {
		t.Errorf("got %q", r.values)
	}
}

// TestOwners says which subtask a partition belongs to whatever others there
// are, in even shares.
func TestOwners(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "one", Partitions: 12}, devkafka.Topic{Name: "two", Partitions: 12})
	owners := func(parallelism int, topics ...string) map[string]int {
		m := map[string]int{}
		for i := range parallelism {
			r := open(t, text(bounded(w.config(topics...))), env(i, parallelism))
			r.toEnd()
			if want := 12 * len(topics) / parallelism; len(r.splits) != want {
				t.Errorf("subtask %d of %d has %d partitions, want %d", i, parallelism, len(r.splits), want)
			}
			for _, s := range r.splits {
				m[s] = i
			}
		}
		return m
	}
	for _, parallelism := range []int{2, 3, 4} {
		both := owners(parallelism, "one", "two")
		for split, owner := range owners(parallelism, "two") {
			if both[split] != owner {
				t.Errorf("parallelism %d: %s belongs to %d, and to %d with another topic beside", parallelism, split, owner, both[split])
			}
		}
	}
}

type order struct {
	ID    int
	Buyer string
}

func TestDecoders(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	w.write(
		&kgo.Record{Topic: "orders", Key: []byte("k1"), Value: []byte(`{"ID":1,"Buyer":"Ann"}`), Timestamp: time.UnixMilli(17),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("t1")}, {Key: "none"}}},
		&kgo.Record{Topic: "orders", Key: []byte("k2"), Timestamp: time.UnixMilli(18)},
		&kgo.Record{Topic: "orders", Value: []byte{}, Timestamp: time.UnixMilli(19)},
	)
	cfg := bounded(w.config("orders"))

	raw := open(t, kafka.Raw(cfg), env(0, 1))
	raw.toEnd()
	want := []string{
		`{orders 0 0 17 "k1" [{"trace" "t1"} {"none" ""}] "{\"ID\":1,\"Buyer\":\"Ann\"}" false}`,
		`{orders 0 1 18 "k2" [] "" true}`,
		`{orders 0 2 19 "" [] "" false}`,
	}
	for i, r := range raw.values["orders/0"] {
		got := fmt.Sprintf("{%s %d %d %d %q %q %q %v}", r.Topic, r.Partition, r.Offset, r.Time, r.Key, r.Headers, r.Value, r.Tombstone)
		if got != want[i] {
			t.Errorf("raw record %d\ngot  %s\nwant %s", i, got, want[i])
		}
	}
	if r := raw.values["orders/0"][2]; r.Key != nil || r.Value == nil {
		t.Errorf("no key and an empty value: got %#v", r)
	}

	records := open(t, kafka.JSONRecords[order](cfg), env(0, 1))
	records.toEnd()
	if got := fmt.Sprintf("%+v", records.values["orders/0"]); got !=
		"[{Topic:orders Partition:0 Offset:0 Time:17 Key:[107 49] Headers:[{Key:trace Value:[116 49]} {Key:none Value:[]}] Value:{ID:1 Buyer:Ann} Tombstone:false}"+
			" {Topic:orders Partition:0 Offset:1 Time:18 Key:[107 50] Headers:[] Value:{ID:0 Buyer:} Tombstone:true}]" {
		t.Errorf("got %s", got)
	}

	plain := open(t, kafka.JSON[order](cfg), env(0, 1))
	plain.toEnd()
	if got := fmt.Sprint(plain.values["orders/0"]); got != "[{1 Ann}]" {
		t.Errorf("got %s", got)
	}
	if len(plain.rejected) != 2 || plain.rejected[0].Error != "tombstone: the record has no value" {
		t.Errorf("got %v, want the tombstone and the empty value", plain.rejected)
	}
}

func TestRule31_RejectedWithCoordinates(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	w.produce("hits", 0, "fine", "skip", "bad", "panic", "fine")
	src := kafka.Decode(bounded(w.config("hits")), func(r *kgo.Record) (string, error) {
		switch string(r.Value) {
		case "bad":
			return "half", errors.New("does not parse")
		case "skip":
			return "half", kafka.ErrSkip
		case "panic":
			panic("oh")
		}
		return string(r.Value), nil
	})
	r := open(t, src, env(0, 1))
	r.toEnd()
	if got := r.values["hits/0"]; !slices.Equal(got, []string{"fine", "fine"}) {
		t.Errorf("got %q", got)
	}
	slices.SortFunc(r.rejected, func(a, b pipeline.DeadLetter) int { return cmp.Compare(a.Offset, b.Offset) })
	var got []string
	for _, d := range r.rejected {
		got = append(got, fmt.Sprintf("%s %d %s: %s", d.Split, d.Offset, d.Raw, d.Error))
	}
	if want := []string{"hits/0 2 bad: does not parse", "hits/0 3 panic: panic: oh"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	w.fill("hits", 2, 30)
	e := env(0, 1)
	r := open(t, text(w.config("hits")), e)
	r.records(30)
	if lag := e.Metrics.Gauge("lag").Load(); lag <= 0 || lag > 50 {
		t.Errorf("lag is %d after 30 of 60 records", lag)
	}
	r.records(60)
	for name, want := range map[string]int64{"lag": 0, "partitions": 2} {
		if got := e.Metrics.Gauge(name).Load(); got != want {
			t.Errorf("gauge %s: got %d, want %d", name, got, want)
		}
	}
	if got := e.Metrics.Counter("records").Load(); got != 60 {
		t.Errorf("counter records: got %d, want 60", got)
	}
}
