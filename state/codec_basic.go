package state

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"
	"unsafe"
)

// basicCoders are the coders of types that are not made of others.
//
// Integers of more than a byte are varints, since most of those in state are
// counts and differences: a fixed form takes 8 bytes to say 3, and is no faster.
var basicCoders = map[reflect.Kind]coder{
	reflect.Bool:    boolCoder,
	reflect.Int8:    byteCoder("int8"),
	reflect.Uint8:   byteCoder("uint8"),
	reflect.Int:     intCoder[int]("int64"), // as int64, so that one may become the other
	reflect.Int16:   intCoder[int16]("int16"),
	reflect.Int32:   intCoder[int32]("int32"),
	reflect.Int64:   intCoder[int64]("int64"),
	reflect.Uint:    uintCoder[uint]("uint64"),
	reflect.Uint16:  uintCoder[uint16]("uint16"),
	reflect.Uint32:  uintCoder[uint32]("uint32"),
	reflect.Uint64:  uintCoder[uint64]("uint64"),
	reflect.Uintptr: uintCoder[uintptr]("uint64"),
	reflect.Float32: float32Coder,
	reflect.Float64: float64Coder,
	reflect.String:  stringCoder,
}

var boolCoder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) { return append(dst, *(*byte)(p)), nil },
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) == 0 {
			return nil, errShort
		}
		if src[0] > 1 {
			return nil, errForm
		}
		*(*bool)(p) = src[0] == 1
		return src[1:], nil
	},
	least: 1, describe: "bool",
}

func byteCoder(describe string) coder {
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) { return append(dst, *(*byte)(p)), nil },
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) == 0 {
				return nil, errShort
			}
			*(*byte)(p) = src[0]
			return src[1:], nil
		},
		least: 1, describe: describe,
	}
}

func intCoder[I int | int16 | int32 | int64](describe string) coder {
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return binary.AppendVarint(dst, int64(*(*I)(p))), nil
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			u, rest, err := readUvarint(src)
			if err != nil {
				return nil, err
			}
			x := unzigzag(u)
			if int64(I(x)) != x {
				return nil, errRange
			}
			*(*I)(p) = I(x)
			return rest, nil
		},
		least: 1, describe: describe,
	}
}

func uintCoder[U uint | uint16 | uint32 | uint64 | uintptr](describe string) coder {
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return binary.AppendUvarint(dst, uint64(*(*U)(p))), nil
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			x, rest, err := readUvarint(src)
			if err != nil {
				return nil, err
			}
			if uint64(U(x)) != x {
				return nil, errRange
			}
			*(*U)(p) = U(x)
			return rest, nil
		},
		least: 1, describe: describe,
	}
}

var float32Coder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		return binary.LittleEndian.AppendUint32(dst, *(*uint32)(p)), nil
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 4 {
			return nil, errShort
		}
		*(*uint32)(p) = binary.LittleEndian.Uint32(src)
		return src[4:], nil
	},
	least: 4, describe: "float32",
}

var float64Coder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		return binary.LittleEndian.AppendUint64(dst, *(*uint64)(p)), nil
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		if len(src) < 8 {
			return nil, errShort
		}
		*(*uint64)(p) = binary.LittleEndian.Uint64(src)
		return src[8:], nil
	},
	least: 8, describe: "float64",
}

var stringCoder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		s := *(*string)(p)
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...), nil
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		s, rest, err := readSized(src)
		if err != nil {
			return nil, err
		}
		*(*string)(p) = string(s)
		return rest, nil
	},
	least: 1, describe: "string",
}

// emptyCoder is that of struct{}, the values of sets.
var emptyCoder = coder{
	append:   func(dst []byte, _ unsafe.Pointer) ([]byte, error) { return dst, nil },
	decode:   func(src []byte, _ unsafe.Pointer) ([]byte, error) { return src, nil },
	describe: "struct{}",
}

var timeType = reflect.TypeFor[time.Time]()

// timeCoder writes the seconds since the epoch, the nanoseconds, and the zone:
// 0 for UTC, else a bit and the offset in seconds. [time.Time.AppendBinary]
// would make 15 bytes of what are 7 for a whole second.
var timeCoder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		t := *(*time.Time)(p)
		dst = binary.AppendVarint(dst, t.Unix())
		dst = binary.AppendUvarint(dst, uint64(t.Nanosecond()))
		zone := uint64(0)
		if t.Location() != time.UTC {
			_, offset := t.Zone()
			zone = zigzag(int64(offset)) + 1
		}
		return binary.AppendUvarint(dst, zone), nil
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		var parts [3]uint64
		var err error
		for i := range parts {
			if parts[i], src, err = readUvarint(src); err != nil {
				return nil, err
			}
		}
		t, err := timeOf(unzigzag(parts[0]), parts[1], parts[2])
		*(*time.Time)(p) = t
		return src, err
	},
	least: 3, describe: "time",
}

func timeOf(seconds int64, nanos, zone uint64) (time.Time, error) {
	if nanos >= 1e9 {
		return time.Time{}, errRange
	}
	t := time.Unix(seconds, int64(nanos)).UTC()
	if zone == 0 {
		return t, nil
	}
	offset := unzigzag(zone - 1)
	if offset < math.MinInt32 || offset > math.MaxInt32 {
		return time.Time{}, errRange
	}
	return t.In(time.FixedZone("", int(offset))), nil
}

func zigzag(x int64) uint64   { return uint64(x<<1) ^ uint64(x>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// readUvarint takes a varint off src. Each number has one form, the shortest.
func readUvarint(src []byte) (x uint64, rest []byte, err error) {
	if len(src) > 0 && src[0] < 0x80 {
		return uint64(src[0]), src[1:], nil
	}
	x, n := binary.Uvarint(src)
	switch {
	case n == 0:
		return 0, nil, errShort
	case n < 0:
		return 0, nil, errRange
	case src[n-1] == 0:
		return 0, nil, errForm
	}
	return x, src[n:], nil
}

// readSized takes a length and as many bytes off src.
func readSized(src []byte) (value, rest []byte, err error) {
	n, rest, err := readUvarint(src)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, errShort
	}
	return rest[:n:n], rest[n:], nil
}
