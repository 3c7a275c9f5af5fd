package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/checkpoint"
	"github.com/millrace/millrace/state"
)

// task runs one subtask of a chain on a goroutine of its own, which is the
// only one to touch the chain's operators, state, timers and outputs. This
// file is the shell around the pure parts: it polls the inputs, feeds the
// valve, watches the clock.
type task struct {
	job     *job
	head    *node
	subtask int

	inputs    []input
	valve     *valve
	aligner   *aligner
	entry     func(signal) // the head operator's control
	instances []*instance  // upstream first
	senders   []flusher
	clocks    []clocked
	flushers  []flusher // sinks that buffer

	wakeup chan struct{} // capacity 1
	ended  bool
	err    error

	index          int            // among the job's tasks, for the coordinator
	taking         *taskSnapshot  // being taken
	lastCheckpoint int64          // the highest number that came by
	committed      int64          // up to which sinks were told to commit
	finishing      chan struct{}  // closed when the files of the latest snapshot are made
	uploads        sync.WaitGroup // of snapshots that are not its last
	barrier        atomic.Int64   // the checkpoint whose barrier a source is to inject
	complete       atomic.Int64   // the last checkpoint that is complete

	lingerAt time.Time // when buffers were last flushed at a busy task
}

// input is a channel or a source: poll handles one message and says whether
// there was one.
type input interface{ poll() bool }

// flusher sends on what it buffers.
type flusher interface{ flush() }

// clocked is something that acts by processing time.
type clocked interface {
	// due returns when it next wants tick to be called.
	due() (time.Time, bool)
	tick(now time.Time)
}

// instance is one subtask of one node: the typed operator behind, and what can
// be said of it without its types.
type instance struct {
	node    *node
	task    *task
	entries []any // receiver[K, T] of each logical input
	control func(signal)
	open    func(ctx context.Context) error
	close   func() error

	snapshot func(id int64, s *subtaskSnapshot) error // adds to a checkpoint; nil: nothing but the watermark
	commit   func(id int64)                           // commits up to a checkpoint; nil: nothing to commit
	commits  bool                                     // the sink is a Committer, known once it is open
	told     *acknowledging                           // a reader that wants to know of complete checkpoints, or nil
	restored *checkpoint.Operator                     // what there is to start from, or nil
	files    files

	outs      []out // by index of node.outputs
	main      out
	dead      *outlet[DeadLetter]
	claimed   map[string]bool
	errs      []error // found while opening
	metrics   *Metrics
	seen      int64        // records taken in, as the task counts them
	in        atomic.Int64 // and as others may read it
	rejected  atomic.Int64
	watermark atomic.Int64
}

// out is an outlet without its type.
type out interface {
	flush()
	control(signal)
	publish()
	emitted() int64
}

// buildEnv is what a node's build closure gets to make an instance.
type buildEnv struct {
	task *task
	inst *instance
	down [][]any // receivers of each output of the node
}

func newTask(j *job, head *node, subtask int) *task {
	return &task{job: j, head: head, subtask: subtask, wakeup: make(chan struct{}, 1)}
}

// wake makes the task look at its inputs again. Any goroutine may call it.
func (t *task) wake() {
	select {
	case t.wakeup <- struct{}{}:
	default:
	}
}

// fail records the first failure; the loop ends after the message in hand.
func (t *task) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// signal takes a signal of the index-th input through the valve to the head of
// the chain.
func (t *task) signal(index int, s signal) {
	if s.kind == sigBarrier {
		if id := t.aligner.barrier(index, s.ts); id != 0 {
			t.snapshot(id)
		}
		return
	}
	for _, out := range t.valve.input(index, s) {
		t.entry(out)
		if out.kind == sigEnd {
			t.ended = true
		}
	}
	if s.kind == sigEnd {
		if id := t.aligner.end(index); id != 0 && !t.ended {
			t.snapshot(id)
		}
	}
}

// run is the life of a task once its operators are open.
func (t *task) run() error {
	defer t.publish()
	t.lingerAt = time.Now()
	if len(t.inputs) == 0 { // a subtask that no channel leads to
		t.entry(signal{kind: sigWatermark, ts: MaxWatermark})
		t.entry(signal{kind: sigEnd})
		t.ended = true
	}
	for !t.ended && t.err == nil {
		t.commitDue()
		if t.pollAll() {
			t.busy()
		} else if !t.ended && t.err == nil {
			t.idle()
		}
	}
	if t.err == nil && t.job.commits {
		return t.finish()
	}
	return t.err
}

// pollAll gives every input one turn and says whether any had something.
func (t *task) pollAll() bool {
	any := false
	for i, in := range t.inputs {
		if t.err != nil || t.ended {
			return true
		}
		if !t.aligner.blocked(i) {
			any = in.poll() || any
		}
	}
	return any
}

