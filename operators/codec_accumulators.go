package operators

import (
	"cmp"
	"encoding/binary"
	"math"

	"github.com/millrace/millrace/state"
)

// Codecs of accumulators are shared by all subtasks, and keep nothing.

// totalCodec is the codec of [Total]. What rounding took away is left out where
// it is 0, as it is for integers; -0 is not 0 here.
type totalCodec[N Number] struct{ number state.Codec[N] }

func newTotalCodec[N Number]() state.Codec[Total[N]] {
	number, err := state.CodecFor[N]()
	return orRefused[Total[N]](totalCodec[N]{number}, err)
}

// Append implements [state.Codec].
func (c totalCodec[N]) Append(dst []byte, t *Total[N]) ([]byte, error) {
	w := writer{dst: dst}
	put(&w, c.number, &t.sum)
	if t.lost != 0 || math.Signbit(float64(t.lost)) {
		put(&w, c.number, &t.lost)
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c totalCodec[N]) Decode(src []byte, t *Total[N]) error {
	r := reader{src: src}
	get(&r, c.number, &t.sum)
	if r.more() {
		get(&r, c.number, &t.lost)
	}
	return r.end()
}

// averageCodec is the codec of [Average].
type averageCodec struct{ total state.Codec[Total[float64]] }

// Append implements [state.Codec].
func (c averageCodec) Append(dst []byte, a *Average) ([]byte, error) {
	w := writer{dst: dst}
	w.varint(a.count)
	put(&w, c.total, &a.total)
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c averageCodec) Decode(src []byte, a *Average) error {
	r := reader{src: src}
	a.count = r.varint()
	get(&r, c.total, &a.total)
	return r.end()
}

// extremeCodec is the codec of [Extreme]: the value, or nothing.
type extremeCodec[V cmp.Ordered] struct{ value state.Codec[V] }

func newExtremeCodec[V cmp.Ordered]() state.Codec[Extreme[V]] {
	value, err := state.CodecFor[V]()
	return orRefused[Extreme[V]](extremeCodec[V]{value}, err)
}

// Append implements [state.Codec].
func (c extremeCodec[V]) Append(dst []byte, e *Extreme[V]) ([]byte, error) {
	if !e.set {
		return dst, nil
	}
	return state.AppendValue(dst, c.value, &e.value)
}

// Decode implements [state.Codec].
func (c extremeCodec[V]) Decode(src []byte, e *Extreme[V]) error {
	r := reader{src: src}
	if e.set = r.more(); e.set {
		get(&r, c.value, &e.value)
	}
	return r.end()
}

// chosenCodec is the codec of [Chosen]: the record and its value, or nothing.
type chosenCodec[T any, V cmp.Ordered] struct {
	record state.Codec[T]
	value  state.Codec[V]
}

func newChosenCodec[T any, V cmp.Ordered]() state.Codec[Chosen[T, V]] {
	record, err := state.CodecFor[T]()
	if err != nil {
		return refused[Chosen[T, V]]{err}
	}
	value, err := state.CodecFor[V]()
	return orRefused[Chosen[T, V]](chosenCodec[T, V]{record, value}, err)
}

// Append implements [state.Codec].
func (c chosenCodec[T, V]) Append(dst []byte, a *Chosen[T, V]) ([]byte, error) {
	if !a.set {
		return dst, nil
	}
	w := writer{dst: dst}
	put(&w, c.value, &a.value)
	put(&w, c.record, &a.record)
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c chosenCodec[T, V]) Decode(src []byte, a *Chosen[T, V]) error {
	r := reader{src: src}
	if a.set = r.more(); a.set {
		get(&r, c.value, &a.value)
		get(&r, c.record, &a.record)
	}
	return r.end()
}

// reducedCodec is the codec of [reduced]: the value, or nothing.
type reducedCodec[T any] struct{ value state.Codec[T] }

func newReducedCodec[T any]() state.Codec[reduced[T]] {
	value, err := state.CodecFor[T]()
	return orRefused[reduced[T]](reducedCodec[T]{value}, err)
}

// Append implements [state.Codec].
func (c reducedCodec[T]) Append(dst []byte, v *reduced[T]) ([]byte, error) {
	if !v.Any {
		return dst, nil
	}
	return state.AppendValue(dst, c.value, &v.Value)
}

// Decode implements [state.Codec].
func (c reducedCodec[T]) Decode(src []byte, v *reduced[T]) error {
	r := reader{src: src}
	if v.Any = r.more(); v.Any {
		get(&r, c.value, &v.Value)
	}
	return r.end()
}

// countsCodec is the codec of the counts of [TopCounts]. A map that is nil
// becomes an empty one, which counting needs.
type countsCodec[I cmp.Ordered] struct{ item state.Codec[I] }

func newCountsCodec[I cmp.Ordered]() state.Codec[map[I]int64] {
	item, err := state.CodecFor[I]()
	return orRefused[map[I]int64](countsCodec[I]{item}, err)
}

// Append implements [state.Codec].
func (c countsCodec[I]) Append(dst []byte, counts *map[I]int64) ([]byte, error) {
	w := writer{dst: binary.AppendUvarint(dst, uint64(len(*counts)))}
	for item, count := range *counts {
		put(&w, c.item, &item)
		w.varint(count)
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c countsCodec[I]) Decode(src []byte, counts *map[I]int64) error {
	r := reader{src: src}
	n := r.count(3)
	*counts = make(map[I]int64, n)
	for range n {
		var item I
		get(&r, c.item, &item)
		(*counts)[item] = r.varint()
	}
	if r.err == nil && len(*counts) != n {
		return errForm
	}
	return r.end()
}

// The codecs of tuples put the parts one behind the other.

type tuple2Codec[A, B any] struct {
	a state.Codec[A]
	b state.Codec[B]
}

// Append implements [state.Codec].
func (c tuple2Codec[A, B]) Append(dst []byte, t *Tuple2[A, B]) ([]byte, error) {
	w := writer{dst: dst}
	put(&w, c.a, &t.a)
	put(&w, c.b, &t.b)
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c tuple2Codec[A, B]) Decode(src []byte, t *Tuple2[A, B]) error {
	r := reader{src: src}
	get(&r, c.a, &t.a)
	get(&r, c.b, &t.b)
	return r.end()
}

type tuple3Codec[A, B, C any] struct {
	a state.Codec[A]
	b state.Codec[B]
	c state.Codec[C]
}

// Append implements [state.Codec].
func (c tuple3Codec[A, B, C]) Append(dst []byte, t *Tuple3[A, B, C]) ([]byte, error) {
	w := writer{dst: dst}
	put(&w, c.a, &t.a)
	put(&w, c.b, &t.b)
	put(&w, c.c, &t.c)
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c tuple3Codec[A, B, C]) Decode(src []byte, t *Tuple3[A, B, C]) error {
	r := reader{src: src}
	get(&r, c.a, &t.a)
	get(&r, c.b, &t.b)
	get(&r, c.c, &t.c)
	return r.end()
}

type tuple4Codec[A, B, C, D any] struct {
	a state.Codec[A]
	b state.Codec[B]
	c state.Codec[C]
	d state.Codec[D]
}

// Append implements [state.Codec].
func (c tuple4Codec[A, B, C, D]) Append(dst []byte, t *Tuple4[A, B, C, D]) ([]byte, error) {
	w := writer{dst: dst}
	put(&w, c.a, &t.a)
	put(&w, c.b, &t.b)
	put(&w, c.c, &t.c)
	put(&w, c.d, &t.d)
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c tuple4Codec[A, B, C, D]) Decode(src []byte, t *Tuple4[A, B, C, D]) error {
	r := reader{src: src}
	get(&r, c.a, &t.a)
	get(&r, c.b, &t.b)
	get(&r, c.c, &t.c)
	get(&r, c.d, &t.d)
	return r.end()
}
