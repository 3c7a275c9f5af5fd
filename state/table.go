package state

import (
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// table maps keys to values of one declared state. It is divided by key
// group, and each division is an open-addressing hash table with linear
// probing on the hash that the record already carries.
//
// Go's map is not used because it would hash every key a second time, cannot
// be divided or walked by key group, and gives no pointer into itself, which
// would cost a read and a write per update. Growing one group at a time also
// bounds the pause of a rehash to a 128th of the table. Values stand in the
// slots themselves: packed apart from the index, which saves memory, each
// look-up in a large table missed the cache once more.
//
// A table with a disk behind it is a write-back cache, see [backing].
type table[K comparable, V any] struct {
	groups         []group[K, V]
	maxParallelism uint64
	first          uint64
	entries        int            // those in memory
	slots          int            // of all groups, used or not
	back           *backing[K, V] // nil: memory is all there is

	slotSize  int
	lastLine  int // offset of the last byte of a slot that is worth prefetching
	stringKey bool
	sink      uint64 // keeps prefetch's reads from being optimized away
}

// group is one key group's division. A slot whose tag is 0 is empty.
type group[K comparable, V any] struct {
	slots     []slot[K, V]
	used      int
	count     int // keys that have a value, in a slot or not
	sparse    int // deletions in a row that found at most an eighth of the slots used
	elsewhere int // keys that are on disk and not in a slot; 0: what is not here is nowhere
}

// slot is a key and its value. The tag is the key's hash, with its lowest bits
// replaced by the slot's status. The keys of a group agree in those bits of the
// hash anyhow, for the usual number of groups.
type slot[K comparable, V any] struct {
	tag uint64
	key K
	val V
}

// The status of a slot. Without a disk every used slot is dirty and recent, so
// that a look-up never has to change it.
//
//	           insert                 flush                 evict
//	(nowhere) ────────▶ dirty ──────────────────▶ stored ──────────▶ (on disk)
//	    ▲                 │ ▲                      │  ▲ ▲               │
//	    │ delete          │ └───── write ──────────┘  │ └── look-up ────┘
//	    └─ if not stored ─┤                           │
//	                      └─ if stored ▶ dirty, dead ─┘ flush takes the slot away
const (
	inUse  uint64 = 1 << iota
	dirty         // the disk does not have it as it is here
	dead          // the key has no value; the disk may still have one, if dirty
	recent        // asked for since the last look of eviction
	stored        // the disk has something under this key
	novel         // read from disk and not asked for again since
	status = inUse | dirty | dead | recent | stored | novel
)

const minSlots = 8

func newTable[K comparable, V any](maxParallelism int, owned Range) *table[K, V] {
	size := int(unsafe.Sizeof(slot[K, V]{}))
	return &table[K, V]{
		groups:         make([]group[K, V], owned.Len()),
		maxParallelism: uint64(maxParallelism),
		first:          uint64(owned.First),
		slotSize:       size,
		lastLine:       min(size-1, 64),
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

// home is where a tag's probe starts, in a group of n slots. The low bits chose
// the group, so the slot is chosen by the high ones: by multiplication, so that n
// may be any number (Lemire, Fast Random Integer Generation in an Interval, 2019).
// With powers of two a cache of a given size would stand half empty.
func home(tag uint64, n int) int {
	hi, _ := bits.Mul64(tag, uint64(n))
	return int(hi)
}

// find returns the slot of key, or -1. The slot may say that it is dead.
func (g *group[K, V]) find(key K, hash uint64) int {
	slots := g.slots
	if len(slots) == 0 {
		return -1
	}
	tag := hash&^status | inUse
	for i := home(tag, len(slots)); ; {
		s := &slots[i]
		if s.tag&^(status&^inUse) == tag && s.key == key {
			return i
		}
		if s.tag == 0 {
			return -1
		}
		if i++; i == len(slots) {
			i = 0
		}
	}
}

// get returns the value of key, to be written to, or nil. It is find and a look
// into the slot, in one loop, since most of what a record costs in a small
// table is calls.
func (t *table[K, V]) get(key K, hash uint64) *V {
	g := t.group(hash)
	if slots := g.slots; len(slots) != 0 {
		tag := hash&^status | inUse
		for i := home(tag, len(slots)); ; {
			s := &slots[i]
			if s.tag&^(status&^inUse) == tag && s.key == key {
				if s.tag&(dirty|dead|recent) != dirty|recent {
					return t.touch(s, hash)
				}
				return &s.val
			}
			if s.tag == 0 {
				break
			}
			if i++; i == len(slots) {
				i = 0
			}
		}
	}
	if g.elsewhere != 0 {
		return t.touch(t.fetch(g, key, hash), hash)
	}
	return nil
}

// touch notes a write to a slot, and returns its value, or nil if it is dead.
func (t *table[K, V]) touch(s *slot[K, V], hash uint64) *V {
	if s.tag&dead != 0 {
		s.tag |= recent
		return nil
	}
	if s.tag&dirty == 0 {
		t.back.changed(hash)
	}
	s.tag |= dirty
	s.use()
	return &s.val
}

// use notes that a slot was asked for, once at least since it was read from disk.
// What is asked for a single time, as most keys are of those that are rarely seen,
// is so the first to go.
func (s *slot[K, V]) use() {
	if s.tag&novel != 0 {
		s.tag &^= novel
		return
	}
	s.tag |= recent
}

// peek returns the value of key, not to be written to, or nil.
func (t *table[K, V]) peek(key K, hash uint64) *V {
	g := t.group(hash)
	var s *slot[K, V]
	if i := g.find(key, hash); i >= 0 {
		s = &g.slots[i]
	} else if g.elsewhere != 0 {
		s = t.fetch(g, key, hash)
	}
	if s == nil {
		return nil
	}
	if s.tag&recent == 0 {
		s.use()
	}
	if s.tag&dead != 0 {
		return nil
	}
	return &s.val
}

// upsert returns the value of key, made zero where there was none. The
// pointer holds until the next call on the table.
func (t *table[K, V]) upsert(key K, hash uint64) (val *V, created bool) {
	g := t.group(hash)
	if slots := g.slots; len(slots) != 0 { // as in get
		tag := hash&^status | inUse
		for i := home(tag, len(slots)); ; {
			s := &slots[i]
			if s.tag&^(status&^inUse) == tag && s.key == key {
				if s.tag&(dirty|dead|recent) == dirty|recent {
					return &s.val, false
				}
				return t.written(s, hash)
			}
			if s.tag == 0 {
				break
			}
			if i++; i == len(slots) {
				i = 0
			}
		}
	}
	if g.elsewhere == 0 {
		return t.insert(g, key, hash), true
	}
	return t.written(t.fetch(g, key, hash), hash)
}

// written makes a slot dirty, and alive if it was dead.
func (t *table[K, V]) written(s *slot[K, V], hash uint64) (val *V, created bool) {
	if s.tag&dirty == 0 {
		t.back.changed(hash)
	}
	created = s.tag&dead != 0
	if created {
		t.entries++
		t.group(hash).count++
	}
	s.tag = s.tag&^dead | dirty
	s.use()
	return &s.val, created
}

// insert adds a key that has no slot.
func (t *table[K, V]) insert(g *group[K, V], key K, hash uint64) *V {
	t.entries++
	g.count++
	if t.back != nil {
		key = t.own(key)
		t.back.changed(hash)
	}
	return &t.place(g, key, hash&^status|inUse|dirty|recent).val
}

// own returns a key that is not a part of a larger record, which it would keep in
// memory.
func (t *table[K, V]) own(key K) K {
	if !t.stringKey {
		return key
	}
	s := strings.Clone(*(*string)(unsafe.Pointer(&key)))
	return *(*K)(unsafe.Pointer(&s))
}

// place puts a key into a new slot, first growing a group that is full.
func (t *table[K, V]) place(g *group[K, V], key K, tag uint64) *slot[K, V] {
	if t.full(g.used+1, len(g.slots)) {
		t.resize(g, t.grown(len(g.slots)))
	}
	g.used++
	s := &g.slots[g.empty(tag)]
	s.tag, s.key = tag, key
	return s
}

// full says whether so many used slots are more than is good for n: three quarters,
// or four fifths where memory is short and a longer probe is cheap beside a key that
// is not there.
func (t *table[K, V]) full(used, n int) bool {
	if t.spilled() {
		return used*5 > n*4
	}
	return used*4 > n*3
}

// grown returns how many slots come after n. Where memory is short they are not
// doubled, since most of the new ones would stand empty.
func (t *table[K, V]) grown(n int) int {
	if t.spilled() {
		return max(minSlots, n+n/8)
	}
	return max(minSlots, 2*n)
}

// spilled says whether memory was short.
func (t *table[K, V]) spilled() bool { return t.back != nil && t.back.spilled }

// empty returns the first empty slot on a tag's probe path.
func (g *group[K, V]) empty(tag uint64) int {
	i := home(tag, len(g.slots))
	for g.slots[i].tag != 0 {
		if i++; i == len(g.slots) {
			i = 0
		}
	}
	return i
}

func (t *table[K, V]) resize(g *group[K, V], slots int) {
	old := g.slots
	t.slots += slots - len(old)
	g.slots = make([]slot[K, V], slots)
	for i := range old {
		if old[i].tag != 0 {
			g.slots[g.empty(old[i].tag)] = old[i]
		}
	}
}

// delete removes key and says whether it was there.
func (t *table[K, V]) delete(key K, hash uint64) bool {
	g := t.group(hash)
	i := g.find(key, hash)
	if i < 0 {
		if g.elsewhere == 0 {
			return false
		}
		t.fetch(g, key, hash)
		i = g.find(key, hash)
	}
	s := &g.slots[i]
	if s.tag&dead != 0 {
		return false
	}
	t.entries--
	g.count--
	if s.tag&stored == 0 {
		t.remove(g, i)
		return true
	}
	if s.tag&dirty == 0 {
		t.back.changed(hash)
	}
	s.tag |= dead | dirty | recent
	s.val = *new(V)
	return true
}

// remove empties a slot. Later slots of the probe path are shifted back (Knuth,
// The Art of Computer Programming 3, 6.4, Algorithm R), so nothing is left and
// a table that empties stays fast.
func (t *table[K, V]) remove(g *group[K, V], found int) {
	hole, n := found, len(g.slots)
	for i := g.next(hole); g.slots[i].tag != 0; i = g.next(i) {
		at := home(g.slots[i].tag, n)
		if (i-at+n)%n >= (i-hole+n)%n { // its home is not after the hole
			g.slots[hole] = g.slots[i]
			hole = i
		}
	}
	g.slots[hole] = slot[K, V]{}
	g.used--
	t.shrink(g)
}

// next returns the slot that is probed after i.
func (g *group[K, V]) next(i int) int {
	if i++; i == len(g.slots) {
		return 0
	}
	return i
}

// shrink gives memory back when a burst of keys has gone for good. A table of
// windows empties whenever they fire, and is full again soon after; so it is not
// enough to find a group nearly empty, it must be so for many deletions, with
// no time in between at which it was not.
func (t *table[K, V]) shrink(g *group[K, V]) {
	if g.used*8 > len(g.slots) || len(g.slots) <= minSlots {
		g.sparse = 0
		return
	}
	if g.sparse++; g.sparse > len(g.slots)/4 {
		g.sparse = 0
		t.resize(g, len(g.slots)/2)
	}
}

// len returns the number of keys that have a value.
func (t *table[K, V]) len() int {
	n := 0
	for i := range t.groups {
		n += t.groups[i].count
	}
	return n
}

// each calls f for every entry in memory, group by group, until f returns false.
// f must not insert or delete.
func (t *table[K, V]) each(f func(key K, val *V) bool) {
	for gi := range t.groups {
		slots := t.groups[gi].slots
		for i := range slots {
			if slots[i].tag != 0 && slots[i].tag&dead == 0 && !f(slots[i].key, &slots[i].val) {
				return
			}
		}
	}
}

// cached is how large a table may be for prefetching to be a waste: about what
// a core keeps close.
const cached = 256 << 10

// prefetch reads, for every hash, the places a look-up will need: the slot, and
// the bytes of a string key. The reads of one pass do not depend on each other,
// so the processor has several misses under way at once, where look-ups one by
// one would wait for each in turn. Keys that are on disk are read from there.
func (t *table[K, V]) prefetch(keys []K, hashes []uint64) {
	if t.entries*t.slotSize >= cached {
		var found [64]*slot[K, V]
		for some := range slices.Chunk(hashes, len(found)) {
			t.prefetchSome(some, found[:0])
		}
	}
	if t.spilled() {
		t.prefetchDisk(keys, hashes)
	}
}

func (t *table[K, V]) prefetchSome(hashes []uint64, found []*slot[K, V]) {
	sink := uint64(0)
	for _, hash := range hashes {
		g := t.group(hash)
		if len(g.slots) == 0 {
			continue
		}
		s := &g.slots[home(hash, len(g.slots))]
		sink += s.tag + uint64(*(*byte)(unsafe.Add(unsafe.Pointer(s), t.lastLine)))
		found = append(found, s)
	}
	if t.stringKey {
		for _, s := range found {
			if key := *(*string)(unsafe.Pointer(&s.key)); len(key) > 0 {
				sink += uint64(key[0])
			}
		}
	}
	t.sink = sink
}
