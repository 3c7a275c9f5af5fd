package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/checkpoint"
	"github.com/millrace/millrace/state"
)

// base is what the runners of Processor and CoProcessor share: the context,
// state, timers, and the handling of signals.
type base[K comparable, Out any] struct {
	inst        *instance
	ctx         Context[K, Out]
	keyed       bool
	opener      Opener[K, Out]
	timers      TimerHandler[K, Out]
	onWatermark WatermarkHandler[K, Out]
	closer      Closer
	states      []state.Info // as a manifest tells them, once the operator is open
	entries     *Gauge       // of state; nil: none is declared
	set         *Gauge       // timers
}

// errNoKey refuses state where every record would share it, and where it could
// not be moved to another parallelism.
var errNoKey = errors.New("keyed state needs a keyed stream: use KeyBy")

func (r *base[K, Out]) init(env *buildEnv, op any) {
	r.inst = env.inst
	r.opener, _ = op.(Opener[K, Out])
	r.timers, _ = op.(TimerHandler[K, Out])
	r.onWatermark, _ = op.(WatermarkHandler[K, Out])
	r.closer, _ = op.(Closer)
	_, unkeyed := any(*new(K)).(NoKey)
	r.keyed = !unkeyed

	cfg := env.task.job.cfg
	backend := state.Refuse[K](errNoKey)
	if r.keyed {
		backend = state.NewBackend[K](cfg.maxParallelism,
			state.RangeOf(env.task.subtask, r.inst.node.parallelism, cfg.maxParallelism))
	}
	r.ctx = Context[K, Out]{
		keyed: backend, timers: &timerService[K]{backend: backend, refused: unkeyed}, out: connect[Out](env),
		watermark: MinWatermark, inst: r.inst,
	}
	backend.SetClock(r.clock)
	r.inst.control, r.inst.open, r.inst.close = r.control, r.open, r.close
	r.inst.snapshot = r.snapshot
	if r.keyed {
		env.task.clocks = append(env.task.clocks, r)
	}
}

// clock is what a TTL counts by.
func (r *base[K, Out]) clock(c state.Clock) int64 {
	if c == state.ProcessingTime {
		return r.ctx.Now()
	}
	return max(r.ctx.time, r.ctx.watermark)
}

func (r *base[K, Out]) open(ctx context.Context) error {
	r.ctx.watermark = r.inst.watermark.Load() // of before a restart
	if r.keyed {
		if err := attach(ctx, r.inst, r.ctx.keyed); err != nil {
			return err
		}
	}
	if r.opener != nil {
		if err := r.opener.Open(&r.ctx); err != nil {
			return errors.Join(err, r.ctx.keyed.Close())
		}
	}
	err := errors.Join(append([]error{r.ctx.keyed.Ready(), r.inst.unclaimedSides()}, append(r.inst.errs, r.ctx.timers.errs...)...)...)
	if err == nil && len(r.ctx.timers.namespaces) > 0 && r.timers == nil {
		err = errors.New("it declares timers but has no OnTimer")
	}
	r.states = r.declared()
	if err == nil {
		err = r.inst.claimState(r.states)
	}
	if len(r.states) > 0 {
		r.entries, r.set = r.inst.metrics.Gauge("state_entries"), r.inst.metrics.Gauge("timers")
	}
	if err != nil { // the engine closes only what opened without error
		err = errors.Join(err, r.close())
	}
	return err
}

// declared describes the operator's state for a manifest: a namespace of timers
// is told by its name, and not the queues that all namespaces share.
func (r *base[K, Out]) declared() []state.Info {
	var all []state.Info
	for _, i := range r.ctx.keyed.Declared() {
		if i.Kind != timersKind || i.Name != EventTime.String() && i.Name != ProcessingTime.String() {
			all = append(all, i)
		}
	}
	for _, name := range r.ctx.timers.namespaces {
		all = append(all, state.Info{Name: name, Kind: timersKind, Version: 1})
	}
	return all
}

const timersKind = "timers"

func (r *base[K, Out]) close() error {
	var err error
	if r.closer != nil {
		err = r.closer.Close()
	}
	return errors.Join(err, r.ctx.keyed.Close())
}

