package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unsafe"
)

// keyCodec turns keys into bytes and back. Two keys are equal if and only if
// their bytes are, and each key has one form only. It may keep scratch space:
// it is for one goroutine.
//
// A string is its bytes. Numbers have a fixed width, big-endian, with the sign
// turned around, so that bytes compare as numbers do; floats too. Within a
// composite, strings have their length before them.
type keyCodec[K comparable] struct {
	append func(dst []byte, k K) []byte

	// decode returns a key that shares no memory with src.
	decode func(src []byte) (K, error)

	// describe is the structure of the type, in kinds: keys that were written
	// under another description can't be read.
	describe string
}

// keyCodecFor returns the codec of a key type, which are those of [HasherFor].
func keyCodecFor[K comparable]() (keyCodec[K], error) {
	typ := reflect.TypeFor[K]()
	if typ.Kind() == reflect.String {
		return stringKeys[K](), nil
	}
	f, err := keyFormatOf(typ)
	if err != nil {
		return keyCodec[K]{}, fmt.Errorf("%w: %v: %w", ErrKeyType, typ, err)
	}
	// Captured, because a local passed to a function value would be allocated
	// for each key.
	var box K
	return keyCodec[K]{
		append: func(dst []byte, k K) []byte {
			box = k
			return f.append(dst, unsafe.Pointer(&box))
		},
		decode: func(src []byte) (k K, err error) {
			box = k // whatever is not part of the encoding is zero
			rest, err := f.decode(src, unsafe.Pointer(&box))
			switch {
			case err != nil:
				return k, err
			case len(rest) > 0:
				return k, errKeyForm
			}
			return box, nil
		},
		describe: f.describe,
	}, nil
}

// errKeyForm is the error of bytes that are not those of a key of the type.
var errKeyForm = errors.New("not the encoding of a key")

func stringKeys[K comparable]() keyCodec[K] {
	return keyCodec[K]{
		append: func(dst []byte, k K) []byte { return append(dst, *(*string)(unsafe.Pointer(&k))...) },
		decode: func(src []byte) (k K, err error) {
			*(*string)(unsafe.Pointer(&k)) = string(src)
			return k, nil
		},
		describe: "string",
	}
}

// keyFormat is the encoding of a part of a key, which shows its own end.
type keyFormat struct {
	append   appendKey
	decode   func(src []byte, p unsafe.Pointer) (rest []byte, err error)
	describe string
}

// keyFormatOf compiles the format of a type once, as keyEncoder does.
func keyFormatOf(t reflect.Type) (keyFormat, error) {
	switch t.Kind() {
	case reflect.Array:
		return keyArray(t)
	case reflect.Struct:
		return keyStruct(t)
	}
	f, ok := keyFormats[t.Kind()]
	if !ok {
		return keyFormat{}, fmt.Errorf("a %v has no stable identity", t.Kind())
	}
	return f, nil
}

// What is turned around of numbers so that their bytes are in their order.
const (
	sign8  = 1 << 7
	sign16 = 1 << 15
	sign32 = 1 << 31
	sign64 = 1 << 63
)

var keyFormats = map[reflect.Kind]keyFormat{
	reflect.String:  keyString,
	reflect.Bool:    keyBool,
	reflect.Int8:    key8("int8", sign8),
	reflect.Int16:   key16("int16", sign16),
	reflect.Int32:   key32("int32", sign32),
	reflect.Int64:   key64[int64]("int64", sign64),
	reflect.Int:     key64[int]("int64", sign64),
	reflect.Uint8:   key8("uint8", 0),
	reflect.Uint16:  key16("uint16", 0),
	reflect.Uint32:  key32("uint32", 0),
	reflect.Uint64:  key64[uint64]("uint64", 0),
	reflect.Uint:    key64[uint]("uint64", 0),
	reflect.Uintptr: key64[uintptr]("uint64", 0),
	reflect.Float32: keyFloat32,
	reflect.Float64: keyFloat64,
}

var keyString = keyFormat{
	append: func(dst []byte, p unsafe.Pointer) []byte {
		s := *(*string)(p)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		s, rest, err := readSized(src)
		if err != nil {
			return nil, errKeyForm
		}
		*(*string)(p) = string(s)
		return rest, nil
	},
	describe: "string",
}

var keyBool = keyFormat{
	append: func(dst []byte, p unsafe.Pointer) []byte { return append(dst, *(*byte)(p)) },
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) == 0 || src[0] > 1 {
			return nil, errKeyForm
		}
		*(*bool)(p) = src[0] == 1
		return src[1:], nil
	},
	describe: "bool",
}

func key8(describe string, sign uint8) keyFormat {
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte { return append(dst, *(*uint8)(p)^sign) },
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < 1 {
				return nil, errKeyForm
			}
			*(*uint8)(p) = src[0] ^ sign
			return src[1:], nil
		},
		describe: describe,
	}
}

