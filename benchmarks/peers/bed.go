package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/nexmark"
	"github.com/millrace/millrace/benchmarks/internal/topics"
	"github.com/millrace/millrace/benchmarks/internal/traffic"
)

// bed is where the sides are tried: a broker with the input, and all topics that the
// sides make, which have the name of the bed at their beginning.
type bed struct {
	brokers []string
	client  *kgo.Client
	admin   *kadm.Client
	prefix  string
	n       atomic.Int64  // topics that were made
	spacing time.Duration // the time between two events of the auction
}

// newBed returns one whose auction has ten times the time between two events that the
// public definition says, so that few events make many windows.
func newBed(brokers []string) (*bed, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(50_000),
		kgo.RecordPartitioner(closingPartitioner{kgo.StickyKeyPartitioner(nil)}), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	name := "peers-" + strings.ToLower(rand.Text()[:8]) + "-"
	return &bed{brokers: brokers, client: client, admin: kadm.NewClient(client), prefix: name, spacing: time.Millisecond}, nil
}

// close removes all topics of the bed, those too that the sides have made for
// themselves.
func (b *bed) close() {
	defer b.client.Close()
	ctx := context.Background()
	all, err := b.admin.ListTopics(ctx)
	if err == nil {
		var ours []string
		for _, name := range all.Names() {
			if strings.HasPrefix(name, b.prefix) {
				ours = append(ours, name)
			}
		}
		err = b.remove(ours...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers: topics are left behind:", err)
	}
}

func (b *bed) remove(names ...string) error {
	return topics.Remove(context.Background(), b.client, names...)
}

// topic makes one for a purpose.
func (b *bed) topic(kind string) (string, error) {
	name := fmt.Sprintf("%s%d-%s", b.prefix, b.n.Add(1), kind)
	return name, b.create(name, "delete")
}

// create makes a topic of that name. Event times are long past, so nothing may be
// removed by its age.
func (b *bed) create(name, cleanup string) error {
	forever := "-1"
	settings := map[string]*string{"retention.ms": &forever, "cleanup.policy": &cleanup}
	return topics.Make(context.Background(), b.client, partitions, settings, name)
}

// fill makes a topic of so many records of a kind of input, and brings them.
func (b *bed) fill(input string, records, users int, seed uint64) (topic string, err error) {
	if topic, err = b.topic(input); err != nil {
		return "", err
	}
	w := &filling{bed: b, topic: topic}
	if input == "events" {
		w.visits(records, users, seed)
	} else {
		w.auction(records, seed)
	}
	if err := errors.Join(w.err, b.client.Flush(context.Background()), w.failed); err != nil {
		return "", fmt.Errorf("fill topic %q: %w", topic, err)
	}
	return topic, nil
}

// filling is a topic that is being filled.
type filling struct {
	*bed
	topic  string
	err    error
	failed error // set by the client's goroutine; to be read behind Flush
}

// write writes a record to its key's partition, or to the given one.
func (w *filling) write(key string, partition int32, time int64, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		w.err = err
	}
	r := &kgo.Record{Topic: w.topic, Partition: partition, Value: raw, Timestamp: at(time)}
	if key != "" {
		r.Key = []byte(key)
	}
	w.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			w.failed = err
		}
	})
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }

func (w *filling) visits(records, users int, seed uint64) {
	c, last := newCrowd(users, seed), int64(0)
	for range records {
		v := c.visit()
		w.write(v.User, byKey, v.Time, v)
		last = v.Time
	}
	for p := range int32(partitions) {
		v := traffic.Event{User: fmt.Sprint(closing, p), Page: "/", Time: last + day, Status: 200}
		w.write(v.User, p, v.Time, v)
	}
}

func (w *filling) auction(records int, seed uint64) {
	g, err := nexmark.NewGenerator(nexmark.Config{Seed: seed, Start: began, Spacing: w.spacing})
	if err != nil {
		w.err = err
		return
	}
	for n := range records {
		e := g.Event(int64(n))
		w.write("", int32(n%partitions), e.Time(), e)
	}
	for p := range int32(partitions) {
		e := nexmark.Event{Type: nexmark.TypeClose, Close: g.TimeOf(int64(records)) + day}
		w.write("", p, e.Close, e)
	}
}

// closing is what the users of closing events begin with.
const closing = "~end-"

// byKey leaves it to the key which partition a record goes to.
const byKey = -1

// closingPartitioner minds the partition that a record has, where it has one.
type closingPartitioner struct{ kgo.Partitioner }

// ForTopic implements [kgo.Partitioner].
func (c closingPartitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return givenOrByKey{c.Partitioner.ForTopic(topic)}
}

type givenOrByKey struct{ kgo.TopicPartitioner }

// RequiresConsistency implements [kgo.TopicPartitioner].
func (givenOrByKey) RequiresConsistency(*kgo.Record) bool { return true }

// Partition implements [kgo.TopicPartitioner].
func (g givenOrByKey) Partition(r *kgo.Record, n int) int {
	if r.Partition != byKey {
		return int(r.Partition)
	}
	return g.TopicPartitioner.Partition(r, n)
}
