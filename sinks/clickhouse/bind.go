package clickhouse

import (
	"database/sql/driver"
	"math"
	"net/netip"
	"reflect"
	"time"

	"github.com/google/uuid"
)

var (
	timeType = reflect.TypeFor[time.Time]()
	uuidType = reflect.TypeFor[uuid.UUID]()

	addrType = reflect.TypeFor[netip.Addr]()

	valuerType = reflect.TypeFor[driver.Valuer]()
)

// numbers are the types of fixed width that a Go kind has exactly.
var numbers = map[string]struct {
	width int
	kinds []reflect.Kind
}{
	"UInt8":   {1, []reflect.Kind{reflect.Uint8, reflect.Bool}},
	"UInt16":  {2, []reflect.Kind{reflect.Uint16}},
	"UInt32":  {4, []reflect.Kind{reflect.Uint32}},
	"UInt64":  {8, []reflect.Kind{reflect.Uint64, reflect.Uint}},
	"Int8":    {1, []reflect.Kind{reflect.Int8}},
	"Int16":   {2, []reflect.Kind{reflect.Int16}},
	"Int32":   {4, []reflect.Kind{reflect.Int32}},
	"Int64":   {8, []reflect.Kind{reflect.Int64, reflect.Int}},
	"Float32": {4, []reflect.Kind{reflect.Float32}},
	"Float64": {8, []reflect.Kind{reflect.Float64}},
	"Bool":    {1, []reflect.Kind{reflect.Bool}},
}

// encoderOf returns the encoder of our own for a type, nil if there is none.
func encoderOf(t columnType) encoder {
	if n, ok := numbers[t.name]; ok {
		return &fixed{width: n.width}
	}
	switch t.name {
	case "String":
		return &texts{}
	case "FixedString":
		return &fixedTexts{fixed{width: t.number(0)}}
	case "Enum8":
		return &enums{fixed{width: 1}, t.text, t.enumValues()}
	case "Enum16":
		return &enums{fixed{width: 2}, t.text, t.enumValues()}
	case "UUID":
		return &fixed{width: 16}
	case "Date":
		return &times{fixed{width: 2}, date}
	case "DateTime":
		return &times{fixed{width: 4}, dateTime}
	case "DateTime64":
		if p := t.number(0); p >= 0 && p <= 9 {
			return &times{fixed{width: 8}, dateTime64(p)}
		}
	case "IPv4":
		return &addresses{fixed{width: 4}}
	case "IPv6":
		return &addresses{fixed{width: 16}}
	case "LowCardinality":
		if t.inner().text == "String" {
			return newDictionary()
		}
	case "Nullable":
		return optionalOf(t.inner())
	}
	return nil
}

func optionalOf(inner columnType) encoder {
	o := &optional{inner: encoderOf(inner)}
	switch e := o.inner.(type) {
	case *fixed:
		o.zero = func() { e.buf = append(e.buf, make([]byte, e.width)...) }
	case *times:
		o.zero = func() { e.put(0) }
	case *enums:
		o.zero = func() { e.put(0) }
	case *addresses:
		o.zero = func() { e.buf = append(e.buf, make([]byte, e.width)...) }
	case *texts:
		o.zero = func() { _ = e.putString("") } // it can't fail
	case *fixedTexts:
		o.zero = func() { _ = e.putString("") } // it can't fail
	default:
		return nil
	}
	return o
}

// stringPutter is an encoder that takes text.
type stringPutter interface{ putString(s string) error }

// bind returns what puts values of a Go type into an encoder, nil if they don't fit.
func bind(e encoder, t columnType, typ reflect.Type) func(v reflect.Value) error {
	if o, ok := e.(*optional); ok {
		return bindOptional(o, t.inner(), typ)
	}
	switch e := e.(type) {
	case *fixed:
		return bindFixed(e, t, typ)
	case *times:
		if typ == timeType {
			// Through a pointer, since Interface would copy the time to the heap.
			return func(v reflect.Value) error {
				if v.CanAddr() {
					return e.putTime(*v.Addr().Interface().(*time.Time))
				}
				return e.putTime(v.Interface().(time.Time))
			}
		}
	case *addresses:
		if typ == addrType {
			return func(v reflect.Value) error { return e.putAddr(v.Interface().(netip.Addr)) }
		}
	case stringPutter:
		if typ.Kind() == reflect.String && !typ.Implements(valuerType) {
			return func(v reflect.Value) error { return e.putString(v.String()) }
		}
	}
	return nil
}

