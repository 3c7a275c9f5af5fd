package state

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"reflect"
	"unsafe"
)

func arrayCoder(t reflect.Type) coder {
	elem, n := coderOf(t.Elem()), t.Len()
	c := coder{least: n * elem.least, describe: fmt.Sprintf("[%d]%s", n, elem.describe)}
	if t.Elem().Kind() == reflect.Uint8 && !marshals(t.Elem()) {
		c.append = func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			return append(dst, unsafe.Slice((*byte)(p), n)...), nil
		}
		c.decode = func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) < n {
				return nil, errShort
			}
			copy(unsafe.Slice((*byte)(p), n), src)
			return src[n:], nil
		}
		return c
	}
	size := t.Elem().Size()
	c.append = func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		return elem.appendAll(dst, p, n, size)
	}
	c.decode = func(src []byte, p unsafe.Pointer) ([]byte, error) {
		return elem.decodeAll(src, p, n, size)
	}
	return c
}

// appendAll appends n values that stand one behind the other.
func (c *coder) appendAll(dst []byte, p unsafe.Pointer, n int, size uintptr) (_ []byte, err error) {
	if c.least == 0 {
		return dst, nil
	}
	for i := range n {
		if dst, err = c.append(dst, unsafe.Add(p, uintptr(i)*size)); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (c *coder) decodeAll(src []byte, p unsafe.Pointer, n int, size uintptr) (_ []byte, err error) {
	if c.least == 0 {
		return src, nil
	}
	for i := range n {
		if src, err = c.decode(src, unsafe.Add(p, uintptr(i)*size)); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// Of slices and maps the length is written plus 1, and 0 stands for nil.

// readLength takes the length of a slice or map off src. The rest holds at
// least as many elements of at least least bytes.
func readLength(src []byte, least int) (n int, isNil bool, rest []byte, err error) {
	u, rest, err := readUvarint(src)
	switch {
	case err != nil || u == 0:
		return 0, true, rest, err
	case least > 0 && u-1 > uint64(len(rest)/least):
		return 0, false, nil, errShort
	case u > 1<<31: // of nothing
		return 0, false, nil, errRange
	}
	return int(u - 1), false, rest, nil
}

func sliceCoder(t reflect.Type) coder {
	if t.Elem().Kind() == reflect.Uint8 && !marshals(t.Elem()) {
		return bytesCoder
	}
	elem, size := coderOf(t.Elem()), t.Elem().Size()
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			s := *(*[]struct{})(p) // the header is the same, whatever the elements
			if s == nil {
				return append(dst, 0), nil
			}
			dst = binary.AppendUvarint(dst, uint64(len(s))+1)
			return elem.appendAll(dst, unsafe.Pointer(unsafe.SliceData(s)), len(s), size)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			n, isNil, src, err := readLength(src, elem.least)
			if err != nil || isNil {
				return src, err
			}
			reflect.NewAt(t, p).Elem().Set(reflect.MakeSlice(t, n, n))
			return elem.decodeAll(src, unsafe.Pointer(unsafe.SliceData(*(*[]struct{})(p))), n, size)
		},
		least: 1, describe: "[]" + elem.describe,
	}
}

var bytesCoder = coder{
	append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		b := *(*[]byte)(p)
		if b == nil {
			return append(dst, 0), nil
		}
		return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...), nil
	},
	decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
		n, isNil, src, err := readLength(src, 1)
		if err != nil || isNil {
			return src, err
		}
		*(*[]byte)(p) = append(make([]byte, 0, n), src[:n]...)
		return src[n:], nil
	},
	least: 1, describe: "[]uint8",
}

// mapCoder goes by reflection, for which there is no other way than to know the
// type. Entries have no order.
func mapCoder(t reflect.Type) coder {
	if c, ok := mapCoders[t]; ok {
		return c
	}
	key, val := coderOf(t.Key()), coderOf(t.Elem())
	entries := func(dst []byte, m reflect.Value) (_ []byte, err error) {
		k, v := reflect.New(t.Key()), reflect.New(t.Elem())
		for iter := m.MapRange(); iter.Next(); {
			k.Elem().SetIterKey(iter)
			v.Elem().SetIterValue(iter)
			if dst, err = key.append(dst, k.UnsafePointer()); err != nil {
				return dst, err
			}
			if dst, err = val.append(dst, v.UnsafePointer()); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			m := reflect.NewAt(t, p).Elem()
			if m.IsNil() {
				return append(dst, 0), nil
			}
			return entries(binary.AppendUvarint(dst, uint64(m.Len())+1), m)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			n, isNil, src, err := readLength(src, key.least+val.least)
			if err != nil || isNil {
				return src, err
			}
			if n > 1 && key.least == 0 {
				return nil, errForm // there is one key only
			}
			m := reflect.MakeMapWithSize(t, n)
			reflect.NewAt(t, p).Elem().Set(m)
			for range n {
				k, v := reflect.New(t.Key()), reflect.New(t.Elem())
				if src, err = key.decode(src, k.UnsafePointer()); err != nil {
					return nil, err
				}
				if src, err = val.decode(src, v.UnsafePointer()); err != nil {
					return nil, err
				}
				m.SetMapIndex(k.Elem(), v.Elem())
			}
			if m.Len() != n {
				return nil, errForm
			}
			return src, nil
		},
		least: 1, describe: fmt.Sprintf("map[%s]%s", key.describe, val.describe),
	}
}