func (r *base[K, Out]) control(s signal) {
	if s.kind == sigWatermark {
		r.advance(s.ts)
	}
	r.inst.flushOuts()
	if s.kind == sigBarrier {
		r.inst.take(s.ts)
	}
	r.inst.forward(s)
}

// snapshot is what the operator adds to a checkpoint.
func (r *base[K, Out]) snapshot(_ int64, s *subtaskSnapshot) (err error) {
	if !r.keyed || r.inst.task.job.checkpoints == nil || len(r.states) == 0 {
		return nil
	}
	s.states = r.states
	s.keyType, s.entries = r.ctx.keyed.KeyType(), int64(r.ctx.keyed.Len())
	s.keyed, err = r.ctx.keyed.Snapshot()
	return err
}

// advance fires the timers that a watermark makes due, before it is forwarded
// (rule 4).
func (r *base[K, Out]) advance(watermark int64) {
	r.ctx.watermark = watermark
	if q := r.ctx.timers.event; q != nil {
		q.Advance(watermark, func(e state.TimerEntry[K], ts int64) bool {
			r.ctx.time = ts
			r.fire(e, Timer{r.ctx.timers.namespaces[e.Namespace], EventTime, ts})
			return r.inst.task.err == nil
		})
		r.check(q.Err())
	}
	if r.keyed {
		r.check(r.ctx.keyed.Expire(state.EventTime, watermark))
		r.ctx.keyed.Relieve()
		r.measure()
	}
	if r.onWatermark != nil {
		if err := r.watermarked(watermark); err != nil {
			r.inst.task.fail(r.inst.failure("", fmt.Errorf("watermark %d: %w", watermark, err)))
		}
	}
}

// measure shows how much the operator remembers (rule 30).
func (r *base[K, Out]) measure() {
	if r.entries == nil {
		return
	}
	r.entries.Store(int64(r.ctx.keyed.Len()))
	if t := r.ctx.timers; t.event != nil {
		r.set.Store(int64(t.event.Len() + t.processing.Len()))
	}
}

// relieve gives memory back. A disk that can't take it fails this operator, and
// not the one that heads the chain.
func (r *base[K, Out]) relieve() { r.check(r.relieved()) }

func (r *base[K, Out]) relieved() (err error) {
	defer CatchPanic(&err)
	r.ctx.keyed.Relieve()
	return nil
}

// check fails the task for an error of its storage.
func (r *base[K, Out]) check(err error) {
	if err != nil {
		r.inst.task.fail(r.inst.failure("", err))
	}
}

func (r *base[K, Out]) watermarked(watermark int64) (err error) {
	defer CatchPanic(&err)
	return r.onWatermark.OnWatermark(&r.ctx, watermark)
}

// fire calls OnTimer. A failure takes the timer as the record in hand.
func (r *base[K, Out]) fire(e state.TimerEntry[K], t Timer) {
	r.ctx.keyed.SetKey(e.Key, e.Hash)
	if err := r.fired(t); err != nil {
		r.inst.reject(DeadLetter{
			Error:  err.Error(),
			Time:   r.ctx.time,
			Record: render(fmt.Sprintf("key %v, %v timer at %d", e.Key, t.Domain, t.Time)),
		}, err)
	}
}

func (r *base[K, Out]) fired(t Timer) (err error) {
	defer CatchPanic(&err)
	return r.timers.OnTimer(&r.ctx, t)
}

// due and tick make the runner a clock for its processing-time timers, and for
// state that lives by processing time.
func (r *base[K, Out]) due() (time.Time, bool) {
	earliest, any := r.ctx.keyed.NextExpiry(state.ProcessingTime)
	if q := r.ctx.timers.processing; q != nil {
		if ms, ok := q.Earliest(); ok && (!any || ms < earliest) {
			earliest, any = ms, true
		}
		r.check(q.Err())
	}
	return time.UnixMilli(earliest), any
}

