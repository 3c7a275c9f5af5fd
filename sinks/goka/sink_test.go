package goka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	sink "github.com/millrace/millrace/sinks/goka"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
	source "github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
)

// long is for what must happen, on a busy machine too.
const long = 30 * time.Second

// entry is one of a table; Gone takes the key out.
type entry struct {
	Key   string
	Value string
	Gone  bool
}

func (e entry) split() (string, any) {
	switch {
	case e.Key == "panic":
		panic("no key")
	case e.Gone:
		return e.Key, nil
	}
	return e.Key, e.Value
}

func start(t testing.TB, o devkafka.Options) *devkafka.Broker {
	t.Helper()
	b, err := devkafka.Start(o)
	must(t, err)
	t.Cleanup(b.Close)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quick makes a client react at once, to which tests need not wait.
func quick() []kgo.Opt {
	return []kgo.Opt{
		kgo.FetchMaxWait(10 * time.Millisecond), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
	}
}

func config(b *devkafka.Broker, group string, partitions int32) sink.Config {
	return sink.Config{
		Brokers: []string{b.Addr()}, Group: group, Create: true, Partitions: partitions, Replication: 1,
		StartTimeout: long, Client: quick(),
	}
}

// record is one of a table's topic.
type record struct {
	entry
	partition int32
}

// topic returns what is in a table's topic; of one partition, in order.
func topic(t testing.TB, b *devkafka.Broker, group string) []record {
	t.Helper()
	p := pipeline.New(pipeline.DefaultParallelism(1))
	all := memory.Collect(pipeline.From(p, "in", kafka.Decode(kafka.Config{
		Brokers: []string{b.Addr()}, Topics: []string{group + "-table"}, Bounded: true, Client: quick(),
	}, func(r *kgo.Record) (record, error) {
		if r.Key == nil {
			return record{}, errors.New("no key")
		}
		return record{entry{string(r.Key), string(r.Value), r.Value == nil}, r.Partition}, nil
	})), "out")
	must(t, p.Run(t.Context()))
	return all.Values()
}

// view starts a view of a group's table, and returns it when it has caught up.
func view(t *testing.T, b *devkafka.Broker, group string) *goka.View {
	t.Helper()
	return viewAt(t, []string{b.Addr()}, group)
}

func viewAt(t *testing.T, brokers []string, group string) *goka.View {
	t.Helper()
	v, err := goka.NewView(brokers, goka.GroupTable(goka.Group(group)), new(codec.String),
		goka.WithViewStorageBuilder(storage.MemoryBuilder()), goka.WithViewLogger(log.New(io.Discard, "", 0)))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	select {
	case <-v.WaitRunning():
	case <-time.After(long):
		t.Fatal("the view never catches up")
	}
	return v
}

// wantTable compares what a view shows with a table, over its look-ups and its
// iterator, and waits for it as the view is behind.
func wantTable(t *testing.T, v *goka.View, want map[string]string, gone ...string) {
	t.Helper()
	var differs string
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if differs = compare(t, v, want, gone); differs == "" {
			return
		}
	}
	t.Error(differs)
}

func compare(t *testing.T, v *goka.View, want map[string]string, gone []string) (differs string) {
	t.Helper()
	for key, value := range want {
		if got, err := v.Get(key); err != nil || got != value {
			return fmt.Sprintf("get %q: %v, %v, want %q", key, got, err, value)
		}
	}
	for _, key := range gone {
		if got, err := v.Get(key); err != nil || got != nil {
			return fmt.Sprintf("get %q: %v, %v, want nothing", key, got, err)
		}
	}
	it, err := v.Iterator()
	must(t, err)
	defer it.Release()
	n := 0
	for it.Next() {
		n++
	}
	if n != len(want) {
		return fmt.Sprintf("the view has %d keys, want %d", n, len(want))
	}
	return ""
}

func TestConformance(t *testing.T) {
	b := start(t, devkafka.Options{})
	groups := 0
	pipelinetest.TestSink(t, pipelinetest.SinkCase[entry]{
		New: func(t testing.TB) (pipeline.Sink[entry], func() []entry) {
			groups++
			group := fmt.Sprintf("group-%d", groups)
			return sink.Table(config(b, group, 1), new(codec.String), entry.split), func() []entry {
				var all []entry
				for _, r := range topic(t, b, group) {
					all = append(all, r.entry)
				}
				return all
			}
		},
		Value: func(i int) entry {
			if i%7 == 3 {
				return entry{fmt.Sprintf("key-%d", i), "", true}
			}
			return entry{fmt.Sprintf("key-%d", i), fmt.Sprintf("value-%d", i), false}
		},
		Bad: func() entry { return entry{Key: "panic"} },
	})
}

// write runs a job that writes entries, one subtask for all.
func write(t *testing.T, cfg sink.Config, entries ...entry) error {
	t.Helper()
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(slog.New(slog.DiscardHandler)))
	pipeline.To(pipeline.From(p, "in", source.From(entries)), "table", sink.Table(cfg, new(codec.String), entry.split))
	return p.Run(t.Context())
}

