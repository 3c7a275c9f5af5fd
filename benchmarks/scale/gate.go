package main

import (
	"context"

	"github.com/millrace/millrace/pipeline"
)

// gate is the source and the sink of a job that runs on while others are measured: it
// lets some records pass, and says when the last of them has come out.
type gate struct {
	records chan []string
	counted chan int64

	// left is how many records have yet to come out, sum what they have added up to.
	// Whoever holds the records has them: the caller of pass, then the sink.
	left int
	sum  int64
}

// pass returns the sum of what comes out, once everything has. A job that has ended
// says on done why.
func (g *gate) pass(keys []string, done <-chan error) (int64, error) {
	g.left, g.sum = len(keys), 0
	select {
	case g.records <- keys:
	case err := <-done:
		return 0, err
	}
	select {
	case sum := <-g.counted:
		return sum, nil
	case err := <-done:
		return 0, err
	}
}

// Open implements [pipeline.Source].
func (g *gate) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[string], error) {
	return &gateReader{gate: g, batch: env.BatchSize}, nil
}

type gateReader struct {
	*gate
	batch     int
	rest      []string
	announced bool
}

// Read implements [pipeline.Reader].
func (r *gateReader) Read(ctx context.Context, b *pipeline.SourceBatch[string]) error {
	b.Split = "0"
	if !r.announced {
		r.announced = true
		b.AddSplit(b.Split)
		return nil
	}
	if len(r.rest) == 0 {
		select {
		case some, ok := <-r.records:
			if !ok {
				return pipeline.ErrEndOfInput
			}
			r.rest = some
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n := min(r.batch, len(r.rest))
	b.Values = append(b.Values, r.rest[:n]...)
	r.rest = r.rest[n:]
	return nil
}

func (g *gate) sink() pipeline.Sink[int64] { return gateSink{g} }

type gateSink struct{ *gate }

// Open implements [pipeline.Sink].
func (s gateSink) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[int64], error) {
	return s, nil
}

// Write implements [pipeline.Writer].
func (s gateSink) Write(_ context.Context, b *pipeline.Records[int64]) error {
	for _, n := range b.Values {
		s.sum += n
	}
	if s.left -= len(b.Values); s.left == 0 {
		s.counted <- s.sum
	}
	return nil
}
