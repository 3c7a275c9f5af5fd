package state

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"
)

// TimerQueue holds timers of one domain of time, for the keys of a backend. It
// is what the engine makes timers of; operators use pipeline.Timers.
//
// It is a heap of the distinct times, and for each a bucket. Windows make very
// many timers for very few times, so the cost per timer is that of appending to
// a bucket.
//
// With a disk behind it, the queue keeps the timers before its horizon in
// memory. At and after the horizon the disk may have more, and what memory has
// are the changes to it. The horizon moves on as time does, and back when memory
// is short.
type TimerQueue[K comparable] struct {
	times   timeHeap
	buckets map[int64]*timerBucket[K]
	last    *timerBucket[K] // the bucket used last, most likely the next one too
	firing  *timerBucket[K]

	b          *Backend[K]
	name       string
	namespaces *[]string // by index; nil: there is one
	section    section
	disk       *disk // nil: memory is all there is
	horizon    int64
	more       bool // the disk may have timers at or after horizon
	chunk      int  // how many timers to read at a time
	passed     int64
	clear      bool              // timers that fired are still on disk
	dirty      []*timerBucket[K] // with changes that the disk does not have
	ops        int               // in all logs
	err        error             // the disk's
	keys       []K               // scratch of prefetching
	hashes     []uint64
}

// TimerEntry is a timer without its time: whose it is, and of which namespace,
// by the index of its name.
type TimerEntry[K comparable] struct {
	Key       K
	Hash      uint64
	Namespace uint32
}

// timerBucket is the log of what was set and deleted for one time. Only when
// an entry may repeat an earlier one is the log reduced to a set, and then
// when it has doubled or is due, so that setting stays cheap and memory stays
// bounded by the live timers.
type timerBucket[K comparable] struct {
	time    int64
	log     []timerOp[K]
	plain   bool // every op is a set of a new timer
	listed  bool // among the queue's dirty ones
	partial bool // the disk may have more
	reduced int  // length after the last reduction
	next    int  // while firing, the op to fire next
	stored  int  // how many ops, from the first, the disk has
	gone    []TimerEntry[K]
}

type timerOp[K comparable] struct {
	TimerEntry[K]
	deleted bool
}

// Set sets a timer. With isNew the caller knows that it is not set already.
func (q *TimerQueue[K]) Set(e TimerEntry[K], time int64, isNew bool) {
	if q.firing != nil && q.firing.time == time && q.firing.pending(e) >= 0 {
		return // it has yet to fire in the bucket at hand
	}
	b := q.bucket(time)
	if n := len(b.log); !isNew && n > 0 && b.log[n-1] == (timerOp[K]{e, false}) {
		return // the habit of setting one's timer again with every record
	}
	q.add(b, timerOp[K]{e, false}, isNew)
}

// Delete deletes a timer, if it is set.
func (q *TimerQueue[K]) Delete(e TimerEntry[K], time int64) {
	if q.firing != nil && q.firing.time == time {
		if i := q.firing.pending(e); i >= 0 {
			q.firing.log[i].deleted = true
		}
	}
	b, ok := q.buckets[time]
	if !ok {
		if !q.more || time < q.horizon {
			return
		}
		b = q.bucket(time)
	}
	if len(b.log) > smallBucket {
		q.add(b, timerOp[K]{e, true}, false)
	} else {
		q.remove(b, e)
	}
	q.forgetEmpty(b)
}

// forgetEmpty forgets a bucket of which nothing is left. Its time stays in the
// heap, and is passed over.
func (q *TimerQueue[K]) forgetEmpty(b *timerBucket[K]) {
	if len(b.log) == 0 && len(b.gone) == 0 && !b.partial {
		delete(q.buckets, b.time)
		q.last = nil
	}
}

// smallBucket is the length up to which a bucket's log holds no deletions: the
// timer is searched for and taken out. An operator that moves its timer with
// every record would otherwise leave two ops behind each time.
const smallBucket = 64

func (q *TimerQueue[K]) remove(b *timerBucket[K], e TimerEntry[K]) {
	onDisk := b.partial // perhaps
	for i := 0; i < len(b.log); i++ {
		if b.log[i].TimerEntry != e {
			continue
		}
		if i < b.stored {
			b.stored--
			onDisk = true
		}
		b.log = slices.Delete(b.log, i, i+1)
		q.ops--
		i--
	}
	if onDisk {
		q.deleteStored(b, e)
	}
}