// TestPartitions has keys at the partitions that goka's own emitter and its
// hasher choose, also for odd keys.
func TestPartitions(t *testing.T) {
	const partitions = 7
	b := start(t, devkafka.Options{Topics: []devkafka.Topic{{Name: "emitted-table", Partitions: partitions}}})
	emitter, err := goka.NewEmitter([]string{b.Addr()}, "emitted-table", new(codec.String), goka.WithEmitterLogger(log.New(io.Discard, "", 0)))
	must(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	keys := []string{"", "a", "\x00", "ä", "key"}
	for range 300 {
		key := make([]byte, 1+rng.IntN(20))
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		keys = append(keys, string(key))
	}
	var all []entry
	for _, key := range keys {
		all = append(all, entry{Key: key, Value: "x"})
		_, err := emitter.Emit(key, "x")
		must(t, err)
	}
	must(t, emitter.Finish())
	must(t, write(t, config(b, "written", partitions), all...))

	emitted := map[string]int32{}
	for _, r := range topic(t, b, "emitted") {
		emitted[r.Key] = r.partition
	}
	negative := 0
	for _, r := range topic(t, b, "written") {
		h := goka.DefaultHasher()()
		_, _ = h.Write([]byte(r.Key))
		hash := int32(h.Sum32())
		want := hash % partitions
		if hash < 0 {
			negative++
			want = -want
		}
		if r.partition != want || emitted[r.Key] != want {
			t.Errorf("key %q is in partition %d, the emitter's in %d, want %d", r.Key, r.partition, emitted[r.Key], want)
		}
		delete(emitted, r.Key)
	}
	if len(emitted) > 0 || negative < 50 {
		t.Errorf("%d keys are missing, %d hashes are negative", len(emitted), negative)
	}
}

func TestViewSeesTable(t *testing.T) {
	b := start(t, devkafka.Options{})
	cfg := config(b, "totals", 3)
	want := map[string]string{}
	var all []entry
	var gone []string
	for i := range 500 {
		key := fmt.Sprintf("key-%d", i%60)
		all = append(all, entry{Key: key, Value: fmt.Sprint(i)})
		want[key] = fmt.Sprint(i)
	}
	for i := range 20 {
		key := fmt.Sprintf("key-%d", i*3)
		all, gone = append(all, entry{Key: key, Gone: true}), append(gone, key)
		delete(want, key)
	}
	all = append(all, entry{Key: "empty"}) // an empty value is one
	want["empty"] = ""
	must(t, write(t, cfg, all...))
	v := view(t, b, "totals")
	wantTable(t, v, want, gone...)

	// A later job goes on, and the view follows.
	must(t, write(t, cfg, entry{Key: "key-0", Value: "back"}, entry{Key: "key-1", Gone: true}))
	want["key-0"] = "back"
	delete(want, "key-1")
	wantTable(t, v, want, "key-1")
}

// number is what the jobs below count by key.
type number struct{ Key, N int }

// countJob writes, for every record, how many there were of its key, and takes a
// key out when it has come to twenty.
func countJob(w *pipelinetest.World, cfg sink.Config, numbers []number, starts *int) func(...pipeline.Option) *pipeline.Pipeline {
	return func(opts ...pipeline.Option) *pipeline.Pipeline {
		*starts++
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(1 + *starts%3), pipeline.BatchSize(8)}, opts...)...)
		in := pipeline.From(p, "numbers", pipelinetest.Watched(w, source.From(numbers).Divide(4)))
		counts := pipeline.Process(pipeline.KeyBy(in, func(n number) int { return n.Key }), "count", func() *counter { return &counter{} })
		pipeline.To(counts, "table", sink.Table(cfg, new(codec.String), entry.split))
		return p
	}
}

type counter struct{ n *state.Value[int, int] }

func (c *counter) Open(ctx *pipeline.Context[int, entry]) error {
	c.n = state.NewValue[int](ctx.State(), "n")
	return nil
}

func (c *counter) Process(ctx *pipeline.Context[int, entry], in number) error {
	n, _ := c.n.Get()
	n++
	c.n.Set(n)
	ctx.Emit(entry{fmt.Sprintf("key-%d", in.Key), fmt.Sprint(n), n%20 == 0})
	return nil
}

// TestJobIsKilled kills a job at several moments. The view has in the end what a
// job that nothing happens to would have written.
func TestJobIsKilled(t *testing.T) {
	b := start(t, devkafka.Options{})
	var numbers []number
	count := map[int]int{}
	for i := range 1000 {
		numbers = append(numbers, number{(i * i) % 47, i})
		count[numbers[i].Key]++
	}
	want := map[string]string{}
	for key, n := range count {
		if n%20 != 0 {
			want[fmt.Sprintf("key-%d", key)] = fmt.Sprint(n)
		}
	}
	w := pipelinetest.NewWorld(t)
	w.CheckpointEvery(6)
	for _, n := range []int{100, 300, 500, 600} {
		w.KillAt(pipelinetest.AtRead, n)
	}
	w.KillAt(pipelinetest.AtStore, 30)
	starts := 0
	must(t, w.Run(countJob(w, config(b, "counts", 3), numbers, &starts)))
	if n := w.Kills()[pipelinetest.AtRead]; n < 3 {
		t.Errorf("%d kills, want more", n)
	}
	wantTable(t, view(t, b, "counts"), want)
}
