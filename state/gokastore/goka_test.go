package gokastore_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
)

const (
	partitions = 3
	keys       = 300
	// long is for what must happen, on a busy machine too.
	long = 30 * time.Second
)

var silent = log.New(io.Discard, "", 0)

// cluster is a broker with a topic of numbers by key.
type cluster struct {
	t      *testing.T
	addr   []string
	client *kgo.Client
	sums   map[string]int64
}

func newCluster(t *testing.T, topics ...string) *cluster {
	t.Helper()
	var o devkafka.Options
	for _, name := range topics {
		o.Topics = append(o.Topics, devkafka.Topic{Name: name, Partitions: partitions})
	}
	b, err := devkafka.Start(o)
	must(t, err)
	t.Cleanup(b.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(fnv1a))))
	must(t, err)
	t.Cleanup(client.Close)
	return &cluster{t: t, addr: []string{b.Addr()}, client: client, sums: map[string]int64{}}
}

func fnv1a(key []byte) uint32 {
	h := goka.DefaultHasher()()
	_, _ = h.Write(key)
	return h.Sum32()
}

// write writes the numbers from..to, each under one of the keys.
func (c *cluster) write(topic string, from, to int) {
	c.t.Helper()
	var all []*kgo.Record
	for n := from; n < to; n++ {
		key := fmt.Sprintf("key-%d", n%keys)
		c.sums[key] += int64(n)
		all = append(all, &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(strconv.Itoa(n))})
	}
	must(c.t, c.client.ProduceSync(c.t.Context(), all...).FirstErr())
}

// topicManager makes tables with one replica, as there is one broker.
func topicManager() goka.TopicManagerBuilder {
	cfg := goka.NewTopicManagerConfig()
	cfg.Table.Replication, cfg.Stream.Replication = 1, 1
	return goka.TopicManagerBuilderWithTopicManagerConfig(cfg)
}

// running is a processor or view that runs.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
}

func run(t *testing.T, f func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t, cancel, make(chan error, 1)}
	go func() { r.ended <- f(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		must(r.t, err)
	case <-time.After(long):
		r.t.Fatal("goka does not stop")
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// summing is a processor that sums up numbers by key.
type summing struct {
	*goka.Processor
	*running
	recovered *atomic.Int64 // records of the table
}

func (c *cluster) startSumming(build storage.Builder) *summing {
	c.t.Helper()
	s := &summing{recovered: &atomic.Int64{}}
	graph := goka.DefineGroup("sums",
		goka.Input("numbers", new(codec.Int64), func(ctx goka.Context, msg any) {
			sum, _ := ctx.Value().(string)
			n, _ := strconv.ParseInt(sum, 10, 64)
			ctx.SetValue(fmt.Sprintf("%0256d", n+msg.(int64)))
		}),
		goka.Persist(new(codec.String)))
	cfg := goka.DefaultConfig()
	cfg.Consumer.Offsets.Initial = -2 // from the oldest
	p, err := goka.NewProcessor(c.addr, graph, goka.WithStorageBuilder(build), goka.WithLogger(silent),
		goka.WithTopicManagerBuilder(topicManager()), goka.WithConsumerGroupBuilder(goka.ConsumerGroupBuilderWithConfig(cfg)),
		goka.WithUpdateCallback(func(ctx goka.UpdateContext, st storage.Storage, key string, value []byte) error {
			s.recovered.Add(1)
			return goka.DefaultUpdate(ctx, st, key, value)
		}))
	must(c.t, err)
	s.Processor, s.running = p, run(c.t, p.Run)
	return s
}

func (s *summing) ready() {
	s.t.Helper()
	await(s.t, "the processor to recover", s.Recovered)
}

// wantSums compares a table with the numbers written.
func (c *cluster) wantSums(what string, get func(string) (any, error)) {
	c.t.Helper()
	for key, want := range c.sums {
		got, err := get(key)
		must(c.t, err)
		text, _ := got.(string)
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n != want {
			c.t.Errorf("%s: %s is %v, %v, want %d", what, key, got, err, want)
		}
	}
}

// TestProcessor runs a processor, kills it, which is to take what a kill would
// leave of its files, and lets others recover: on what is left, on nothing, and
// where the first has ended orderly.
func TestProcessor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "numbers")
	fs := vfs.NewCrashableMem()
	w := &watched{build: onFS(fs)}
	first := c.startSumming(w.storage)
	first.ready()
	for n := 0; n < 1000; n += 100 { // in steps, as goka emits many at once
		c.write("numbers", n, n+100)
		await(t, "the numbers to be stored", func() bool { return w.records() == int64(n+100) })
	}
	killed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	c.write("numbers", 1000, 1500)
	await(t, "the other numbers", func() bool { return w.records() == 1500 })
	c.wantSums("before the stop", first.Get)
	first.stop()

	for _, again := range []struct {
		name        string
		fs          vfs.FS
		least, most int64
	}{
		{"on nothing", vfs.NewMem(), 1500, 1500},
		// Of the first thousand the log's last block may be gone in each partition,
		// and with it the part of a step that reaches into it.
		{"killed", killed, 500, 500 + partitions*(32<<10)/256 + 100},
		{"stopped", fs, 0, 0},
		{"killed and recovered", killed, 0, 0},
	} {
		p := c.startSumming(onFS(again.fs))
		p.ready()
		c.wantSums(again.name, p.Get)
		p.stop()
		if n := p.recovered.Load(); n < again.least || n > again.most {
			t.Errorf("%s: recovered by %d records, want %d to %d", again.name, n, again.least, again.most)
		}
	}
}

