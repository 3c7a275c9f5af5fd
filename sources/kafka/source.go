package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
)

// Source reads topics. It is made by [JSON], [JSONRecords], [Raw] and [Decode].
// Every partition is a split, named topic/partition.
type Source[T any] struct {
	cfg    Config
	decode func(*kgo.Record, *T) error
	by     func(T) int64 // of an ordered source, nil is by timestamp
}

// Open implements [pipeline.Source].
func (s *Source[T]) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	cfg := s.cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if s.decode == nil {
		return nil, errors.New("the decoder is nil")
	}
	pattern, err := cfg.matcher()
	if err != nil {
		return nil, err
	}
	if cfg.Ordered {
		if err := checkOrdered(env); err != nil {
			return nil, err
		}
	}
	log := loggerOf(env)
	c := &cluster{cfg: cfg, pattern: pattern, health: newHealth(log)}
	if c.client, err = cfg.newClient(c.health); err != nil {
		return nil, err
	}
	r := newReader(s, c, env, log)
	ctx, cancel := within(ctx, cfg.StartTimeout)
	defer cancel()
	if err := r.open(ctx); err != nil {
		_ = r.Close() // says nothing
		if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, err
	}
	if cfg.Ordered {
		return newOrdered(r, s.by), nil
	}
	return r, nil
}

// open finds the subtask's partitions and begins to fetch them.
func (r *reader[T]) open(ctx context.Context) error {
	positions, err := decodePositions(r.env.Positions)
	if err != nil {
		return err
	}
	topics, err := r.cluster.await(ctx)
	if err != nil {
		return err
	}
	if len(topics) == 0 {
		return fmt.Errorf("no topic matches pattern %q", r.cluster.cfg.Pattern)
	}
	if err := r.checkGroup(ctx); err != nil {
		return err
	}
	pl := &placing{cluster: r.cluster, log: r.log, positions: positions, topics: topics}
	if err := pl.checkPositions(r.env); err != nil {
		return err
	}
	splits, err := pl.place(ctx, partitionsOf(r.env, topics))
	if err != nil {
		return err
	}
	for _, s := range splits {
		r.add(s)
	}
	r.fetch(splits)
	if !r.cluster.cfg.Bounded {
		r.discover(topics)
	}
	return nil
}

// figures are the reader's metrics.
type figures struct {
	of                      *pipeline.Metrics
	records, bytes, skipped *pipeline.Counter
	lag, partitions         *pipeline.Gauge
}

func newFigures(m *pipeline.Metrics) figures {
	return figures{
		of: m, records: m.Counter("records"), bytes: m.Counter("bytes_read"), skipped: m.Counter("skipped"),
		lag: m.Gauge("lag"), partitions: m.Gauge("partitions"),
	}
}

func loggerOf(env *pipeline.SourceEnv) *slog.Logger {
	if env.Logger != nil {
		return env.Logger
	}
	return slog.Default()
}

func metricsOf(env *pipeline.SourceEnv) *pipeline.Metrics {
	if env.Metrics != nil {
		return env.Metrics
	}
	return &pipeline.Metrics{}
}
