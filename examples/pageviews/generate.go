package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	partitions = 4
	span       = 20 * time.Minute // of event time
)

var opening = time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)

// generate writes views to the topic, those that are missing: record n of partition p
// is view n*partitions+p, so a run that was killed is completed by the next.
func generate(ctx context.Context, cfg config) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := endsOf(ctx, client)
	if err != nil {
		return err
	}
	var failed error // written by the client's one goroutine, read after Flush
	for i := range cfg.views {
		partition := int32(i % partitions)
		if int64(i/partitions) < ends[partition] {
			continue
		}
		client.Produce(ctx, &kgo.Record{Topic: viewsTopic, Partition: partition, Value: generated(i, cfg.views)}, func(_ *kgo.Record, err error) {
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return failed
}

// endsOf returns how many views each partition has.
func endsOf(ctx context.Context, client *kgo.Client) (map[int32]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = viewsTopic
	for p := range int32(partitions) {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = p, -1 // the end
		topic.Partitions = append(topic.Partitions, partition)
	}
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, p := range resp.Topics[0].Partitions {
		ends[p.Partition] = p.Offset
	}
	return ends, nil
}

var pages = []string{"/", "/", "/", "/", "/shop", "/shop", "/cart", "/blog", "/jobs"}

// generated is view i of n, the same one each time, with the faults that views have:
// some come late, some are of bots, and a few are broken.
func generated(i, n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(i)))
	v := view{
		Page:    fmt.Sprintf("%s?ref=%d", pages[rng.IntN(len(pages))], rng.IntN(50)),
		Visitor: fmt.Sprintf("v%d", rng.IntN(5000)),
		At:      opening.UnixMilli() + int64(i)*span.Milliseconds()/int64(n) + rng.Int64N(5000),
		Bot:     rng.IntN(20) == 0,
	}
	if rng.IntN(1000) == 0 {
		v.Page = "about:blank"
	}
	value, err := json.Marshal(v)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	if rng.IntN(1000) == 0 {
		value = value[:len(value)/2] // cut off on its way
	}
	return value
}
