package operators

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/axiomhq/hyperloglog"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// The sketches' encodings begin with a version. A sketch that was never used,
// the zero value of its type, has an empty one.
const (
	distinctVersion = 1
	quantileVersion = 1
	hitterVersion   = 1
)

// distinctCodec is the codec of a [DistinctSketch] of one precision: the fields
// of ours, and behind them the library's own encoding.
type distinctCodec struct{ precision uint8 }

// Append implements [state.Codec].
func (distinctCodec) Append(dst []byte, s *DistinctSketch) ([]byte, error) {
	if s.sketch == nil {
		return dst, nil
	}
	adds := uint64(s.adds) << 1
	if s.dense {
		adds |= 1
	}
	return s.sketch.AppendBinary(binary.AppendUvarint(append(dst, distinctVersion), adds))
}

// Decode implements [state.Codec].
func (c distinctCodec) Decode(src []byte, s *DistinctSketch) error {
	if len(src) == 0 {
		return nil
	}
	r := reader{src: src}
	r.version(distinctVersion)
	adds := r.uvarint()
	if r.err == nil && adds>>1 > math.MaxUint32 {
		r.fail(errForm)
	}
	if r.err != nil {
		return r.err
	}
	sketch := new(hyperloglog.Sketch)
	if err := sketch.UnmarshalBinary(r.src); err != nil {
		return err
	}
	if p := r.src[1]; p != c.precision { // two of them can't be merged
		return fmt.Errorf("the sketch has precision %d, the aggregation %d", p, c.precision)
	}
	*s = DistinctSketch{sketch, adds&1 == 1, uint32(adds >> 1)}
	return nil
}

// quantileCodec is the codec of a [QuantileSketch]. Sketches that it decodes
// share its mapping.
//
// It writes the bins itself: the library's decoder takes no notice of errors in
// a store, and reserves memory for any index it reads.
type quantileCodec struct {
	indices     mapping.IndexMapping
	accuracy    float64 // as it was asked for
	first, last int     // the indices that there can be
}

func newQuantileCodec(indices mapping.IndexMapping, accuracy float64) quantileCodec {
	return quantileCodec{indices, accuracy, indices.Index(indices.MinIndexableValue()), indices.Index(indices.MaxIndexableValue())}
}

// Append implements [state.Codec].
func (c quantileCodec) Append(dst []byte, s *QuantileSketch) ([]byte, error) {
	if s.sketch == nil {
		return dst, nil
	}
	w := writer{dst: append(dst, quantileVersion)}
	w.dst = binary.LittleEndian.AppendUint64(w.dst, math.Float64bits(c.accuracy))
	if s.nan {
		w.byte(1)
	} else {
		w.byte(0)
	}
	w.uvarint(uint64(s.sketch.GetZeroCount()))
	w.bins(s.sketch.GetNegativeValueStore())
	w.bins(s.sketch.GetPositiveValueStore())
	return w.dst, nil
}

// bins appends the bins of a store: each as the difference of its index to the
// one before, and its count. Counts are whole numbers.
func (w *writer) bins(s store.Store) {
	n := uint64(0)
	s.ForEach(func(int, float64) bool { n++; return false })
	w.uvarint(n)
	before := 0
	s.ForEach(func(index int, count float64) bool {
		w.varint(int64(index - before))
		w.uvarint(uint64(count))
		before = index
		return false
	})
}

// Decode implements [state.Codec].
func (c quantileCodec) Decode(src []byte, s *QuantileSketch) error {
	if len(src) == 0 {
		return nil
	}
	r := reader{src: src}
	r.version(quantileVersion)
	if a := math.Float64frombits(r.fixed64()); r.err == nil && a != c.accuracy {
		return fmt.Errorf("the sketch has the relative accuracy %v, the aggregation %v", a, c.accuracy)
	}
	nan := r.byte()
	sketch := ddsketch.NewDDSketchFromStoreProvider(c.indices, store.DefaultProvider)
	if err := sketch.AddWithCount(0, float64(r.uvarint())); err != nil || nan > 1 {
		r.fail(errForm)
	}
	c.bins(&r, sketch.GetNegativeValueStore())
	c.bins(&r, sketch.GetPositiveValueStore())
	*s = QuantileSketch{sketch, nan == 1}
	return r.end()
}