// mapCoders are those of frequent types, four times as fast.
var mapCoders = map[reflect.Type]coder{
	reflect.TypeFor[map[string]int]():      knownMapCoder[string, int](stringCoder, basicCoders[reflect.Int]),
	reflect.TypeFor[map[string]int64]():    knownMapCoder[string, int64](stringCoder, basicCoders[reflect.Int64]),
	reflect.TypeFor[map[string]float64]():  knownMapCoder[string, float64](stringCoder, float64Coder),
	reflect.TypeFor[map[string]string]():   knownMapCoder[string, string](stringCoder, stringCoder),
	reflect.TypeFor[map[string]bool]():     knownMapCoder[string, bool](stringCoder, boolCoder),
	reflect.TypeFor[map[string]struct{}](): knownMapCoder[string, struct{}](stringCoder, emptyCoder),
}

func knownMapCoder[K comparable, V any](key, val coder) coder {
	return coder{
		append: func(dst []byte, p unsafe.Pointer) (_ []byte, err error) {
			m := *(*map[K]V)(p)
			if m == nil {
				return append(dst, 0), nil
			}
			dst = binary.AppendUvarint(dst, uint64(len(m))+1)
			var entry struct {
				k K
				v V
			}
			for entry.k, entry.v = range m {
				if dst, err = key.append(dst, unsafe.Pointer(&entry.k)); err != nil {
					return dst, err
				}
				if dst, err = val.append(dst, unsafe.Pointer(&entry.v)); err != nil {
					return dst, err
				}
			}
			return dst, nil
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			n, isNil, src, err := readLength(src, key.least+val.least)
			if err != nil || isNil {
				return src, err
			}
			m := make(map[K]V, n)
			*(*map[K]V)(p) = m
			var entry struct {
				k K
				v V
			}
			for range n {
				if src, err = key.decode(src, unsafe.Pointer(&entry.k)); err != nil {
					return nil, err
				}
				if src, err = val.decode(src, unsafe.Pointer(&entry.v)); err != nil {
					return nil, err
				}
				m[entry.k] = entry.v
			}
			if len(m) != n {
				return nil, errForm
			}
			return src, nil
		},
		least: 1, describe: fmt.Sprintf("map[%s]%s", key.describe, val.describe),
	}
}

// pointerCoder writes 0 for nil, else 1 and what it points to.
func pointerCoder(t reflect.Type) coder {
	elem := coderOf(t.Elem())
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			to := *(*unsafe.Pointer)(p)
			if to == nil {
				return append(dst, 0), nil
			}
			return elem.append(append(dst, 1), to)
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			if len(src) == 0 {
				return nil, errShort
			}
			if src[0] > 1 {
				return nil, errForm
			}
			if src[0] == 0 {
				return src[1:], nil
			}
			to := reflect.New(t.Elem())
			*(*unsafe.Pointer)(p) = to.UnsafePointer()
			return elem.decode(src[1:], to.UnsafePointer())
		},
		least: 1, describe: "*" + elem.describe,
	}
}

// marshals says whether a type turns its values into bytes and back itself.
func marshals(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && hasAny(t, binaryWriters) && hasAny(t, binaryReaders)
}

// hasAny says whether pointers to a type, which have its own methods too,
// implement one of some interfaces.
func hasAny(t reflect.Type, of []reflect.Type) bool {
	for _, i := range of {
		if reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

var (
	binaryWriters = []reflect.Type{reflect.TypeFor[encoding.BinaryAppender](), reflect.TypeFor[encoding.BinaryMarshaler]()}
	binaryReaders = []reflect.Type{reflect.TypeFor[encoding.BinaryUnmarshaler]()}
)

// marshalerCoder writes what the type's own method does behind its length.
func marshalerCoder(t reflect.Type) coder {
	write := func(dst []byte, p unsafe.Pointer) ([]byte, error) {
		switch v := reflect.NewAt(t, p).Interface().(type) {
		case encoding.BinaryAppender:
			return v.AppendBinary(dst)
		default:
			data, err := v.(encoding.BinaryMarshaler).MarshalBinary()
			return append(dst, data...), err
		}
	}
	return coder{
		append: func(dst []byte, p unsafe.Pointer) ([]byte, error) {
			at := len(dst)
			dst, err := write(append(dst, 0), p)
			if err != nil {
				return dst, err
			}
			return putLength(dst, at), nil
		},
		decode: func(src []byte, p unsafe.Pointer) ([]byte, error) {
			value, rest, err := readSized(src)
			if err != nil {
				return nil, err
			}
			return rest, reflect.NewAt(t, p).Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(value)
		},
		least: 1, describe: "binary",
	}
}
