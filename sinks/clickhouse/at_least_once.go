package clickhouse

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// atLeastOnce inserts blocks as they come about, beside the writing. Rows that wait
// for their block to fill are inserted when their time is up, also when no more come:
// a timer's goroutine does that, so the block is guarded.
type atLeastOnce[T any] struct {
	*writer[T]
	in     insertion
	ctx    context.Context // of what is inserted beside the calls
	cancel context.CancelCauseFunc
	timer  *time.Timer
	under  sync.WaitGroup // blocks that are being inserted
	closed bool

	mu      sync.Mutex // guards the block that is gathered, the timer and what follows
	armed   bool       // the timer is set for the block
	due     bool       // the block's time is up, and it waits for a connection
	refused []letter
	err     error // the first
}

// newAtLeastOnce returns a writer that is a Committer only where rows may wait: that
// tells a checkpoint, which they must not survive, from input that runs dry.
func newAtLeastOnce[T any](w *writer[T]) pipeline.Writer[T] {
	a := &atLeastOnce[T]{writer: w, in: insertion{statement: w.plan.statement, settings: settingsFor(w.cfg, w.plan.selects, w.known)}}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.timer = time.AfterFunc(time.Hour, a.expire)
	a.timer.Stop()
	if w.cfg.BlockTime < 0 {
		return &unwaiting[T]{a}
	}
	return a
}

// Write implements [pipeline.Writer].
func (w *atLeastOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	if err := w.report(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range b.Values {
		full, err := w.add(&b.Values[i], b.Times[i])
		if err == nil && full {
			err = w.send(ctx)
		}
		if err != nil {
			return err
		}
	}
	if w.gathered.len() > 0 && !w.armed && w.cfg.BlockTime > 0 { // the block is new
		w.armed = true
		w.timer.Reset(w.cfg.BlockTime)
	}
	return nil
}

// report passes on what came of blocks that were inserted meanwhile.
func (w *atLeastOnce[T]) report() error {
	w.mu.Lock()
	w.letters = append(w.letters, w.refused...)
	w.refused = nil
	err := w.err
	w.mu.Unlock()
	w.rejectAll()
	return err
}

// expire inserts rows that have waited long enough.
func (w *atLeastOnce[T]) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = true
	w.sendDue()
}

// sendDue begins to insert rows whose time is up, if a connection is free; otherwise
// the insert that frees one does. It must not wait: the lock is held, which a writer
// would then wait for whatever becomes of its context.
func (w *atLeastOnce[T]) sendDue() {
	if !w.due || w.err != nil || w.ctx.Err() != nil || w.gathered.len() == 0 {
		return
	}
	select {
	case s := <-w.pool.free:
		w.err = w.begin(s)
	default:
	}
}

// send begins to insert the rows, once there is a connection for it. The lock is held
// meanwhile: whoever waits for it has to wait for the server as well.
func (w *atLeastOnce[T]) send(ctx context.Context) error {
	if w.gathered.len() == 0 {
		return nil
	}
	s, err := w.pool.take(ctx)
	if err != nil {
		return err
	}
	return w.begin(s)
}

// begin begins to insert the rows, of which there are some, by a connection.
func (w *atLeastOnce[T]) begin(s server) error {
	w.timer.Stop()
	w.armed, w.due = false, false
	b, err := w.gathered.cut()
	if err != nil {
		w.pool.give(s)
		return err
	}
	w.bytes.Add(int64(b.bytes()))
	w.under.Go(func() {
		letters, err := w.deliver(w.ctx, s, w.in, b)
		w.pool.give(s) // before the lock, which a writer holds that waits for a connection
		w.mu.Lock()
		defer w.mu.Unlock()
		w.refused = append(w.refused, letters...)
		if w.err == nil {
			w.err = err
		}
		w.sendDue()
	})
	return nil
}

// drain inserts all rows and waits until the server has them.
func (w *atLeastOnce[T]) drain(ctx context.Context) error {
	w.mu.Lock()
	err := w.err
	if err == nil {
		err = w.send(ctx)
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { w.cancel(context.Cause(ctx)) })
	defer stop()
	w.under.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Flush implements [pipeline.Flusher]. Rows may wait for others, if they do not for
// long; a checkpoint makes them safe.
func (w *atLeastOnce[T]) Flush(context.Context) error { return w.report() }

// Prepare implements [pipeline.Committer]: the table has all rows before the
// checkpoint is complete. Letters wait for Commit, and with the checkpoint.
func (w *atLeastOnce[T]) Prepare(ctx context.Context, _ int64) ([]byte, error) {
	if err := w.drain(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	letters := slices.Concat(w.letters, w.refused)
	w.letters, w.refused = nil, nil
	w.mu.Unlock()
	if len(letters) == 0 {
		return nil, nil
	}
	p := &prepared{Version: preparedVersion, Time: time.Now().UnixMilli(), Table: w.table.String()}
	if err := p.keep(letters, w.env.Staging); err != nil {
		return nil, err
	}
	return p.encode()
}

// Commit implements [pipeline.Committer].
func (w *atLeastOnce[T]) Commit(_ context.Context, b []byte) error {
	p, err := decodePrepared(b)
	if err != nil {
		return err
	}
	if p.File != "" {
		return errors.New("the checkpoint was taken with Delivery ExactlyOnce and has rows that wait; start the job once more so, and stop it with a final checkpoint")
	}
	letters, err := p.letters(w.env.Staging)
	w.letters = append(w.letters, letters...)
	return err
}

const closeTimeout = 5 * time.Second

// Close implements [pipeline.Closer]. A job that has ended has no rows left; one that
// failed leaves them to its next start.
func (w *atLeastOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.mu.Lock()
	w.timer.Stop()
	w.mu.Unlock()
	w.cancel(errClosed)
	w.under.Wait()
	w.pool.close()
	w.letters = append(w.letters, w.refused...)
	return w.untold()
}

var errClosed = errors.New("the writer is closed")

// unwaiting is a writer whose rows don't wait: each Flush inserts them.
type unwaiting[T any] struct{ a *atLeastOnce[T] }

// Write implements [pipeline.Writer].
func (w *unwaiting[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	return w.a.Write(ctx, b)
}

// Flush implements [pipeline.Flusher].
func (w *unwaiting[T]) Flush(ctx context.Context) error {
	return errors.Join(w.a.drain(ctx), w.a.report())
}

// Close implements [pipeline.Closer].
func (w *unwaiting[T]) Close() error {
	if w.a.ctx.Err() != nil { // closed, or told to give up
		return w.a.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(w.a.drain(ctx), w.a.Close())
}
