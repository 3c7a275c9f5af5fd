package pipelinetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/pipeline"
)

// Record is a value with its event time in milliseconds.
type Record[T any] struct {
	Value T
	Time  int64
}

// At returns a record, for [Tap.Want] and its kin.
func At[T any](time int64, value T) Record[T] { return Record[T]{value, time} }

// String returns the record as value@time.
func (r Record[T]) String() string { return fmt.Sprintf("%+v@%s", r.Value, timeText(r.Time)) }

// Feed is a source that is fed by hand. It is made by [Input].
//
// Its own Send, Watermark, Idle and End speak of a first split, named "0",
// which is enough where splits don't matter. Nothing sent is read before the
// kit settles.
type Feed[T any] struct {
	k      *Kit
	name   string
	stream pipeline.Stream[T]

	// The rest is shared with the readers.
	mu      sync.Mutex
	splits  []*Split[T]
	readers []*feedReader[T]
	staged  []item[T] // sent since the kit last settled
	ended   bool
}

// Input adds a source to the graph. It has the watermarks that [Feed.Watermark]
// gives it, unless a [pipeline.WatermarkStrategy] among the options makes
// others.
//
// With parallelism above 1, splits are dealt out to subtasks in the order they
// were made.
func Input[T any](k *Kit, name string, opts ...pipeline.OperatorOption) *Feed[T] {
	f := &Feed[T]{k: k, name: name}
	opts = append([]pipeline.OperatorOption{pipeline.SourceWatermarks[T](nil)}, opts...)
	f.stream = pipeline.From(k.p, name, feedSource[T]{f}, opts...)
	k.feeds = append(k.feeds, f)
	return f
}

// Stream returns the source's output.
func (f *Feed[T]) Stream() pipeline.Stream[T] { return f.stream }

// Split returns the split of that name, made at the first call. Splits made
// before the job starts are known to it from the beginning, and time waits for
// them; one that is made later joins when the kit settles.
func (f *Feed[T]) Split(name string) *Split[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.splits {
		if s.name == name {
			return s
		}
	}
	s := &Split[T]{feed: f, name: name, index: len(f.splits)}
	f.splits = append(f.splits, s)
	if f.readers != nil {
		f.staged = append(f.staged, item[T]{split: s, kind: itemJoin})
	}
	return s
}

// Send sends values with one event time on the first split.
func (f *Feed[T]) Send(time int64, values ...T) { f.k.t.Helper(); f.first().Send(time, values...) }

// SendAll sends records on the first split.
func (f *Feed[T]) SendAll(records ...Record[T]) { f.k.t.Helper(); f.first().SendAll(records...) }

// Watermark announces that nothing at or before time follows on the first
// split.
func (f *Feed[T]) Watermark(time int64) { f.k.t.Helper(); f.first().Watermark(time) }

// Idle says that the first split has no more records for now.
func (f *Feed[T]) Idle() { f.k.t.Helper(); f.first().Idle() }

func (f *Feed[T]) first() *Split[T] { return f.Split("0") }

// End ends the input: when all that was sent has been read, the source says
// that it has no more. The job goes on if it has other inputs.
func (f *Feed[T]) End() {
	f.k.settle()
	f.end()
}

// end finishes every split, so that none is waited for while others have yet
// to be read.
func (f *Feed[T]) end() {
	f.mu.Lock()
	for _, s := range f.splits {
		if !f.ended && !s.left {
			f.staged = append(f.staged, item[T]{split: s, kind: itemFinish})
		}
	}
	f.mu.Unlock()
	f.publish()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.wakeAll()
}

// Split is one split of a [Feed]. It is active from the beginning.
type Split[T any] struct {
	feed  *Feed[T]
	name  string
	index int
	left  bool
}

// Send sends values with one event time. They travel in one batch, with what
// is sent on the same split next to them, as far as the batch size allows.
func (s *Split[T]) Send(time int64, values ...T) {
	s.feed.k.t.Helper()
	for _, v := range values {
		s.stage(item[T]{kind: itemRecord, record: At(time, v)})
	}
}

// SendAll sends records.
func (s *Split[T]) SendAll(records ...Record[T]) {
	s.feed.k.t.Helper()
	for _, r := range records {
		s.stage(item[T]{kind: itemRecord, record: r})
	}
}

// Watermark announces that nothing at or before time follows on this split. An
// idle split becomes active again by it, as by a record.
func (s *Split[T]) Watermark(time int64) {
	s.feed.k.t.Helper()
	s.stage(item[T]{kind: itemWatermark, record: Record[T]{Time: time}})
}

// Idle says that the split has no more records for now: time stops waiting for
// it until its next record.
func (s *Split[T]) Idle() {
	s.feed.k.t.Helper()
	s.stage(item[T]{kind: itemIdle})
}

// Finish takes the split away for good. The last split of a subtask keeps its
// say for a second of the clock, since the source may be about to end.
func (s *Split[T]) Finish() {
	s.feed.k.t.Helper()
	s.stage(item[T]{kind: itemFinish})
	s.left = true
}

func (s *Split[T]) stage(it item[T]) {
	s.feed.k.t.Helper()
	if s.left {
		s.feed.k.t.Fatalf("input %q: split %q has been finished", s.feed.name, s.name)
	}
	it.split = s
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		f.k.t.Fatalf("input %q has ended", f.name)
	}
	f.staged = append(f.staged, it)
}