func key16(describe string, sign uint16) keyFormat {
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			return binary.BigEndian.AppendUint16(dst, *(*uint16)(p)^sign)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < 2 {
				return nil, errKeyForm
			}
			*(*uint16)(p) = binary.BigEndian.Uint16(src) ^ sign
			return src[2:], nil
		},
		describe: describe,
	}
}

func key32(describe string, sign uint32) keyFormat {
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			return binary.BigEndian.AppendUint32(dst, *(*uint32)(p)^sign)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < 4 {
				return nil, errKeyForm
			}
			*(*uint32)(p) = binary.BigEndian.Uint32(src) ^ sign
			return src[4:], nil
		},
		describe: describe,
	}
}

// key64 is the format of the integers that are, or may be, of 64 bits.
func key64[I int | int64 | uint | uint64 | uintptr](describe string, sign uint64) keyFormat {
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			return binary.BigEndian.AppendUint64(dst, uint64(*(*I)(p))^sign)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < 8 {
				return nil, errKeyForm
			}
			u := binary.BigEndian.Uint64(src) ^ sign
			if uint64(I(u)) != u { // int has 32 bits here
				return nil, errKeyForm
			}
			*(*I)(p) = I(u)
			return src[8:], nil
		},
		describe: describe,
	}
}

// Of floats the sign is turned around, and of negative ones all other bits too.
// -0 equals 0 and is written as 0.

var keyFloat32 = keyFormat{
	append: func(dst []byte, p unsafe.Pointer) []byte {
		bits := math.Float32bits(*(*float32)(p) + 0)
		return binary.BigEndian.AppendUint32(dst, bits^(sign32|uint32(int32(bits)>>31)))
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 4 {
			return nil, errKeyForm
		}
		u := binary.BigEndian.Uint32(src)
		bits := u ^ (sign32 | ^uint32(int32(u)>>31))
		if math.Float32bits(math.Float32frombits(bits)+0) != bits { // -0, or a NaN that adding makes another
			return nil, errKeyForm
		}
		*(*uint32)(p) = bits
		return src[4:], nil
	},
	describe: "float32",
}

var keyFloat64 = keyFormat{
	append: func(dst []byte, p unsafe.Pointer) []byte {
		bits := math.Float64bits(*(*float64)(p) + 0)
		return binary.BigEndian.AppendUint64(dst, bits^(sign64|uint64(int64(bits)>>63)))
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 8 {
			return nil, errKeyForm
		}
		u := binary.BigEndian.Uint64(src)
		bits := u ^ (sign64 | ^uint64(int64(u)>>63))
		if math.Float64bits(math.Float64frombits(bits)+0) != bits {
			return nil, errKeyForm
		}
		*(*uint64)(p) = bits
		return src[8:], nil
	},
	describe: "float64",
}

func keyArray(t reflect.Type) (keyFormat, error) {
	elem, err := keyFormatOf(t.Elem())
	if err != nil {
		return keyFormat{}, err
	}
	n, size := t.Len(), t.Elem().Size()
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			for i := range n {
				dst = elem.append(dst, unsafe.Add(p, uintptr(i)*size))
			}
			return dst
		},
		decode: func(src []byte, p unsafe.Pointer) (_ []byte, err error) {
			for i := range n {
				if src, err = elem.decode(src, unsafe.Add(p, uintptr(i)*size)); err != nil {
					return nil, err
				}
			}
			return src, nil
		},
		describe: fmt.Sprintf("[%d]%s", n, elem.describe),
	}, nil
}

func keyStruct(t reflect.Type) (keyFormat, error) {
	type field struct {
		keyFormat
		offset uintptr
	}
	var fields []field
	var kinds []string
	for i := range t.NumField() {
		f := t.Field(i)
		format, err := keyFormatOf(f.Type)
		if err != nil {
			return keyFormat{}, fmt.Errorf("field %s: %w", f.Name, err)
		}
		if f.Name != "_" { // == ignores blank fields
			fields = append(fields, field{format, f.Offset})
			kinds = append(kinds, format.describe)
		}
	}
	return keyFormat{
		append: func(dst []byte, p unsafe.Pointer) []byte {
			for _, f := range fields {
				dst = f.append(dst, unsafe.Add(p, f.offset))
			}
			return dst
		},
		decode: func(src []byte, p unsafe.Pointer) (_ []byte, err error) {
			for _, f := range fields {
				if src, err = f.decode(src, unsafe.Add(p, f.offset)); err != nil {
					return nil, err
				}
			}
			return src, nil
		},
		describe: "struct{" + strings.Join(kinds, ",") + "}",
	}, nil
}