// busy does what cannot wait for the inputs to run dry.
func (t *task) busy() {
	now := time.Now()
	if now.Sub(t.lingerAt) >= t.job.cfg.linger {
		t.lingerAt = now
		t.flush()
	}
	t.tick(now)
	select {
	case <-t.job.aborted:
		t.fail(errAborted)
	default:
	}
}

// idle flushes and sleeps until an input, a clock or the end of the job wakes
// the task.
func (t *task) idle() {
	t.flush()
	if t.err != nil {
		return
	}
	at, any := t.due()
	if !any {
		select {
		case <-t.wakeup:
		case <-t.job.aborted:
			t.fail(errAborted)
		}
		return
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-t.wakeup:
	case now := <-timer.C:
		t.tick(now)
	case <-t.job.aborted:
		t.fail(errAborted)
	}
}

// publish makes the counts of the task's operators visible. An atomic addition
// for every batch and operator would cost as much as a trivial operator does.
func (t *task) publish() {
	for _, in := range t.instances {
		in.in.Store(in.seen)
		for _, o := range in.outs {
			o.publish()
		}
	}
}

func (t *task) flush() {
	t.publish()
	for _, f := range t.senders {
		f.flush()
	}
	for _, f := range t.flushers {
		f.flush()
	}
}

func (t *task) due() (earliest time.Time, any bool) {
	for _, c := range t.clocks {
		if at, ok := c.due(); ok && (!any || at.Before(earliest)) {
			earliest, any = at, true
		}
	}
	return earliest, any
}

func (t *task) tick(now time.Time) {
	for _, c := range t.clocks {
		if at, ok := c.due(); ok && !at.After(now) {
			c.tick(now)
		}
	}
}

// openAll opens the operators of the task, the last of the chain first, so
// that nothing can be emitted into an operator that is not open.
func (t *task) openAll(ctx context.Context) error {
	for i := len(t.instances) - 1; i >= 0; i-- {
		in := t.instances[i]
		if err := in.opened(ctx); err != nil {
			return errors.Join(in.failure("", fmt.Errorf("open: %w", err)), t.closeFrom(i+1))
		}
	}
	return nil
}

func (in *instance) opened(ctx context.Context) (err error) {
	defer CatchPanic(&err)
	if in.open == nil {
		return nil
	}
	return in.open(ctx)
}

// closeAll closes every operator, and returns the first error.
func (t *task) closeAll() error { return t.closeFrom(0) }

func (t *task) closeFrom(first int) error {
	var failed error
	for _, in := range t.instances[first:] {
		if err := in.closed(); err != nil && failed == nil {
			failed = in.failure("", fmt.Errorf("close: %w", err))
		}
	}
	return failed
}

func (in *instance) closed() (err error) {
	defer CatchPanic(&err)
	if in.close == nil {
		return nil
	}
	return in.close()
}

func (in *instance) failure(record string, err error) error {
	return &OperatorError{Operator: in.node.name, Subtask: in.task.subtask, Record: record, Err: err}
}

func (in *instance) logger() *slog.Logger {
	return in.task.job.cfg.logger.With("job", in.task.job.cfg.name, "operator", in.node.name, "subtask", in.task.subtask)
}

// reject sends a letter to the dead-letter output, or stops the job.
func (in *instance) reject(d DeadLetter, err error) {
	d.Operator, d.Subtask = in.node.name, in.task.subtask
	if in.dead == nil || IsFatal(err) {
		record := d.Record
		if record == "" && d.Split != "" {
			record = fmt.Sprintf("%s:%d %q", d.Split, d.Offset, cut(string(d.Raw), 256))
		}
		in.task.fail(in.failure(record, err))
		return
	}
	in.letter(d)
}

// letter sends a dead letter on. One without an event time gets the first that
// is not late, so that windows over dead letters count it.
func (in *instance) letter(d DeadLetter) {
	in.rejected.Add(1)
	ts := d.Time
	if ts == 0 {
		ts = max(ts, afterWatermark(in.watermark.Load()))
	}
	in.dead.emit(d, ts)
}

// flushOuts sends on what the operator has emitted.
func (in *instance) flushOuts() {
	for _, o := range in.outs {
		o.flush()
	}
}

// forward passes a signal to every output, behind what was emitted before it.
func (in *instance) forward(s signal) {
	if s.kind == sigWatermark {
		in.watermark.Store(s.ts)
	}
	for _, o := range in.outs {
		o.control(s)
	}
}

