package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// ErrKeyType is returned for a key type whose values have no stable identity
// outside the process: pointers, interfaces, channels, and structs or arrays
// that contain one.
var ErrKeyType = errors.New("unsupported key type")

// HasherFor returns the stable hash of a key type. Equal keys hash equally in
// every process and release, which is what lets a checkpoint be read back.
//
// Strings and composite keys are hashed by xxHash64, composites over a
// length-prefixed encoding of their fields; integers by the finalizer of
// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
// Generators, 2014). Floats are hashed by their bits after -0 is made 0;
// a NaN key equals nothing, not even itself, and is useless as a key.
//
// The returned function may keep scratch space: it is for one goroutine.
func HasherFor[K comparable]() (func(K) uint64, error) {
	var hash any
	switch any(*new(K)).(type) {
	case string:
		hash = xxhash.Sum64String
	case int:
		hash = func(k int) uint64 { return mix(uint64(k)) }
	case int64:
		hash = func(k int64) uint64 { return mix(uint64(k)) }
	case int32:
		hash = func(k int32) uint64 { return mix(uint64(k)) }
	case uint64:
		hash = mix
	case uint32:
		hash = func(k uint32) uint64 { return mix(uint64(k)) }
	}
	if h, ok := hash.(func(K) uint64); ok {
		return h, nil
	}
	typ := reflect.TypeFor[K]()
	if typ.Kind() == reflect.String {
		return func(k K) uint64 { return xxhash.Sum64String(*(*string)(unsafe.Pointer(&k))) }, nil
	}
	enc, err := keyEncoder(typ)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrKeyType, typ, err)
	}
	// Both are captured, because a local passed to a function value would be
	// allocated anew for every record.
	var box K
	var scratch []byte
	return func(k K) uint64 {
		box = k
		scratch = enc(scratch[:0], unsafe.Pointer(&box))
		return xxhash.Sum64(scratch)
	}, nil
}

// mix is the finalizer of SplitMix64: a bijection whose every output bit
// depends on every input bit, so that sequential ids spread over key groups.
func mix(x uint64) uint64 {
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// appendKey appends an encoding of the value at p. The encoding is injective
// for a given type: strings carry their length.
type appendKey func(dst []byte, p unsafe.Pointer) []byte

// keyEncoder compiles the encoder of a type once, so that no reflection is
// left for the record path.
func keyEncoder(t reflect.Type) (appendKey, error) {
	switch t.Kind() {
	case reflect.String:
		return func(dst []byte, p unsafe.Pointer) []byte {
			s := *(*string)(p)
			return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
		}, nil
	case reflect.Bool, reflect.Int8, reflect.Uint8:
		return func(dst []byte, p unsafe.Pointer) []byte { return append(dst, *(*byte)(p)) }, nil
	case reflect.Int16, reflect.Uint16:
		return func(dst []byte, p unsafe.Pointer) []byte {
			return binary.LittleEndian.AppendUint16(dst, *(*uint16)(p))
		}, nil
	case reflect.Int32, reflect.Uint32:
		return func(dst []byte, p unsafe.Pointer) []byte {
			return binary.LittleEndian.AppendUint32(dst, *(*uint32)(p))
		}, nil
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		return func(dst []byte, p unsafe.Pointer) []byte {
			return binary.LittleEndian.AppendUint64(dst, uint64(*(*uint)(p)))
		}, nil
	case reflect.Int64, reflect.Uint64:
		return func(dst []byte, p unsafe.Pointer) []byte {
			return binary.LittleEndian.AppendUint64(dst, *(*uint64)(p))
		}, nil
	case reflect.Float32:
		return func(dst []byte, p unsafe.Pointer) []byte { // +0 turns -0 into 0
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(*(*float32)(p)+0))
		}, nil
	case reflect.Float64:
		return func(dst []byte, p unsafe.Pointer) []byte {
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(*(*float64)(p)+0))
		}, nil
	case reflect.Array:
		return arrayEncoder(t)
	case reflect.Struct:
		return structEncoder(t)
	default:
		return nil, fmt.Errorf("a %v has no stable identity", t.Kind())
	}
}

func arrayEncoder(t reflect.Type) (appendKey, error) {
	elem, err := keyEncoder(t.Elem())
	if err != nil {
		return nil, err
	}
	n, size := t.Len(), t.Elem().Size()
	return func(dst []byte, p unsafe.Pointer) []byte {
		for i := range n {
			dst = elem(dst, unsafe.Add(p, uintptr(i)*size))
		}
		return dst
	}, nil
}

func structEncoder(t reflect.Type) (appendKey, error) {
	type field struct {
		offset uintptr
		encode appendKey
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		enc, err := keyEncoder(f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		if f.Name != "_" { // == ignores blank fields
			fields = append(fields, field{f.Offset, enc})
		}
	}
	return func(dst []byte, p unsafe.Pointer) []byte {
		for _, f := range fields {
			dst = f.encode(dst, unsafe.Add(p, f.offset))
		}
		return dst
	}, nil
}
