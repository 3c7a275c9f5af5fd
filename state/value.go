package state

import (
	"errors"
	"fmt"
	"reflect"
)

// Value is one value of type V for each key.
type Value[K comparable, V any] struct {
	b      *Backend[K]
	about  Info
	opts   []Option
	life   *lifetimes[K, V] // nil: values live until they are cleared
	schema schema[V]

	// There is one table. Where keys are strings it begins with short, and turns to
	// t for good with the first key that can't be packed. Both beside each other
	// would save that, and both would be to be iterated over, counted and evicted.
	short *table[packed, V]
	t     *table[K, V]

	// What is behind the table; nil: state ends with the process.
	shortBack *backing[packed, V]
	back      *backing[K, V]

	packing []packed // while prefetching
}

// persistent is a [backing] of either form.
type persistent interface {
	flush(w *writes) error
	writeAll(w *writes) error
	memory() int64
	evict(want int64, w *writes) (freed int64, err error)
}

// NewValue declares a value under a name that is unique within the operator
// and stable across releases: it identifies the state in checkpoints.
//
// Where the job takes checkpoints, or keeps more state than memory holds,
// values are encoded, by [CodecFor] their type unless [Encoding] gives another.
func NewValue[V any, K comparable](b *Backend[K], name string, opts ...Option) *Value[K, V] {
	v := &Value[K, V]{b: b, opts: opts}
	if reflect.TypeFor[K]().Kind() == reflect.String {
		v.short = newTable[packed, V](b.maxParallelism, b.owned)
	} else {
		v.t = newTable[K, V](b.maxParallelism, b.owned)
	}
	o := settled(opts)
	v.about = o.info(name, kindValue, reflect.TypeFor[V]())
	if ttl := o.ttl.Milliseconds(); ttl > 0 {
		v.life = newLifetimes(v, ttl, o.clock)
	}
	b.declare(v)
	return v
}

// lengthen turns from short to long keys. On disk they are the same.
func (v *Value[K, V]) lengthen() {
	v.t = rekeyed(v.short, unpacked[K])
	if v.shortBack != nil {
		v.back = newBacking(v, v.t, v.b.keys, v.b.hasher)
		v.back.progress = v.shortBack.progress
	}
	v.short, v.shortBack, v.packing = nil, nil, nil
}

// The look-ups choose between the tables each for itself. To choose in one place
// is a call more for each of them, which takes half as long again as a look-up of a
// number in a small table.

// Get returns the value of the current key, and whether there is one. What it
// refers to, if it does, must not be written to: use Ptr.
func (v *Value[K, V]) Get() (V, bool) {
	if v.short != nil {
		if k, ok := packKey(v.b.key); ok {
			return found(v.short.peek(k, v.b.hash))
		}
		v.lengthen()
	}
	return found(v.t.peek(v.b.key, v.b.hash))
}

func found[V any](p *V) (V, bool) {
	if p == nil {
		return *new(V), false
	}
	return *p, true
}

// Ptr returns the value of the current key in place, or nil when there is
// none. Writing through the pointer is an update. It holds until the next call
// on this Value, or the end of the call that the engine has made.
func (v *Value[K, V]) Ptr() *V {
	var p *V
	if v.short == nil {
		p = v.t.get(v.b.key, v.b.hash)
	} else {
		p = v.Find(v.b.key, v.b.hash)
	}
	if v.life != nil && p != nil {
		v.life.renew(v.b.key, v.b.hash)
	}
	return p
}

// Find is Ptr for a key other than the current one, with its hash: the way of
// operators on batches to skip making every record's key the current one. It
// does not renew a [TTL].
func (v *Value[K, V]) Find(key K, hash uint64) *V {
	if v.short != nil {
		if k, ok := packKey(key); ok {
			return v.short.get(k, hash)
		}
		v.lengthen()
	}
	return v.t.get(key, hash)
}

// Upsert returns the value of the current key in place, first making it zero
// where there was none. The pointer holds as for [Value.Ptr].
func (v *Value[K, V]) Upsert() *V {
	if v.life != nil {
		v.life.renew(v.b.key, v.b.hash)
	}
	if v.short != nil {
		if k, ok := packKey(v.b.key); ok {
			p, _ := v.short.upsert(k, v.b.hash)
			return p
		}
		v.lengthen()
	}
	p, _ := v.t.upsert(v.b.key, v.b.hash)
	return p
}

// Set replaces the value of the current key.
func (v *Value[K, V]) Set(val V) { *v.Upsert() = val }

// Clear forgets the current key.
func (v *Value[K, V]) Clear() {
	v.delete(v.b.key, v.b.hash)
	if v.life != nil {
		v.life.forget(v.b.key, v.b.hash)
	}
}

