package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/checkpoint"
)

// sourceRunner is the head of a source's chain. A goroutine of its own reads
// and decodes; the task's goroutine gives the records event time, makes
// watermarks, and hands records down the chain.
type sourceRunner[T any] struct {
	inst     *instance
	out      *outlet[T]
	src      Source[T]
	strategy WatermarkStrategy[T]
	group    *sourceGroup
	reader   Reader[T]
	pauser   Pauser

	// Between the two goroutines. full is closed by the reading one after it
	// has set readErr.
	full    chan *SourceBatch[T]
	free    chan *SourceBatch[T]
	readErr error
	readCtx context.Context
	stop    context.CancelFunc
	started bool

	splits    map[string]*split[T]
	done      map[string]checkpoint.Split // finished, with where they would go on
	before    map[string]checkpoint.Split // as they were before a restart
	injected  int64                       // the checkpoint whose barrier went out last
	last      *split[T]                   // the last one there was, or none, while it still counts: see finishSplit
	valve     *valve                      // of the splits, rules 1 and 2
	pending   int64                       // the watermark to be sent
	sent      int64                       // the watermark that was sent
	sentAt    time.Time
	idle      bool            // the last status that was sent
	heard     bool            // the reader has said something
	first     *SourceBatch[T] // the first batch, until the other subtasks are heard
	begun     bool            // first was taken in
	startedAt time.Time
	taken     int64 // batches taken from the reader
	readerEnd bool  // full was closed
	ticked    time.Time
}

// split is what the task knows of one split.
type split[T any] struct {
	name      string
	index     int // in the valve
	generator WatermarkGenerator
	bounded   *boundedDisorder // the generator, if it is this one
	watermark int64
	quiet     time.Duration // since its last record, while the task was not held up
	overdue   int64         // r.taken when quiet reached the time-out, plus one; 0 is not yet
	idle      bool
	finished  bool
	paused    bool
	held      []*SourceBatch[T]
	position  []byte // after the last processed record
	figures   *splitFigures
}

// publish shows others how far the split is, once a batch.
func (s *split[T]) publish() {
	status := splitActive
	switch {
	case s.finished:
		status = splitFinished
	case s.idle:
		status = splitIdle
	}
	s.figures.watermark.Store(s.watermark)
	s.figures.status.Store(status)
}

// readAhead is how many batches are read before the task takes them.
const readAhead = 2

func newSourceRunner[T any](env *buildEnv, src Source[T], strategy WatermarkStrategy[T]) *instance {
	r := &sourceRunner[T]{
		inst: env.inst, src: src, strategy: strategy,
		full: make(chan *SourceBatch[T], readAhead), free: make(chan *SourceBatch[T], readAhead+2),
		splits: map[string]*split[T]{}, done: map[string]checkpoint.Split{}, valve: newValve(0),
		pending: MinWatermark, sent: MinWatermark,
	}
	in := env.inst
	r.out = connect[T](env)
	r.group = env.task.job.groupOf(in.node)
	r.group.tasks = append(r.group.tasks, env.task)
	in.open, in.close = r.open, r.close
	in.control, in.snapshot = r.control, r.snapshot
	env.task.inputs = append(env.task.inputs, r)
	env.task.clocks = append(env.task.clocks, r)
	return in
}

func (r *sourceRunner[T]) open(ctx context.Context) error {
	in := r.inst
	reader, err := r.src.Open(ctx, &SourceEnv{
		Operator: in.node.name, Subtask: in.task.subtask, Parallelism: in.node.parallelism,
		BatchSize: in.task.job.cfg.batchSize, Logger: in.logger(), Metrics: in.metrics,
		Positions: r.restore(), Checkpoints: in.task.job.checkpoints != nil,
	})
	if err != nil {
		return err
	}
	r.reader = reader
	r.pauser, _ = reader.(Pauser)
	r.readCtx, r.stop = context.WithCancel(in.task.job.ctx)
	if a, ok := reader.(Acknowledger); ok {
		in.told = &acknowledging{reader: a, ctx: in.task.job.ctx, fail: func(err error) { in.task.job.fail(in.failure("", err)) }}
	}
	err = in.unclaimedSides()
	if r.strategy.drift > 0 && r.pauser == nil {
		err = fmt.Errorf("MaxDrift needs a reader that can pause splits, %T can't", reader)
	}
	if err != nil { // the engine closes only what opened without error
		err = errors.Join(err, r.close())
	}
	return err
}