// Paused says whether the engine holds the split back, which it does when the
// split is ahead of others by more than [pipeline.WatermarkStrategy.MaxDrift].
// It settles first.
func (s *Split[T]) Paused() bool {
	s.feed.k.t.Helper()
	s.feed.k.Settle()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	for _, r := range s.feed.readers {
		if r.paused[s.name] {
			return true
		}
	}
	return false
}

// Unread settles and returns how many records of the split the engine has not
// asked for yet: because it is held back, or because operators are busy.
func (s *Split[T]) Unread() int {
	s.feed.k.t.Helper()
	s.feed.k.Settle()
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	n := 0
	for _, r := range s.feed.readers {
		for _, it := range r.queue {
			if it.split == s && it.kind == itemRecord {
				n++
			}
		}
	}
	return n
}

// item is what a reader is to say next about a split.
type item[T any] struct {
	split  *Split[T]
	kind   itemKind
	record Record[T]
}

type itemKind uint8

const (
	itemRecord itemKind = iota
	itemWatermark
	itemIdle
	itemJoin
	itemFinish
)

// begin makes the readers' places when the job starts: before that a new split
// needs no announcement of its own.
func (f *Feed[T]) begin() {
	f.mu.Lock()
	none := len(f.splits) == 0
	f.mu.Unlock()
	if none {
		f.first()
	}
}

// sparse says whether a subtask has no split.
func (f *Feed[T]) sparse() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.splits) < len(f.readers)
}

// publish hands what was sent to the readers.
func (f *Feed[T]) publish() {
	f.mu.Lock()
	if len(f.readers) == 0 { // the job has not started: its graph has a mistake
		f.mu.Unlock()
		return
	}
	for _, it := range f.staged {
		r := f.readers[it.split.index%len(f.readers)]
		r.queue = append(r.queue, it)
	}
	f.staged = nil
	f.mu.Unlock()
	f.wakeAll()
}

func (f *Feed[T]) wakeAll() {
	for _, r := range f.readers {
		r.wake()
	}
}

type feedSource[T any] struct{ f *Feed[T] }

func (s feedSource[T]) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers == nil {
		f.readers = make([]*feedReader[T], env.Parallelism)
		for i := range f.readers {
			f.readers[i] = &feedReader[T]{feed: f, wakeup: make(chan struct{}, 1), paused: map[string]bool{}}
		}
	}
	r := f.readers[env.Subtask]
	r.env = env
	for i, sp := range f.splits {
		if env.Mine(i) {
			r.announce = append(r.announce, sp.name)
		}
	}
	return r, nil
}

// feedReader reads the splits of one subtask.
type feedReader[T any] struct {
	feed      *Feed[T]
	env       *pipeline.SourceEnv
	announce  []string
	announced bool
	wakeup    chan struct{}

	queue  []item[T]       // guarded by feed.mu
	paused map[string]bool // guarded by feed.mu
}

func (r *feedReader[T]) wake() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// Pause implements [pipeline.Pauser].
func (r *feedReader[T]) Pause(split string) { r.setPaused(split, true) }

// Resume implements [pipeline.Pauser].
func (r *feedReader[T]) Resume(split string) { r.setPaused(split, false) }

func (r *feedReader[T]) setPaused(split string, paused bool) {
	r.feed.mu.Lock()
	r.paused[split] = paused
	r.feed.mu.Unlock()
	r.wake()
}

// Read implements [pipeline.Reader].
func (r *feedReader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if !r.announced {
		r.announced = true
		for _, name := range r.announce {
			b.AddSplit(name)
		}
		return nil
	}
	for {
		if said, err := r.fill(b); said || err != nil {
			return err
		}
		select {
		case <-r.wakeup:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fill says the next thing of the first split that is not held back.
func (r *feedReader[T]) fill(b *pipeline.SourceBatch[T]) (said bool, err error) {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	at := slices.IndexFunc(r.queue, func(it item[T]) bool { return !r.paused[it.split.name] })
	if at < 0 {
		if r.feed.ended && len(r.queue) == 0 {
			return true, pipeline.ErrEndOfInput
		}
		return false, nil
	}
	it := r.queue[at]
	n := 1
	switch it.kind {
	case itemJoin:
		b.AddSplit(it.split.name)
	case itemIdle:
		b.IdleSplit(it.split.name)
	case itemFinish:
		b.FinishSplit(it.split.name)
	case itemWatermark:
		b.Split, b.Watermark = it.split.name, it.record.Time
	case itemRecord:
		n = r.records(b, r.queue[at:])
	}
	r.queue = slices.Delete(r.queue, at, at+n)
	return true, nil
}

// records takes the records of one split that begin the queue, and a watermark
// right behind them, and returns how many items that were.
func (r *feedReader[T]) records(b *pipeline.SourceBatch[T], queue []item[T]) int {
	b.Split = queue[0].split.name
	for i, it := range queue {
		switch {
		case it.split == queue[0].split && it.kind == itemRecord && len(b.Values) < r.env.BatchSize:
			b.Values = append(b.Values, it.record.Value)
			b.Times = append(b.Times, it.record.Time)
		case it.split == queue[0].split && it.kind == itemWatermark:
			b.Watermark = it.record.Time
			return i + 1
		default:
			return i
		}
	}
	return len(queue)
}
