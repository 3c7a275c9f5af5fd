package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/pipeline"
)

// Ledger is a sink that outlives the job's process, as a database does: what a
// job has prepared is safe there, and shows once it was committed, once only. It
// is a place in a [World], made by [NewLedger].
//
// It is strict where a database may be lenient: to commit what was never
// prepared is an error, as is a checkpoint number that does not go up.
type Ledger[T any] struct {
	w         *World
	prepared  map[string][]Record[T] // guarded by w.mu
	committed map[string]bool        // guarded by w.mu
	records   []Record[T]            // guarded by w.mu
}

// NewLedger returns the ledger of that name, made at the first call.
func NewLedger[T any](w *World, name string) *Ledger[T] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l, ok := w.ledgers[name]; ok {
		return l.(*Ledger[T])
	}
	l := &Ledger[T]{w: w, prepared: map[string][]Record[T]{}, committed: map[string]bool{}}
	w.ledgers[name] = l
	return l
}

// Records returns what is committed, in the order of commits.
func (l *Ledger[T]) Records() []Record[T] {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return slices.Clone(l.records)
}

// lines returns what is committed as sorted text.
func (l *Ledger[T]) lines() []string {
	var all []string
	for _, r := range l.Records() {
		all = append(all, r.String())
	}
	slices.Sort(all)
	return all
}

// Open implements [pipeline.Sink].
func (l *Ledger[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return &ledgerWriter[T]{l: l, env: env, run: l.w.now()}, nil
}

type ledgerWriter[T any] struct {
	l    *Ledger[T]
	env  *pipeline.SinkEnv
	run  *execution
	buf  []Record[T]
	last int64 // the checkpoint prepared for
}

// errCutOff is what a job hears of the world that was killed.
var errCutOff = errors.New("the job was killed, the ledger is out of its reach")

// met counts a moment and says whether the job is alive. w.mu is held.
func (w *ledgerWriter[T]) met(at Moment, n int) error {
	world := w.l.w
	if world.run != w.run || !world.met(at, n) {
		return errCutOff
	}
	return nil
}

func (w *ledgerWriter[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		w.buf = append(w.buf, Record[T]{v, b.Times[i]})
	}
	w.l.w.mu.Lock()
	defer w.l.w.mu.Unlock()
	return w.met(AtWrite, len(b.Values))
}

// Prepare implements [pipeline.Committer].
func (w *ledgerWriter[T]) Prepare(_ context.Context, checkpoint int64) ([]byte, error) {
	if checkpoint <= w.last {
		return nil, fmt.Errorf("prepare for checkpoint %d after %d", checkpoint, w.last)
	}
	w.last = checkpoint
	w.l.w.mu.Lock()
	defer w.l.w.mu.Unlock()
	if err := w.met(BeforePrepare, 1); err != nil {
		return nil, err
	}
	var id []byte
	if len(w.buf) > 0 {
		id = fmt.Appendf(nil, "%s/%d/%d", w.env.Run, w.env.Subtask, checkpoint)
		w.l.prepared[string(id)] = w.buf
		w.buf = nil
	}
	return id, w.met(AfterPrepare, 1)
}

// Commit implements [pipeline.Committer].
func (w *ledgerWriter[T]) Commit(_ context.Context, prepared []byte) error {
	l, id := w.l, string(prepared)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if err := w.met(BeforeCommit, 1); err != nil {
		return err
	}
	records, ok := l.prepared[id]
	if !ok {
		return fmt.Errorf("%s was never prepared", id)
	}
	if !l.committed[id] {
		l.committed[id] = true
		l.records = append(l.records, records...)
	}
	return w.met(AfterCommit, 1)
}
