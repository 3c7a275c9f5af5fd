package state

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"unsafe"
)

// CodecFor returns the codec of a type. It is compiled once, when a state is
// declared, keeps nothing between calls, and may be used by several goroutines.
//
// Booleans, numbers, strings, [time.Time], [time.Duration], types that
// implement [encoding.BinaryAppender] or [encoding.BinaryMarshaler] together
// with [encoding.BinaryUnmarshaler], and arrays, slices, maps and pointers of
// all these have compact encodings of their own, without names or tags: an
// int64 takes one byte up to 63, two up to 8191.
//
// Everything that has a struct in it is encoded as CBOR (RFC 8949), as a whole:
// with the names of its fields, so that fields can be added, which are zero in
// what was written before, and removed. A `cbor` tag sets another name, and
// where there is none a `json` tag does; "-" in a cbor tag leaves a field out.
//
// What is decoded equals what was encoded: NaN, -0 and bytes that are not UTF-8
// included, and a nil slice or map is told from an empty one (but for a struct's
// fields that are tagged omitempty, which become nil). A time keeps its instant
// and its offset from UTC, and not the name of its zone nor its monotonic
// reading; in a struct, the year must be from 0 to 9999 and the offset one of
// whole minutes, and a pointer to the zero time becomes nil.
//
// Nothing is lost in silence. A type is refused, with the path of the field,
// that holds a channel, function, interface, unsafe.Pointer or complex number; a
// struct with an unexported field and no marshaler of its own, or with two
// fields of one name; and a recursive type, whose values may have cycles.
func CodecFor[T any]() (Codec[T], error) {
	typ := reflect.TypeFor[T]()
	check := lossCheck{inStruct: hasStruct(typ)}
	if err := check.value("", typ); err != nil {
		return nil, fmt.Errorf("state of type %v: %w", typ, err)
	}
	if check.inStruct {
		return structCodec[T]{check.times}, nil
	}
	return &compactCodec[T]{coderOf(typ)}, nil
}

// compactCodec is the codec of a type without structs.
type compactCodec[T any] struct{ coder coder }

// Append implements [Codec].
func (c *compactCodec[T]) Append(dst []byte, v *T) ([]byte, error) {
	return c.coder.append(dst, unsafe.Pointer(v))
}

// Decode implements [Codec].
func (c *compactCodec[T]) Decode(src []byte, v *T) error {
	rest, err := c.coder.decode(src, unsafe.Pointer(v))
	if err == nil && len(rest) > 0 {
		err = errLong
	}
	return err
}

// String describes the encoding, by kinds and not by names: what was written
// by a codec of another description is not to be read with this one.
func (c *compactCodec[T]) String() string { return c.coder.describe }

// coder encodes the value at p, in a form that shows its own end, so that
// others may follow. Both of its functions are free of reflection but for maps,
// marshalers and the making of slices.
type coder struct {
	append func(dst []byte, p unsafe.Pointer) ([]byte, error)
	decode func(src []byte, p unsafe.Pointer) (rest []byte, err error)

	// least is how many bytes a value takes at least. It bounds what a length
	// can be believed to mean before anything is allocated for it. 0 is only of
	// types whose values take no memory either.
	least int

	describe string
}

// coderOf compiles the coder of a type that lossCheck has accepted and that
// has no structs.
func coderOf(t reflect.Type) coder {
	switch {
	case t == timeType:
		return timeCoder
	case marshals(t):
		return marshalerCoder(t)
	}
	switch t.Kind() {
	case reflect.Array:
		return arrayCoder(t)
	case reflect.Slice:
		return sliceCoder(t)
	case reflect.Map:
		return mapCoder(t)
	case reflect.Pointer:
		return pointerCoder(t)
	case reflect.Struct: // one without fields
		return emptyCoder
	}
	return basicCoders[t.Kind()]
}

// hasStruct says whether a type is encoded as CBOR. The types that it is part of
// are given as above, since it may be recursive.
func hasStruct(t reflect.Type, above ...reflect.Type) bool {
	if t == timeType || marshals(t) || slices.Contains(above, t) {
		return false
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Array, reflect.Slice, reflect.Pointer:
		return hasStruct(t.Elem(), above...)
	case reflect.Map:
		return hasStruct(t.Key(), above...) || hasStruct(t.Elem(), above...)
	case reflect.Struct:
		return t.NumField() > 0
	}
	return false
}

// What is wrong with bytes that no codec here has written.
var (
	errShort = errors.New("the encoding ends too early")
	errLong  = errors.New("there are bytes behind the end of the encoding")
	errForm  = errors.New("the encoding is malformed")
	errRange = errors.New("a number does not fit its type")
)
