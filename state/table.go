package state

import (
	"reflect"
	"unsafe"
)

// table maps keys to values of one declared state. It is divided by key
// group. Each division keeps its entries packed in a slice, and finds them by
// an open-addressing index with linear probing on the hash that the record
// already carries.
//
// Go's map is not used because it would hash every key a second time, cannot
// be divided or walked by key group, and gives no pointer into itself, which
// would cost a read and a write per update. Growing one group at a time also
// bounds the pause of a rehash to a 128th of the table. The index is apart
// from the entries because an index that stays in the processor's cache saves
// one of the two misses that a look-up in a large table costs.
type table[K comparable, V any] struct {
	groups         []group[K, V]
	maxParallelism uint64
	first          uint64
	entries        int

	entrySize int
	stringKey bool
	sink      uint64 // keeps prefetch's reads from being optimized away
}

// group is one key group's division.
type group[K comparable, V any] struct {
	index   []indexSlot
	entries []entry[K, V]
}

// indexSlot is the upper half of a hash and, in its lower half, the entry's
// position plus one; 0 is an empty slot.
type indexSlot uint64

type entry[K comparable, V any] struct {
	hash uint64
	key  K
	val  V
}

const minSlots = 8

func newTable[K comparable, V any](maxParallelism int, owned Range) *table[K, V] {
	return &table[K, V]{
		groups:         make([]group[K, V], owned.Len()),
		maxParallelism: uint64(maxParallelism),
		first:          uint64(owned.First),
		entrySize:      int(unsafe.Sizeof(entry[K, V]{})),
		stringKey:      reflect.TypeFor[K]().Kind() == reflect.String,
	}
}

func (t *table[K, V]) group(hash uint64) *group[K, V] {
	// The modulus of a constant power of two costs nothing beside a division.
	if t.maxParallelism == DefaultMaxParallelism {
		return &t.groups[hash%DefaultMaxParallelism-t.first]
	}
	return &t.groups[hash%t.maxParallelism-t.first]
}

func slotOf(hash uint64, position int) indexSlot {
	return indexSlot(hash>>32<<32 | uint64(position+1))
}

func (s indexSlot) matches(hash uint64) bool { return uint64(s)>>32 == hash>>32 }
func (s indexSlot) position() int            { return int(uint32(s)) - 1 }

// home is where a hash's probe starts. Its lowest bits chose the group and its
// upper half tells slots apart, so the ones between choose the slot.
func (g *group[K, V]) home(hash uint64) uint64 {
	return (hash >> 8) & uint64(len(g.index)-1)
}

// find returns the position of key in entries, or -1.
func (g *group[K, V]) find(key K, hash uint64) int {
	if len(g.index) == 0 {
		return -1
	}
	mask := uint64(len(g.index) - 1)
	for i := g.home(hash); ; i = (i + 1) & mask {
		s := g.index[i]
		if s == 0 {
			return -1
		}
		if s.matches(hash) {
			if p := s.position(); g.entries[p].key == key {
				return p
			}
		}
	}
}

// get returns the value of key, or nil.
func (t *table[K, V]) get(key K, hash uint64) *V {
	g := t.group(hash)
	if p := g.find(key, hash); p >= 0 {
		return &g.entries[p].val
	}
	return nil
}

// upsert returns the value of key, made zero where there was none. The
// pointer holds until the next upsert or delete.
func (t *table[K, V]) upsert(key K, hash uint64) (val *V, created bool) {
	g := t.group(hash)
	if p := g.find(key, hash); p >= 0 {
		return &g.entries[p].val, false
	}
	t.entries++
	return g.insert(key, hash), true
}

// insert adds an entry, first growing an index that is three quarters full.
func (g *group[K, V]) insert(key K, hash uint64) *V {
	if (len(g.entries)+1)*4 > len(g.index)*3 {
		g.reindex(max(minSlots, 2*len(g.index)))
	}
	g.index[g.empty(hash)] = slotOf(hash, len(g.entries))
	g.entries = append(g.entries, entry[K, V]{hash: hash, key: key})
	return &g.entries[len(g.entries)-1].val
}

// empty returns the first empty slot on a hash's probe path.
func (g *group[K, V]) empty(hash uint64) uint64 {
	mask := uint64(len(g.index) - 1)
	i := g.home(hash)
	for g.index[i] != 0 {
		i = (i + 1) & mask
	}
	return i
}