// watched is a builder whose storages can be asked how far they are.
type watched struct {
	build storage.Builder
	mu    sync.Mutex
	all   []storage.Storage // guarded by mu
}

func (w *watched) storage(topic string, partition int32) (storage.Storage, error) {
	s, err := w.build(topic, partition)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, s)
	return s, err
}

// records returns how many records of the topic the storages have.
func (w *watched) records() (n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.all {
		offset, err := s.GetOffset(-1)
		if err != nil {
			return 0
		}
		n += offset + 1
	}
	return n
}

// TestView adds up the numbers of a topic in its update callback, so a record
// that is applied twice shows, as does one that is not. It is killed at several
// moments, and must have the right sums each time it has caught up.
func TestView(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "numbers")
	fs := vfs.NewCrashableMem()
	for life := range 4 {
		c.write("numbers", life*500, life*500+250)
		v, w := c.startAdding(onFS(fs))
		c.write("numbers", life*500+250, life*500+500)
		var killed *vfs.MemFS
		if life%2 == 0 {
			await(t, "some records", func() bool { return w.records() > int64(life*500+100) })
			killed = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * (life % 3), RNG: rand.New(rand.NewPCG(1, 1))})
		}
		await(t, "all records", func() bool { return w.records() == int64(life*500+500) })
		c.wantSums(fmt.Sprintf("life %d", life), v.Get)
		it, err := v.Iterator()
		must(t, err)
		n := 0
		for it.Next() {
			n++
		}
		if must(t, it.Err()); n != keys {
			t.Errorf("life %d: the view shows %d keys, want %d", life, n, keys)
		}
		it.Release()
		v.stop()
		if killed != nil {
			fs = killed
		}
	}
}

type adding struct {
	*goka.View
	*running
}

func (c *cluster) startAdding(build storage.Builder) (*adding, *watched) {
	c.t.Helper()
	w := &watched{build: build}
	v, err := goka.NewView(c.addr, "numbers", new(codec.String), goka.WithViewStorageBuilder(w.storage), goka.WithViewLogger(silent),
		goka.WithViewTopicManagerBuilder(topicManager()),
		goka.WithViewCallback(func(_ goka.UpdateContext, s storage.Storage, key string, value []byte) error {
			sum, err := s.Get(key)
			if err != nil {
				return err
			}
			if sum == nil {
				sum = []byte("0")
			}
			a, _ := strconv.Atoi(string(sum))
			b, err := strconv.Atoi(string(value))
			if err != nil {
				return err
			}
			return s.Set(key, []byte(strconv.Itoa(a+b)))
		}))
	must(c.t, err)
	return &adding{v, run(c.t, v.Run)}, w
}
