package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/state"
)

// throughput measures what checkpoints every second cost a whole job: a count
// for each of a million keys, of which one in a hundred changes within a second.
// The jobs with and without take turns.
func throughput(c config) ([]goal, error) {
	keys := make([]string, checkpointKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("user-%08d", i)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	src := &hundredths{keys: keys, turn: 1 << 40}
	warm, err := src.run(c, 5_000_000, false)
	if err != nil {
		return nil, err
	}
	src.turn = int64(warm)
	events := int64(warm * throughputSeconds)
	var ratios []float64
	for range c.rounds {
		without, err := src.run(c, events, false)
		if err != nil {
			return nil, err
		}
		with, err := src.run(c, events, true)
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, with/without)
	}
	ratio := median(ratios)
	return []goal{{
		Name: "throughput with a checkpoint a second, 1 M keys, 1 % dirty",
		Goal: "at least 0.85 of that without", Value: ratio, Unit: "×", Met: ratio >= 0.85,
	}}, nil
}

// throughputSeconds is about how long a job runs once all keys are there.
const throughputSeconds = 12

// hundredths is a source that brings every key once, and then, turn by turn, keys
// of one hundredth of them.
type hundredths struct {
	keys   []string
	turn   int64 // events
	events int64
	warm   time.Time
}

// skip is how many events come before the clock starts: what writes the keys to
// disk for the first time is not what is measured.
func (s *hundredths) skip() int64 { return min(3*s.turn, s.events/4) }

func (s *hundredths) run(c config, events int64, checkpoints bool) (perSecond float64, err error) {
	s.events = events
	opts := []pipeline.Option{pipeline.Name("throughput"), pipeline.DefaultParallelism(1)}
	if checkpoints {
		dir, err := os.MkdirTemp(c.dir, "throughput-")
		if err != nil {
			return 0, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		opts = append(opts, pipeline.Checkpoints(filepath.Join(dir, "job"), pipeline.CheckpointInterval(time.Second)))
	}
	p := pipeline.New(opts...)
	in := pipeline.From(p, "keys", s)
	counts := pipeline.Process(pipeline.KeyBy(in, func(k string) string { return k }), "count", func() *counter { return &counter{} })
	pipeline.To(counts, "out", discard.Sink[int64]())
	if err := p.Run(context.Background()); err != nil {
		return 0, err
	}
	return float64(events-s.skip()) / time.Since(s.warm).Seconds(), nil
}

type counter struct{ n *state.Value[string, int64] }

func (o *counter) Open(c *pipeline.Context[string, int64]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

func (o *counter) Process(*pipeline.Context[string, int64], string) error {
	*o.n.Upsert()++
	return nil
}

// Open implements [pipeline.Source].
func (s *hundredths) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[string], error) {
	return &hundredthsReader{hundredths: s, batch: env.BatchSize, rng: rand.New(rand.NewPCG(3, 4))}, nil
}

type hundredthsReader struct {
	*hundredths
	batch int
	at    int64
	rng   *rand.Rand
}

// Read implements [pipeline.Reader].
func (r *hundredthsReader) Read(_ context.Context, b *pipeline.SourceBatch[string]) error {
	b.Split = "0"
	fill := int64(len(r.keys))
	for range r.batch {
		switch n := r.at - fill; {
		case n < 0:
			b.Values = append(b.Values, r.keys[r.at])
		case n == r.events:
			return pipeline.ErrEndOfInput
		default:
			if n == r.skip() {
				r.warm = time.Now()
			}
			hundredth := len(r.keys) / 100
			first := int(n/r.turn) % 100 * hundredth
			b.Values = append(b.Values, r.keys[first+r.rng.IntN(hundredth)])
		}
		r.at++
	}
	b.Position = fmt.Append(nil, r.at)
	return nil
}
