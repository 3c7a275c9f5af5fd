package pipelinetest

import (
	"context"

	"github.com/millrace/millrace/pipeline"
)

// Watched returns a source that reads as src does, and tells the world of it:
// records that it reads are moments at which a job can be killed. The source
// must give positions.
func Watched[T any](w *World, src pipeline.Source[T]) pipeline.Source[T] { return watched[T]{w, src} }

type watched[T any] struct {
	w   *World
	src pipeline.Source[T]
}

func (s watched[T]) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	r, err := s.src.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	own := &watchedReader[T]{w: s.w, run: s.w.now(), Reader: r}
	if p, ok := r.(pipeline.Pauser); ok {
		return &watchedPauser[T]{own, p}, nil
	}
	return own, nil
}

// Ordered implements [pipeline.Ordered], for the source behind.
func (s watched[T]) Ordered() bool {
	o, ok := s.src.(pipeline.Ordered)
	return ok && o.Ordered()
}

type watchedReader[T any] struct {
	pipeline.Reader[T]
	w   *World
	run *execution
}

// watchedPauser is a watchedReader whose reader can hold splits back.
type watchedPauser[T any] struct {
	*watchedReader[T]
	pipeline.Pauser
}

func (r *watchedReader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	r.w.checkpoint(ctx, r.run)
	err := r.Reader.Read(ctx, b)
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if n := len(b.Values); n > 0 && r.w.run == r.run {
		r.w.met(AtRead, n)
	}
	return err
}

// Acknowledge implements [pipeline.Acknowledger], for the reader behind.
func (r *watchedReader[T]) Acknowledge(ctx context.Context, checkpoint int64, positions map[string][]byte) error {
	if a, ok := r.Reader.(pipeline.Acknowledger); ok {
		return a.Acknowledge(ctx, checkpoint, positions)
	}
	return nil
}

func (r *watchedReader[T]) Close() error {
	if c, ok := r.Reader.(pipeline.Closer); ok {
		return c.Close()
	}
	return nil
}

func (w *World) now() *execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.run
}

// checkpoint asks for a checkpoint now and then. What it answers is none of the
// reader's business: it may be given up as the job ends.
func (w *World) checkpoint(ctx context.Context, r *execution) {
	w.mu.Lock()
	due := w.every > 0 && w.rand.IntN(w.every) == 0
	wait := w.rand.IntN(2) == 0
	w.mu.Unlock()
	switch {
	case !due:
	case wait:
		_ = r.p.Checkpoint(ctx)
	default:
		go func() { _ = r.p.Checkpoint(ctx) }()
	}
}