func (r *base[K, Out]) tick(now time.Time) {
	if q := r.ctx.timers.processing; q != nil {
		q.Advance(now.UnixMilli(), func(e state.TimerEntry[K], ts int64) bool {
			// A result of a processing-time timer must not be late: it gets the first
			// event time that no watermark has passed.
			r.ctx.time = afterWatermark(r.ctx.watermark)
			r.fire(e, Timer{r.ctx.timers.namespaces[e.Namespace], ProcessingTime, ts})
			return r.inst.task.err == nil
		})
		r.check(q.Err())
	}
	r.check(r.ctx.keyed.Expire(state.ProcessingTime, now.UnixMilli()))
	r.inst.flushOuts()
}

func afterWatermark(watermark int64) int64 {
	if watermark == MaxWatermark {
		return watermark
	}
	return watermark + 1
}

// guard runs an operator over a batch and rejects the records it fails on:
// attempt starts at b.Cursor, and after a failure is called again with the
// cursor one further.
func guard[K comparable, In any](inst *instance, b *Batch[K, In], attempt func(*Batch[K, In]) error) {
	if inst.task.err != nil {
		return
	}
	inst.seen += int64(len(b.Values))
	b.Cursor = 0
	for err := attempt(b); err != nil && rejected(inst, b, err); err = attempt(b) {
		b.Cursor++
	}
}

// rejected rejects the record under the cursor and says whether the job goes
// on.
func rejected[K comparable, In any](inst *instance, b *Batch[K, In], err error) bool {
	t := inst.task
	switch {
	case t.err != nil:
	case b.Cursor >= len(b.Values): // not about a record
		t.fail(inst.failure("", err))
	default:
		inst.reject(DeadLetter{Error: err.Error(), Time: b.Times[b.Cursor], Record: render(b.Values[b.Cursor])}, err)
	}
	return t.err == nil
}

// newRunner makes the instance of a Processor: its entry takes records one by
// one, or whole batches where the operator would rather have those.
func newRunner[K comparable, In, Out any](env *buildEnv, op Processor[K, In, Out]) *instance {
	if batch, ok := op.(BatchProcessor[K, In, Out]); ok {
		r := &batchRunner[K, In, Out]{batch: batch}
		r.init(env, op)
		env.inst.entries = []any{receiver[K, In](r)}
		return env.inst
	}
	r := &base[K, Out]{}
	r.init(env, op)
	env.inst.entries = []any{receiver[K, In](newEntry(r, op.Process))}
	return env.inst
}

// batchRunner runs a BatchProcessor.
type batchRunner[K comparable, In, Out any] struct {
	base[K, Out]
	batch BatchProcessor[K, In, Out]
}

// process is guard, in line: an operator on batches may take 1 ns for a record,
// and every call less per batch shows.
func (r *batchRunner[K, In, Out]) process(b *Batch[K, In]) {
	if r.inst.task.err != nil {
		return
	}
	r.inst.seen += int64(len(b.Values))
	b.Cursor = 0
	for err := r.wholeBatch(b); err != nil && rejected(r.inst, b, err); err = r.wholeBatch(b) {
		b.Cursor++
	}
	r.relieve()
	r.inst.flushOuts()
}

func (r *batchRunner[K, In, Out]) wholeBatch(b *Batch[K, In]) (err error) {
	defer CatchPanic(&err)
	return r.batch.ProcessBatch(&r.ctx, b)
}

// coRunner runs a CoProcessor: two entries, one context.
type coRunner[K comparable, L, R, Out any] struct {
	base[K, Out]
	op CoProcessor[K, L, R, Out]
}

func newCoRunner[K comparable, L, R, Out any](env *buildEnv, op CoProcessor[K, L, R, Out]) *instance {
	r := &coRunner[K, L, R, Out]{op: op}
	r.init(env, op)
	env.inst.entries = []any{
		receiver[K, L](newEntry(&r.base, op.ProcessLeft)),
		receiver[K, R](newEntry(&r.base, op.ProcessRight)),
	}
	return env.inst
}

// entry hands the records of one input to an operator's function. The two of a
// coRunner get no signals: a node with two inputs heads its chain, and the
// task's valve has merged them.
type entry[K comparable, In, Out any] struct {
	*base[K, Out]
	f       func(*Context[K, Out], In) error
	attempt func(*Batch[K, In]) error
}

func newEntry[K comparable, In, Out any](b *base[K, Out], f func(*Context[K, Out], In) error) *entry[K, In, Out] {
	e := &entry[K, In, Out]{base: b, f: f}
	e.attempt = e.records
	return e
}

