package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/kafka"
)

// benchEvent has six of the fields of an event of about 375 bytes.
type benchEvent struct {
	ID, Page, Visitor, Country string
	Time                       int64
	Duration                   float64
}

const (
	benchEvents     = 120_000
	benchPartitions = 6
)

func benchTopic(b *testing.B) *world {
	w := newWorld(b, devkafka.Topic{Name: "events", Partitions: benchPartitions})
	c := w.newClient(kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
	for i := range benchEvents {
		value := fmt.Sprintf(`{"ID":"event-%09d","Page":"/some/page/%d","Visitor":"visitor-%d","Country":"IS","Time":%d,"Duration":%d.5,`+
			`"Agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",`+
			`"Referrer":"https://example.com/where/they/came/from?and=how","Screen":"1920x1080","Language":"is-IS","Campaign":"none","Version":"12.3.4"}`,
			i, i%1000, i%5000, 1_700_000_000_000+int64(i), i%100)
		c.Produce(context.Background(), &kgo.Record{Topic: "events", Partition: int32(i % benchPartitions), Value: []byte(value)}, nil)
	}
	if err := c.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkRead compares the source with a loop written by hand, both decoding
// JSON. The broker runs in the same process and takes the same share of both.
func BenchmarkRead(b *testing.B) {
	w := benchTopic(b)
	b.Run("by=hand", func(b *testing.B) {
		for b.Loop() {
			readByHand(b, w)
		}
		perRecord(b)
	})
	for _, batch := range []int{512} {
		b.Run(fmt.Sprintf("by=source/batch=%d", batch), func(b *testing.B) {
			for b.Loop() {
				readBySource(b, w, batch)
			}
			perRecord(b)
		})
	}
}

func perRecord(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchEvents), "ns/record")
}

func readByHand(b *testing.B, w *world) {
	c := w.newClient(kgo.ConsumeTopics("events"), kgo.FetchMaxBytes(16<<20), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer c.Close()
	var events []benchEvent
	for n := 0; n < benchEvents; {
		fetches := c.PollFetches(context.Background())
		if err := fetches.Err(); err != nil {
			b.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			var e benchEvent
			if err := json.Unmarshal(r.Value, &e); err != nil {
				b.Fatal(err)
			}
			if events = append(events, e); len(events) == 512 {
				events = events[:0]
			}
			n++
		}
	}
}

func readBySource(b *testing.B, w *world, batch int) {
	cfg := w.config("events")
	cfg.Client = nil
	e := env(0, 1)
	e.BatchSize = batch
	reader, err := kafka.JSON[benchEvent](cfg).Open(context.Background(), e)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = reader.(pipeline.Closer).Close() }()
	var sb pipeline.SourceBatch[benchEvent]
	for n := 0; n < benchEvents; n += len(sb.Values) {
		sb.Reset()
		if err := reader.Read(context.Background(), &sb); err != nil {
			b.Fatal(err)
		}
	}
}
