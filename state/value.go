package state

// Value is one value of type V for each key.
type Value[K comparable, V any] struct {
	b *Backend[K]
	t *table[K, V]
}

// NewValue declares a value under a name that is unique within the operator
// and stable across releases: it identifies the state in checkpoints.
func NewValue[V any, K comparable](b *Backend[K], name string) *Value[K, V] {
	t := newTable[K, V](b.maxParallelism, b.owned)
	b.declare(name, func() int { return t.entries }, t.prefetch)
	return &Value[K, V]{b, t}
}

// Get returns the value of the current key, and whether there is one.
func (v *Value[K, V]) Get() (V, bool) {
	if p := v.t.get(v.b.key, v.b.hash); p != nil {
		return *p, true
	}
	return *new(V), false
}

// Ptr returns the value of the current key in place, or nil when there is
// none. Writing through the pointer is an update. It holds until the next
// call on this Value that adds or removes an entry.
func (v *Value[K, V]) Ptr() *V { return v.t.get(v.b.key, v.b.hash) }

// Find is Ptr for a key other than the current one, with its hash: the way of
// operators on batches to skip making every record's key the current one.
func (v *Value[K, V]) Find(key K, hash uint64) *V { return v.t.get(key, hash) }

// Upsert returns the value of the current key in place, first making it zero
// where there was none. The pointer holds as for [Value.Ptr].
func (v *Value[K, V]) Upsert() *V {
	p, _ := v.t.upsert(v.b.key, v.b.hash)
	return p
}

// Set replaces the value of the current key.
func (v *Value[K, V]) Set(val V) {
	p, _ := v.t.upsert(v.b.key, v.b.hash)
	*p = val
}

// Clear forgets the current key.
func (v *Value[K, V]) Clear() { v.t.delete(v.b.key, v.b.hash) }

// Prefetch makes the look-ups of keys with these hashes cheaper, those of a
// batch. It changes nothing. The engine does it for operators that see records
// one by one; it is for a pipeline.BatchProcessor to call.
func (v *Value[K, V]) Prefetch(hashes []uint64) { v.t.prefetch(hashes) }

// Len returns the number of keys that have a value.
func (v *Value[K, V]) Len() int { return v.t.entries }

// Each calls f for every key of this subtask until f returns false, in no
// order to rely on. f may write through val; it must not add or remove
// entries.
func (v *Value[K, V]) Each(f func(key K, val *V) bool) { v.t.each(f) }
