package pipelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

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
	// that all is there after Flush (Sync, where there is one), or after Write. A
	// [pipeline.Committer] shows its records with their commit.
	AtClose bool
	// Early says that a [pipeline.Committer] shows records before their commit,
	// and takes them back when the job starts from an earlier checkpoint. Default:
	// nobody may see them before.
	Early bool
}

// TestSink checks that a sink keeps the contracts of [pipeline.Sink],
// [pipeline.Writer], [pipeline.Flusher] and [pipeline.Syncer]: at parallelism 1 to 4 all that was
// written is there after a flush, and after Close without one; the writer
// keeps nothing of a batch but its values; a record it can't write is handed
// to Reject, and the others are written; calls return when their context has
// ended; Close may come at any time.
//
// Where the writers of a job with checkpoints are [pipeline.Committer], it
// checks that of the two phases too: records show with their commit and not
// before; a job that is killed, or fails, at any moment and starts again from
// its last complete checkpoint, or without one, shows each record once, however
// often a commit is repeated, also when several checkpoints wait for theirs and
// when the job starts with more or fewer subtasks. The suite opens one sink
// again and again for this, as new processes would, each with a Run of its own, and
// with a [pipeline.Staging] that finds what those before it have staged.
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
	t.Run("commit", func(t *testing.T) { report(t, c.commit(t)) })
	t.Run("commit again", func(t *testing.T) { report(t, c.commitAgain(t)) })
	t.Run("uncommitted", func(t *testing.T) { report(t, c.uncommitted(t)) })
	t.Run("several prepared", func(t *testing.T) { report(t, c.severalPrepared(t)) })
	t.Run("rescale", func(t *testing.T) { report(t, c.rescale(t)) })
	t.Run("prepare nothing", func(t *testing.T) { report(t, c.prepareNothing(t)) })
}

var discardLogs = slog.New(slog.NewTextHandler(io.Discard, nil))

// writing is a set of writers of one sink.
type writing[T any] struct {
	writers  []pipeline.Writer[T]
	rejected []pipeline.DeadLetter
}

// open opens a sink as a job without checkpoints does.
func (c SinkCase[T]) open(t testing.TB, sink pipeline.Sink[T], parallelism int) (*writing[T], error) {
	return openSink(t.Context(), sink, pipeline.SinkEnv{Parallelism: parallelism, Run: "1"}, nil)
}

