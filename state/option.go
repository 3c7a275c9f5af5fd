package state

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Option sets something of one declared state.
type Option func(*options)

// options is what Options set. Types are checked where the state is declared.
type options struct {
	codec      any // a Codec of the state's type
	version    uint32
	shape      string
	migrations map[uint32]any // by the version they read: func([]byte) (V, error)
	ttl        time.Duration
	clock      Clock
	errs       []error
}

// Clock says which time a TTL counts in.
type Clock uint8

const (
	// EventTime counts by the watermark.
	EventTime Clock = iota
	// ProcessingTime counts by the clock of the machine.
	ProcessingTime
)

// Encoding sets the codec of a state. Default: [CodecFor] its type.
func Encoding[V any](c Codec[V]) Option {
	return func(o *options) { o.codec = c }
}

// Version sets the version of a state's encoding. Raise it when the meaning of
// the bytes changes, and give a [Migrate] for each version that may still be
// in a checkpoint; state of a version that nothing reads is refused by name
// when the job starts. Default 1.
func Version(n uint32) Option {
	return func(o *options) {
		if n == 0 {
			o.errs = append(o.errs, errors.New("version is 0, must be at least 1"))
		}
		o.version = n
	}
}

// Shape says, in words for an error message, what a state's meaning depends on
// besides its type: the size of windows, say, where only their starts are kept.
// State of another shape is refused when the job starts. Default: nothing.
func Shape(text string) Option { return func(o *options) { o.shape = text } }

// Migrate says how to read values that an earlier version wrote. They are
// rewritten in the current version when they are next changed.
func Migrate[V any](from uint32, read func(old []byte) (V, error)) Option {
	return func(o *options) {
		if _, twice := o.migrations[from]; twice {
			o.errs = append(o.errs, fmt.Errorf("two migrations from version %d", from))
		}
		if o.migrations == nil {
			o.migrations = map[uint32]any{}
		}
		o.migrations[from] = read
	}
}

// TTL forgets a value when it has not been written for d, counted by the given
// clock. It is removed actively, not only when it is next asked for, within d
// and a sixty-fourth more. Default: never.
func TTL(d time.Duration, clock Clock) Option {
	return func(o *options) {
		if d < time.Millisecond {
			o.errs = append(o.errs, fmt.Errorf("TTL is %v, must be at least 1 ms", d))
		}
		o.ttl, o.clock = d, clock
	}
}

// schema is what a declared state of type V is made with.
type schema[V any] struct {
	codec      Codec[V]
	version    uint32
	migrations map[uint32]func([]byte) (V, error)
	pointers   bool // values refer to memory outside themselves
}

func settled(opts []Option) options {
	o := options{version: 1}
	for _, set := range opts {
		set(&o)
	}
	return o
}

// info describes a state with these options. It is asked for with every
// watermark, so a state does it once.
func (o *options) info(name, kind string, typ reflect.Type) Info {
	return Info{name, kind, typ.String(), o.version, o.shape}
}

// schemaOf settles the options of a state of type V.
func schemaOf[V any](opts []Option) (schema[V], error) {
	o := settled(opts)
	s := schema[V]{version: o.version, pointers: HasPointers(reflect.TypeFor[V]())}
	errs := o.errs
	switch c := o.codec.(type) {
	case nil:
		codec, err := CodecFor[V]()
		if err != nil {
			errs = append(errs, err)
		}
		s.codec = codec
	case unencodable:
		errs = append(errs, c.err)
	case Codec[V]:
		s.codec = c
	default:
		errs = append(errs, fmt.Errorf("the codec %T is not one of %v", c, reflect.TypeFor[V]()))
	}
	for from, m := range o.migrations {
		read, ok := m.(func([]byte) (V, error))
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("the migration from version %d is a %T, the state holds %v", from, m, reflect.TypeFor[V]()))
		case from >= s.version:
			errs = append(errs, fmt.Errorf("a migration from version %d, the current version is %d", from, s.version))
		default:
			if s.migrations == nil {
				s.migrations = map[uint32]func([]byte) (V, error){}
			}
			s.migrations[from] = read
		}
	}
	return s, errors.Join(errs...)
}

// HasPointers says whether values of a type refer to memory outside themselves:
// what such a value refers to has to be counted, and a spare one cleared.
func HasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return t.Len() > 0 && HasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if HasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	default:
		return true
	}
}
