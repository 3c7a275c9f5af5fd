package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
)

// writer writes values with a sink alone, at least once, and keeps what it rejects.
type writer[T any] struct {
	pipeline.Writer[T]
	t        testing.TB
	rejected []pipeline.DeadLetter
}

func openWriter[T any](t testing.TB, sink pipeline.Sink[T]) *writer[T] {
	t.Helper()
	w := &writer[T]{t: t}
	out, err := sink.Open(t.Context(), &pipeline.SinkEnv{
		Operator: "out", Parallelism: 1, Logger: slog.New(slog.DiscardHandler), Metrics: &pipeline.Metrics{},
		Reject: func(d pipeline.DeadLetter) { w.rejected = append(w.rejected, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Writer = out
	t.Cleanup(func() {
		if err := out.(pipeline.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// write writes values of one time.
func (w *writer[T]) write(ms int64, values ...T) {
	w.t.Helper()
	err := w.Write(w.t.Context(), &pipeline.Records[T]{Values: values, Times: slices.Repeat([]int64{ms}, len(values))})
	if err == nil {
		err = w.Writer.(pipeline.Flusher).Flush(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) leastOnce() kafka.Config {
	c := w.config()
	c.Delivery = kafka.AtLeastOnce
	return c
}

// records returns n records of a topic.
func (w *world) records(topic string, n int) []*kgo.Record {
	w.t.Helper()
	c := w.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(10*time.Millisecond))
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), long)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Fatalf("%v; have %d records of %d", err, len(all), n)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// topicLimit sets how large batches of a topic may be.
func (w *world) topicLimit(topic string, limit int) {
	w.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = "max.message.bytes", kmsg.StringPtr(strconv.Itoa(limit))
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(w.t.Context(), w.client())
	if err == nil {
		err = kerr.ErrorForCode(resp.Resources[0].ErrorCode)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestRejected(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "out"}, devkafka.Topic{Name: "small"})
	w.topicLimit("small", 2000)
	p := kafka.NewProducer(w.leastOnce())
	toSmall := kafka.Encode(p, "small", func(n int, r *kgo.Record) error {
		r.Key, r.Value = []byte("k"), []byte(strings.Repeat("v", n))
		switch n {
		case 1:
			return errors.New("one is refused")
		case 2:
			panic("two")
		case 3:
			r.Topic = "elsewhere"
		case 4:
			r.Topic = "out"
		}
		return nil
	})
	toOut := kafka.Encode(p, "out", func(n int, r *kgo.Record) error {
		r.Value = make([]byte, n)
		return nil
	})
	small, large := openWriter(t, toSmall), openWriter(t, toOut)
	small.write(1000, 0, 1, 2, 3, 4, 1800, 2000)
	want := []string{
		"one is refused", "panic: two", `topic "elsewhere" is none that a sink of the producer writes to`,
		`topic "small": the record takes 2129 bytes, the topic takes 2000 (max.message.bytes)`,
	}
	for i, d := range small.rejected {
		if i >= len(want) || d.Error != want[i] {
			t.Errorf("rejected: %+v", d)
		}
		if string(d.Key) != "k" || d.Time != 1000 || d.Record == "" || strings.Trim(string(d.Raw), "v") != "" || len(d.Raw) == 0 {
			t.Errorf("letter: %+v", d)
		}
	}
	if len(small.rejected) != len(want) {
		t.Errorf("%d are rejected, want %d", len(small.rejected), len(want))
	}
	if got := w.records("small", 2); len(got[1].Value) != 1800 {
		t.Errorf("got %d bytes", len(got[1].Value))
	}
	large.write(1000, 900_000, 1_048_588, 5<<20)
	if len(large.rejected) != 2 || !strings.Contains(large.rejected[1].Error, "the topic takes 1048588") {
		t.Errorf("rejected: %d", len(large.rejected))
	}
	w.records("out", 2) // with that of small
}

// What just fits is taken by the brokers too, though it does not compress.
func TestLimit(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "out"})
	w.topicLimit("out", 5000)
	cfg := w.leastOnce()
	cfg.Client = append(cfg.Client, kgo.ProducerBatchCompression(kgo.NoCompression()))
	out := openWriter(t, kafka.Encode(kafka.NewProducer(cfg), "out", func(n int, r *kgo.Record) error {
		r.Key, r.Value = []byte("key"), make([]byte, n)
		for i := range n % 50 {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "h", Value: []byte{byte(i)}})
		}
		return nil
	}))
	for n := 4000; n < 4900; n += 7 {
		out.write(1000, n, n+1)
	}
	if n := len(out.rejected); n == 0 || n > 200 {
		t.Errorf("%d are rejected", n)
	}
}

// A record may be larger than the buffer.
func TestLargerThanBuffer(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "out"})
	cfg := w.leastOnce()
	cfg.BufferBytes = 1 << 16
	out := openWriter(t, kafka.Encode(kafka.NewProducer(cfg), "out", func(n int, r *kgo.Record) error {
		r.Value = make([]byte, n)
		return nil
	}))
	out.write(1000, 1<<19, 1<<19, 1<<19)
	w.records("out", 3)
}

func TestRecordFields(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "out", Partitions: 4})
	cfg := w.leastOnce()
	cfg.Partitioner = kgo.ManualPartitioner()
	set := time.UnixMilli(1_500_000)
	out := openWriter(t, kafka.Encode(kafka.NewProducer(cfg), "out", func(n int, r *kgo.Record) error {
		r.Partition = int32(n)
		switch n {
		case 0: // a tombstone
			r.Key = []byte("gone")
		case 1:
			r.Value = []byte{}
			r.Headers = []kgo.RecordHeader{{Key: "a", Value: []byte("b")}, {Key: "a", Value: nil}}
		case 2:
			r.Timestamp = set
		}
		return nil
	}))
	before := time.Now().Truncate(time.Millisecond)
	out.write(7000, 0, 1, 2)
	out.write(time.Now().Add(24*time.Hour).UnixMilli(), 3)
	out.write(-5, 3)
	for _, r := range w.records("out", 5) {
		var ok bool
		switch r.Partition {
		case 0:
			ok = r.Value == nil && string(r.Key) == "gone" && r.Timestamp.UnixMilli() == 7000
		case 1:
			ok = r.Key == nil && r.Value != nil && len(r.Headers) == 2 && string(r.Headers[0].Value) == "b" && r.Headers[1].Value == nil
		case 2:
			ok = r.Timestamp.Equal(set)
		case 3:
			ok = !r.Timestamp.Before(before) && !r.Timestamp.After(time.Now())
		}
		if !ok {
			t.Errorf("partition %d: %+v", r.Partition, r)
		}
	}
}

