package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/traffic"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

// interval is the time between two checkpoints, or commits.
const interval = time.Second

// counted is how all sides write a count.
func counted(minute, n int64) string { return fmt.Sprintf("%d %d", minute, n) }

func millrace(c config, out string, exactly bool) error {
	dir, err := os.MkdirTemp("", "bench-kafka-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p := pipeline.New(pipeline.Name(out), pipeline.DefaultParallelism(2),
		pipeline.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		pipeline.Checkpoints(filepath.Join(dir, "checkpoints"), pipeline.CheckpointInterval(interval)))
	events := pipeline.From(p, "events", source.JSON[event](source.Config{Brokers: c.brokers, Topics: []string{c.topic}, Bounded: true}),
		pipeline.BoundedDisorder(func(e event) int64 { return e.Time }, 5*time.Second).MaxDrift(time.Minute))
	byUser := pipeline.KeyBy(events, func(e event) string { return e.User })
	counts := operators.Aggregate(byUser, "count", window.Tumbling(time.Minute), operators.Count[event]())
	cfg := kafka.Config{Brokers: c.brokers, Delivery: kafka.AtLeastOnce}
	if exactly {
		cfg.Delivery = kafka.ExactlyOnce
	}
	pipeline.To(counts, "counts", kafka.Encode(kafka.NewProducer(cfg), out, func(r operators.Result[string, int64], rec *kgo.Record) error {
		rec.Key, rec.Value = []byte(r.Key), []byte(counted(r.Window.Start, r.Value))
		return nil
	}))
	return p.Run(context.Background())
}

// minute is what the other sides keep of a key.
type minute struct {
	Start int64 `json:"start"`
	N     int64 `json:"n"`
}

// byHand is a consumer group of one. It loses its counts when it dies.
func byHand(c config, out string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumerGroup(out), kgo.ConsumeTopics(c.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.DefaultProduceTopic(out))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	var failed atomic.Pointer[error]
	emit := func(user string, m *minute) {
		r := &kgo.Record{Key: []byte(user), Value: []byte(counted(m.Start, m.N))}
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	users := map[string]*minute{}
	committed := time.Now()
	for n := 0; n < c.records; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		var bad error
		fetches.EachRecord(func(r *kgo.Record) {
			var e event
			if err := json.Unmarshal(r.Value, &e); err != nil {
				bad = err
				return
			}
			n++
			start := e.Time - e.Time%time.Minute.Milliseconds()
			m := users[e.User]
			if m == nil {
				m = &minute{Start: start}
				users[strings.Clone(e.User)] = m
			}
			if m.Start != start {
				emit(e.User, m)
				*m = minute{Start: start}
			}
			m.N++
		})
		if bad != nil {
			return bad
		}
		if time.Since(committed) > interval {
			committed = time.Now()
			if err := errors.Join(client.Flush(ctx), client.CommitUncommittedOffsets(ctx)); err != nil {
				return err
			}
		}
	}
	for user, m := range users {
		emit(user, m)
	}
	err = errors.Join(client.Flush(ctx), client.CommitUncommittedOffsets(ctx))
	if f := failed.Load(); f != nil {
		err = errors.Join(err, *f)
	}
	return err
}

// withGoka is a processor with a group table, which is where it keeps its counts.
func withGoka(c config, out string, inMemory bool) error {
	dir, err := os.MkdirTemp("", "bench-goka-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := storage.DefaultBuilder(dir)
	if inMemory {
		build = storage.MemoryBuilder()
	}
	cfg := goka.DefaultConfig()
	cfg.Consumer.Offsets.Initial = -2 // the oldest
	goka.ReplaceGlobalConfig(cfg)
	topics := goka.NewTopicManagerConfig()
	topics.Table.Replication, topics.Stream.Replication = 1, 1

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var n atomic.Int64
	count := func(gc goka.Context, msg any) {
		e := msg.(event)
		start := e.Time - e.Time%time.Minute.Milliseconds()
		m, there := gc.Value().(minute)
		if there && m.Start != start {
			gc.Emit(goka.Stream(out), gc.Key(), counted(m.Start, m.N))
		}
		if !there || m.Start != start {
			m = minute{Start: start}
		}
		m.N++
		gc.SetValue(m)
		if n.Add(1) == int64(c.records) {
			stop()
		}
	}
	quiet := log.New(io.Discard, "", 0)
	p, err := goka.NewProcessor(c.brokers, goka.DefineGroup(goka.Group(out),
		goka.Input(goka.Stream(c.topic), traffic.JSON[event]{}, count),
		goka.Output(goka.Stream(out), new(codec.String)),
		goka.Persist(traffic.JSON[minute]{}),
	), goka.WithStorageBuilder(build), goka.WithLogger(quiet),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithTopicManagerConfig(topics)))
	if err != nil {
		return err
	}
	if err := p.Run(ctx); err != nil {
		return err
	}
	if got := n.Load(); got < int64(c.records) {
		return fmt.Errorf("%d of %d records were counted", got, c.records)
	}
	return nil
}

// fnv32a is goka's hash of keys.
func fnv32a(key []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(key)
	return h.Sum32()
}