func (q *TimerQueue[K]) deleteStored(b *timerBucket[K], e TimerEntry[K]) {
	b.gone = append(b.gone, e)
	q.list(b)
}

// list notes that a bucket has what the disk does not.
func (q *TimerQueue[K]) list(b *timerBucket[K]) {
	if !b.listed && q.disk != nil {
		b.listed = true
		q.dirty = append(q.dirty, b)
	}
}

func (q *TimerQueue[K]) bucket(time int64) *timerBucket[K] {
	if q.last != nil && q.last.time == time {
		return q.last
	}
	b, ok := q.buckets[time]
	if !ok {
		if q.buckets == nil {
			q.buckets = make(map[int64]*timerBucket[K])
		}
		b = &timerBucket[K]{time: time, plain: true, partial: q.more && time >= q.horizon}
		q.buckets[time] = b
	}
	q.last = b
	return b
}

func (q *TimerQueue[K]) add(b *timerBucket[K], op timerOp[K], isNew bool) {
	if len(b.log) == 0 {
		heap.Push(&q.times, b.time)
	}
	b.log = append(b.log, op)
	q.ops++
	q.list(b)
	b.plain = b.plain && isNew
	if !b.plain && len(b.log) > 2*b.reduced+smallBucket {
		q.reduce(b)
	}
}

// reduce replays the log into the set of live timers, in the order in which
// they were first set.
func (q *TimerQueue[K]) reduce(b *timerBucket[K]) {
	if b.plain {
		return
	}
	at := make(map[TimerEntry[K]]int, len(b.log)/2)
	live, stored := b.log[:0], 0
	for i, op := range b.log {
		j, known := at[op.TimerEntry]
		switch {
		case op.deleted && known:
			live[j].deleted = true
			delete(at, op.TimerEntry)
			if j < stored || b.partial {
				q.deleteStored(b, op.TimerEntry)
			}
		case op.deleted && b.partial:
			q.deleteStored(b, op.TimerEntry)
		case !op.deleted && !known:
			at[op.TimerEntry] = len(live)
			live = append(live, op)
			if i < b.stored {
				stored++
			}
		}
	}
	b.stored = 0
	for _, op := range live[:stored] {
		if !op.deleted {
			b.stored++
		}
	}
	live = slices.DeleteFunc(live, func(op timerOp[K]) bool { return op.deleted })
	clear(b.log[len(live):])
	q.ops -= len(b.log) - len(live)
	b.log, b.reduced = live, len(live)
}

// pending returns the index of a timer that has yet to fire in the bucket that
// is firing, or -1. It searches in line, since an operator that changes timers
// of the very time that is firing is rare.
func (b *timerBucket[K]) pending(e TimerEntry[K]) int {
	for i := b.next; i < len(b.log); i++ {
		if b.log[i] == (timerOp[K]{e, false}) {
			return i
		}
	}
	return -1
}

// Advance fires every timer up to and including time, in order; timers that
// firing sets are included. It stops when fire returns false.
func (q *TimerQueue[K]) Advance(time int64, fire func(e TimerEntry[K], time int64) bool) {
	q.passed = max(q.passed, time)
	for q.due(time) {
		b, ok := q.buckets[q.times[0]]
		heap.Pop(&q.times)
		if !ok {
			continue
		}
		delete(q.buckets, b.time)
		q.last = nil
		q.reduce(b)
		q.ops -= len(b.log)
		q.clear = q.clear || b.stored > 0 || b.partial || len(b.gone) > 0
		q.firing = b
		goOn := q.fire(b, fire)
		q.firing = nil
		if !goOn {
			return
		}
	}
}

// due says whether the first bucket's time has come, after the disk was asked
// for earlier ones.
func (q *TimerQueue[K]) due(time int64) bool {
	for q.more && q.horizon <= time && (len(q.times) == 0 || q.times[0] >= q.horizon) {
		if !q.loadNext() {
			return false
		}
	}
	return len(q.times) > 0 && q.times[0] <= time
}

// firingChunk is how many timers fire before memory is looked after. The state
// of the next ones is read from disk together.
const firingChunk = 256