// openSink opens a sink's writers. staged is where a job with checkpoints keeps
// staged files, from one start to the next.
func openSink[T any](ctx context.Context, sink pipeline.Sink[T], env pipeline.SinkEnv, staged vfs.FS) (*writing[T], error) {
	w := &writing[T]{}
	env.Operator, env.Logger = "sink", discardLogs
	env.Reject = func(d pipeline.DeadLetter) { w.rejected = append(w.rejected, d) }
	for i := range env.Parallelism {
		mine := env
		mine.Subtask, mine.Metrics = i, &pipeline.Metrics{}
		var err error
		if env.Checkpoints {
			mine.Staging, err = pipeline.NewStaging(staged, "/staged", fmt.Sprintf("%s-%d", env.Run, i))
		}
		var writer pipeline.Writer[T]
		if err == nil {
			writer, err = sink.Open(ctx, &mine)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open subtask %d of %d: %w", i, env.Parallelism, err), w.close())
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
		if s, ok := writer.(pipeline.Syncer); ok {
			if err := s.Sync()(ctx); err != nil {
				return fmt.Errorf("sync subtask %d: %w", i, err)
			}
		}
	}
	return nil
}

// commits says whether the sink's output takes effect with a commit.
func (w *writing[T]) commits() bool {
	_, ok := w.writers[0].(pipeline.Committer)
	return ok
}

// prepare returns what each subtask has prepared, nil for nothing.
func (w *writing[T]) prepare(ctx context.Context, checkpoint int64) ([][]byte, error) {
	all := make([][]byte, len(w.writers))
	for i, writer := range w.writers {
		committer, ok := writer.(pipeline.Committer)
		if !ok {
			return nil, fmt.Errorf("subtask %d is no Committer, subtask 0 is", i)
		}
		prepared, err := committer.Prepare(ctx, checkpoint)
		if err != nil {
			return nil, fmt.Errorf("prepare checkpoint %d in subtask %d: %w", checkpoint, i, err)
		}
		all[i] = prepared
	}
	return all, nil
}

// commit shares out what was prepared, as the engine does.
func (w *writing[T]) commit(ctx context.Context, prepared [][]byte) error {
	for i, p := range prepared {
		if p == nil {
			continue
		}
		subtask := i % len(w.writers)
		if err := w.writers[subtask].(pipeline.Committer).Commit(ctx, bytes.Clone(p)); err != nil {
			return fmt.Errorf("commit in subtask %d: %w", subtask, err)
		}
	}
	return nil
}

// end is the end of a job without checkpoints.
func (w *writing[T]) end(ctx context.Context) error {
	if !w.commits() {
		return nil
	}
	prepared, err := w.prepare(ctx, 1)
	if err != nil {
		return err
	}
	return w.commit(ctx, prepared)
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
	if err == nil && !c.AtClose && !w.commits() {
		if err = sameSet(written(), want); err != nil {
			err = fmt.Errorf("after flush: %w", err)
		}
	}
	if err == nil {
		err = w.flush(t.Context()) // with nothing new
	}
	if err == nil {
		err = w.end(t.Context())
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
	if err == nil {
		err = w.end(t.Context())
	}
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
	if err == nil {
		err = w.end(t.Context())
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

// lives is a job with checkpoints, of which only the sink is real, through
// several starts. Its records are numbered; a start goes on behind the last
// record of the last complete checkpoint.
type lives[T any] struct {
	c       SinkCase[T]
	ctx     context.Context
	sink    pipeline.Sink[T]
	written func() []T
	staged  vfs.FS

	starts     int
	checkpoint int64 // the last number given; it only goes up
	w          *writing[T]
	at         int      // records written
	waiting    [][]byte // prepared and not committed

	complete  bool // there is a checkpoint
	saved     [][]byte
	savedAt   int
	committed int // records that are to be seen
}

func (c SinkCase[T]) live(t testing.TB) *lives[T] {
	sink, written := c.New(t)
	return &lives[T]{c: c, ctx: t.Context(), sink: sink, written: written, staged: vfs.NewMem()}
}

// start opens the sink and commits what the checkpoint has.
func (l *lives[T]) start(parallelism int) error {
	l.starts++
	env := pipeline.SinkEnv{Parallelism: parallelism, Checkpoints: true, Run: fmt.Sprintf("run%d", l.starts)}
	if l.complete {
		env.Prepared = append([][]byte{}, l.saved...)
	}
	w, err := openSink(l.ctx, l.sink, env, l.staged)
	if err != nil {
		return fmt.Errorf("start %d: %w", l.starts, err)
	}
	if !w.commits() {
		return errors.Join(fmt.Errorf("%w: the writer is no Committer", errSkipped), w.close())
	}
	l.w, l.at, l.waiting, l.committed = w, l.savedAt, nil, l.savedAt
	if err := w.commit(l.ctx, l.saved); err != nil {
		return fmt.Errorf("start %d: %w", l.starts, err)
	}
	return l.sees(fmt.Sprintf("after start %d", l.starts), true)
}

// write deals some batches to the subtasks.
func (l *lives[T]) write(batches int) error {
	for k := range batches {
		var values []T
		for range 3 {
			values = append(values, l.c.Value(l.at+len(values)))
		}
		if err := l.w.write(l.ctx, k%len(l.w.writers), values); err != nil {
			return err
		}
		l.at += len(values)
	}
	if err := l.w.flush(l.ctx); err != nil {
		return err
	}
	return l.sees(fmt.Sprintf("before the commit of record %d", l.at-1), false)
}

// prepare takes a checkpoint, which may fail elsewhere.
func (l *lives[T]) prepare(completes bool) error {
	l.checkpoint++
	prepared, err := l.w.prepare(l.ctx, l.checkpoint)
	if err != nil {
		return err
	}
	l.waiting = append(l.waiting, prepared...)
	if completes {
		l.complete, l.savedAt = true, l.at
		l.saved = nil
		for _, p := range l.waiting {
			if p != nil {
				l.saved = append(l.saved, bytes.Clone(p))
			}
		}
	}
	return l.sees(fmt.Sprintf("after Prepare(%d) without Commit", l.checkpoint), false)
}

// commit commits what waits, once a checkpoint has it all.
func (l *lives[T]) commit() error {
	if err := l.w.commit(l.ctx, l.waiting); err != nil {
		return err
	}
	l.waiting, l.committed = nil, l.savedAt
	return l.sees(fmt.Sprintf("after Commit of checkpoint %d", l.checkpoint), l.at == l.savedAt)
}

// fail closes the sink, as a job that fails does.
func (l *lives[T]) fail() error {
	if err := l.w.close(); err != nil {
		return err
	}
	return l.sees("after Close without Commit", false)
}

// sees compares what is there with what is committed; a sink that shows records
// early is right only when there are none.
func (l *lives[T]) sees(when string, settled bool) error {
	if l.c.Early && !settled {
		return nil
	}
	var want []T
	for i := range l.committed {
		want = append(want, l.c.Value(i))
	}
	if err := sameSet(l.written(), want); err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	return nil
}

// do runs steps up to the first that fails.
func do(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lives[T]) starting(parallelism int) func() error {
	return func() error { return l.start(parallelism) }
}

func (l *lives[T]) writing() error   { return l.write(4) }
func (l *lives[T]) preparing() error { return l.prepare(true) }
func (l *lives[T]) missing() error   { return l.prepare(false) }
func (l *lives[T]) closing() error   { return l.w.close() }

// commit checks a job that nothing happens to.
func (c SinkCase[T]) commit(t testing.TB) error {
	for parallelism := 1; parallelism <= 3; parallelism++ {
		l := c.live(t)
		err := do(l.starting(parallelism), l.writing, l.preparing, l.commit, l.writing, l.writing, l.preparing, l.commit, l.closing)
		if err != nil {
			return fmt.Errorf("parallelism %d: %w", parallelism, err)
		}
		if err := l.sees("after Close", true); err != nil {
			return fmt.Errorf("parallelism %d: %w", parallelism, err)
		}
	}
	return nil
}

// commitAgain kills a job after its checkpoint is complete, before and after
// the commit.
func (c SinkCase[T]) commitAgain(t testing.TB) error {
	l := c.live(t)
	return do(l.starting(2), l.writing, l.preparing, // killed before the commit
		l.starting(2), // killed after it
		l.starting(2), l.writing, l.preparing, l.commit,
		l.starting(2), l.starting(2), l.writing, l.preparing, l.commit, l.closing)
}

// uncommitted ends a job with records behind the last checkpoint, in each way
// there is, with no checkpoint and with one.
func (c SinkCase[T]) uncommitted(t testing.TB) error {
	for _, end := range []struct {
		name string
		last func(l *lives[T]) error
	}{
		{"killed after Write", func(l *lives[T]) error { return l.writing() }},
		{"killed after Prepare", func(l *lives[T]) error { return do(l.writing, l.missing) }},
		{"killed after Prepare and Write", func(l *lives[T]) error { return do(l.writing, l.missing, l.writing) }},
		{"failed after Write", func(l *lives[T]) error { return do(l.writing, l.fail) }},
		{"failed after Prepare", func(l *lives[T]) error { return do(l.writing, l.missing, l.fail) }},
	} {
		l := c.live(t)
		dies := func() error { return end.last(l) }
		err := do(l.starting(2), dies, // without a checkpoint
			l.starting(2), l.writing, l.preparing, l.commit, dies,
			l.starting(2), dies, // twice from one
			l.starting(2), l.writing, l.preparing, l.commit, l.closing)
		if err != nil {
			return fmt.Errorf("%s: %w", end.name, err)
		}
	}
	return nil
}

// severalPrepared has checkpoints wait for their commit, because it is late or
// because a checkpoint was not completed.
func (c SinkCase[T]) severalPrepared(t testing.TB) error {
	late := c.live(t)
	if err := do(late.starting(2), late.writing, late.preparing, late.writing, late.preparing, late.writing, late.preparing,
		late.commit, late.closing); err != nil {
		return fmt.Errorf("three at once: %w", err)
	}
	killed := c.live(t)
	if err := do(killed.starting(2), killed.writing, killed.missing, killed.writing, killed.preparing, killed.writing, killed.missing,
		killed.starting(2), killed.writing, killed.preparing, killed.commit, killed.closing); err != nil {
		return fmt.Errorf("killed with three, two of them complete: %w", err)
	}
	return nil
}

// rescale starts a job with other numbers of subtasks, each time with a
// checkpoint that waits for its commit and records behind it.
func (c SinkCase[T]) rescale(t testing.TB) error {
	for _, steps := range [][]int{{1, 3, 2, 4}, {4, 1, 3, 3}} {
		l := c.live(t)
		for _, parallelism := range steps {
			if err := do(l.starting(parallelism), l.writing, l.preparing, l.writing, l.missing); err != nil {
				return fmt.Errorf("parallelism %v, at %d: %w", steps, parallelism, err)
			}
		}
		if err := do(l.starting(steps[0]), l.writing, l.preparing, l.commit, l.closing); err != nil {
			return fmt.Errorf("parallelism %v, and %d again: %w", steps, steps[0], err)
		}
	}
	return nil
}

// prepareNothing takes checkpoints without records.
func (c SinkCase[T]) prepareNothing(t testing.TB) error {
	l := c.live(t)
	return do(l.starting(2), l.preparing, l.commit, l.preparing, l.commit,
		l.starting(3), l.writing, l.preparing, l.commit, l.preparing, l.commit,
		l.starting(1), l.preparing, l.commit, l.closing)
}
