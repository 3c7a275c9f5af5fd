package state

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// packed is a string of at most 15 bytes: the bytes, followed by zeros, and the
// length in the last of 16. Most keys that are strings are that short, and in this
// form they take no memory beside the slot, are compared without a call, and, where
// values hold no pointers either, leave the garbage collector nothing to look at.
type packed struct{ lo, hi uint64 }

const (
	maxPacked = 15
	lengthAt  = 56 // bits into hi
)

// pack packs a string, unless it is too long. The loads of a longer string overlap
// instead of going byte by byte.
func pack(s string) (p packed, ok bool) {
	b, n := unsafe.Slice(unsafe.StringData(s), len(s)), len(s)
	switch {
	case n > maxPacked:
		return p, false
	case n >= 8:
		p.lo = binary.LittleEndian.Uint64(b)
		p.hi = binary.LittleEndian.Uint64(b[n-8:]) >> (8 * (16 - n))
	case n >= 4:
		p.lo = uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4))
	case n > 0:
		p.lo = uint64(b[0]) | uint64(b[n/2])<<(8*(n/2)) | uint64(b[n-1])<<(8*(n-1))
	}
	p.hi |= uint64(n) << lengthAt
	return p, true
}

// append appends the bytes of the string.
func (p packed) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, p.lo)
	dst = binary.LittleEndian.AppendUint64(dst, p.hi)
	return dst[:len(dst)-16+int(p.hi>>lengthAt)]
}

func (p packed) String() string {
	var buf [16]byte
	return string(p.append(buf[:0]))
}

// unpacked returns a string as the type of key that it is.
func unpacked[K comparable](p packed) (key K) {
	*(*string)(unsafe.Pointer(&key)) = p.String()
	return key
}

// hash is that of the string, as [HasherFor] has it.
func (p packed) hash() uint64 {
	var buf [16]byte
	return xxhash.Sum64(p.append(buf[:0]))
}

// errLongKey is the error of a key that can't be packed.
var errLongKey = errors.New("too long to be packed")

// packedKeys writes what [stringKeys] does.
var packedKeys = keyCodec[packed]{
	append: func(dst []byte, k packed) []byte { return k.append(dst) },
	decode: func(src []byte) (packed, error) {
		if k, ok := pack(unsafe.String(unsafe.SliceData(src), len(src))); ok {
			return k, nil
		}
		return packed{}, errLongKey
	},
	describe: "string",
}

// packKey is pack for the types of key that are strings, and for those only.
func packKey[K comparable](key K) (packed, bool) { return pack(*(*string)(unsafe.Pointer(&key))) }

// rekeyed returns a table's content with keys of another type. The slots stay in
// their places: a key's place depends on its hash only. The table is left as it is,
// for whoever iterates over it just then.
func rekeyed[From, To comparable, V any](t *table[From, V], to func(From) To) *table[To, V] {
	n := newTable[To, V](int(t.maxParallelism), Range{int(t.first), int(t.first) + len(t.groups) - 1})
	n.entries, n.slots = t.entries, t.slots
	for i := range t.groups {
		g := &t.groups[i]
		n.groups[i] = group[To, V]{
			slots: make([]slot[To, V], len(g.slots)),
			used:  g.used, count: g.count, sparse: g.sparse, elsewhere: g.elsewhere,
		}
		for j := range g.slots {
			if s := &g.slots[j]; s.tag != 0 {
				n.groups[i].slots[j] = slot[To, V]{tag: s.tag, key: to(s.key), val: s.val}
			}
		}
	}
	return n
}
