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
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/sinks/kafka"
)

// world is a broker and what a test does with it.
type world struct {
	t       testing.TB
	broker  *devkafka.Broker
	brokers []string
}

func newWorld(t testing.TB, topics ...devkafka.Topic) *world {
	t.Helper()
	return newWorldWith(t, devkafka.Options{Topics: topics})
}

func newWorldWith(t testing.TB, o devkafka.Options) *world {
	t.Helper()
	o.Setup = append(o.Setup, kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	b, err := devkafka.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &world{t, b, []string{b.Addr()}}
}

func (w *world) config() kafka.Config { return kafka.Config{Brokers: w.brokers, Client: quick()} }

// quick makes a client react at once, to which tests need not wait.
func quick(opts ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
	}, opts...)
}

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
	c := w.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(isolation), kgo.FetchMaxWait(10*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	defer c.Close()
	left := w.ends(topic, isolation == kgo.ReadCommitted())
	all := []string{}
	for len(left) > 0 {
		// Records of an aborted transaction are not shown, so one of them may be the
		// last, and then there is nothing more to come.
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		fetches := c.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
			break
		} else if err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if left[r.Partition] <= r.Offset+1 {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				all = append(all, fmt.Sprintf("%s=%s", r.Key, r.Value))
			}
		})
	}
	slices.Sort(all)
	return all
}

// ends returns where partitions end that hold anything.
func (w *world) ends(topic string, committed bool) map[int32]int64 {
	w.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	if committed {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	c := w.client()
	meta := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	meta.Topics = append(meta.Topics, mt)
	there, err := meta.RequestWith(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	for p := range there.Topics[0].Partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = int32(p), -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	ends := map[int32]int64{}
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode == 0 && p.Offset > 0 {
			ends[p.Partition] = p.Offset
		}
	}
	return ends
}
