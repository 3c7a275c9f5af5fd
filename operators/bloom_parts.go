package operators

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bits-and-blooms/bloom/v3"
)

// filterParts is what keeping filters apart needs to know. Part 0 is the list of
// generations, and says which part each filter is in; a filter's number is never
// used again, so one that is full is written once and then left alone.
type filterParts struct {
	last  uint64                        // the highest number given
	list  []byte                        // part 0, as it was last kept
	gone  []uint64                      // kept, and no longer there
	early map[uint64]*bloom.BloomFilter // restored before the list was
}

// listPart is the part that the list of generations is kept under.
const listPart = 0

// partsVersion begins the list.
const partsVersion = 1

var errParts = errors.New("not a list of Bloom filters")

// drop notes that filters are gone.
func (p *filterParts) drop(filters []idFilter) {
	for i := range filters {
		if filters[i].part != 0 {
			p.gone = append(p.gone, filters[i].part)
		}
	}
}

// Changed implements [state.Parts].
func (g *generations) Changed(put func(id uint64, data []byte), drop func(id uint64)) error {
	for _, id := range g.parts.gone {
		drop(id)
	}
	g.parts.gone = nil
	g.putFilters(put, func(f *idFilter) bool { return f.changed })
	if list := g.list(); !bytes.Equal(list, g.parts.list) {
		g.parts.list = list
		put(listPart, list)
	}
	return nil
}

// All implements [state.Parts].
func (g *generations) All(put func(id uint64, data []byte)) error {
	g.putFilters(put, func(*idFilter) bool { return true })
	put(listPart, g.list())
	return nil
}

func (g *generations) putFilters(put func(id uint64, data []byte), due func(*idFilter) bool) {
	for i := range g.live {
		for j := range g.live[i].filters {
			f := &g.live[i].filters[j]
			if !due(f) {
				continue
			}
			if f.part == 0 {
				g.parts.last++
				f.part = g.parts.last
			}
			f.changed = false
			put(f.part, f.encode())
		}
	}
}

// encode gives the number of places, of marks, and the places.
func (f *idFilter) encode() []byte {
	words := f.bits.BitSet().Words()
	data := make([]byte, 0, 8*len(words)+2*binary.MaxVarintLen64)
	data = binary.AppendUvarint(data, uint64(f.bits.Cap()))
	data = binary.AppendUvarint(data, uint64(f.bits.K()))
	for _, w := range words {
		data = binary.LittleEndian.AppendUint64(data, w)
	}
	return data
}

func decodeFilter(data []byte) (*bloom.BloomFilter, error) {
	places, n := binary.Uvarint(data)
	marks, m := binary.Uvarint(data[max(n, 0):])
	if n <= 0 || m <= 0 {
		return nil, errors.New("not a Bloom filter")
	}
	data = data[n+m:]
	if places == 0 || places > 64*uint64(len(data)) || uint64(len(data)) != (places+63)/64*8 || marks == 0 || marks > 256 {
		return nil, fmt.Errorf("not a Bloom filter: %d places and %d marks in %d bytes", places, marks, len(data))
	}
	words := make([]uint64, len(data)/8)
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(data[8*i:])
	}
	return bloom.FromWithM(words, uint(places), uint(marks)), nil
}

// list encodes all but the filters' content.
func (g *generations) list() []byte {
	data := []byte{partsVersion}
	data = binary.AppendUvarint(data, g.parts.last)
	data = binary.AppendUvarint(data, uint64(len(g.live)))
	for i := range g.live {
		gen := &g.live[i]
		for _, t := range []int64{gen.first, gen.last, gen.since} {
			data = binary.AppendVarint(data, t)
		}
		data = binary.AppendUvarint(data, uint64(len(gen.filters)))
		for _, f := range gen.filters {
			data = binary.AppendUvarint(data, f.part)
			data = binary.AppendUvarint(data, uint64(f.ids))
			data = binary.AppendUvarint(data, uint64(f.room))
		}
	}
	return data
}

// Restore implements [state.Parts].
func (g *generations) Restore(id uint64, data []byte) error {
	if id == listPart {
		if err := g.restoreList(data); err != nil {
			return err
		}
		g.parts.list = bytes.Clone(data)
		return nil
	}
	filter, err := decodeFilter(data)
	if err != nil {
		return err
	}
	for i := range g.live {
		for j := range g.live[i].filters {
			if f := &g.live[i].filters[j]; f.part == id {
				f.bits = filter
				return nil
			}
		}
	}
	if g.parts.early == nil {
		g.parts.early = map[uint64]*bloom.BloomFilter{}
	}
	g.parts.early[id] = filter
	return nil
}

// restoreList makes the generations. A filter that is yet to come is full of
// everything meanwhile, so that one that never comes costs time and no record.
func (g *generations) restoreList(data []byte) error {
	r := listReader{data: data}
	if r.byte() != partsVersion {
		return errParts
	}
	g.parts.last = r.uvarint()
	for range r.count() {
		gen := generation{first: r.varint(), last: r.varint(), since: r.varint()}
		for range r.count() {
			f := idFilter{part: r.uvarint(), ids: int(r.uvarint()), room: int(r.uvarint())}
			if f.bits = g.parts.early[f.part]; f.bits == nil {
				f.bits = bloom.FromWithM([]uint64{^uint64(0)}, 64, 1)
			}
			gen.filters = append(gen.filters, f)
		}
		g.live = append(g.live, gen)
	}
	g.parts.early = nil
	if r.failed || len(r.data) > 0 {
		g.live = nil
		return errParts
	}
	return nil
}

// listReader reads numbers until one is missing.
type listReader struct {
	data   []byte
	failed bool
}

func (r *listReader) byte() byte {
	if len(r.data) == 0 {
		r.failed = true
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *listReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	r.took(n)
	return v
}

func (r *listReader) varint() int64 {
	v, n := binary.Varint(r.data)
	r.took(n)
	return v
}

func (r *listReader) took(n int) {
	if n <= 0 {
		r.failed, r.data = true, nil
		return
	}
	r.data = r.data[n:]
}

// count reads the length of a list whose elements take at least three bytes.
func (r *listReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.data))/3 {
		r.failed, r.data = true, nil
		return 0
	}
	return int(n)
}
