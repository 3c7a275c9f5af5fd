package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/topics"
	"github.com/millrace/millrace/benchmarks/internal/traffic"
)

// event is a record of the topic, keyed by its user.
type event = traffic.Event

const (
	partitions = 6
	span       = 10 * time.Minute // that the events cover
	began      = 1_767_225_600_000
)

// last is what the counts of the last minute begin with.
var last = fmt.Sprint(began + (span - time.Minute).Milliseconds())

// bed is where the sides are tried.
type bed struct {
	client *kgo.Client
	topic  string
	made   []string
}

// newBed makes the topic.
func newBed(c config) (*bed, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(fnv32a))),
		kgo.MaxBufferedRecords(100_000), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	b := &bed{client: client}
	if b.topic, err = b.newTopic("events"); err == nil {
		err = b.fill(c)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bed) close() {
	if err := topics.Remove(context.Background(), b.client, b.made...); err != nil {
		fmt.Println("topics are left behind:", err)
	}
	b.client.Close()
}

func (b *bed) newTopic(kind string) (string, error) {
	name := "bench-" + kind + "-" + strings.ToLower(rand.Text()[:8])
	if err := topics.Make(context.Background(), b.client, partitions, nil, name); err != nil {
		return "", err
	}
	b.made = append(b.made, name)
	return name, nil
}

// fill writes the events, in the order of their time. A key is always in the same
// partition, the one in which goka looks for it.
func (b *bed) fill(c config) error {
	step := span / time.Duration(c.records)
	var failed error
	write := func(r *kgo.Record) {
		b.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	for i := range c.records {
		user := fmt.Sprintf("user-%06d", uint64(i)*2_654_435_761%uint64(c.keys))
		e := event{
			User: user, Page: fmt.Sprintf("/products/%d", i%500), Time: began + (time.Duration(i) * step).Milliseconds(),
			Referrer: "https://search.example/?q=shoes", Agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", Status: 200,
		}
		value, err := json.Marshal(e)
		if err != nil {
			return err
		}
		write(&kgo.Record{Topic: b.topic, Key: []byte(user), Value: value, Timestamp: time.UnixMilli(e.Time)})
	}
	if err := b.client.Flush(context.Background()); err != nil {
		return err
	}
	return failed
}

// read returns the counts in a topic, sorted, but for the last minute, of which
// goka has no way to know that it is over.
func (b *bed) read(topic string) ([]string, error) {
	client, err := kgo.NewClient(append(b.client.Opts(), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var all []string
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if err := fetches.Err(); errors.Is(err, context.DeadlineExceeded) {
			slices.Sort(all)
			return all, nil
		} else if err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !strings.HasPrefix(string(r.Value), last) {
				all = append(all, string(r.Key)+" "+string(r.Value))
			}
		})
	}
}