// outlet is an operator's end of one output: it collects results into batches
// and hands them to whatever is connected.
type outlet[T any] struct {
	buf   Records[T]
	view  Records[T] // what emitBatch hands on; a field, so that it is not allocated
	next  receiver[NoKey, T]
	size  int
	clear bool // values hold pointers
	task  *task
	sent  int64        // records handed on, as the task counts them
	count atomic.Int64 // and as others may read it
}

// newOutlet connects the receivers of an output.
func newOutlet[T any](t *task, down []any) *outlet[T] {
	return &outlet[T]{
		next: fanOut[T](down), size: t.job.cfg.batchSize, task: t,
		clear: state.HasPointers(reflect.TypeFor[T]()),
	}
}

func fanOut[T any](down []any) receiver[NoKey, T] {
	if len(down) == 1 {
		return down[0].(receiver[NoKey, T])
	}
	all := make(fan[T], len(down))
	for i, r := range down {
		all[i] = r.(receiver[NoKey, T])
	}
	return all
}

// fan hands every batch to several receivers in turn.
type fan[T any] []receiver[NoKey, T]

func (f fan[T]) process(b *Records[T]) {
	for _, r := range f {
		r.process(b)
	}
}

func (f fan[T]) control(s signal) {
	for _, r := range f {
		r.control(s)
	}
}

func (o *outlet[T]) emit(v T, ts int64) {
	o.buf.Values = append(o.buf.Values, v)
	o.buf.Times = append(o.buf.Times, ts)
	if len(o.buf.Values) >= o.size {
		o.flush()
	}
}

func (o *outlet[T]) emitBatch(values []T, times []int64) {
	o.flush()
	if len(values) == 0 {
		return
	}
	o.view.Values, o.view.Times = values, times
	o.handOn(&o.view)
}

func (o *outlet[T]) flush() {
	if len(o.buf.Values) == 0 {
		return
	}
	o.handOn(&o.buf)
	if o.clear { // a result must not be kept alive by a spare buffer
		clear(o.buf.Values)
	}
	o.buf.Values, o.buf.Times = o.buf.Values[:0], o.buf.Times[:0]
}

func (o *outlet[T]) handOn(b *Records[T]) {
	o.sent += int64(len(b.Values))
	if o.task.err == nil {
		o.next.process(b)
	}
}

func (o *outlet[T]) control(s signal) {
	o.flush()
	o.next.control(s)
}

func (o *outlet[T]) publish()       { o.count.Store(o.sent) }
func (o *outlet[T]) emitted() int64 { return o.count.Load() }

// connect makes the outlets of an instance; Out is the type of its main
// output.
func connect[Out any](env *buildEnv) *outlet[Out] {
	in := env.inst
	in.outs = make([]out, len(in.node.outputs))
	main := newOutlet[Out](env.task, env.down[0])
	in.outs[0], in.main = main, main
	connectSides(env, 1)
	return main
}

// connectSides makes the outlet for dead letters. Those of other side outputs
// have types known only to the operator, which claims them while it opens.
func connectSides(env *buildEnv, first int) {
	in := env.inst
	in.claimed = map[string]bool{}
	for i := first; i < len(in.node.outputs); i++ {
		if in.node.outputs[i].name == deadLetterOutput {
			in.dead = newOutlet[DeadLetter](env.task, env.down[i])
			in.outs[i] = in.dead
			continue
		}
		in.outs[i] = &unclaimed{env.down[i]}
	}
}

// unclaimed stands for a side output until its operator opens.
type unclaimed struct{ down []any }

func (*unclaimed) flush()         {}
func (*unclaimed) control(signal) {}
func (*unclaimed) publish()       {}
func (*unclaimed) emitted() int64 { return 0 }

// sideOutlet claims a side output. It returns nil where nobody consumes it,
// and where the types differ, which fails the opening.
func sideOutlet[S any](in *instance, name string) *outlet[S] {
	if in.claimed[name] {
		in.errs = append(in.errs, fmt.Errorf("side output %q is declared twice", name))
		return nil
	}
	in.claimed[name] = true
	for i, o := range in.node.outputs {
		if o.name != name {
			continue
		}
		if typ := reflect.TypeFor[S](); o.typ != typ {
			in.errs = append(in.errs, fmt.Errorf("side output %q yields %v, but is read as %v at %s", name, typ, o.typ, o.where))
			return nil
		}
		out := newOutlet[S](in.task, in.outs[i].(*unclaimed).down)
		in.outs[i] = out
		return out
	}
	return nil
}

// unclaimedSides reports side outputs that are read but that the operator does
// not write.
func (in *instance) unclaimedSides() error {
	for i, o := range in.outs {
		if _, ok := o.(*unclaimed); ok {
			side := in.node.outputs[i]
			return fmt.Errorf("it has no side output %q, which is read at %s", side.name, side.where)
		}
	}
	return nil
}
