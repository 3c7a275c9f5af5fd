package operators

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// The encodings of what the operators keep are described in
// docs/format/state.md. Those of whole states begin with a version.

// codecOf returns the codec of an aggregation's accumulator, or why there is
// none.
func codecOf[T, A, R any](agg *Aggregation[T, A, R]) (state.Codec[A], error) {
	switch c := agg.Codec.(type) {
	case nil:
		return state.CodecFor[A]()
	case refused[A]:
		return nil, c.err
	default:
		return c, nil
	}
}

// refused is the codec of an accumulator that has none, because it holds values
// of a type that has none. An aggregation that is made of it works all the same
// until its state has to be stored.
type refused[A any] struct{ err error }

// Append implements [state.Codec].
func (c refused[A]) Append(dst []byte, _ *A) ([]byte, error) { return dst, c.err }

// Decode implements [state.Codec].
func (c refused[A]) Decode([]byte, *A) error { return c.err }

// orRefused returns c, the codec of what err says whether its parts have one.
func orRefused[A any](c state.Codec[A], err error) state.Codec[A] {
	if err != nil {
		return refused[A]{err}
	}
	return c
}

// shape declares that state kept for some windows is worth nothing to others.
func (w *windowing[K, T, A, R]) shape(how, windows string) state.Option {
	text := how + " of " + windows
	if w.allowed > 0 {
		text += fmt.Sprintf(" with allowed lateness %v", w.allowed)
	}
	return state.Shape(text)
}

// named says which windows an assigner makes; where it has no String method, its
// type has to do.
func named(by any) string {
	if s, ok := by.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", by)
}

// encoding declares the state of an operator to have the codec that make makes
// of the accumulator's.
func encoding[T, A, R, S any](agg *Aggregation[T, A, R], make func(acc state.Codec[A]) state.Codec[S]) state.Option {
	acc, err := codecOf(agg)
	if err != nil {
		return state.Unencodable(err)
	}
	return state.Encoding(make(acc))
}

// What is wrong with bytes that no codec here has written.
var (
	errShort   = errors.New("the encoding ends too early")
	errLong    = errors.New("there are bytes behind the end of the encoding")
	errForm    = errors.New("the encoding is malformed")
	errVersion = errors.New("the encoding is of another version")
)

// writer appends the parts of a state. It keeps the first error, as reader
// does, for the end.
type writer struct {
	dst  []byte
	last int64 // the time written last
	err  error
}

func (w *writer) byte(b byte)      { w.dst = append(w.dst, b) }
func (w *writer) uvarint(x uint64) { w.dst = binary.AppendUvarint(w.dst, x) }
func (w *writer) varint(x int64)   { w.dst = binary.AppendVarint(w.dst, x) }

// time appends a time as the difference to the one before. The first takes six
// bytes, the others, which are near, two to four.
func (w *writer) time(t int64) {
	w.varint(t - w.last) // what overflows here does so back again
	w.last = t
}

func (w *writer) window(v window.Window) {
	w.time(v.Start)
	w.time(v.End)
}

func (w *writer) panes(p window.PaneState) {
	w.uvarint(uint64(p.Index)<<2 | uint64(p.Phase))
	w.varint(p.Fresh)
}

// put appends the encoding of *v behind its length.
func put[V any](w *writer, c state.Codec[V], v *V) {
	if w.err == nil {
		w.dst, w.err = state.AppendValue(w.dst, c, v)
	}
}

// reader takes parts off the encoding of a state. After an error there is
// nothing left, and all further parts are zero.
type reader struct {
	src  []byte
	last int64
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.src = nil
}

func (r *reader) more() bool { return len(r.src) > 0 }

func (r *reader) byte() byte {
	if !r.more() {
		r.fail(errShort)
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}

func (r *reader) version(want byte) {
	if r.byte() != want && r.err == nil {
		r.fail(errVersion)
	}
}

func (r *reader) uvarint() uint64 {
	x, n := binary.Uvarint(r.src)
	switch {
	case n == 0:
		r.fail(errShort)
		return 0
	case n < 0:
		r.fail(errForm)
		return 0
	}
	r.src = r.src[n:]
	return x
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) time() int64 {
	r.last += r.varint()
	return r.last
}

func (r *reader) window() window.Window { return window.Window{Start: r.time(), End: r.time()} }

func (r *reader) panes() window.PaneState {
	u := r.uvarint()
	p := window.PaneState{Phase: window.Phase(u & 3), Index: int(u >> 2), Fresh: r.varint()}
	if p.Phase > window.PhaseClosed || p.Index < 0 {
		r.fail(errForm)
	}
	return p
}

// count takes the number of parts that follow, each of at least so many bytes.
func (r *reader) count(least int) int {
	n := r.uvarint()
	if n > uint64(len(r.src)/least) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// get takes what put has appended.
func get[V any](r *reader, c state.Codec[V], v *V) {
	if r.err != nil {
		return
	}
	rest, err := state.DecodeValue(r.src, c, v)
	if r.src = rest; err != nil {
		r.fail(err)
	}
}

// end reports the first error; that something is left is one.
func (r *reader) end() error {
	if r.err == nil && r.more() {
		r.err = errLong
	}
	return r.err
}