func (q *TimerQueue[K]) fire(b *timerBucket[K], fire func(e TimerEntry[K], time int64) bool) bool {
	for b.next < len(b.log) {
		if b.next%firingChunk == 0 && q.b != nil && len(b.log) >= 8 {
			q.prefetchNext(b)
		}
		op := b.log[b.next]
		b.next++
		if !op.deleted && !fire(op.TimerEntry, b.time) {
			return false
		}
	}
	return true
}

func (q *TimerQueue[K]) prefetchNext(b *timerBucket[K]) {
	q.b.Relieve()
	q.keys, q.hashes = q.keys[:0], q.hashes[:0]
	for _, op := range b.log[b.next:min(b.next+firingChunk, len(b.log))] {
		if !op.deleted {
			q.keys, q.hashes = append(q.keys, op.Key), append(q.hashes, op.Hash)
		}
	}
	q.b.Prefetch(q.keys, q.hashes)
}

// Earliest returns the time of the next timer.
func (q *TimerQueue[K]) Earliest() (int64, bool) {
	for {
		for len(q.times) > 0 && q.emptyAt(q.times[0]) {
			heap.Pop(&q.times)
		}
		if !q.more || len(q.times) > 0 && q.times[0] < q.horizon || !q.loadNext() {
			break
		}
	}
	if len(q.times) == 0 {
		return 0, false
	}
	return q.times[0], true
}

func (q *TimerQueue[K]) emptyAt(time int64) bool {
	b, ok := q.buckets[time]
	return !ok || len(b.log) == 0
}

// Err returns what went wrong while the disk was read: timers are then missing.
func (q *TimerQueue[K]) Err() error { return q.err }

// Len returns the number of entries in the buckets' logs, an upper bound of the
// timers that are set and in memory.
func (q *TimerQueue[K]) Len() int { return q.ops }

// onDisk is the group under which all timers of a backend are kept on disk, in
// order of time. It is behind all key groups.
const onDisk = math.MaxUint16

// A timer's key on disk is, behind the section: the time, the namespace, the
// key group, the key.
const (
	timerTimeAt      = prefixLen
	timerNamespaceAt = timerTimeAt + 8
	timerGroupAt     = timerNamespaceAt + 4
	timerKeyAt       = timerGroupAt + 2
)

func (q *TimerQueue[K]) timeKey(dst []byte, time int64) []byte {
	return binary.BigEndian.AppendUint64(q.section.append(dst, onDisk), uint64(time)^1<<63)
}

func (q *TimerQueue[K]) entryKey(dst []byte, time int64, e TimerEntry[K]) []byte {
	dst = binary.BigEndian.AppendUint32(q.timeKey(dst, time), q.namespaceID(e.Namespace))
	dst = binary.BigEndian.AppendUint16(dst, uint16(KeyGroup(e.Hash, q.b.maxParallelism)))
	return q.b.keys.append(dst, e.Key)
}

func (q *TimerQueue[K]) namespaceID(i uint32) uint32 {
	if q.namespaces == nil {
		return 0
	}
	return uint32(sectionOf("namespace", (*q.namespaces)[i]))
}

// errNamespace says that a timer is of a namespace that the operator does not
// declare. The engine refuses a checkpoint with such, unless the user wants to
// leave them behind; so they are passed over.
var errNamespace = errors.New("timers of a namespace that is not declared")

func (q *TimerQueue[K]) namespaceOf(id uint32) (uint32, error) {
	if q.namespaces == nil {
		return 0, nil
	}
	for i := range *q.namespaces {
		if q.namespaceID(uint32(i)) == id {
			return uint32(i), nil
		}
	}
	return 0, fmt.Errorf("%w: %#x", errNamespace, id)
}

func (q *TimerQueue[K]) decode(key []byte) (int64, TimerEntry[K], error) {
	var e TimerEntry[K]
	if len(key) < timerKeyAt {
		return 0, e, fmt.Errorf("timers: key %x is too short", key)
	}
	time := int64(binary.BigEndian.Uint64(key[timerTimeAt:]) ^ 1<<63)
	var err error
	if e.Namespace, err = q.namespaceOf(binary.BigEndian.Uint32(key[timerNamespaceAt:])); err != nil {
		return 0, e, err
	}
	if e.Key, err = q.b.keys.decode(key[timerKeyAt:]); err != nil {
		return 0, e, fmt.Errorf("timers: key %x: %w", key, err)
	}
	e.Hash = q.b.hasher(e.Key)
	return time, e, nil
}

