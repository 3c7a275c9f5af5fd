package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/sinks/kafka"
)

// world is a broker and what a test does with it.
type world struct {
	t       testing.TB
	brokers []string
}

func newWorld(t testing.TB, topics ...devkafka.Topic) *world {
	t.Helper()
	b, err := devkafka.Start(devkafka.Options{Topics: topics, Setup: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"})}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &world{t, []string{b.Addr()}}
}

func (w *world) config() kafka.Config { return kafka.Config{Brokers: w.brokers} }

func (w *world) client(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// write writes n records to each partition of a topic: a key, and the time in
// milliseconds as value.
func (w *world) write(topic string, partitions, n, from int) {
	w.t.Helper()
	c := w.client()
	var records []*kgo.Record
	for i := from; i < from+n; i++ {
		for p := range partitions {
			records = append(records, &kgo.Record{
				Topic: topic, Partition: int32(p), Timestamp: time.UnixMilli(int64(i) * 10),
				Key: fmt.Appendf(nil, "key-%d", (i+p)%17), Value: fmt.Appendf(nil, "%d", i*10),
			})
		}
	}
	if err := c.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// read returns all committed records of a topic, sorted, as key=value.
func (w *world) read(topic string) []string {
	w.t.Helper()
	return w.readWith(topic, kgo.ReadCommitted())
}

func (w *world) readWith(topic string, isolation kgo.IsolationLevel) []string {
	w.t.Helper()
	c := w.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(isolation), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	all := []string{}
	for {
		ctx, cancel := context.WithTimeout(w.t.Context(), 300*time.Millisecond)
		fetches := c.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
			slices.Sort(all)
			return all
		} else if err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, fmt.Sprintf("%s=%s", r.Key, r.Value)) })
	}
}
