package state

// table maps keys to values of one declared state. It is divided by key
// group, and each division is an open-addressing hash table with linear
// probing on the hash that the record already carries.
//
// Go's map is not used because it would hash every key a second time (about
// as much as the rest of the look-up), cannot be divided or walked by key
// group, and gives no pointer into itself, which would cost a read and a
// write per update. Growing one group at a time also bounds the pause of a
// rehash to a 128th of the table.
type table[K comparable, V any] struct {
	groups         []group[K, V]
	maxParallelism uint64
	first          uint64
	entries        int
}

// group is one key group's division. A slot whose tag is 0 is empty.
type group[K comparable, V any] struct {
	slots []slot[K, V]
	used  int
}

type slot[K comparable, V any] struct {
	tag uint64 // the key's hash, its lowest bit set
	key K
	val V
}

const minSlots = 8

func newTable[K comparable, V any](maxParallelism int, owned Range) *table[K, V] {
	return &table[K, V]{
		groups:         make([]group[K, V], owned.Len()),
		maxParallelism: uint64(maxParallelism),
		first:          uint64(owned.First),
	}
}

func (t *table[K, V]) group(hash uint64) *group[K, V] {
	// The modulus of a constant power of two costs nothing beside a division.
	if t.maxParallelism == DefaultMaxParallelism {
		return &t.groups[hash%DefaultMaxParallelism-t.first]
	}
	return &t.groups[hash%t.maxParallelism-t.first]
}

// home is where a tag's probe starts. The low bits chose the group, so the
// slot is chosen by the high ones.
func (g *group[K, V]) home(tag uint64) uint64 { return (tag >> 32) & uint64(len(g.slots)-1) }

func (g *group[K, V]) find(key K, hash uint64) *slot[K, V] {
	if g.used == 0 {
		return nil
	}
	tag, mask := hash|1, uint64(len(g.slots)-1)
	for i := g.home(tag); ; i = (i + 1) & mask {
		s := &g.slots[i]
		if s.tag == tag && s.key == key {
			return s
		}
		if s.tag == 0 {
			return nil
		}
	}
}

// get returns the value of key, or nil.
func (t *table[K, V]) get(key K, hash uint64) *V {
	if s := t.group(hash).find(key, hash); s != nil {
		return &s.val
	}
	return nil
}

// upsert returns the value of key, made zero where there was none. The
// pointer holds until the next upsert or delete.
func (t *table[K, V]) upsert(key K, hash uint64) (val *V, created bool) {
	g := t.group(hash)
	if len(g.slots) == 0 {
		g.slots = make([]slot[K, V], minSlots)
	}
	tag, mask := hash|1, uint64(len(g.slots)-1)
	for i := g.home(tag); ; i = (i + 1) & mask {
		s := &g.slots[i]
		if s.tag == tag && s.key == key {
			return &s.val, false
		}
		if s.tag == 0 {
			return t.insert(g, i, key, tag), true
		}
	}
}

// insert fills the empty slot i, growing first when the group is three
// quarters full.
func (t *table[K, V]) insert(g *group[K, V], i uint64, key K, tag uint64) *V {
	if (g.used+1)*4 > len(g.slots)*3 {
		g.grow()
		i = g.empty(tag)
	}
	g.used++
	t.entries++
	s := &g.slots[i]
	s.tag, s.key = tag, key
	return &s.val
}

// empty returns the first empty slot on a tag's probe path.
func (g *group[K, V]) empty(tag uint64) uint64 {
	mask := uint64(len(g.slots) - 1)
	i := g.home(tag)
	for g.slots[i].tag != 0 {
		i = (i + 1) & mask
	}
	return i
}

func (g *group[K, V]) grow() {
	old := g.slots
	g.slots = make([]slot[K, V], 2*len(old))
	for i := range old {
		if old[i].tag != 0 {
			g.slots[g.empty(old[i].tag)] = old[i]
		}
	}
}

// delete removes key and says whether it was there. Later slots of the probe
// path are shifted back (Knuth, The Art of Computer Programming 3, 6.4,
// Algorithm R), so no tombstone is left and a table that empties stays fast.
func (t *table[K, V]) delete(key K, hash uint64) bool {
	g := t.group(hash)
	s := g.find(key, hash)
	if s == nil {
		return false
	}
	mask := uint64(len(g.slots) - 1)
	hole := g.indexOf(s)
	for i := (hole + 1) & mask; g.slots[i].tag != 0; i = (i + 1) & mask {
		home := g.home(g.slots[i].tag)
		if (i-home)&mask >= (i-hole)&mask { // its home is not after the hole
			g.slots[hole] = g.slots[i]
			hole = i
		}
	}
	g.slots[hole] = slot[K, V]{}
	g.used--
	t.entries--
	g.shrink()
	return true
}

func (g *group[K, V]) indexOf(s *slot[K, V]) uint64 {
	mask := uint64(len(g.slots) - 1)
	i := g.home(s.tag)
	for &g.slots[i] != s {
		i = (i + 1) & mask
	}
	return i
}

// shrink gives memory back after a burst of keys has gone, at an eighth full
// so that a group does not grow and shrink by turns.
func (g *group[K, V]) shrink() {
	if len(g.slots) <= minSlots || g.used*8 > len(g.slots) {
		return
	}
	old := g.slots
	g.slots = make([]slot[K, V], len(old)/2)
	for i := range old {
		if old[i].tag != 0 {
			g.slots[g.empty(old[i].tag)] = old[i]
		}
	}
}

// each calls f for every entry, group by group, until f returns false. f must
// not insert or delete.
func (t *table[K, V]) each(f func(key K, val *V) bool) {
	for gi := range t.groups {
		slots := t.groups[gi].slots
		for i := range slots {
			if slots[i].tag != 0 && !f(slots[i].key, &slots[i].val) {
				return
			}
		}
	}
}
