package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
)

// backing is what makes a table the write-back cache of a disk: entries are
// read when they are asked for, changed in memory, and written when a snapshot
// is taken or when memory runs short.
type backing[K comparable, V any] struct {
	t       *table[K, V]
	name    string
	disk    *disk
	section section
	counts  section
	keys    keyCodec[K]
	hash    func(K) uint64
	schema  schema[V]
	progress

	scratch []byte
	missing []missing[K]    // while prefetching
	read    [readers][]byte // and their values
}

// progress is what a backing knows of its table and of the disk beyond what they
// hold, none of which depends on the type of the keys.
type progress struct {
	dirtied []uint64 // hashes of the slots that became dirty since the last flush
	all     bool     // dirtied would be longer than is worth it: look at every slot
	spilled bool     // some group has keys elsewhere
	hand    int      // the group eviction looks at next
	size    int      // what a value takes encoded, on average, times 16
	keySize int      // and a key
	counted []int    // of each group, as the disk has it
	absent  bool     // most of those asked for last were not on disk either
}

// newBacking returns the backing of a table of v, and connects the table with it if
// there is a disk.
func newBacking[K, S comparable, V any](v *Value[K, V], t *table[S, V], keys keyCodec[S], hash func(S) uint64) *backing[S, V] {
	name := v.about.Name
	b := &backing[S, V]{
		t: t, name: name, disk: v.b.disk, section: sectionOf(kindValue, name), counts: sectionOf(countOf, name),
		keys: keys, hash: hash, schema: v.schema,
	}
	if b.disk != nil {
		t.back = b
	}
	return b
}

type missing[K comparable] struct {
	key  K
	hash uint64
	enc  []byte

	found bool
	val   []byte
}

// section is the part of the disk that one declared state has within each key
// group.
type section uint32

func sectionOf(kind, name string) section {
	return section(xxhash.Sum64String(kind + ":" + name))
}

// append appends the beginning of all the section's keys of a group.
func (s section) append(dst []byte, group int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(group))
	return binary.BigEndian.AppendUint32(dst, uint32(s))
}

const prefixLen = 6

// StorageError is what a look-up in state panics with when the disk fails. The
// engine stops the job; it is not for user code to handle.
type StorageError struct {
	State string // empty where it is of several
	Err   error
}

func (e *StorageError) Error() string {
	if e.State == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("state %q: %v", e.State, e.Err)
}

// Unwrap returns the cause.
func (e *StorageError) Unwrap() error { return e.Err }

func (b *backing[K, V]) fail(err error) {
	panic(&StorageError{b.name, err})
}

// changed notes that the slot of a key becomes dirty. It is given the key's hash
// and not the tag, which does not tell the group.
func (b *backing[K, V]) changed(hash uint64) {
	if b.all {
		return
	}
	if len(b.dirtied) > 1024 && len(b.dirtied) > b.t.slots/4 {
		b.all, b.dirtied = true, b.dirtied[:0]
		return
	}
	b.dirtied = append(b.dirtied, hash)
}

// key appends an entry's key on disk.
func (b *backing[K, V]) key(dst []byte, key K, hash uint64) []byte {
	dst = b.section.append(dst, int(hash%b.t.maxParallelism))
	return b.keys.append(dst, key)
}

// value appends an entry's value on disk: the version of its encoding, and the
// encoding.
func (b *backing[K, V]) value(dst []byte, val *V) ([]byte, error) {
	at := len(dst)
	dst, err := b.schema.append(dst, val)
	if err != nil {
		return dst, fmt.Errorf("state %q: %w", b.name, err)
	}
	b.size += len(dst) - at - b.size/16
	return dst, nil
}

func (s *schema[V]) append(dst []byte, val *V) ([]byte, error) {
	dst, err := s.codec.Append(binary.AppendUvarint(dst, uint64(s.version)), val)
	if err != nil {
		return dst, fmt.Errorf("encode: %w", err)
	}
	return dst, nil
}

// decode reads a value, of an earlier version by way of its migration.
func (b *backing[K, V]) decode(src []byte, val *V) error {
	return b.schema.decode(b.name, src, val)
}