func (g *group[K, V]) reindex(slots int) {
	g.index = make([]indexSlot, slots)
	for p := range g.entries {
		hash := g.entries[p].hash
		g.index[g.empty(hash)] = slotOf(hash, p)
	}
}

// delete removes key and says whether it was there. The last entry takes its
// place, so entries stay packed.
func (t *table[K, V]) delete(key K, hash uint64) bool {
	g := t.group(hash)
	p := g.find(key, hash)
	if p < 0 {
		return false
	}
	t.entries--
	g.unindex(g.slotAt(hash, p))
	last := len(g.entries) - 1
	if p != last {
		moved := g.entries[last]
		g.index[g.slotAt(moved.hash, last)] = slotOf(moved.hash, p)
		g.entries[p] = moved
	}
	g.entries[last] = entry[K, V]{}
	g.entries = g.entries[:last]
	g.shrink()
	return true
}

// slotAt returns the slot that points to a position.
func (g *group[K, V]) slotAt(hash uint64, position int) uint64 {
	mask := uint64(len(g.index) - 1)
	i := g.home(hash)
	for g.index[i].position() != position {
		i = (i + 1) & mask
	}
	return i
}

// unindex empties a slot. Later slots of the probe path are shifted back
// (Knuth, The Art of Computer Programming 3, 6.4, Algorithm R), so no tombstone
// is left and a table that empties stays fast.
func (g *group[K, V]) unindex(hole uint64) {
	mask := uint64(len(g.index) - 1)
	for i := (hole + 1) & mask; g.index[i] != 0; i = (i + 1) & mask {
		home := g.home(g.entries[g.index[i].position()].hash)
		if (i-home)&mask >= (i-hole)&mask { // its home is not after the hole
			g.index[hole] = g.index[i]
			hole = i
		}
	}
	g.index[hole] = 0
}

// shrink gives memory back after a burst of keys has gone, at an eighth full
// so that a group does not grow and shrink by turns.
func (g *group[K, V]) shrink() {
	if len(g.index) <= minSlots || len(g.entries)*8 > len(g.index) {
		return
	}
	g.entries = append(make([]entry[K, V], 0, len(g.index)/4), g.entries...)
	g.reindex(len(g.index) / 2)
}

// each calls f for every entry, group by group, until f returns false. f must
// not insert or delete.
func (t *table[K, V]) each(f func(key K, val *V) bool) {
	for gi := range t.groups {
		entries := t.groups[gi].entries
		for i := range entries {
			if !f(entries[i].key, &entries[i].val) {
				return
			}
		}
	}
}

// cached is how large a table may be for prefetching to be a waste: about what
// a core keeps close.
const cached = 256 << 10

// prefetch reads, for every hash, the three places a look-up will need: the
// index slot, the entry, and the bytes of a string key. The reads of one pass
// do not depend on each other, so the processor has several misses under way
// at once, where look-ups one by one would wait for each in turn. It halves the
// cost of an update in a table of 100,000 keys and more.
func (t *table[K, V]) prefetch(hashes []uint64) {
	if t.entries*t.entrySize < cached {
		return
	}
	var positions [64]*entry[K, V]
	for len(hashes) > 0 {
		n := min(len(positions), len(hashes))
		t.prefetchSome(hashes[:n], positions[:0])
		hashes = hashes[n:]
	}
}

func (t *table[K, V]) prefetchSome(hashes []uint64, found []*entry[K, V]) {
	sink := uint64(0)
	for _, hash := range hashes {
		if g := t.group(hash); len(g.index) > 0 {
			sink += uint64(g.index[g.home(hash)])
		}
	}
	for _, hash := range hashes {
		g := t.group(hash)
		if len(g.index) == 0 {
			continue
		}
		if s := g.index[g.home(hash)]; s != 0 {
			e := &g.entries[s.position()]
			sink += e.hash
			found = append(found, e)
		}
	}
	if t.stringKey {
		for _, e := range found {
			if key := *(*string)(unsafe.Pointer(&e.key)); len(key) > 0 {
				sink += uint64(key[0])
			}
		}
	}
	t.sink = sink
}
