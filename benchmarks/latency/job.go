package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/state"
)

// event is a record of the topic that is read.
type event struct {
	User     string `json:"user"`
	Page     string `json:"page"`
	Due      int64  `json:"due"` // when it was to be sent, in nanoseconds since the epoch
	Referrer string `json:"referrer"`
	Agent    string `json:"agent"`
	Status   int    `json:"status"`
}

// counted is a record of the topic that is written.
type counted struct {
	user   string
	n, due int64
}

func (v counted) text() []byte {
	return strconv.AppendInt(append(strconv.AppendInt(nil, v.due, 10), ' '), v.n, 10)
}

// counter counts the events of each user.
type counter struct {
	n *state.Value[string, int64]
}

func (o *counter) Open(c *pipeline.Context[string, counted]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

func (o *counter) Process(c *pipeline.Context[string, counted], e event) error {
	n := o.n.Upsert()
	*n++
	c.Emit(counted{c.Key(), *n, e.Due})
	return nil
}

// count is the job. It ends when it is told to, by SIGTERM.
func count(c config, from, to string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if c.delivery == byHand {
		return countByHand(ctx, c, from, to)
	}
	dir, err := os.MkdirTemp("", "bench-latency-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p := pipeline.New(pipeline.Name(to), pipeline.DefaultParallelism(2),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))),
		pipeline.Checkpoints(filepath.Join(dir, "checkpoints"), pipeline.CheckpointInterval(interval)))
	events := pipeline.From(p, "events", source.JSON[event](source.Config{Brokers: c.brokers, Topics: []string{from}}))
	byUser := pipeline.KeyBy(events, func(e event) string { return e.User })
	counts := pipeline.Process(byUser, "count", func() *counter { return &counter{} })
	cfg := sink.Config{Brokers: c.brokers, Delivery: sink.AtLeastOnce}
	if c.delivery == exactlyOnce {
		cfg.Delivery = sink.ExactlyOnce
	}
	pipeline.To(counts, "counts", sink.Encode(sink.NewProducer(cfg), to, func(v counted, r *kgo.Record) error {
		r.Key, r.Value = []byte(v.user), v.text()
		return nil
	}))
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// countByHand does what the job does, with a map that is lost with the process.
func countByHand(ctx context.Context, c config, from, to string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumerGroup(to), kgo.ConsumeTopics(from),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(to), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	counts := map[string]int64{}
	var failed atomic.Pointer[error]
	for ctx.Err() == nil && failed.Load() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var e event
			if err := json.Unmarshal(r.Value, &e); err != nil {
				failed.Store(&err)
				return
			}
			counts[e.User]++
			v := counted{e.User, counts[e.User], e.Due}
			client.Produce(ctx, &kgo.Record{Key: []byte(v.user), Value: v.text()}, func(_ *kgo.Record, err error) {
				if err != nil && ctx.Err() == nil {
					failed.Store(&err)
				}
			})
		})
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
