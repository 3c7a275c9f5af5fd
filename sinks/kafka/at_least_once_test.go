package kafka_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/kafka"
)

func TestAtLeastOnceContract(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[int]{
		New: func(t testing.TB) (pipeline.Sink[int], func() []int) {
			w := newWorld(t, devkafka.Topic{Name: "out", Partitions: 2})
			cfg := w.config()
			cfg.Delivery = kafka.AtLeastOnce
			sink := kafka.Encode(kafka.NewProducer(cfg), "out", encodeBig)
			return sink, func() []int { return w.values("out") }
		},
		Value: func(i int) int { return i },
		Bad:   func() int { return -1 },
	})
}

func encodeBig(n int, r *kgo.Record) error {
	r.Value = strconv.AppendInt(nil, int64(n), 10)
	if n < 0 {
		r.Value = make([]byte, 2<<20)
	}
	return nil
}

// values returns the numbers that a topic holds, sorted.
func (w *world) values(topic string) []int {
	w.t.Helper()
	var all []int
	for _, r := range w.readWith(topic, kgo.ReadUncommitted()) {
		n, err := strconv.Atoi(strings.TrimPrefix(r, "="))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// TestAtLeastOnceWaits has the brokers take their time with a batch: no checkpoint
// completes before it is theirs.
func TestAtLeastOnceWaits(t *testing.T) {
	w := outWorld(t)
	cfg := w.config()
	cfg.Delivery = kafka.AtLeastOnce
	gate := w.hold(kmsg.Produce)
	f := newFeed(20)
	job := start(t, feedJob(f, cfg, asked(t.TempDir())))
	<-gate.arrived
	done := make(chan error, 1)
	go func() { done <- job.Checkpoint(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("a checkpoint before the records are written: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	gate.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.end()
	if err := job.wait(); err != nil {
		t.Fatal(err)
	}
	w.wantNumbers(20)
}

// Killed and started again, it delivers everything, some of it twice.
func TestAtLeastOnceRepeats(t *testing.T) {
	w := outWorld(t)
	cfg, dir := w.config(), t.TempDir()
	cfg.Delivery = kafka.AtLeastOnce
	f := newFeed(20)
	job := start(t, feedJob(f, cfg, asked(dir)))
	job.out(20)
	job.complete()
	f.allow(30)
	await(t, "records after the checkpoint", func() bool { return len(w.read("out")) == 30 })
	job.kill()
	f.end()
	mustRun(t, feedJob(f, cfg, asked(dir)))
	if got := w.read("out"); len(got) != 40 {
		t.Errorf("%d records, want 40, of which 10 twice", len(got))
	}
}