func (v *Value[K, V]) peek(key K, hash uint64) *V {
	if v.short != nil {
		if k, ok := packKey(key); ok {
			return v.short.peek(k, hash)
		}
		v.lengthen()
	}
	return v.t.peek(key, hash)
}

func (v *Value[K, V]) upsert(key K, hash uint64) (val *V, created bool) {
	if v.short != nil {
		if k, ok := packKey(key); ok {
			return v.short.upsert(k, hash)
		}
		v.lengthen()
	}
	return v.t.upsert(key, hash)
}

func (v *Value[K, V]) delete(key K, hash uint64) {
	if v.short != nil {
		if k, ok := packKey(key); ok {
			v.short.delete(k, hash)
			return
		}
		v.lengthen()
	}
	v.t.delete(key, hash)
}

// Prefetch makes the look-ups of these keys cheaper, those of a batch, and
// reads those that are on disk. The engine does it for operators that see
// records one by one; it is for a pipeline.BatchProcessor to call.
func (v *Value[K, V]) Prefetch(keys []K, hashes []uint64) {
	if v.short == nil {
		v.t.prefetch(keys, hashes)
		return
	}
	if !v.short.spilled() {
		v.short.prefetch(nil, hashes)
		return
	}
	v.packing = v.packing[:0]
	for _, key := range keys {
		k, ok := packKey(key)
		if !ok {
			v.lengthen()
			v.t.prefetch(keys, hashes)
			return
		}
		v.packing = append(v.packing, k)
	}
	v.short.prefetch(v.packing, hashes)
}

// Len returns the number of keys that have a value, in memory or on disk.
func (v *Value[K, V]) Len() int {
	if v.short != nil {
		return v.short.len()
	}
	return v.t.len()
}

// Each calls f for every key of this subtask until f returns false, in no order
// to rely on: those in memory first, and then those that are only on disk. f may
// read val; it must not change it, nor add or remove entries.
func (v *Value[K, V]) Each(f func(key K, val *V) bool) {
	if v.short != nil {
		eachEntry(v.b, v.short, unpacked[K], packKey[K], f)
		return
	}
	eachEntry(v.b, v.t, func(key K) K { return key }, func(key K) (K, bool) { return key, true }, f)
}

func (v *Value[K, V]) info() Info { return v.about }

func (v *Value[K, V]) len() int { return v.Len() }

func (v *Value[K, V]) prefetch(keys []K, hashes []uint64) { v.Prefetch(keys, hashes) }

// attach makes the table a cache of the backend's disk, or fills it from what
// is to be restored.
func (v *Value[K, V]) attach(b *Backend[K]) (err error) {
	if v.schema, err = schemaOf[V](v.opts); err != nil {
		return fmt.Errorf("state %q: %w", v.about.Name, err)
	}
	if v.short != nil {
		v.shortBack = newBacking(v, v.short, packedKeys, packed.hash)
	} else {
		v.back = newBacking(v, v.t, b.keys, b.hasher)
	}
	if b.disk == nil {
		return b.restoreEach(sectionOf(kindValue, v.about.Name), v.restore)
	}
	if v.short == nil {
		return v.back.load(b.storage.room)
	}
	if err = v.shortBack.load(b.storage.room); !errors.Is(err, errLongKey) {
		return err
	}
	// What was loaded is given up. It is little, as a rule: the keys of a state do not
	// differ so much that the first which is too long comes late.
	v.short = newTable[packed, V](b.maxParallelism, b.owned)
	v.shortBack = newBacking(v, v.short, packedKeys, packed.hash)
	v.lengthen()
	return v.back.load(b.storage.room)
}

// restore takes one entry of a snapshot into a table without a disk.
func (v *Value[K, V]) restore(_ int, enc, val []byte) error {
	key, err := v.b.keys.decode(enc)
	if err != nil {
		return fmt.Errorf("state %q: key %x: %w", v.about.Name, enc, err)
	}
	p, _ := v.upsert(key, v.b.hasher(key))
	return v.schema.decode(v.about.Name, val, p)
}

// behind returns what is behind short or t.
func (v *Value[K, V]) behind() persistent {
	if v.short != nil {
		return v.shortBack
	}
	return v.back
}

func (v *Value[K, V]) flush(w *writes) error {
	if v.b.disk == nil {
		return v.behind().writeAll(w)
	}
	return v.behind().flush(w)
}

func (v *Value[K, V]) memory() int64 {
	if v.b.disk == nil || v.shortBack == nil && v.back == nil { // which never was attached
		return 0
	}
	return v.behind().memory()
}

func (v *Value[K, V]) evict(want int64, w *writes) (int64, error) { return v.behind().evict(want, w) }
