package state

import "iter"

// List is a list of values for each key, in order of appending.
type List[K comparable, E any] struct{ v *Value[K, []E] }

// NewList declares a list; see [NewValue] for the name.
func NewList[E any, K comparable](b *Backend[K], name string) *List[K, E] {
	return &List[K, E]{NewValue[[]E](b, name)}
}

// Append adds values to the current key's list.
func (l *List[K, E]) Append(values ...E) {
	p := l.v.Upsert()
	*p = append(*p, values...)
}

// Get returns the current key's list. The slice belongs to the state: it may
// be read until the next call on this List, and not changed.
func (l *List[K, E]) Get() []E {
	if p := l.v.Ptr(); p != nil {
		return *p
	}
	return nil
}

// Set replaces the current key's list and takes ownership of values. An empty
// list is the same as none.
func (l *List[K, E]) Set(values []E) {
	if len(values) == 0 {
		l.v.Clear()
		return
	}
	l.v.Set(values)
}

// Clear forgets the current key's list.
func (l *List[K, E]) Clear() { l.v.Clear() }

// Map is a map for each key.
type Map[K comparable, MK comparable, MV any] struct{ v *Value[K, map[MK]MV] }

// NewMap declares a map; see [NewValue] for the name.
func NewMap[MK comparable, MV any, K comparable](b *Backend[K], name string) *Map[K, MK, MV] {
	return &Map[K, MK, MV]{NewValue[map[MK]MV](b, name)}
}

func (m *Map[K, MK, MV]) current() map[MK]MV {
	if p := m.v.Ptr(); p != nil {
		return *p
	}
	return nil
}

// Get returns the entry of the current key's map, and whether there is one.
func (m *Map[K, MK, MV]) Get(key MK) (MV, bool) {
	val, ok := m.current()[key]
	return val, ok
}

// Put sets an entry of the current key's map.
func (m *Map[K, MK, MV]) Put(key MK, val MV) {
	p := m.v.Upsert()
	if *p == nil {
		*p = make(map[MK]MV)
	}
	(*p)[key] = val
}

// Delete removes an entry; a map that becomes empty is forgotten.
func (m *Map[K, MK, MV]) Delete(key MK) {
	entries := m.current()
	delete(entries, key)
	if len(entries) == 0 {
		m.v.Clear()
	}
}

// Len returns the number of entries of the current key's map.
func (m *Map[K, MK, MV]) Len() int { return len(m.current()) }

// All iterates over the current key's map, in no order to rely on.
func (m *Map[K, MK, MV]) All() iter.Seq2[MK, MV] {
	return func(yield func(MK, MV) bool) {
		for k, v := range m.current() {
			if !yield(k, v) {
				return
			}
		}
	}
}

// Clear forgets the current key's map.
func (m *Map[K, MK, MV]) Clear() { m.v.Clear() }

// Group is one value for each key group rather than each key: a structure
// that many keys share and that still moves with them when a job is restored
// at another parallelism.
type Group[K comparable, V any] struct {
	b    *Backend[K]
	vals []*V
}

// NewGroup declares a value for each key group; see [NewValue] for the name.
func NewGroup[V any, K comparable](b *Backend[K], name string) *Group[K, V] {
	g := &Group[K, V]{b: b, vals: make([]*V, b.owned.Len())}
	b.declare(name, g.Len, nil)
	return g
}

// Upsert returns the value of the current key's group, first making it zero
// where there was none. The pointer holds for the life of the state.
func (g *Group[K, V]) Upsert() *V {
	p := &g.vals[KeyGroup(g.b.hash, g.b.maxParallelism)-g.b.owned.First]
	if *p == nil {
		*p = new(V)
	}
	return *p
}

// Hash returns the hash of the current key. The keys of one group agree in its
// remainder by the maximum parallelism, so mix it before putting it into a
// filter or sketch.
func (g *Group[K, V]) Hash() uint64 { return g.b.hash }

// Len returns the number of groups that have a value.
func (g *Group[K, V]) Len() int {
	n := 0
	for _, p := range g.vals {
		if p != nil {
			n++
		}
	}
	return n
}

// Each calls f for every group that has a value.
func (g *Group[K, V]) Each(f func(group int, val *V)) {
	for i, p := range g.vals {
		if p != nil {
			f(g.b.owned.First+i, p)
		}
	}
}