// Keys are placed as the Java client places them: the hashes are from the tests of
// Kafka's Utils.murmur2.
func TestDefaultPartitioner(t *testing.T) {
	murmur2 := map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	}
	const n = 64
	w := newWorld(t, devkafka.Topic{Name: "out", Partitions: n})
	out := openWriter(t, kafka.JSON(kafka.NewProducer(w.leastOnce()), "out", func(key string) string { return key }))
	for key := range murmur2 {
		out.write(1000, key)
	}
	for _, r := range w.records("out", len(murmur2)) {
		key := string(r.Key)
		if want := (murmur2[key] & 0x7fffffff) % n; r.Partition != want {
			t.Errorf("%q is in partition %d, want %d", key, r.Partition, want)
		}
		if string(r.Value) != fmt.Sprintf("%q", key) {
			t.Errorf("%q has the value %s", key, r.Value)
		}
	}
}

// An encoder may stop the job.
func TestFatalEncoder(t *testing.T) {
	w := outWorld(t)
	for _, d := range []kafka.Delivery{kafka.ExactlyOnce, kafka.AtLeastOnce} {
		cfg := w.config()
		cfg.Delivery = d
		p, _ := feedJobWith(ended(5), cfg, func(int, *kgo.Record) error { return pipeline.Fatal(errors.New("enough")) }, asked(t.TempDir()))
		pipeline.To(pipeline.DeadLetters(p), "dead", &letters{})
		wantError(t, p.Run(t.Context()), `operator "out"`, "enough")
	}
}

// letters keeps dead letters.
type letters struct{ all []pipeline.DeadLetter }

func (l *letters) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[pipeline.DeadLetter], error) {
	return l, nil
}

func (l *letters) Write(_ context.Context, b *pipeline.Records[pipeline.DeadLetter]) error {
	l.all = append(l.all, b.Values...)
	return nil
}
