package state

import "iter"

// List is a list of values for each key, in order of appending. The whole list
// is read and written as one, so it is not for very long ones.
type List[K comparable, E any] struct{ v *Value[K, []E] }

// NewList declares a list; see [NewValue] for the name.
func NewList[E any, K comparable](b *Backend[K], name string, opts ...Option) *List[K, E] {
	return &List[K, E]{NewValue[[]E](b, name, opts...)}
}

// Append adds values to the current key's list.
func (l *List[K, E]) Append(values ...E) {
	p := l.v.Upsert()
	*p = append(*p, values...)
}

// Get returns the current key's list. The slice belongs to the state: it may
// be read until the next call on this List, and not changed.
func (l *List[K, E]) Get() []E {
	list, _ := l.v.Get()
	return list
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

// Map is a map for each key. The whole map is read and written as one: where a
// key's entries are many, make them part of the key.
type Map[K comparable, MK comparable, MV any] struct{ v *Value[K, map[MK]MV] }

// NewMap declares a map; see [NewValue] for the name.
func NewMap[MK comparable, MV any, K comparable](b *Backend[K], name string, opts ...Option) *Map[K, MK, MV] {
	return &Map[K, MK, MV]{NewValue[map[MK]MV](b, name, opts...)}
}

func (m *Map[K, MK, MV]) current() map[MK]MV {
	entries, _ := m.v.Get()
	return entries
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
	p := m.v.Ptr()
	if p == nil {
		return
	}
	if delete(*p, key); len(*p) == 0 {
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
