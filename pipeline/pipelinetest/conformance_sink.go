package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

// SinkCase is a sink under test by [TestSink].
type SinkCase[T any] struct {
	// New returns a sink with an empty destination, and a function that returns
	// what the destination holds now, in order as far as there is one.
	New func(t testing.TB) (pipeline.Sink[T], func() []T)
	// Value makes record i. Different records print differently with %+v.
	Value func(i int) T
	// Bad, where there is such a thing, makes a record that the sink rejects.
	Bad func() T
	// AtClose says that the destination shows nothing before Close; default is
	// that all is there after Flush, or after Write where there is no Flush.
	AtClose bool
}

// TestSink checks that a sink keeps the contracts of [pipeline.Sink],
// [pipeline.Writer] and [pipeline.Flusher]: at parallelism 1 to 4 all that was
// written is there after a flush, and after Close without one; the writer
// keeps nothing of a batch but its values; a record it can't write is handed
// to Reject, and the others are written; calls return when their context has
// ended; Close may come at any time.
func TestSink[T any](t *testing.T, c SinkCase[T]) {
	t.Helper()
	for parallelism := 1; parallelism <= 4; parallelism++ {
		t.Run(fmt.Sprintf("all is there/par=%d", parallelism), func(t *testing.T) {
			report(t, c.allIsThere(t, parallelism))
		})
	}
	t.Run("close without flush", func(t *testing.T) { report(t, c.closeWithoutFlush(t)) })
	t.Run("reject", func(t *testing.T) { report(t, c.reject(t)) })
	t.Run("cancel", func(t *testing.T) { report(t, c.cancel(t)) })
	t.Run("close", func(t *testing.T) { report(t, c.close(t)) })
}

var discardLogs = slog.New(slog.NewTextHandler(io.Discard, nil))

// writing is a set of writers of one sink.
type writing[T any] struct {
	writers  []pipeline.Writer[T]
	rejected []pipeline.DeadLetter
}

func (c SinkCase[T]) open(t testing.TB, sink pipeline.Sink[T], parallelism int) (*writing[T], error) {
	w := &writing[T]{}
	for i := range parallelism {
		writer, err := sink.Open(t.Context(), &pipeline.SinkEnv{
			Operator: "sink", Subtask: i, Parallelism: parallelism,
			Reject: func(d pipeline.DeadLetter) { w.rejected = append(w.rejected, d) },
			Logger: discardLogs, Metrics: &pipeline.Metrics{},
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open subtask %d of %d: %w", i, parallelism, err), w.close())
		}
		w.writers = append(w.writers, writer)
	}
	return w, nil
}

func (w *writing[T]) close() error {
	var errs []error
	for i, writer := range w.writers {
		if c, ok := writer.(pipeline.Closer); ok {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close subtask %d: %w", i, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (w *writing[T]) flush(ctx context.Context) error {
	for i, writer := range w.writers {
		if f, ok := writer.(pipeline.Flusher); ok {
			if err := f.Flush(ctx); err != nil {
				return fmt.Errorf("flush subtask %d: %w", i, err)
			}
		}
	}
	return nil
}

// write writes a batch, and then scribbles over it as the engine would.
func (w *writing[T]) write(ctx context.Context, i int, values []T) error {
	b := &pipeline.Records[T]{Values: append([]T(nil), values...), Times: make([]int64, len(values))}
	for j := range b.Times {
		b.Times[j] = int64(1000 + j)
	}
	err := w.writers[i].Write(ctx, b)
	clear(b.Values)
	for j := range b.Times {
		b.Times[j] = -1
	}
	if err != nil {
		return fmt.Errorf("write %d records in subtask %d: %w", len(values), i, err)
	}
	return nil
}

// writeAll deals batches of growing size to the writers.
func (c SinkCase[T]) writeAll(ctx context.Context, w *writing[T]) ([]T, error) {
	var all []T
	for k, size := range []int{1, 0, 2, 7, 64, 256, 3, 256, 1} {
		var values []T
		for range size {
			values = append(values, c.Value(len(all)+len(values)))
		}
		if err := w.write(ctx, k%len(w.writers), values); err != nil {
			return nil, err
		}
		all = append(all, values...)
	}
	return all, nil
}

func (c SinkCase[T]) allIsThere(t testing.TB, parallelism int) error {
	sink, written := c.New(t)
	w, err := c.open(t, sink, parallelism)
	if err != nil {
		return err
	}
	want, err := c.writeAll(t.Context(), w)
	if err == nil {
		err = w.flush(t.Context())
	}
	if err == nil && !c.AtClose {
		if err = sameSet(written(), want); err != nil {
			err = fmt.Errorf("after flush: %w", err)
		}
	}
	if err == nil {
		err = w.flush(t.Context()) // with nothing new
	}
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	if err := sameSet(written(), want); err != nil {
		return fmt.Errorf("after Close: %w", err)
	}
	if parallelism == 1 {
		return sameList(written(), want)
	}
	return nil
}

func (c SinkCase[T]) closeWithoutFlush(t testing.TB) error {
	sink, written := c.New(t)
	w, err := c.open(t, sink, 1)
	if err != nil {
		return err
	}
	want, err := c.writeAll(t.Context(), w)
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	return sameList(written(), want)
}

func (c SinkCase[T]) reject(t testing.TB) error {
	if c.Bad == nil {
		return fmt.Errorf("%w: no record is bad", errSkipped)
	}
	sink, written := c.New(t)
	w, err := c.open(t, sink, 1)
	if err != nil {
		return err
	}
	err = w.write(t.Context(), 0, []T{c.Value(0), c.Bad(), c.Value(1), c.Bad()})
	if err == nil {
		err = w.flush(t.Context())
	}
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	if len(w.rejected) != 2 {
		return fmt.Errorf("%d records rejected, want 2: %v", len(w.rejected), w.rejected)
	}
	if d := w.rejected[0]; d.Error == "" || d.Record == "" || d.Time != 1001 {
		return fmt.Errorf("dead letter %+v, want an error, the record and its time 1001", d)
	}
	return sameList(written(), []T{c.Value(0), c.Value(1)})
}

func (c SinkCase[T]) cancel(t testing.TB) error {
	sink, _ := c.New(t)
	w, err := c.open(t, sink, 1)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Whether they write or refuse is theirs to say; they must not wait.
	err, returned := within(prompt, ctx, func(ctx context.Context) error { return w.write(ctx, 0, []T{c.Value(0)}) })
	if !returned {
		return fmt.Errorf("Write did not return within %v of its context's end", prompt)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Write with a cancelled context: %w, want nil or context.Canceled", err)
	}
	err, returned = within(prompt, ctx, w.flush)
	if !returned {
		return fmt.Errorf("Flush did not return within %v of its context's end", prompt)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Flush with a cancelled context: %w, want nil or context.Canceled", err)
	}
	return w.close()
}

func (c SinkCase[T]) close(t testing.TB) error {
	sink, written := c.New(t)
	w, err := c.open(t, sink, 2)
	if err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("nothing written: %w", err)
	}
	if n := len(written()); n != 0 {
		return fmt.Errorf("nothing written, and the destination holds %d records", n)
	}
	var perr error
	func() {
		defer pipeline.CatchPanic(&perr)
		w.close() //nolint:errcheck // a second Close may complain
	}()
	if perr != nil {
		return fmt.Errorf("second Close: %w", perr)
	}
	return nil
}