// ErrVersion is matched by the error for state that was written in a version
// which neither the state's codec nor any migration reads.
var ErrVersion = errors.New("unreadable version")

func (s *schema[V]) decode(name string, src []byte, val *V) error {
	version, n := binary.Uvarint(src)
	if n <= 0 {
		return fmt.Errorf("state %q: value without a version", name)
	}
	if version == uint64(s.version) {
		if err := s.codec.Decode(src[n:], val); err != nil {
			return fmt.Errorf("state %q: decode version %d: %w", name, version, err)
		}
		return nil
	}
	migrate := s.migrations[uint32(version)]
	if migrate == nil || version > math.MaxUint32 {
		return fmt.Errorf("state %q: %w: it is of version %d, the operator reads version %d%s",
			name, ErrVersion, version, s.version, s.migratable())
	}
	old, err := migrate(src[n:])
	if err != nil {
		return fmt.Errorf("state %q: migrate from version %d to %d: %w", name, version, s.version, err)
	}
	*val = old
	return nil
}

func (s *schema[V]) migratable() string {
	if len(s.migrations) == 0 {
		return " and has no migration"
	}
	var from []uint32
	for v := range s.migrations {
		from = append(from, v)
	}
	slices.Sort(from)
	return fmt.Sprintf(" and migrates from %v", from)
}

// fetch reads a key that has no slot from disk and gives it one, a dead one if
// there is nothing.
func (t *table[K, V]) fetch(g *group[K, V], key K, hash uint64) *slot[K, V] {
	b := t.back
	b.scratch = b.key(b.scratch[:0], key, hash)
	s, err := b.fetchEncoded(g, key, hash, b.scratch)
	if err != nil {
		b.fail(err)
	}
	return s
}

func (b *backing[K, V]) fetchEncoded(g *group[K, V], key K, hash uint64, enc []byte) (*slot[K, V], error) {
	data, closer, err := b.disk.get(enc)
	if err != nil {
		return nil, err
	}
	if closer == nil {
		return b.fetched(g, key, hash, nil, false)
	}
	s, err := b.fetched(g, key, hash, data, true)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	return s, err
}

// fetched gives a slot to what the disk has under a key, if it has something.
func (b *backing[K, V]) fetched(g *group[K, V], key K, hash uint64, data []byte, found bool) (*slot[K, V], error) {
	key = b.t.own(key)
	if !found {
		return b.t.place(g, key, hash&^status|inUse|dead|novel), nil
	}
	var val V
	if err := b.decode(data, &val); err != nil {
		return nil, err
	}
	return b.loaded(g, key, hash, val), nil
}

// loaded gives a slot to what was read from disk.
func (b *backing[K, V]) loaded(g *group[K, V], key K, hash uint64, val V) *slot[K, V] {
	t := b.t
	t.entries++
	g.elsewhere = max(g.elsewhere-1, 0)
	s := t.place(g, key, hash&^status|inUse|novel|stored)
	s.val = val
	return s
}

// prefetchDisk reads those of the keys that are on disk, in the disk's order:
// neighbours share blocks, and reading in order finds them in the cache.
func (t *table[K, V]) prefetchDisk(keys []K, hashes []uint64) {
	b := t.back
	b.missing, b.scratch = b.missing[:0], b.scratch[:0]
	for i, hash := range hashes {
		g := t.group(hash)
		if g.elsewhere == 0 || g.find(keys[i], hash) >= 0 {
			continue
		}
		from := len(b.scratch)
		b.scratch = b.key(b.scratch, keys[i], hash)
		b.missing = append(b.missing, missing[K]{key: keys[i], hash: hash, enc: b.scratch[from:len(b.scratch):len(b.scratch)]})
	}
	if len(b.missing) == 0 {
		return
	}
	slices.SortFunc(b.missing, func(x, y missing[K]) int { return bytes.Compare(x.enc, y.enc) })
	b.missing = slices.CompactFunc(b.missing, func(x, y missing[K]) bool { return bytes.Equal(x.enc, y.enc) })
	b.disk.reads.Add(int64(len(b.missing)))
	if err := b.readMissing(); err != nil {
		b.fail(err)
	}
	for i := range b.missing {
		m := &b.missing[i]
		if _, err := b.fetched(t.group(m.hash), m.key, m.hash, m.val, m.found); err != nil {
			b.fail(err)
		}
	}
	clear(b.missing)
}

