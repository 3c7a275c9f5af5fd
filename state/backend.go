package state

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Backend holds the keyed state of one operator subtask, and the key that
// state calls speak of. The engine makes it and sets the key; an operator
// declares its state on it while it opens.
//
// Without a [Storage] it keeps everything in memory and for the life of the
// process. With one, [Backend.Attach] comes first, then the declarations, then
// [Backend.Ready]; after that, snapshots can be taken.
type Backend[K comparable] struct {
	key  K
	hash uint64

	maxParallelism int
	owned          Range
	declared       []declared[K]
	refused        error
	errs           []error

	storage  *Storage
	attached attachment
	opened   bool // a state was declared, with a storage
	closed   bool
	disk     *disk // nil: memory is all there is
	keys     keyCodec[K]
	hasher   func(K) uint64
	sources  []*pebble.DB // to be restored from, where there is no disk
	now      func(Clock) int64
	used     int64 // of the storage's memory, as last reported
	patience int64 // what it may hold until eviction is tried again
	pending  writes
	mortal   []mortal
	queues   []*TimerQueue[K] // to be restored from sources
	kept     atomic.Uint64    // the disk's version in the last snapshot, plus one
}

// declared is what a backend knows of a declared state without its types.
type declared[K comparable] interface {
	info() Info
	len() int
	prefetch(keys []K, hashes []uint64)
	// attach connects with the backend's disk, or restores from its sources.
	attach(b *Backend[K]) error
	// flush adds to w all that the disk does not have, or, without a disk, all.
	flush(w *writes) error
	memory() int64
	evict(want int64, w *writes) (freed int64, err error)
}

// Info describes one declared state, for the manifest of a checkpoint.
type Info struct {
	// Name is the name it was declared under.
	Name string
	// Kind is "value", "group" or "timers".
	Kind string
	// Type is the Go type of its values.
	Type string
	// Version is the version of the encoding.
	Version uint32
	// Shape is what [Shape] says.
	Shape string
}

// NewBackend returns an empty in-memory backend for the key groups in owned.
func NewBackend[K comparable](maxParallelism int, owned Range) *Backend[K] {
	return &Backend[K]{maxParallelism: maxParallelism, owned: owned, now: func(Clock) int64 { return 0 }}
}

// Refuse returns a backend on which every declaration fails with err. It
// stands where keyed state makes no sense, as on a stream without a key.
func Refuse[K comparable](err error) *Backend[K] {
	return &Backend[K]{maxParallelism: 1, refused: err}
}

// SetKey makes every following state call speak of key, whose hash must be
// that of [HasherFor].
func (b *Backend[K]) SetKey(key K, hash uint64) { b.key, b.hash = key, hash }

// Key returns the key that state calls speak of.
func (b *Backend[K]) Key() K { return b.key }

// Current returns the key that state calls speak of, with its hash.
func (b *Backend[K]) Current() (K, uint64) { return b.key, b.hash }

// Owned returns the key groups this backend holds.
func (b *Backend[K]) Owned() Range { return b.owned }

// MaxParallelism returns the number of key groups of the job.
func (b *Backend[K]) MaxParallelism() int { return b.maxParallelism }

// SetClock says where [TTL] takes the time from, in milliseconds: the event
// time of the record in hand or the watermark, whichever is later, and the
// processing time. The engine sets it.
func (b *Backend[K]) SetClock(now func(Clock) int64) { b.now = now }

// Err returns what went wrong while state was declared: a name that is empty
// or taken, state on a stream that has no key, a type that can't be kept, or
// what a checkpoint holds under that name and can't be read. The engine asks
// once, after the operator has opened, so an operator need not.
func (b *Backend[K]) Err() error { return errors.Join(b.errs...) }

// Len returns the number of entries in all declared state, timers left out.
func (b *Backend[K]) Len() int {
	n := 0
	b.Sizes(func(_ string, entries int) { n += entries })
	return n
}

// Sizes calls f with the name of every declared state and its number of
// entries, in memory or on disk, in order of declaration.
func (b *Backend[K]) Sizes(f func(name string, entries int)) {
	for _, d := range b.declared {
		if i := d.info(); i.Kind != kindTimers {
			f(i.Name, d.len())
		}
	}
}

