package kafka_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

const (
	partitions = 4
	perRun     = 300 // records in each
)

// countJob counts the records of a topic by key and second, and writes the counts
// to another one.
func countJob(w *world, cfg kafka.Config, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.Name("counting"), pipeline.DefaultParallelism(2), pipeline.BatchSize(16)}, opts...)...)
	in := pipeline.From(p, "in", source.Raw(source.Config{Brokers: w.brokers, Topics: []string{"in"}, Bounded: true}),
		pipeline.BoundedDisorder(func(r source.Record[[]byte]) int64 { return r.Time }, time.Second).MaxDrift(time.Second))
	byKey := pipeline.KeyBy(in, func(r source.Record[[]byte]) string { return string(r.Key) })
	counts := operators.Aggregate(byKey, "count", window.Tumbling(time.Second), operators.Count[source.Record[[]byte]]())
	out := kafka.NewProducer(cfg)
	pipeline.To(counts, "out", kafka.Encode(out, "out", func(c operators.Result[string, int64], r *kgo.Record) error {
		r.Key = []byte(c.Key)
		r.Value = fmt.Appendf(nil, "%d:%d", c.Window.Start, c.Value)
		return nil
	}))
	return p
}

// counts is what countJob has to write for n records in each partition.
func counts(n int) []string {
	byKey := map[string]int{}
	for i := range n {
		for p := range partitions {
			byKey[fmt.Sprintf("key-%d=%d", (i+p)%17, i*10/1000*1000)]++
		}
	}
	var all []string
	for k, c := range byKey {
		all = append(all, fmt.Sprintf("%s:%d", k, c))
	}
	slices.Sort(all)
	return all
}

func (w *world) wantCounts(n int) {
	w.t.Helper()
	got, want := w.read("out"), counts(n)
	if slices.Equal(got, want) {
		return
	}
	times := map[string]int{}
	for _, r := range got {
		times[r]++
	}
	for _, r := range want {
		times[r]--
	}
	for r, n := range times {
		if n != 0 {
			w.t.Errorf("%s: %+d times", r, n)
		}
	}
}

func countWorld(t testing.TB) *world {
	w := newWorld(t, devkafka.Topic{Name: "in", Partitions: partitions}, devkafka.Topic{Name: "out", Partitions: 3})
	w.write("in", partitions, perRun, 0)
	return w
}

// checkpointsIn takes checkpoints as often as it can.
func checkpointsIn(dir string) pipeline.Option {
	return pipeline.Checkpoints(dir, pipeline.CheckpointInterval(time.Millisecond))
}

func TestExactlyOnceStraight(t *testing.T) {
	w := countWorld(t)
	if err := countJob(w, w.config(), checkpointsIn(t.TempDir())).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantCounts(perRun)
}

// A job that has ended goes on when there is more to read, and what it writes then
// joins what it has written.
func TestExactlyOnceGoesOn(t *testing.T) {
	w := countWorld(t)
	dir := t.TempDir()
	for range 2 { // nothing new the second time
		p := countJob(w, w.config(), checkpointsIn(dir))
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.wantCounts(perRun)
}

// killer kills a job at one of the requests that commit.
type killer struct {
	mu   sync.Mutex
	job  *pipeline.Pipeline
	left int // requests until then
}

func (k *killer) watch(p *pipeline.Pipeline) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.job = p
}

// OnBrokerWrite implements kgo's hook: it is called after a request was written.
func (k *killer) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	switch kmsg.Key(key) {
	case kmsg.Produce, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.InitProducerID:
	default:
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left <= 0 && k.job != nil { // nothing happens before it runs
		k.job.Kill()
	}
}

func (k *killer) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) {}

// TestRule26_KafkaJobSurvives kills the job at requests of all kinds, and starts it
// again at other parallelisms.
func TestRule26_KafkaJobSurvives(t *testing.T) {
	var kills atomic.Int64
	t.Cleanup(func() {
		if kills.Load() == 0 {
			t.Error("no job was ever killed")
		}
	})
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			w := countWorld(t)
			w.write("in", partitions, 1500, perRun)
			dir := t.TempDir()
			for ended, starts := false, 0; !ended && starts < 8; starts++ {
				k := &killer{left: 1 + rng.IntN(12)}
				cfg := w.config()
				cfg.Client = quick(kgo.WithHooks(k))
				p := countJob(w, cfg, checkpointsIn(dir), pipeline.DefaultParallelism(1+rng.IntN(3)))
				k.watch(p)
				switch err := p.Run(t.Context()); {
				case err == nil:
					ended = true
				case errors.Is(err, pipeline.ErrKilled):
					kills.Add(1)
				default:
					t.Fatal(err)
				}
			}
			if err := countJob(w, w.config(), checkpointsIn(dir)).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.wantCounts(perRun + 1500)
		})
	}
}
