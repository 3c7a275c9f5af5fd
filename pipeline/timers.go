package pipeline

import (
	"container/heap"
	"errors"
	"slices"
)

// TimeDomain says which clock a timer follows.
type TimeDomain uint8

const (
	// EventTime timers fire when the watermark reaches their time.
	EventTime TimeDomain = iota
	// ProcessingTime timers fire when the clock does. They do not fire at the
	// end of input.
	ProcessingTime
)

func (d TimeDomain) String() string {
	if d == ProcessingTime {
		return "processing time"
	}
	return "event time"
}

// Timer is a timer that fires.
type Timer struct {
	Namespace string
	Domain    TimeDomain
	// Time is what it was set for, in milliseconds. It may have passed for long,
	// when the watermark took a leap or a processing-time timer was overdue.
	Time int64
}

// Timers sets and deletes the timers of one namespace, for the key in hand.
// Timers are a set: setting one twice fires it once, and a deleted one never
// fires. A timer set for a time that has passed fires at the next watermark.
type Timers[K comparable] struct {
	s         *timerService[K]
	namespace uint32
}

// Set sets a timer of event time, in milliseconds.
func (t *Timers[K]) Set(time int64) { t.s.event.set(t.s.entry(t.namespace), time, false) }

// SetNew sets a timer of event time that the caller knows is not set already,
// for this key and time, and saves the engine finding that out. An operator
// knows when it makes state and timer together.
func (t *Timers[K]) SetNew(time int64) { t.s.event.set(t.s.entry(t.namespace), time, true) }

// Delete deletes a timer of event time, if it is set.
func (t *Timers[K]) Delete(time int64) { t.s.event.delete(t.s.entry(t.namespace), time) }

// SetProcessing sets a timer of processing time, in milliseconds.
func (t *Timers[K]) SetProcessing(time int64) {
	t.s.processing.set(t.s.entry(t.namespace), time, false)
}

// DeleteProcessing deletes a timer of processing time, if it is set.
func (t *Timers[K]) DeleteProcessing(time int64) {
	t.s.processing.delete(t.s.entry(t.namespace), time)
}

// timerService keeps the timers of one operator subtask.
type timerService[K comparable] struct {
	current           func() (K, uint64)
	namespaces        []string
	event, processing timerQueue[K]
	refused           bool
	errs              []error
}

func newTimerService[K comparable](current func() (K, uint64)) *timerService[K] {
	return &timerService[K]{current: current}
}

func (s *timerService[K]) namespace(name string) *Timers[K] {
	if s.refused {
		s.errs = append(s.errs, errors.New("timers need a keyed stream: use KeyBy"))
	}
	if slices.Contains(s.namespaces, name) {
		s.errs = append(s.errs, errors.New("timer namespace \""+name+"\" is declared twice"))
	}
	s.namespaces = append(s.namespaces, name)
	return &Timers[K]{s, uint32(len(s.namespaces) - 1)}
}

func (s *timerService[K]) entry(namespace uint32) timerEntry[K] {
	key, hash := s.current()
	return timerEntry[K]{key, hash, namespace}
}

// timerEntry is one timer of a bucket.
type timerEntry[K comparable] struct {
	key       K
	hash      uint64
	namespace uint32
}

// timerQueue holds timers by time: a heap of the distinct times, and for each
// a bucket. Windows make very many timers for very few times, so the cost per
// timer is that of appending to a bucket.
type timerQueue[K comparable] struct {
	times   timeHeap
	buckets map[int64]*timerBucket[K]
	last    *timerBucket[K] // the bucket used last, most likely the next one too
	firing  *timerBucket[K]
}

// timerBucket is the log of what was set and deleted for one time. Only when
// an entry may repeat an earlier one is the log reduced to a set, and then
// when it has doubled or is due, so that setting stays cheap and memory stays
// bounded by the live timers.
type timerBucket[K comparable] struct {
	time    int64
	log     []timerOp[K]
	plain   bool // every op is a set of a new timer
	reduced int  // length after the last reduction
	next    int  // while firing, the op to fire next
}

type timerOp[K comparable] struct {
	timerEntry[K]
	deleted bool
}

func (q *timerQueue[K]) set(e timerEntry[K], time int64, isNew bool) {
	if q.firing != nil && q.firing.time == time && q.firing.pending(e) >= 0 {
		return // it has yet to fire in the bucket at hand
	}
	b := q.bucket(time)
	if n := len(b.log); !isNew && n > 0 && b.log[n-1] == (timerOp[K]{e, false}) {
		return // the habit of setting one's timer again with every record
	}
	b.add(timerOp[K]{e, false}, isNew)
}

