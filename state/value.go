package state

import (
	"fmt"
	"reflect"
)

// Value is one value of type V for each key.
type Value[K comparable, V any] struct {
	b     *Backend[K]
	t     *table[K, V]
	about Info
	opts  []Option
	life  *lifetimes[K, V] // nil: values live until they are cleared
	back  *backing[K, V]   // nil: state ends with the process
}

// NewValue declares a value under a name that is unique within the operator
// and stable across releases: it identifies the state in checkpoints.
//
// Where the job takes checkpoints, or keeps more state than memory holds,
// values are encoded, by [CodecFor] their type unless [Encoding] gives another.
func NewValue[V any, K comparable](b *Backend[K], name string, opts ...Option) *Value[K, V] {
	v := &Value[K, V]{b: b, t: newTable[K, V](b.maxParallelism, b.owned), opts: opts}
	o := settled(opts)
	v.about = o.info(name, kindValue, reflect.TypeFor[V]())
	if ttl := o.ttl.Milliseconds(); ttl > 0 {
		v.life = newLifetimes(v, ttl, o.clock)
	}
	b.declare(v)
	return v
}

// Get returns the value of the current key, and whether there is one. What it
// refers to, if it does, must not be written to: use Ptr.
func (v *Value[K, V]) Get() (V, bool) {
	if p := v.t.peek(v.b.key, v.b.hash); p != nil {
		return *p, true
	}
	return *new(V), false
}

// Ptr returns the value of the current key in place, or nil when there is
// none. Writing through the pointer is an update. It holds until the next call
// on this Value, or the end of the call that the engine has made.
func (v *Value[K, V]) Ptr() *V {
	p := v.t.get(v.b.key, v.b.hash)
	if v.life != nil && p != nil {
		v.life.renew(v.b.key, v.b.hash)
	}
	return p
}

// Find is Ptr for a key other than the current one, with its hash: the way of
// operators on batches to skip making every record's key the current one. It
// does not renew a [TTL].
func (v *Value[K, V]) Find(key K, hash uint64) *V { return v.t.get(key, hash) }

// Upsert returns the value of the current key in place, first making it zero
// where there was none. The pointer holds as for [Value.Ptr].
func (v *Value[K, V]) Upsert() *V {
	if v.life != nil {
		v.life.renew(v.b.key, v.b.hash)
	}
	p, _ := v.t.upsert(v.b.key, v.b.hash)
	return p
}

// Set replaces the value of the current key.
func (v *Value[K, V]) Set(val V) {
	if v.life != nil {
		v.life.renew(v.b.key, v.b.hash)
	}
	p, _ := v.t.upsert(v.b.key, v.b.hash)
	*p = val
}

// Clear forgets the current key.
func (v *Value[K, V]) Clear() {
	v.t.delete(v.b.key, v.b.hash)
	if v.life != nil {
		v.life.forget(v.b.key, v.b.hash)
	}
}

// Prefetch makes the look-ups of these keys cheaper, those of a batch, and
// reads those that are on disk. The engine does it for operators that see
// records one by one; it is for a pipeline.BatchProcessor to call.
func (v *Value[K, V]) Prefetch(keys []K, hashes []uint64) { v.t.prefetch(keys, hashes) }

// Len returns the number of keys that have a value, in memory or on disk.
func (v *Value[K, V]) Len() int { return v.t.len() }

// Each calls f for every key of this subtask until f returns false, in no order
// to rely on: those in memory first, and then those that are only on disk. f may
// read val; it must not change it, nor add or remove entries.
func (v *Value[K, V]) Each(f func(key K, val *V) bool) {
	goOn := true
	v.t.each(func(key K, val *V) bool {
		goOn = f(key, val)
		return goOn
	})
	if b := v.t.back; b != nil && goOn {
		if err := b.eachElsewhere(f); err != nil {
			b.fail(err)
		}
	}
}

func (v *Value[K, V]) info() Info { return v.about }

func (v *Value[K, V]) len() int { return v.Len() }

func (v *Value[K, V]) prefetch(keys []K, hashes []uint64) { v.t.prefetch(keys, hashes) }

// attach makes the table a cache of the backend's disk, or fills it from what
// is to be restored.
func (v *Value[K, V]) attach(b *Backend[K]) error {
	s, err := schemaOf[V](v.opts)
	if err != nil {
		return fmt.Errorf("state %q: %w", v.about.Name, err)
	}
	v.back = &backing[K, V]{
		t: v.t, name: v.about.Name, disk: b.disk, section: sectionOf(kindValue, v.about.Name), counts: sectionOf(countOf, v.about.Name),
		keys: b.keys, hash: b.hasher, schema: s,
	}
	if b.disk == nil {
		return b.restoreEach(v.back.section, func(_ int, key, val []byte) error { return v.back.restore(key, val) })
	}
	v.t.back = v.back
	return v.back.load(b.storage.room)
}

func (v *Value[K, V]) flush(w *writes) error {
	if v.t.back == nil {
		return v.back.writeAll(w)
	}
	return v.back.flush(w)
}

func (v *Value[K, V]) memory() int64 {
	if v.t.back == nil {
		return 0
	}
	return v.back.memory()
}

func (v *Value[K, V]) evict(want int64, w *writes) (int64, error) { return v.back.evict(want, w) }