func (r *reader) fixed64() uint64 {
	if len(r.src) < 8 {
		r.fail(errShort)
		return 0
	}
	u := binary.LittleEndian.Uint64(r.src)
	r.src = r.src[8:]
	return u
}

func (c quantileCodec) bins(r *reader, s store.Store) {
	var run []bin // of neighbours
	index := int64(0)
	for i := range r.count(2) {
		step, count := r.varint(), r.uvarint()
		if i > 0 && step <= 0 || step < math.MinInt32 || step > math.MaxInt32 || count == 0 || count > 1<<53 {
			r.fail(errForm)
		}
		if index += step; index < int64(c.first) || index > int64(c.last) {
			r.fail(errForm)
		}
		if r.err != nil {
			return
		}
		if len(run) > 0 && index>>pageBits != run[0].index>>pageBits {
			addBins(s, run)
			run = run[:0]
		}
		run = append(run, bin{index, count})
	}
	addBins(s, run)
}

// bin is a part of a [store.Store].
type bin struct {
	index int64
	count uint64
}

// A store keeps 1<<pageBits neighbouring bins in an array, if as much has been
// added to them. Before that it has a list of what was added, which is smaller,
// and which it sorts when it is looked at.
const pageBits = 5

// addBins adds bins of one page to a store, so that it takes the form that it
// would have had if values had been added one by one.
func addBins(s store.Store, run []bin) {
	total := uint64(0)
	for _, b := range run {
		total += b.count
	}
	for _, b := range run {
		if b.count > 1 && total >= 1<<pageBits {
			s.AddWithCount(int(b.index), float64(b.count)) // makes the array
			continue
		}
		for range b.count {
			s.Add(int(b.index))
		}
	}
}

// hitterCodec is the codec of a [HitterSketch] of one size: its counters, in
// the order of the heap, so that it goes on as it would have.
type hitterCodec struct{ size int }

// Append implements [state.Codec].
func (c hitterCodec) Append(dst []byte, s *HitterSketch) ([]byte, error) {
	if len(s.counters) == 0 {
		return dst, nil
	}
	w := writer{dst: append(dst, hitterVersion)}
	w.uvarint(uint64(c.size))
	w.uvarint(uint64(len(s.counters)))
	for i := range s.counters {
		h := &s.counters[i]
		w.uvarint(uint64(len(h.Item)))
		w.dst = append(w.dst, h.Item...)
		w.varint(h.Count)
		w.varint(h.MaxError)
	}
	return w.dst, nil
}

// Decode implements [state.Codec].
func (c hitterCodec) Decode(src []byte, s *HitterSketch) error {
	if len(src) == 0 {
		return nil
	}
	r := reader{src: src}
	r.version(hitterVersion)
	// With more counters, items that have lost theirs would seem never to have
	// occurred.
	if size := r.uvarint(); r.err == nil && size != uint64(c.size) {
		return fmt.Errorf("the sketch has room for %d counters, the aggregation for %d", size, c.size)
	}
	n := r.count(3)
	s.counters, s.index = make([]Hitter, n), make(map[string]int, n)
	for i := range s.counters {
		h := &s.counters[i]
		*h = Hitter{Item: r.text(), Count: r.varint(), MaxError: r.varint()}
		s.index[h.Item] = i
		if s.counters[(i-1)/2].Count > h.Count {
			r.fail(errForm)
		}
	}
	if n == 0 || n > c.size || len(s.index) != n {
		r.fail(errForm)
	}
	return r.end()
}

func (r *reader) text() string {
	n := r.count(1)
	s := string(r.src[:n])
	r.src = r.src[n:]
	return s
}
