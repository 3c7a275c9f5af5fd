package state

import (
	"bytes"
	"math"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// structCodec is the codec of a type with structs in it.
//
// CBOR by fxamacker/cbor was measured against MessagePack by
// vmihailenco/msgpack v5.4, which makes the same number of bytes: it encodes in
// two thirds of the time, decodes about as fast (two runs 15 and 18 % faster, one
// 4 % slower), allocates less, and is kept up. A session of 471 bytes with 7
// structs in it takes 0.7 µs to encode and 2.2 µs to decode, four counts take 0.1
// and 0.3 µs.
type structCodec[T any] struct{ times bool }

// Append implements [Codec].
func (c structCodec[T]) Append(dst []byte, v *T) ([]byte, error) {
	before := len(dst)
	b := buffers.Get().(*bytes.Buffer)
	*b = *bytes.NewBuffer(dst)
	err := cborEncoder.MarshalToBuffer(v, b)
	if err == nil {
		dst = b.Bytes()
	}
	*b = bytes.Buffer{} // dst is not ours
	buffers.Put(b)
	if err == nil && c.times {
		// A time in the year 50,000, as comes of taking milliseconds for seconds,
		// is written without complaint and could never be read.
		var back T
		err = c.Decode(dst[before:], &back)
	}
	return dst, err
}

// Decode implements [Codec].
func (structCodec[T]) Decode(src []byte, v *T) error { return cborDecoder.Unmarshal(src, v) }

// String describes the encoding, which describes itself.
func (structCodec[T]) String() string { return "cbor" }

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// cborEncoder writes floats in the shortest form that is exact, bit by bit.
var cborEncoder = must(cbor.EncOptions{
	ShortestFloat: cbor.ShortestFloat16,
	NaNConvert:    cbor.NaNConvertPreserveSignal,
	Time:          cbor.TimeRFC3339Nano,
}.UserBufferEncMode())

// cborDecoder takes whatever cborEncoder writes: strings need not be UTF-8, and
// fields whose names differ in case are different. The bytes are checked as a
// whole first, so no length is believed that is longer than they are.
var cborDecoder = must(cbor.DecOptions{
	UTF8:              cbor.UTF8DecodeInvalid,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	IndefLength:       cbor.IndefLengthForbidden,
	MaxArrayElements:  math.MaxInt32,
	MaxMapPairs:       math.MaxInt32,
	MaxNestedLevels:   256, // types are not recursive, so none nests as deep
}.DecMode())

func must[M any](mode M, err error) M {
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}