// readers is how many goroutines may read what a batch misses: disks are faster
// when they are asked for several things at once. Even what the page cache holds
// takes 10 to 20 µs a key, so that to wake another one is worth its while for a few.
const (
	readers      = 4
	readerEnough = 16
	readAtOnce   = 8 // neighbours, after which a reader looks what the others have left
)

// readMissing reads the values of the missing keys, which are sorted.
func (b *backing[K, V]) readMissing() error {
	var errs [readers]error
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := 1; i < min(readers, len(b.missing)/readerEnough+1); i++ {
		wg.Go(func() { errs[i] = b.readSome(i, &next) })
	}
	errs[0] = b.readSome(0, &next)
	wg.Wait()
	found := 0
	for i := range b.missing {
		if b.missing[i].found {
			found++
		}
	}
	b.absent = found < len(b.missing)/2
	return errors.Join(errs[:]...)
}

// readSome is what one of the readers does. Its iterator keeps open what a look-up
// of every key on its own would open anew, and is as exact: it seeks by the whole
// key, so Bloom filters spare it the files that do not have it.
func (b *backing[K, V]) readSome(reader int, next *atomic.Int64) (err error) {
	it, err := b.disk.lookups(b.absent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	buf := b.read[reader][:0]
	for to := readAtOnce; to-readAtOnce < len(b.missing); {
		to = int(next.Add(readAtOnce))
		for i := to - readAtOnce; i < min(to, len(b.missing)); i++ {
			if buf, err = b.missing[i].seek(it, buf); err != nil {
				return fmt.Errorf("read: %w", err)
			}
		}
	}
	b.read[reader] = buf
	return nil
}

// seek looks for the key, and appends its value to buf.
func (m *missing[K]) seek(it *pebble.Iterator, buf []byte) ([]byte, error) {
	if m.found = it.SeekPrefixGE(m.enc); !m.found {
		return buf, it.Error()
	}
	val, err := it.ValueAndErr()
	from := len(buf)
	buf = append(buf, val...)
	m.val = buf[from:len(buf):len(buf)]
	return buf, err
}

// flush writes every dirty slot, and how many keys there now are.
func (b *backing[K, V]) flush(w *writes) error {
	if b.all {
		for gi := range b.t.groups {
			if err := b.flushGroup(&b.t.groups[gi], w); err != nil {
				return err
			}
		}
	} else {
		for _, hash := range b.dirtied {
			if err := b.flushHash(hash, w); err != nil {
				return err
			}
		}
	}
	b.dirtied, b.all = b.dirtied[:0], false
	if cap(b.dirtied) > 4*len(b.t.groups)*minSlots+b.t.slots {
		b.dirtied = nil
	}
	b.flushCounts(w)
	return nil
}

// flushCounts writes the number of keys of the groups in which it has changed:
// a restart that has not the memory to read them all could not know it
// otherwise.
func (b *backing[K, V]) flushCounts(w *writes) {
	for gi := range b.t.groups {
		n := b.t.groups[gi].count
		if n == b.counted[gi] {
			continue
		}
		b.counted[gi] = n
		w.begin()
		w.buf = b.counts.append(w.buf, gi+int(b.t.first))
		w.value()
		w.buf = binary.AppendUvarint(w.buf, uint64(n))
		w.set()
	}
}

// flushGroup writes the dirty slots of a group, and takes the dead ones away.
func (b *backing[K, V]) flushGroup(g *group[K, V], w *writes) error {
	for i := 0; i < len(g.slots); {
		s := &g.slots[i]
		if s.tag&dirty == 0 {
			i++
			continue
		}
		gone, err := b.flushSlot(g, s, w)
		if err != nil {
			return err
		}
		if !gone {
			i++
			continue
		}
		size := len(g.slots)
		b.t.remove(g, i) // another slot may have moved here
		if len(g.slots) != size {
			i = 0 // and now they may have moved anywhere
		}
	}
	return nil
}

// flushHash writes the dirty slots of keys with a hash, rarely more than one.
func (b *backing[K, V]) flushHash(hash uint64, w *writes) error {
	g := b.t.group(hash)
	for again := true; again && len(g.slots) > 0; {
		again = false
		tag := hash&^status | inUse
		for i := home(tag, len(g.slots)); g.slots[i].tag != 0; i = g.next(i) {
			s := &g.slots[i]
			if s.tag&^(status&^inUse) != tag || s.tag&dirty == 0 {
				continue
			}
			gone, err := b.flushSlot(g, s, w)
			if err != nil {
				return err
			}
			if gone {
				b.t.remove(g, i)
				again = true
				break
			}
		}
	}
	return nil
}

// flushSlot writes a slot, and says whether it is to be taken away.
func (b *backing[K, V]) flushSlot(g *group[K, V], s *slot[K, V], w *writes) (gone bool, err error) {
	group := b.groupOf(g)
	w.begin()
	w.buf = b.keys.append(b.section.append(w.buf, group), s.key)
	b.keySize += len(w.buf) - w.keyAt - prefixLen - b.keySize/16
	if s.tag&dead != 0 {
		w.delete()
		return true, nil
	}
	w.value()
	if w.buf, err = b.value(w.buf, &s.val); err != nil {
		return false, err
	}
	w.set()
	s.tag = s.tag&^dirty | stored
	return false, nil
}

// groupOf returns the key group that a division is for.
func (b *backing[K, V]) groupOf(g *group[K, V]) int {
	return int((uintptr(unsafe.Pointer(g))-uintptr(unsafe.Pointer(&b.t.groups[0])))/unsafe.Sizeof(*g)) + int(b.t.first)
}

// evict writes and forgets slots that were not asked for since the last time,
// until about want bytes are free (second chance, or clock: Corbató, 1968).
func (b *backing[K, V]) evict(want int64, w *writes) (freed int64, err error) {
	before := b.memory()
	for range 2 * len(b.t.groups) {
		if freed >= want {
			break
		}
		g := &b.t.groups[b.hand]
		b.hand = (b.hand + 1) % len(b.t.groups)
		if err := b.evictGroup(g, w); err != nil {
			return freed, err
		}
		freed = before - b.memory()
	}
	return freed, nil
}

func (b *backing[K, V]) evictGroup(g *group[K, V], w *writes) (err error) {
	before := g.used
	for i := 0; i < len(g.slots) && err == nil; i++ {
		s := &g.slots[i]
		switch {
		case s.tag == 0:
		case s.tag&recent != 0:
			s.tag &^= recent
		default:
			err = b.evictSlot(g, s, w)
		}
	}
	if g.used == before {
		return err
	}
	// What is left stands on broken probe paths: place it anew, in a table that
	// has room to grow by a sixth.
	b.t.resize(g, min(max(minSlots, g.used*3/2+1), len(g.slots)))
	return err
}

func (b *backing[K, V]) evictSlot(g *group[K, V], s *slot[K, V], w *writes) error {
	if s.tag&dirty != 0 {
		if _, err := b.flushSlot(g, s, w); err != nil {
			return err
		}
	}
	if s.tag&dead == 0 {
		b.t.entries--
		g.elsewhere++
		b.spilled = true
	}
	*s = slot[K, V]{}
	g.used--
	return nil
}

// memory estimates what the table holds. What values refer to is taken to be
// as large as their encoding.
func (b *backing[K, V]) memory() int64 {
	t := b.t
	return int64(t.slots)*int64(t.slotSize) + int64(t.entries)*int64(b.perEntry()) + int64(cap(b.dirtied))*8
}

func (b *backing[K, V]) perEntry() int {
	n := 0
	if b.t.stringKey {
		n = (b.keySize/16 + 15) &^ 15 // as the allocator rounds it up
	}
	if b.schema.pointers {
		n += b.size/16 + 16
	}
	return n
}

// load reads what the disk has into memory, as far as there is room.
func (b *backing[K, V]) load(room func(bytes int64) bool) error {
	b.counted = make([]int, len(b.t.groups))
	for gi := range b.t.groups {
		if err := b.loadGroup(gi, room); err != nil {
			return err
		}
	}
	return nil
}

func (b *backing[K, V]) loadGroup(gi int, room func(int64) bool) error {
	g, number := &b.t.groups[gi], gi+int(b.t.first)
	count, err := b.loadCount(number)
	if err != nil {
		return err
	}
	loaded := 0
	err = b.disk.scan(b.section.append(nil, number), func(key, val []byte) (bool, error) {
		if !room(b.memory()) {
			g.elsewhere, b.spilled = max(count-loaded, 1), true
			return false, nil
		}
		loaded++
		return true, b.take(g, key[prefixLen:], val)
	})
	g.count, b.counted[gi] = loaded+g.elsewhere, count
	return err
}

func (b *backing[K, V]) loadCount(group int) (int, error) {
	val, closer, err := b.disk.get(b.counts.append(nil, group))
	if closer == nil || err != nil {
		return 0, err
	}
	n, read := binary.Uvarint(val)
	if read != len(val) || n > math.MaxInt32*1024 {
		err = fmt.Errorf("state %q: the number of entries of group %d is malformed", b.name, group)
	}
	return int(n), errors.Join(err, closer.Close())
}

func (b *backing[K, V]) decodeKey(key []byte) (K, error) {
	k, err := b.keys.decode(key)
	if err != nil {
		err = fmt.Errorf("state %q: key %x: %w", b.name, key, err)
	}
	return k, err
}

// take puts one entry of the disk into memory.
func (b *backing[K, V]) take(g *group[K, V], key, val []byte) error {
	k, err := b.decodeKey(key)
	if err != nil {
		return err
	}
	var v V
	if err := b.decode(val, &v); err != nil {
		return err
	}
	b.size += len(val) - b.size/16
	b.keySize += len(key) - b.keySize/16
	b.loaded(g, k, b.hash(k), v)
	return nil
}

// writeAll writes all entries of a table without a disk.
func (b *backing[K, V]) writeAll(w *writes) error {
	for gi := range b.t.groups {
		g := &b.t.groups[gi]
		for i := range g.slots {
			if g.slots[i].tag == 0 {
				continue
			}
			if _, err := b.flushSlot(g, &g.slots[i], w); err != nil {
				return err
			}
			g.slots[i].tag = g.slots[i].tag&^stored | dirty
		}
	}
	b.counted = make([]int, len(b.t.groups))
	b.flushCounts(w)
	return nil
}

// eachEntry calls f for the entries of a table in memory, and then for those only on
// disk. The table's keys are of a type of its own: a key of the disk that has no
// form in it is not in memory.
func eachEntry[K, S comparable, V any](
	b *Backend[K], t *table[S, V], from func(S) K, to func(K) (S, bool), f func(key K, val *V) bool,
) {
	goOn := true
	t.each(func(key S, val *V) bool {
		goOn = f(from(key), val)
		return goOn
	})
	if t.back == nil || !goOn {
		return
	}
	err := t.back.eachElsewhere(func(g *group[S, V], enc, data []byte) (bool, error) {
		key, err := b.keys.decode(enc)
		if err != nil {
			return false, fmt.Errorf("state %q: key %x: %w", t.back.name, enc, err)
		}
		if own, ok := to(key); ok && g.find(own, b.hasher(key)) >= 0 {
			return true, nil
		}
		var val V
		if err := t.back.decode(data, &val); err != nil {
			return false, err
		}
		goOn = f(key, &val)
		return goOn, nil
	})
	if err != nil {
		t.back.fail(err)
	}
}

// eachElsewhere calls f for what the disk has of the groups that are not all in
// memory, until f returns false.
func (b *backing[K, V]) eachElsewhere(f func(g *group[K, V], key, val []byte) (bool, error)) error {
	goOn := true
	for gi := range b.t.groups {
		g := &b.t.groups[gi]
		if g.elsewhere == 0 || !goOn {
			continue
		}
		err := b.disk.scan(b.section.append(nil, gi+int(b.t.first)), func(key, val []byte) (bool, error) {
			var err error
			goOn, err = f(g, key[prefixLen:], val)
			return goOn, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
