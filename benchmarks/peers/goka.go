package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"log"
	"sync"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/traffic"
)

// gokaJob is a job as goka expresses it: what it does with a record, with what the
// record sends to itself under another key, and with each key at the end of the input,
// where something is left to be said.
type gokaJob struct {
	input goka.Codec
	each  func(g *gokaRun, gc goka.Context, msg any)
	table goka.Codec // what is kept of a key; nil: nothing
	loop  goka.Codec // what is sent on; nil: nothing
	again func(g *gokaRun, gc goka.Context, msg any)
	end   func(g *gokaRun, gc goka.Context)
}

var gokaJobs = map[string]gokaJob{
	"count":    {input: traffic.JSON[visit]{}, each: gokaCount, table: traffic.JSON[minuteCount]{}, end: gokaCountEnd},
	"distinct": {input: traffic.JSON[visit]{}, each: gokaDistinct, table: traffic.JSON[[]string]{}},
	"sessions": {input: traffic.JSON[visit]{}, each: gokaSessions, table: traffic.JSON[session]{}, end: gokaSessionsEnd},
	"q1":       {input: traffic.JSON[trade]{}, each: gokaQ1},
	"q11": {
		input: traffic.JSON[trade]{}, each: gokaByBidder, loop: traffic.JSON[offer]{},
		again: gokaQ11, table: traffic.JSON[[]session]{}, end: gokaQ11End,
	},
	"q18": {
		input: traffic.JSON[trade]{}, each: gokaByBidderAndAuction, loop: traffic.JSON[offer]{},
		again: gokaQ18, table: traffic.JSON[offer]{},
	},
}

// gokaRun is a processor at work. Its input ends, which goka knows nothing of, so it
// counts.
type gokaRun struct {
	job  gokaJob
	out  goka.Stream
	left atomic.Int64 // records of the input, and those sent on, that are not done yet
	done chan struct{}
}

func (g *gokaRun) emit(gc goka.Context, value []byte) { gc.Emit(g.out, gc.Key(), value) }

func (g *gokaRun) loopback(gc goka.Context, key string, value any) {
	g.left.Add(1)
	gc.Loopback(key, value)
}

// counted calls f for a record, and knows the last one.
func (g *gokaRun) counted(f func(g *gokaRun, gc goka.Context, msg any)) goka.ProcessCallback {
	return func(gc goka.Context, msg any) {
		f(g, gc, msg)
		if g.left.Add(-1) == 0 {
			close(g.done)
		}
	}
}

// withGoka is a processor with a group table, which is where it keeps what it knows.
func withGoka(t task, inMemory bool) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n, err := pending(ctx, t)
	if err != nil {
		return err
	}
	g := &gokaRun{job: gokaJobs[t.job], out: goka.Stream(t.out), done: make(chan struct{})}
	g.left.Store(n)
	p, err := g.processor(t, inMemory)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case err := <-ended:
		return fmt.Errorf("ended with %d records left: %w", g.left.Load(), err)
	case <-g.done:
	}
	if g.job.end != nil {
		if err := p.VisitAll(ctx, "end", nil); err != nil {
			return err
		}
	}
	stop()
	return <-ended
}

func (g *gokaRun) processor(t task, inMemory bool) (*goka.Processor, error) {
	build := storage.DefaultBuilder(t.dir)
	if inMemory {
		build = storage.MemoryBuilder()
	}
	fromTheOldest()
	topics := goka.NewTopicManagerConfig()
	topics.Table.Replication, topics.Stream.Replication = 1, 1
	return goka.NewProcessor(t.brokers, goka.DefineGroup(goka.Group(t.out), g.edges(t)...),
		goka.WithStorageBuilder(build), goka.WithLogger(log.New(io.Discard, "", 0)),
		goka.WithHasher(func() hash.Hash32 { return &kafkaHash{key: []byte{}} }),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithTopicManagerConfig(topics)))
}

// fromTheOldest has all processors of the process read topics from their beginning.
// What else goka sets stays: offsets are committed every second.
var fromTheOldest = sync.OnceFunc(func() {
	cfg := goka.DefaultConfig()
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	goka.ReplaceGlobalConfig(cfg)
})

func (g *gokaRun) edges(t task) []goka.Edge {
	edges := []goka.Edge{
		goka.Input(goka.Stream(t.in), g.job.input, g.counted(g.job.each)),
		goka.Output(g.out, bytesAsTheyAre{}),
	}
	if g.job.table != nil {
		edges = append(edges, goka.Persist(g.job.table))
	}
	if g.job.loop != nil {
		edges = append(edges, goka.Loop(g.job.loop, g.counted(g.job.again)))
	}
	if g.job.end != nil {
		edges = append(edges, goka.Visitor("end", func(gc goka.Context, _ any) { g.job.end(g, gc) }))
	}
	return edges
}

type bytesAsTheyAre struct{}

// Encode implements [goka.Codec].
func (bytesAsTheyAre) Encode(v any) ([]byte, error) { return v.([]byte), nil }

// Decode implements [goka.Codec].
func (bytesAsTheyAre) Decode(data []byte) (any, error) { return data, nil }

// kafkaHash is the hash by which Kafka's own clients choose partitions, murmur2, in
// the shape that goka asks for. Its sums are never negative, so that Sarama takes their
// remainder as it is.
type kafkaHash struct{ key []byte } // never nil, which would be no key

// byMurmur2 gives the whole hash for a topic of that many partitions.
var byMurmur2 = kgo.StickyKeyPartitioner(nil).ForTopic("")

// Write implements [hash.Hash32].
func (h *kafkaHash) Write(p []byte) (int, error) {
	h.key = append(h.key, p...)
	return len(p), nil
}

// Sum32 implements [hash.Hash32].
func (h *kafkaHash) Sum32() uint32 {
	return uint32(byMurmur2.Partition(&kgo.Record{Key: h.key}, 1<<31))
}

// Sum implements [hash.Hash32].
func (h *kafkaHash) Sum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, h.Sum32()) }

// Reset implements [hash.Hash32].
func (h *kafkaHash) Reset() { h.key = h.key[:0] }

// Size implements [hash.Hash32].
func (h *kafkaHash) Size() int { return 4 }

// BlockSize implements [hash.Hash32].
func (h *kafkaHash) BlockSize() int { return 4 }