func (e *entry[K, In, Out]) process(b *Batch[K, In]) {
	guard(e.inst, b, e.attempt)
	e.relieve()
	e.inst.flushOuts()
}

func (e *entry[K, In, Out]) records(b *Batch[K, In]) (err error) {
	defer CatchPanic(&err)
	if e.keyed {
		e.ctx.keyed.Prefetch(b.Keys[b.Cursor:], b.Hashes[b.Cursor:])
	}
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		if e.keyed {
			e.ctx.keyed.SetKey(b.Keys[i], b.Hashes[i])
		}
		e.ctx.time = b.Times[i]
		if err := e.f(&e.ctx, b.Values[i]); err != nil {
			return err
		}
	}
	return nil
}

// unionBuilder makes the node that merges streams and nothing else.
func unionBuilder[T any]() func(*buildEnv) *instance {
	return func(env *buildEnv) *instance {
		u := &union[T]{inst: env.inst, out: connect[T](env)}
		env.inst.entries = []any{receiver[NoKey, T](u)}
		env.inst.control = u.control
		return env.inst
	}
}

type union[T any] struct {
	inst *instance
	out  *outlet[T]
}

func (u *union[T]) process(b *Records[T]) {
	u.inst.seen += int64(len(b.Values))
	u.out.emitBatch(b.Values, b.Times)
}

func (u *union[T]) control(s signal) {
	if s.kind == sigBarrier {
		u.inst.take(s.ts)
	}
	u.inst.forward(s)
}

// sinkRunner runs a Writer.
type sinkRunner[T any] struct {
	inst      *instance
	sink      Sink[T]
	writer    Writer[T]
	flusher   Flusher
	syncer    Syncer
	committer Committer
	staging   *Staging
	prepared  []prepared // and not yet committed, in order
	commits   *Histogram // how long they take
}

func newSinkRunner[T any](env *buildEnv, sink Sink[T]) *instance {
	r := &sinkRunner[T]{inst: env.inst, sink: sink}
	in := env.inst
	in.outs = make([]out, len(in.node.outputs))
	connectSides(env, 0)
	in.entries = []any{receiver[NoKey, T](r)}
	in.control, in.open, in.close = r.control, r.open, r.close
	in.snapshot, in.commit = r.snapshot, r.commit
	return in
}

func (r *sinkRunner[T]) open(ctx context.Context) error {
	in := r.inst
	restored := in.restoredPrepared()
	var err error
	if r.staging, err = in.newStaging(); err != nil {
		return err
	}
	w, err := r.sink.Open(ctx, &SinkEnv{
		Operator: in.node.name, Subtask: in.task.subtask, Parallelism: in.node.parallelism,
		Checkpoints: in.task.job.checkpoints != nil, Run: in.task.job.run, Prepared: dataOf(in.restored, restored), Staging: r.staging,
		Reject: func(d DeadLetter) { in.reject(d, errors.New(d.Error)) },
		Logger: in.logger(), Metrics: in.metrics,
	})
	if err != nil {
		return err
	}
	r.writer = w
	if f, ok := w.(Flusher); ok {
		r.flusher = f
		in.task.flushers = append(in.task.flushers, r)
	}
	r.syncer, _ = w.(Syncer)
	if r.committer, in.commits = w.(Committer); !in.commits {
		return nil
	}
	r.commits = in.metrics.Histogram(commitDuration)
	for i, p := range restored { // what an earlier process could not commit, or did
		if i%in.node.parallelism != in.task.subtask {
			continue
		}
		back, err := in.fetchStaged(r.staging, p)
		if err == nil {
			err = r.committed(ctx, &back)
		}
		if err != nil {
			return errors.Join(err, r.close())
		}
	}
	return nil
}

// dataOf returns what a sink is told of what was prepared; nil is that the job
// starts anew.
func dataOf(from *checkpoint.Operator, restored []checkpoint.Prepared) [][]byte {
	if from == nil {
		return nil
	}
	all := make([][]byte, len(restored))
	for i, p := range restored {
		all[i] = p.Data
	}
	return all
}

