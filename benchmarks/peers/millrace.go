package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/nexmark"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// stateMemory is what state may take before it moves to disk: as much as Flink has
// for RocksDB.
const stateMemory = 256 << 20

// millrace is exactly once, with a checkpoint every second.
func millrace(t task, onDisk bool) error {
	where := pipeline.StateInMemory()
	if onDisk {
		where = pipeline.StateMemory(stateMemory)
	}
	p := pipeline.New(pipeline.Name(t.out), pipeline.DefaultParallelism(t.parallelism), where,
		pipeline.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		pipeline.Checkpoints(filepath.Join(t.dir, "checkpoints"), pipeline.CheckpointInterval(interval)))
	graphs[t.job](p, t)
	return p.Run(context.Background())
}

var graphs = map[string]func(p *pipeline.Pipeline, t task){
	"count": func(p *pipeline.Pipeline, t task) {
		counts := operators.Aggregate(byUser(p, t), "count", window.Tumbling(time.Minute), operators.Count[visit]())
		pipeline.To(counts, "out", sink(t, func(r operators.Result[string, int64], rec *kgo.Record) {
			rec.Key, rec.Value = []byte(r.Key), fields(r.Window.Start, r.Value)
		}))
	},
	"distinct": func(p *pipeline.Pipeline, t task) {
		found := pipeline.Process(byUser(p, t), "distinct", func() *discoveries { return &discoveries{} })
		pipeline.To(found, "out", sink(t, func(d discovery, rec *kgo.Record) {
			rec.Key, rec.Value = []byte(d.user), fields(d.nth)
		}))
	},
	"sessions": func(p *pipeline.Pipeline, t task) {
		by := window.Session(gapOfVisits * time.Millisecond)
		sessions := operators.Aggregate(byUser(p, t), "sessions", by, operators.Count[visit]())
		pipeline.To(sessions, "out", sink(t, func(r operators.Result[string, int64], rec *kgo.Record) {
			last, _ := by.LastRecord(r.Window)
			rec.Key, rec.Value = []byte(r.Key), fields(r.Window.Start, last, r.Value)
		}))
	},
	"q1": func(p *pipeline.Pipeline, t task) {
		pipeline.To(nexmark.Q1(bidding(p, t)), "out", sink(t, func(c nexmark.Converted, rec *kgo.Record) {
			rec.Value = fields(c.Auction, c.Bidder, c.Price, c.Time)
		}))
	},
	"q5": func(p *pipeline.Pipeline, t task) {
		pipeline.To(nexmark.Q5(bidding(p, t)), "out", sink(t, func(i nexmark.HotItem, rec *kgo.Record) {
			rec.Value = fields(i.End, i.Auction, i.Count)
		}))
	},
	"q8": func(p *pipeline.Pipeline, t task) {
		pipeline.To(nexmark.Q8(bidding(p, t)), "out", sink(t, func(s nexmark.NewSeller, rec *kgo.Record) {
			rec.Value = fmt.Appendf(nil, "%d %d %s", s.Start, s.Person, s.Name)
		}))
	},
	"q11": func(p *pipeline.Pipeline, t task) {
		pipeline.To(nexmark.Q11(bidding(p, t)), "out", sink(t, func(s nexmark.BidderSession, rec *kgo.Record) {
			rec.Value = fields(s.Bidder, s.First, s.Last, s.Count)
		}))
	},
	"q18": func(p *pipeline.Pipeline, t task) {
		pipeline.To(nexmark.Q18(bidding(p, t)), "out", sink(t, func(b nexmark.Bid, rec *kgo.Record) {
			rec.Key, rec.Value = fields(b.Bidder, b.Auction), fields(b.Time, b.Price)
		}))
	},
}

// read is the input of a task: all that is there when the job starts.
func read[T any](p *pipeline.Pipeline, t task, time func(T) int64) pipeline.Stream[T] {
	cfg := source.Config{Brokers: t.brokers, Topics: []string{t.in}, Bounded: true}
	return pipeline.From(p, "in", source.JSON[T](cfg), pipeline.Monotonic(time))
}

func sink[T any](t task, encode func(v T, rec *kgo.Record)) pipeline.Sink[T] {
	producer := kafka.NewProducer(kafka.Config{Brokers: t.brokers})
	return kafka.Encode(producer, t.out, func(v T, rec *kgo.Record) error {
		encode(v, rec)
		return nil
	})
}

func bidding(p *pipeline.Pipeline, t task) pipeline.Stream[nexmark.Event] {
	return operators.Map(read(p, t, trade.Time), "event", trade.event)
}

func byUser(p *pipeline.Pipeline, t task) pipeline.KeyedStream[string, visit] {
	visits := read(p, t, func(v visit) int64 { return v.Time })
	return pipeline.KeyBy(visits, func(v visit) string { return v.User })
}

// discovery is a page that a user sees for the first time.
type discovery struct {
	user string
	nth  int64
}

// discoveries remembers the pages of each user.
type discoveries struct {
	pages *state.Map[string, string, struct{}]
}

// Open implements [pipeline.Opener].
func (d *discoveries) Open(c *pipeline.Context[string, discovery]) error {
	d.pages = state.NewMap[string, struct{}](c.State(), "pages")
	return nil
}

// Process implements [pipeline.Processor].
func (d *discoveries) Process(c *pipeline.Context[string, discovery], v visit) error {
	if _, seen := d.pages.Get(v.Page); !seen {
		d.pages.Put(v.Page, struct{}{})
		c.Emit(discovery{c.Key(), int64(d.pages.Len())})
	}
	return nil
}