// loadChunk is how many timers are read from disk at a time, and then the rest
// of those for the last one's time.
const loadChunk = 1 << 14

// loadNext reads the disk's next timers and moves the horizon behind them. It
// says whether it could.
func (q *TimerQueue[K]) loadNext() bool {
	if q.err != nil {
		return false
	}
	from := q.timeKey(nil, q.horizon)
	var loaded []timerOp[K]
	last, n, end := int64(math.MinInt64), 0, true
	merge := func() {
		if len(loaded) > 0 {
			q.merge(last, loaded)
			loaded = nil
		}
	}
	q.err = scan(q.disk.db, from, after(q.section.append(nil, onDisk)), func(key, _ []byte) (bool, error) {
		time, e, err := q.decode(key)
		if errors.Is(err, errNamespace) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if time != last {
			merge()
			if n >= q.chunk {
				end = false
				return false, nil
			}
			last = time
		}
		loaded = append(loaded, timerOp[K]{e, false})
		n++
		return true, nil
	})
	merge()
	switch {
	case q.err != nil:
		return false
	case end || last == math.MaxInt64:
		q.more = false
	default:
		q.horizon = last + 1
	}
	for _, b := range q.buckets {
		b.partial = q.more && b.time >= q.horizon
		q.forgetEmpty(b)
	}
	return true
}

// merge adds what the disk has for a time to the changes that memory has.
func (q *TimerQueue[K]) merge(time int64, loaded []timerOp[K]) {
	b := q.bucket(time)
	q.ops -= len(b.log)
	if len(b.gone) > 0 {
		gone := make(map[TimerEntry[K]]bool, len(b.gone))
		for _, e := range b.gone {
			gone[e] = true
		}
		loaded = slices.DeleteFunc(loaded, func(op timerOp[K]) bool { return gone[op.TimerEntry] })
	}
	// By namespace in order of declaration, as they would have been set.
	slices.SortStableFunc(loaded, func(x, y timerOp[K]) int { return cmp.Compare(x.Namespace, y.Namespace) })
	if len(b.log) == 0 && len(loaded) > 0 {
		heap.Push(&q.times, time)
	}
	changes := b.log[b.stored:] // those before are among the loaded
	b.stored = len(loaded)
	b.log = append(loaded, changes...)
	b.reduced = len(b.log)
	b.partial = false
	q.ops += len(b.log)
}

// flush writes what the disk does not have.
func (q *TimerQueue[K]) flush(w *writes) error {
	if q.disk == nil {
		q.writeAll(w)
		return nil
	}
	cleared := q.clear
	if cleared {
		q.clearPassed(w)
	}
	for _, b := range q.dirty {
		b.listed = false
		q.flushBucket(b, w, cleared && b.time <= q.passed)
	}
	clear(q.dirty)
	q.dirty = q.dirty[:0]
	return q.err
}

// clearPassed deletes the timers that have fired from disk, all at once. A timer
// that was set for a time that has passed, and waits for the next watermark, is
// written again.
func (q *TimerQueue[K]) clearPassed(w *writes) {
	q.clear = false
	to := after(q.section.append(nil, onDisk))
	if q.passed < math.MaxInt64 {
		to = q.timeKey(nil, q.passed+1)
	}
	w.ranges = append(w.ranges, [2][]byte{q.section.append(nil, onDisk), to})
	if len(q.times) == 0 || q.times[0] > q.passed {
		return
	}
	for time, b := range q.buckets {
		if time <= q.passed {
			b.stored = 0
			q.list(b)
		}
	}
}

// flushBucket writes what the disk does not have of a bucket, which may have been
// cleared from there.
func (q *TimerQueue[K]) flushBucket(b *timerBucket[K], w *writes, cleared bool) {
	if q.buckets[b.time] == b {
		q.reduce(b)
	} else {
		b.log = nil // fired, or deleted
	}
	live := map[TimerEntry[K]]bool{}
	if len(b.gone) > 0 {
		for _, op := range b.log {
			live[op.TimerEntry] = true
		}
	}
	for _, e := range b.gone {
		if live[e] || cleared { // set again since, or gone with the rest
			continue
		}
		live[e] = true // once
		w.begin()
		w.buf = q.entryKey(w.buf, b.time, e)
		w.delete()
	}
	b.gone = nil
	q.writeFrom(b, w)
	if b.stored = len(b.log); q.buckets[b.time] == b {
		q.forgetEmpty(b)
	}
}