// restore takes up what a checkpoint has of the source, and returns the
// positions for readers.
func (r *sourceRunner[T]) restore() map[string][]byte {
	in := r.inst
	if in.restored == nil {
		return nil
	}
	r.sent = in.watermark.Load()
	r.pending, r.valve.out = r.sent, r.sent
	r.before = map[string]checkpoint.Split{}
	positions := map[string][]byte{}
	for _, s := range in.restored.Subtasks {
		for _, split := range s.Splits {
			r.before[split.Name] = split
			if split.Position != nil {
				positions[split.Name] = split.Position
			}
		}
	}
	return positions
}

// control takes the barrier that the task has injected. Nothing else comes from
// upstream.
func (r *sourceRunner[T]) control(s signal) {
	if s.kind != sigBarrier {
		return
	}
	r.inst.flushOuts()
	r.inst.take(s.ts)
	r.inst.forward(s)
}

// snapshot is what the source adds to a checkpoint: where each split is to be
// read on, and its time.
func (r *sourceRunner[T]) snapshot(_ int64, s *subtaskSnapshot) error {
	for _, split := range r.splits {
		s.splits = append(s.splits, split.snapshot())
	}
	for _, split := range r.done {
		s.splits = append(s.splits, split)
	}
	slices.SortFunc(s.splits, func(a, b checkpoint.Split) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (s *split[T]) snapshot() checkpoint.Split {
	return checkpoint.Split{Name: s.name, Position: s.position, Watermark: s.watermark, Idle: s.idle, Finished: s.finished}
}

// close ends the goroutines that use the reader before it closes it.
func (r *sourceRunner[T]) close() error {
	r.stop()
	if told := r.inst.told; told != nil {
		told.end()
	}
	if r.started && !r.readerEnd && !r.awaitReader() {
		return fmt.Errorf("the reader did not return within %v of its context's end", readerGrace)
	}
	if c, ok := r.reader.(Closer); ok {
		return c.Close()
	}
	return nil
}

// readerGrace is how long a reader may take to notice that its context ended.
const readerGrace = 5 * time.Second

func (r *sourceRunner[T]) awaitReader() bool {
	grace := time.NewTimer(readerGrace)
	defer grace.Stop()
	for {
		select {
		case _, ok := <-r.full:
			if !ok {
				return true
			}
		case <-grace.C:
			return false
		}
	}
}

// read is the reading goroutine.
func (r *sourceRunner[T]) read() {
	defer r.inst.task.wake()
	defer close(r.full)
	for {
		if r.readErr = r.readCtx.Err(); r.readErr != nil {
			return
		}
		b := r.take()
		err := r.readOnce(b)
		if len(b.Values)+len(b.Rejected)+len(b.added)+len(b.idle)+len(b.finished) > 0 || err == nil {
			select {
			case r.full <- b:
				r.inst.task.wake()
			case <-r.inst.task.job.aborted:
				err = errAborted
			}
		}
		if err != nil {
			r.readErr = err
			return
		}
	}
}

func (r *sourceRunner[T]) readOnce(b *SourceBatch[T]) (err error) {
	defer CatchPanic(&err)
	return r.reader.Read(r.readCtx, b)
}

func (r *sourceRunner[T]) take() *SourceBatch[T] {
	select {
	case b := <-r.free:
		return b
	default:
		return &SourceBatch[T]{Watermark: MinWatermark}
	}
}

func (r *sourceRunner[T]) recycle(b *SourceBatch[T]) {
	b.Reset()
	select {
	case r.free <- b:
	default:
	}
}

// poll handles one batch, or a held one whose split may go on.
func (r *sourceRunner[T]) poll() bool {
	if !r.started {
		r.started = true
		r.ticked = time.Now()
		r.startedAt = r.ticked
		go r.read()
	}
	if id := r.inst.task.barrier.Load(); id > r.injected {
		r.injected = id
		r.inst.task.snapshot(id)
	}
	r.checkEnd()
	if r.first != nil {
		return r.begin()
	}
	if r.releaseHeld() {
		return true
	}
	if r.readerEnd {
		return r.finish()
	}
	select {
	case b, ok := <-r.full:
		if !ok {
			r.readerEnd = true
			return true
		}
		if !r.begun {
			r.begun, r.first = true, b
			r.group.hear(r.inst.task.subtask)
			r.begin()
			return true
		}
		r.takeIn(b)
		r.maybeWatermark()
		return true
	default:
		r.sendWatermark()
		return false
	}
}

// begin takes in the first batch once every other subtask has brought one or
// has ended. A subtask without splits holds time back until it has said so. If
// records went out before, it would depend on the scheduler whether a record
// that is late in its split meets the split's watermark downstream.
func (r *sourceRunner[T]) begin() bool {
	j := r.inst.task.job
	if !r.group.allHeard() && time.Since(r.startedAt) < lastSplitGrace && !isClosed(j.stopping) && !isClosed(j.draining) {
		return false
	}
	b := r.first
	r.first = nil
	r.takeIn(b)
	r.maybeWatermark()
	return true
}

// checkEnd stops the reader when the job drains or stops.
func (r *sourceRunner[T]) checkEnd() {
	j := r.inst.task.job
	select {
	case <-j.stopping:
		r.stop()
	case <-j.draining:
		r.stop()
	default:
	}
}

// finish ends the source once the reader has and nothing is held.
func (r *sourceRunner[T]) finish() bool {
	t, j := r.inst.task, r.inst.task.job
	drained := errors.Is(r.readErr, ErrEndOfInput) || (isClosed(j.draining) && r.readCtx.Err() != nil)
	switch {
	case errors.Is(r.readErr, ErrEndOfInput):
	case r.readCtx.Err() != nil && !isClosed(j.aborted):
	default:
		t.fail(r.inst.failure("", fmt.Errorf("read: %w", r.readErr)))
		return true
	}
	if drained && !isClosed(j.stopping) {
		if r.anyHeld() && !isClosed(j.draining) {
			r.finishRead()
			r.sendWatermark()
			return false // until the other splits have caught up
		}
		r.releaseAll()
		r.setIdle(false)
		r.inst.forward(signal{kind: sigWatermark, ts: MaxWatermark})
	}
	r.inst.forward(signal{kind: sigEnd})
	r.group.leave(t.subtask)
	t.ended = true
	return true
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// takeIn takes one batch from the reader.
func (r *sourceRunner[T]) takeIn(b *SourceBatch[T]) {
	r.taken++
	for _, name := range b.added {
		r.splitOf(name)
	}
	if len(b.added) > 0 && r.inst.restored != nil {
		// The splits that came back may know of more time than was sent before the
		// checkpoint, or, at another parallelism, than this subtask starts with. A
		// record that is late by it has to find it sent (rule 15).
		r.act(r.valve.due())
	}
	if !r.heard {
		r.heard = true
		r.publish() // else splits that start with a time of before would wait for this subtask for ever
	}
	if b.Split == "" && len(b.Values) > 0 {
		r.inst.task.fail(r.inst.failure("", errors.New("the reader brought records without a split")))
		return
	}
	if b.Split != "" {
		s := r.splitOf(b.Split)
		if r.strategy.drift > 0 && (len(s.held) > 0 || r.ahead(s)) {
			r.hold(s, b)
			return
		}
	}
	r.handle(b)
}

func (r *sourceRunner[T]) splitOf(name string) *split[T] {
	s := r.splits[name]
	if s != nil {
		return s
	}
	s = &split[T]{name: name, watermark: MinWatermark, figures: r.inst.metrics.splitOf(name)}
	s.index, s.idle = r.valve.add()
	if r.strategy.generator != nil {
		s.generator = r.strategy.generator()
		s.bounded, _ = s.generator.(*boundedDisorder)
	}
	r.splits[name] = s
	delete(r.done, name)
	if before, ok := r.before[name]; ok {
		delete(r.before, name)
		r.resume(s, before)
	}
	s.publish()
	r.publish()
	return s
}

// resume gives a split the time it had before a restart (rule 15).
func (r *sourceRunner[T]) resume(s *split[T], before checkpoint.Split) {
	s.position, s.watermark, s.idle = before.Position, before.Watermark, before.Idle
	if s.bounded != nil && s.watermark > MinWatermark {
		s.bounded.newest = s.watermark + s.bounded.delay + 1
	}
	r.valve.restore(s.index, s.watermark, s.idle)
}

// handle processes a batch whose turn it is, and gives its memory back.
func (r *sourceRunner[T]) handle(b *SourceBatch[T]) {
	if s := r.splits[b.Split]; s != nil {
		if len(b.Values) > 0 || r.movesTime(s, b) {
			r.records(s, b)
		}
		if b.Position != nil { // also behind records that were all rejected
			s.position = b.Position
		}
		s.publish()
	}
	for _, d := range b.Rejected {
		r.inst.reject(d, errors.New(d.Error))
	}
	for _, name := range b.idle {
		if last := r.lastHeld(name); last != nil {
			last.IdleSplit(name)
			continue
		}
		r.turnIdle(r.splitOf(name))
	}
	for _, name := range b.finished {
		if last := r.lastHeld(name); last != nil {
			last.FinishSplit(name)
			continue
		}
		r.finishSplit(name)
	}
	switch {
	case len(r.splits) > 0:
		r.forgetLast()
	case r.last == nil && !r.valve.idle: // there was none to begin with
		r.last = &split[T]{}
		r.last.index, _ = r.valve.add()
	}
	r.inst.flushOuts()
	r.recycle(b)
	r.publish()
}

// records hands on the records of a batch.
func (r *sourceRunner[T]) records(s *split[T], b *SourceBatch[T]) {
	s.quiet, s.overdue = 0, 0
	if s.idle {
		s.idle = false
		r.act(r.valve.input(s.index, signal{kind: sigActive}))
	}
	if b.Position == nil && s.position == nil && len(b.Values) > 0 && r.inst.task.job.checkpoints != nil {
		r.inst.task.fail(r.inst.failure("", fmt.Errorf("the reader gives no position for split %q, so the job could not go on from a checkpoint", s.name)))
		return
	}
	r.setTimes(b)
	r.inst.seen += int64(len(b.Values))
	r.emit(s, b)
}

// movesTime says whether a batch brings a new watermark that the source knows,
// which it may do without any record.
func (r *sourceRunner[T]) movesTime(s *split[T], b *SourceBatch[T]) bool {
	return s != nil && r.strategy.fromSplit && b.Watermark > s.watermark
}

// setTimes gives every record its event time, and rejects those whose
// timestamp function fails or that are out of range.
func (r *sourceRunner[T]) setTimes(b *SourceBatch[T]) {
	f := r.strategy.timestamp
	switch {
	case len(b.Values) == 0: // only a watermark
	case f != nil:
		b.Times = b.Times[:0]
		for from := 0; from < len(b.Values); {
			if err := r.assign(b, f); err != nil {
				from = len(b.Times)
				r.rejectAt(b, from, "timestamp function: "+err.Error(), err)
				continue
			}
			break
		}
	case len(b.Times) == 0:
		if r.strategy.set {
			r.inst.task.fail(r.inst.failure("", errors.New("the source gives no event times, so the watermark strategy needs a timestamp function")))
		}
		b.Times = append(b.Times, make([]int64, len(b.Values))...)
	case len(b.Times) != len(b.Values):
		r.inst.task.fail(r.inst.failure("", fmt.Errorf("the reader brought %d records with %d event times", len(b.Values), len(b.Times))))
		b.Times = append(b.Times[:0], make([]int64, len(b.Values))...)
	}
	if r.strategy.set {
		r.checkRange(b)
	}
}

func (r *sourceRunner[T]) assign(b *SourceBatch[T], f func(T) int64) (err error) {
	defer CatchPanic(&err)
	for i := len(b.Times); i < len(b.Values); i++ {
		b.Times = append(b.Times, f(b.Values[i]))
	}
	return nil
}

func (r *sourceRunner[T]) checkRange(b *SourceBatch[T]) {
	first, last := r.strategy.first, r.strategy.last
	for i := 0; i < len(b.Times); i++ {
		ts := b.Times[i]
		if ts >= first && ts <= last {
			continue
		}
		err := fmt.Errorf("event time %d is not between %d and %d", ts, first, last)
		r.rejectAt(b, i, err.Error(), err)
		b.Times = slices.Delete(b.Times, i, i+1)
		i--
	}
}

func (r *sourceRunner[T]) rejectAt(b *SourceBatch[T], i int, text string, err error) {
	d := DeadLetter{Error: text, Split: b.Split, Record: render(b.Values[i])}
	if i < len(b.Times) {
		d.Time = b.Times[i]
	}
	r.inst.reject(d, err)
	b.Values = slices.Delete(b.Values, i, i+1)
}

// emit hands the batch down the chain. Before a record that is late by the
// records before it, the batch is cut and the watermark sent, so that lateness
// does not depend on where batches end.
func (r *sourceRunner[T]) emit(s *split[T], b *SourceBatch[T]) {
	from := 0
	if s.generator != nil && !r.strategy.fromSplit {
		for i, ts := range b.Times {
			if ts <= s.watermark && r.advance(s) {
				r.out.emitBatch(b.Values[from:i], b.Times[from:i])
				from = i
				r.sendWatermark()
			}
			s.observe(ts)
		}
	}
	r.out.emitBatch(b.Values[from:], b.Times[from:])
	if r.strategy.fromSplit {
		s.watermark = max(s.watermark, min(b.Watermark, MaxWatermark-1))
	}
	r.advance(s)
}

// observe feeds the generator, by a direct call where it is the usual one.
func (s *split[T]) observe(ts int64) {
	if g := s.bounded; g != nil {
		if ts > g.newest {
			g.newest = ts
			s.watermark = max(s.watermark, g.Watermark())
		}
		return
	}
	s.generator.Observe(ts)
	// MaxWatermark is the end of input, which is not for a generator to say.
	s.watermark = max(s.watermark, min(s.generator.Watermark(), MaxWatermark-1))
}

// advance takes a split's watermark into that of the subtask, and says whether
// there is a new one to send.
func (r *sourceRunner[T]) advance(s *split[T]) bool {
	if s.watermark > MinWatermark {
		r.act(r.valve.input(s.index, signal{kind: sigWatermark, ts: s.watermark}))
	}
	return r.pending > r.sent
}

// act follows the splits' valve: a watermark waits for its interval, a change
// of status does not.
func (r *sourceRunner[T]) act(signals []signal) {
	for _, s := range signals {
		switch s.kind {
		case sigWatermark:
			r.pending = max(r.pending, s.ts)
		case sigIdle:
			r.sendWatermark()
			r.setIdle(true)
		case sigActive:
			r.setIdle(false)
		}
	}
}

func (r *sourceRunner[T]) setIdle(idle bool) {
	if r.idle == idle {
		return
	}
	r.idle = idle
	kind := sigActive
	if idle {
		kind = sigIdle
	}
	r.inst.forward(signal{kind: kind})
}

func (r *sourceRunner[T]) maybeWatermark() {
	if r.pending > r.sent && (len(r.full) == 0 || time.Since(r.sentAt) >= r.inst.task.job.cfg.watermarkInterval) {
		r.sendWatermark()
	}
}

func (r *sourceRunner[T]) sendWatermark() {
	if r.pending <= r.sent || r.pending == MaxWatermark {
		return // the end of input is for finish to announce
	}
	r.sent, r.sentAt = r.pending, time.Now()
	r.inst.forward(signal{kind: sigWatermark, ts: r.sent})
}

func (r *sourceRunner[T]) turnIdle(s *split[T]) {
	if s.idle || s.finished {
		return
	}
	s.idle = true
	s.publish()
	r.act(r.valve.input(s.index, signal{kind: sigIdle}))
}

// finishSplit forgets a split; if it comes back, it starts anew.
//
// A subtask without splits must not hold time back. But the last one keeps its
// say for a while, since a bounded source is about to end. Were the subtask idle
// in between, windows that the end of input is to fire would count as those of
// an idle source, which nobody waits for: other inputs might move time past
// them. The same goes for a subtask that has no splits from the start.
func (r *sourceRunner[T]) finishSplit(name string) {
	s := r.splits[name]
	if s == nil {
		return
	}
	delete(r.splits, name)
	s.finished = true
	s.publish()
	r.done[name] = s.snapshot()
	if s.paused { // it may come back under its name
		s.paused = false
		r.pauser.Resume(name)
	}
	if len(r.splits) == 0 && !s.idle {
		r.last, s.quiet = s, 0
		return
	}
	r.act(r.valve.remove(s.index))
}

// lastSplitGrace is how long a source that finished its last split may take to
// say that it has ended.
const lastSplitGrace = time.Second

// forgetLast takes the last split's say away, when the source has gone on
// without it.
func (r *sourceRunner[T]) forgetLast() {
	if s := r.last; s != nil {
		r.last = nil
		r.act(r.valve.remove(s.index))
	}
}