// Declared describes all declared state.
func (b *Backend[K]) Declared() []Info {
	var all []Info
	for _, d := range b.declared {
		all = append(all, d.info())
	}
	return all
}

// Prefetch makes the look-ups of the keys of a batch cheaper, in every state
// that has grown large, and reads from disk what of them is there. The engine
// calls it before it hands the records of a batch to an operator one by one.
func (b *Backend[K]) Prefetch(keys []K, hashes []uint64) {
	for _, d := range b.declared {
		d.prefetch(keys, hashes)
	}
}

// Relieve gives memory back if the backends of the storage together hold too
// much. The engine calls it between batches; pointers into state do not survive
// it.
func (b *Backend[K]) Relieve() {
	if b.disk == nil {
		return
	}
	if b.account(); b.storage.used.Load() <= b.storage.budget {
		return
	}
	// One that holds little would only go to disk more often: others will give.
	if b.used*2 < b.storage.share() {
		return
	}
	// Where most is of a kind that stays, as a Group, looking for the rest with
	// every batch would take all the time there is.
	if b.used <= b.patience {
		return
	}
	// Writes wait while a snapshot gets its files; rather wait for it with memory.
	if b.disk.linking.Load() && b.storage.used.Load() < b.storage.budget+b.storage.budget/8 {
		return
	}
	before, want := b.used, max(b.storage.budget/16, 1)
	if err := b.evict(want); err != nil {
		panic(&StorageError{"", err})
	}
	if b.patience = 0; before-b.used <= want/4 {
		b.patience = b.used + want/4
	}
}

// DiskStats returns what the backend's disk has done, nothing if it has none. It
// may be called from any goroutine between the last declaration and Close.
func (b *Backend[K]) DiskStats() DiskStats {
	if b.disk == nil {
		return DiskStats{}
	}
	return b.disk.stats()
}

// evict frees about want bytes, from each state by its size.
func (b *Backend[K]) evict(want int64) error {
	for _, d := range b.declared {
		part := int64(float64(want) * float64(d.memory()) / float64(max(b.used, 1)))
		if _, err := d.evict(part, &b.pending); err != nil {
			return err
		}
	}
	err := b.disk.write(&b.pending)
	b.disk.compactIfDue(true)
	b.account()
	return err
}

// account tells the storage what this backend holds.
func (b *Backend[K]) account() {
	total := int64(0)
	for _, d := range b.declared {
		total += d.memory()
	}
	if total != b.used {
		b.storage.used.Add(total - b.used)
		b.used = total
	}
}

func (b *Backend[K]) declare(d declared[K]) {
	err := b.checkName(d.info())
	if err == nil && b.storage != nil && !b.opened {
		err = b.open()
	}
	if err == nil && b.storage != nil {
		if err = d.attach(b); err == nil {
			b.account()
		}
	}
	if err != nil {
		b.errs = append(b.errs, err)
	}
	b.declared = append(b.declared, d)
}

func (b *Backend[K]) checkName(i Info) error {
	if b.refused != nil {
		return fmt.Errorf("state %q: %w", i.Name, b.refused)
	}
	if i.Name == "" {
		return errors.New("state name is empty")
	}
	for _, d := range b.declared {
		o := d.info()
		if o.Name == i.Name && (o.Kind == kindTimers) == (i.Kind == kindTimers) {
			return fmt.Errorf("state %q is declared twice", i.Name)
		}
		if collide(o, i) {
			return fmt.Errorf("state %q: its name has the same hash as %q: choose another", i.Name, o.Name)
		}
	}
	return nil
}

// collide says whether two states would have a place on disk in common.
func collide(x, y Info) bool {
	if x.Name == y.Name {
		return sectionOf(x.Kind, x.Name) == sectionOf(y.Kind, y.Name)
	}
	for _, s := range []section{sectionOf(x.Kind, x.Name), sectionOf(countOf, x.Name)} {
		if s == sectionOf(y.Kind, y.Name) || s == sectionOf(countOf, y.Name) {
			return true
		}
	}
	return false
}

// The kinds of state.
const (
	kindValue  = "value"
	kindGroup  = "group"
	kindTimers = "timers"

	countOf = "count" // of the entries of a state
)