func (r *sinkRunner[T]) committed(ctx context.Context, p *prepared) (err error) {
	defer CatchPanic(&err)
	began := time.Now()
	if err := r.committer.Commit(ctx, p.Data); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	r.commits.Observe(time.Since(began))
	return r.staging.Remove(p.names()...)
}

// snapshot is what the sink adds to a checkpoint: all that is prepared and not
// committed, since the checkpoints before this one may have failed (rule 18).
func (r *sinkRunner[T]) snapshot(id int64, s *subtaskSnapshot) error {
	if r.flush(); r.inst.task.err != nil {
		return r.inst.task.err
	}
	if r.syncer != nil {
		var err error
		if s.safe, err = r.sync(); err != nil {
			return fmt.Errorf("sync: %w", err)
		}
	}
	if r.committer == nil {
		return nil
	}
	data, err := r.prepare(id)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	staged, err := r.staging.take()
	switch {
	case err != nil:
		return fmt.Errorf("prepare: %w", err)
	case data != nil:
		r.prepared = append(r.prepared, prepared{checkpoint.Prepared{Checkpoint: id, Data: data}, staged})
	case len(staged) > 0:
		return fmt.Errorf("prepare: the writer staged %d files and prepared nothing", len(staged))
	}
	s.prepared = slices.Clone(r.prepared)
	return nil
}

func (r *sinkRunner[T]) prepare(id int64) (data []byte, err error) {
	defer CatchPanic(&err)
	return r.committer.Prepare(r.inst.task.job.ctx, id)
}

// commit makes visible what belongs to a checkpoint that is complete, or to one
// before it.
func (r *sinkRunner[T]) commit(id int64) {
	for len(r.prepared) > 0 && r.prepared[0].Checkpoint <= id && r.inst.task.err == nil {
		if err := r.committed(r.inst.task.job.ctx, &r.prepared[0]); err != nil {
			r.inst.task.fail(r.inst.failure("", err))
			return
		}
		r.prepared = r.prepared[1:]
	}
}

func (r *sinkRunner[T]) close() error {
	var err error
	if c, ok := r.writer.(Closer); ok {
		err = c.Close()
	}
	return errors.Join(err, r.staging.close())
}

func (r *sinkRunner[T]) process(b *Records[T]) {
	t := r.inst.task
	if t.err != nil {
		return
	}
	r.inst.seen += int64(len(b.Values))
	if err := r.write(b); err != nil {
		t.fail(r.inst.failure("", err))
	}
	r.inst.flushOuts()
}

func (r *sinkRunner[T]) write(b *Records[T]) (err error) {
	defer CatchPanic(&err)
	b.Cursor = 0
	return r.writer.Write(r.inst.task.job.ctx, b)
}

// flush makes the runner one of its task's flushers.
func (r *sinkRunner[T]) flush() {
	if r.flusher == nil || r.inst.task.err != nil {
		return
	}
	if err := r.flushed(); err != nil {
		r.inst.task.fail(r.inst.failure("", fmt.Errorf("flush: %w", err)))
	}
	r.inst.flushOuts()
}

func (r *sinkRunner[T]) flushed() (err error) {
	defer CatchPanic(&err)
	return r.flusher.Flush(r.inst.task.job.ctx)
}

// sync returns what waits until all that was written is safe.
func (r *sinkRunner[T]) sync() (wait func(context.Context) error, err error) {
	defer CatchPanic(&err)
	safe := r.syncer.Sync()
	return func(ctx context.Context) (err error) {
		defer CatchPanic(&err)
		return safe(ctx)
	}, nil
}

// settle makes all that was written safe.
func (r *sinkRunner[T]) settle() {
	r.flush()
	if r.syncer == nil || r.inst.task.err != nil {
		return
	}
	wait, err := r.sync()
	if err == nil {
		err = wait(r.inst.task.job.ctx)
	}
	if err != nil {
		r.inst.task.fail(r.inst.failure("", fmt.Errorf("sync: %w", err)))
	}
}

func (r *sinkRunner[T]) control(s signal) {
	switch s.kind {
	case sigEnd:
		r.settle()
	case sigBarrier:
		r.inst.take(s.ts)
	}
	r.inst.forward(s)
}