func (q *TimerQueue[K]) memory() int64 {
	return int64(q.ops)*int64(unsafe.Sizeof(timerOp[K]{})) + int64(len(q.buckets))*bucketSize
}

// bucketSize is what a bucket costs beside its log, in the map and the heap.
const bucketSize = 200

// evict writes and forgets the timers furthest away, until about want bytes are
// free. A part stays, or every advance would have to go to disk.
func (q *TimerQueue[K]) evict(want int64, w *writes) (freed int64, err error) {
	if len(q.buckets) == 0 || q.firing != nil {
		return 0, q.err
	}
	if err := q.flush(w); err != nil { // which forgets buckets, too
		return 0, err
	}
	times := slices.Sorted(maps.Keys(q.buckets))
	before, cut := q.memory(), q.kept(times)
	for i := len(times) - 1; i >= cut && freed < want; i-- {
		b := q.buckets[times[i]]
		q.ops -= len(b.log)
		delete(q.buckets, b.time)
		times = times[:i]
		if !q.more || b.time < q.horizon {
			q.horizon, q.more = b.time, true
		}
		freed = before - q.memory()
	}
	q.last = nil
	q.times = append(q.times[:0], times...) // sorted, which is a heap
	for _, b := range q.buckets {
		b.partial = b.time >= q.horizon
	}
	return freed, nil
}

// kept returns how many of the times, which are sorted, eviction leaves alone.
func (q *TimerQueue[K]) kept(times []int64) int {
	n := 0
	for i, time := range times {
		if n += len(q.buckets[time].log); n > q.ops/4 && i > 0 {
			return i
		}
	}
	return len(times)
}

// Timer heap, by container/heap.
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

// NewTimerQueue declares timers under a name. The namespaces are those that
// entries refer to; more may be added until the first timer is due. Nil is one
// namespace without a name.
func NewTimerQueue[K comparable](b *Backend[K], name string, namespaces *[]string) *TimerQueue[K] {
	q := &TimerQueue[K]{b: b, name: name, namespaces: namespaces, section: sectionOf(kindTimers, name), passed: math.MinInt64, chunk: loadChunk}
	b.declare(q)
	return q
}

func (q *TimerQueue[K]) info() Info             { return Info{q.name, kindTimers, "", 1, ""} }
func (q *TimerQueue[K]) len() int               { return q.ops }
func (q *TimerQueue[K]) prefetch([]K, []uint64) {}

// attach leaves the timers that are on disk there until they are asked for.
func (q *TimerQueue[K]) attach(b *Backend[K]) error {
	if b.disk != nil {
		q.disk, q.horizon, q.more = b.disk, math.MinInt64, true
		return nil
	}
	b.queues = append(b.queues, q)
	return nil
}

// restore takes timers from what is to be restored, where there is no disk. It
// waits until all is declared, because it needs the names of the namespaces.
func (q *TimerQueue[K]) restore(from *pebble.DB) error {
	prefix := q.section.append(nil, onDisk)
	return scan(from, prefix, after(prefix), func(key, _ []byte) (bool, error) {
		time, e, err := q.decode(key)
		if errors.Is(err, errNamespace) {
			return true, nil
		}
		if err == nil && q.b.owned.Contains(KeyGroup(e.Hash, q.b.maxParallelism)) {
			q.Set(e, time, true)
		}
		return err == nil, err
	})
}

// writeAll writes all timers, where there is no disk.
func (q *TimerQueue[K]) writeAll(w *writes) {
	for _, b := range q.buckets {
		q.reduce(b)
		b.stored = 0
		q.writeFrom(b, w)
	}
}

func (q *TimerQueue[K]) writeFrom(b *timerBucket[K], w *writes) {
	for _, op := range b.log[min(b.stored, len(b.log)):] {
		w.begin()
		w.buf = q.entryKey(w.buf, b.time, op.TimerEntry)
		w.value()
		w.set()
	}
}