func (q *timerQueue[K]) delete(e timerEntry[K], time int64) {
	if q.firing != nil && q.firing.time == time {
		if i := q.firing.pending(e); i >= 0 {
			q.firing.log[i].deleted = true
		}
	}
	b, ok := q.buckets[time]
	if !ok {
		return
	}
	if len(b.log) > smallBucket {
		b.add(timerOp[K]{e, true}, false)
	} else {
		b.remove(e)
	}
	if len(b.log) == 0 { // its time stays in the heap, and advance passes over it
		delete(q.buckets, time)
		q.last = nil
	}
}

// smallBucket is the length up to which a bucket's log holds no deletions: the
// timer is searched for and taken out. An operator that moves its timer with
// every record would otherwise leave two ops behind each time.
const smallBucket = 64

func (b *timerBucket[K]) remove(e timerEntry[K]) {
	b.log = slices.DeleteFunc(b.log, func(op timerOp[K]) bool { return op.timerEntry == e })
}

func (q *timerQueue[K]) bucket(time int64) *timerBucket[K] {
	if q.last != nil && q.last.time == time {
		return q.last
	}
	b, ok := q.buckets[time]
	if !ok {
		if q.buckets == nil {
			q.buckets = make(map[int64]*timerBucket[K])
		}
		b = &timerBucket[K]{time: time, plain: true}
		q.buckets[time] = b
		heap.Push(&q.times, time)
	}
	q.last = b
	return b
}

func (b *timerBucket[K]) add(op timerOp[K], isNew bool) {
	b.log = append(b.log, op)
	b.plain = b.plain && isNew
	if !b.plain && len(b.log) > 2*b.reduced+smallBucket {
		b.reduce()
	}
}

// reduce replays the log into the set of live timers, in the order in which
// they were first set.
func (b *timerBucket[K]) reduce() {
	if b.plain {
		return
	}
	at := make(map[timerEntry[K]]int, len(b.log)/2)
	live := b.log[:0]
	for _, op := range b.log {
		i, known := at[op.timerEntry]
		switch {
		case op.deleted && known:
			live[i].deleted = true
			delete(at, op.timerEntry)
		case !op.deleted && !known:
			at[op.timerEntry] = len(live)
			live = append(live, op)
		}
	}
	live = slices.DeleteFunc(live, func(op timerOp[K]) bool { return op.deleted })
	clear(b.log[len(live):])
	b.log, b.reduced = live, len(live)
}

// pending returns the index of a timer that has yet to fire in the bucket that
// is firing, or -1. It searches in line, since an operator that changes timers
// of the very time that is firing is rare.
func (b *timerBucket[K]) pending(e timerEntry[K]) int {
	for i := b.next; i < len(b.log); i++ {
		if b.log[i] == (timerOp[K]{e, false}) {
			return i
		}
	}
	return -1
}

// advance fires every timer up to and including time, in order; timers that
// firing sets are included. It stops when fire returns false.
func (q *timerQueue[K]) advance(time int64, fire func(e timerEntry[K], time int64) bool) {
	for len(q.times) > 0 && q.times[0] <= time {
		b, ok := q.buckets[q.times[0]]
		heap.Pop(&q.times)
		if !ok {
			continue
		}
		delete(q.buckets, b.time)
		q.last = nil
		b.reduce()
		q.firing = b
		for b.next < len(b.log) {
			op := b.log[b.next]
			b.next++
			if !op.deleted && !fire(op.timerEntry, b.time) {
				q.firing = nil
				return
			}
		}
		q.firing = nil
	}
}

// earliest returns the time of the next timer.
func (q *timerQueue[K]) earliest() (int64, bool) {
	for len(q.times) > 0 && q.buckets[q.times[0]] == nil {
		heap.Pop(&q.times)
	}
	if len(q.times) == 0 {
		return 0, false
	}
	return q.times[0], true
}

// len returns the number of entries in the buckets' logs, an upper bound of the
// timers that are set.
func (q *timerQueue[K]) len() int {
	n := 0
	for _, b := range q.buckets {
		n += len(b.log)
	}
	return n
}

type timeHeap []int64

func (h timeHeap) Len() int           { return len(h) }
func (h timeHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h timeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timeHeap) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *timeHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
