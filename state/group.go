package state

import (
	"encoding/binary"
	"fmt"
	"reflect"
)

// Group is one value for each key group rather than each key: a structure
// that many keys share and that still moves with them when a job is restored
// at another parallelism. Its values are always in memory.
type Group[K comparable, V any] struct {
	b       *Backend[K]
	about   Info
	opts    []Option
	schema  schema[V]
	section section
	vals    []*V
	dirty   []bool
	sizes   map[groupPart]int // of the last encodings
	bytes   int64             // all of them
}

// groupPart is a part of the value of a group. A value that is not in parts has
// part 0 only.
type groupPart struct {
	group int
	part  uint64
}

// Parts is implemented, by its pointer, by a [Group]'s value that is kept in
// parts, so that those which no longer change are written once and not with
// every snapshot. Parts are told apart by numbers that are not used again.
type Parts interface {
	// Changed calls put for each part that is new or was changed since the last
	// call, and drop for each that is gone since then.
	Changed(put func(id uint64, data []byte), drop func(id uint64)) error
	// All calls put for each part there is.
	All(put func(id uint64, data []byte)) error
	// Restore takes back what was put under id, in no particular order; the value
	// was zero before the first. It must not keep data.
	Restore(id uint64, data []byte) error
}

// NewGroup declares a value for each key group; see [NewValue] for the name and
// encoding. A value that implements [Parts] needs no encoding.
func NewGroup[V any, K comparable](b *Backend[K], name string, opts ...Option) *Group[K, V] {
	g := &Group[K, V]{b: b, opts: opts, vals: make([]*V, b.owned.Len()), dirty: make([]bool, b.owned.Len()), sizes: map[groupPart]int{}}
	o := settled(opts)
	g.about = o.info(name, kindGroup, reflect.TypeFor[V]())
	g.section = sectionOf(kindGroup, name)
	b.declare(g)
	return g
}

// Upsert returns the value of the current key's group, first making it zero
// where there was none, to be written to. The pointer holds for the life of the
// state, but only what was written since the last call of Upsert, and before the
// engine's call returned, is sure to be kept.
func (g *Group[K, V]) Upsert() *V {
	i := KeyGroup(g.b.hash, g.b.maxParallelism) - g.b.owned.First
	p := &g.vals[i]
	if *p == nil {
		*p = new(V)
	}
	g.dirty[i] = true
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

// Each calls f for every group that has a value, which f may write to.
func (g *Group[K, V]) Each(f func(group int, val *V)) {
	for i, p := range g.vals {
		if p != nil {
			g.dirty[i] = true
			f(g.b.owned.First+i, p)
		}
	}
}

func (g *Group[K, V]) info() Info             { return g.about }
func (g *Group[K, V]) len() int               { return g.Len() }
func (g *Group[K, V]) prefetch([]K, []uint64) {}
func (g *Group[K, V]) memory() int64          { return g.bytes }

func (g *Group[K, V]) evict(int64, *writes) (int64, error) { return 0, nil }

// sized notes how large a part is now.
func (g *Group[K, V]) sized(group int, part uint64, size int) {
	at := groupPart{group, part}
	g.bytes += int64(size - g.sizes[at])
	if g.sizes[at] = size; size == 0 {
		delete(g.sizes, at)
	}
}

func (g *Group[K, V]) attach(b *Backend[K]) error {
	if _, parted := any(new(V)).(Parts); !parted {
		s, err := schemaOf[V](g.opts)
		if err != nil {
			return fmt.Errorf("state %q: %w", g.about.Name, err)
		}
		g.schema = s
	}
	return b.restoreEach(g.section, g.restore)
}

func (g *Group[K, V]) restore(group int, key, val []byte) error {
	p := &g.vals[group-g.b.owned.First]
	if *p == nil {
		*p = new(V)
	}
	parts, parted := any(*p).(Parts)
	if !parted {
		g.sized(group, 0, len(val))
		return g.schema.decode(g.about.Name, val, *p)
	}
	if len(key) != 8 {
		return fmt.Errorf("state %q: part %x of group %d has no number", g.about.Name, key, group)
	}
	g.sized(group, binary.BigEndian.Uint64(key), len(val))
	if err := parts.Restore(binary.BigEndian.Uint64(key), val); err != nil {
		return fmt.Errorf("state %q: part %d of group %d: %w", g.about.Name, binary.BigEndian.Uint64(key), group, err)
	}
	return nil
}

func (g *Group[K, V]) flush(w *writes) error {
	for i, p := range g.vals {
		if p == nil || !g.dirty[i] && g.b.disk != nil {
			continue
		}
		if err := g.flushGroup(g.b.owned.First+i, p, w); err != nil {
			return fmt.Errorf("state %q: group %d: %w", g.about.Name, g.b.owned.First+i, err)
		}
		g.dirty[i] = false
	}
	return nil
}

func (g *Group[K, V]) flushGroup(group int, p *V, w *writes) (err error) {
	parts, parted := any(p).(Parts)
	if !parted {
		w.begin()
		w.buf = g.section.append(w.buf, group)
		w.value()
		if w.buf, err = g.schema.append(w.buf, p); err != nil {
			return err
		}
		w.set()
		g.sized(group, 0, len(w.buf)-w.valAt)
		return nil
	}
	part := func(id uint64) {
		w.begin()
		w.buf = binary.BigEndian.AppendUint64(g.section.append(w.buf, group), id)
	}
	put := func(id uint64, data []byte) {
		part(id)
		w.value()
		w.buf = append(w.buf, data...)
		w.set()
		g.sized(group, id, len(data))
	}
	if g.b.disk == nil {
		return parts.All(put)
	}
	return parts.Changed(put, func(id uint64) {
		part(id)
		w.delete()
		g.sized(group, id, 0)
	})
}