func bindOptional(o *optional, inner columnType, typ reflect.Type) func(v reflect.Value) error {
	pointer := typ.Kind() == reflect.Pointer
	if pointer {
		typ = typ.Elem()
	}
	put := bind(o.inner, inner, typ)
	if put == nil {
		return nil
	}
	return func(v reflect.Value) error {
		if pointer {
			if v.IsNil() {
				o.putNull()
				return nil
			}
			v = v.Elem()
		}
		if err := put(v); err != nil {
			return err
		}
		o.nulls = append(o.nulls, 0)
		return nil
	}
}

func bindFixed(e *fixed, t columnType, typ reflect.Type) func(v reflect.Value) error {
	if t.name == "UUID" {
		if typ != uuidType {
			return nil
		}
		return func(v reflect.Value) error {
			id := v.Interface().(uuid.UUID)
			e.putUUID((*[16]byte)(&id))
			return nil
		}
	}
	fits := false
	for _, k := range numbers[t.name].kinds {
		fits = fits || k == typ.Kind()
	}
	if !fits || typ.Implements(valuerType) { // a Valuer is clickhouse-go's to understand
		return nil
	}
	switch typ.Kind() {
	case reflect.Bool:
		return func(v reflect.Value) error { e.put(bit(v.Bool())); return nil }
	case reflect.Float32:
		return func(v reflect.Value) error { e.put(uint64(math.Float32bits(float32(v.Float())))); return nil }
	case reflect.Float64:
		return func(v reflect.Value) error { e.put(math.Float64bits(v.Float())); return nil }
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(v reflect.Value) error { e.put(v.Uint()); return nil }
	}
	return func(v reflect.Value) error { e.put(uint64(v.Int())); return nil }
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// bindTyped is bind without reflection, for the types that columns mostly have; nil
// for others.
func bindTyped[V any](e encoder, t columnType) func(v V) error {
	var put any
	switch e := e.(type) {
	case *fixed:
		put = fixedPutter[V](e)
	case *times:
		put = e.putTime
	case *addresses:
		put = e.putAddr
	case stringPutter:
		put = e.putString
	}
	if bind(e, t, reflect.TypeFor[V]()) == nil { // of another width
		return nil
	}
	typed, _ := put.(func(V) error)
	return typed
}

func fixedPutter[V any](e *fixed) any {
	switch any(*new(V)).(type) {
	case uint8:
		return func(v uint8) error { e.buf = append(e.buf, v); return nil }
	case uint16:
		return func(v uint16) error { e.put(uint64(v)); return nil }
	case uint32:
		return func(v uint32) error { e.put(uint64(v)); return nil }
	case uint64:
		return func(v uint64) error { e.put(v); return nil }
	case uint:
		return func(v uint) error { e.put(uint64(v)); return nil }
	case int8:
		return func(v int8) error { e.put(uint64(v)); return nil }
	case int16:
		return func(v int16) error { e.put(uint64(v)); return nil }
	case int32:
		return func(v int32) error { e.put(uint64(v)); return nil }
	case int64:
		return func(v int64) error { e.put(uint64(v)); return nil }
	case int:
		return func(v int) error { e.put(uint64(v)); return nil }
	case float32:
		return func(v float32) error { e.put(uint64(math.Float32bits(v))); return nil }
	case float64:
		return func(v float64) error { e.put(math.Float64bits(v)); return nil }
	case bool:
		return func(v bool) error { e.put(bit(v)); return nil }
	case uuid.UUID:
		return func(v uuid.UUID) error { e.putUUID((*[16]byte)(&v)); return nil }
	}
	return nil
}
