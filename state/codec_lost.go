package state

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// lossCheck walks through a type, to find out why values could not be read back
// as they were, if so, and which part of the type is to blame.
type lossCheck struct {
	inStruct bool           // it is to be CBOR
	times    bool           // there is a time in it
	above    []reflect.Type // the types that the one at hand is part of
}

// at names a part of a type: the type itself has no path.
func at(path, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if path == "" {
		return errors.New("it " + msg)
	}
	return fmt.Errorf("field %s %s", path, msg)
}

// value checks a type at a path of field names. Elements have the path of what
// they are in.
func (c *lossCheck) value(path string, t reflect.Type) error {
	if slices.Contains(c.above, t) {
		return at(path, "is of a recursive type, %v, whose values may have cycles: give an encoding", t)
	}
	known, err := c.itself(path, t)
	if known || err != nil {
		return err
	}
	c.above = append(c.above, t)
	defer func() { c.above = c.above[:len(c.above)-1] }()
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return at(path, "is a %v, which has no encoding: leave it out, or give an encoding", t.Kind())
	case reflect.Uintptr:
		if c.inStruct {
			return at(path, "is a uintptr, which has no encoding in a struct: make it a uint64")
		}
	case reflect.Array, reflect.Slice:
		return c.value(path, t.Elem())
	case reflect.Map:
		return errors.Join(c.value(path, t.Key()), c.value(path, t.Elem()))
	case reflect.Pointer:
		return c.pointer(path, t.Elem())
	case reflect.Struct:
		return c.structure(path, t)
	}
	return nil
}

// itself says whether values of a type are encoded in a way of their own, so
// that what they are made of does not matter.
func (c *lossCheck) itself(path string, t reflect.Type) (bool, error) {
	if t == timeType || t == bigIntType && c.inStruct {
		c.times = c.times || t == timeType
		return true, nil
	}
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return false, nil
	}
	writes, reads := hasAny(t, binaryWriters), hasAny(t, binaryReaders)
	if c.inStruct {
		writes = hasAny(t, binaryWriters[1:]) // an appender alone is not known there
		if hasAny(t, cborWriters) || hasAny(t, cborReaders) {
			writes, reads = hasAny(t, cborWriters), hasAny(t, cborReaders)
		}
	}
	switch {
	case writes != reads:
		return false, at(path, "is a %v, which marshals itself one way only: implement encoding.BinaryMarshaler and encoding.BinaryUnmarshaler, or give an encoding", t)
	case writes:
		return true, promoted(path, t)
	}
	return false, nil
}

var (
	bigIntType  = reflect.TypeFor[big.Int]()
	cborWriters = []reflect.Type{reflect.TypeFor[cbor.Marshaler]()}
	cborReaders = []reflect.Type{reflect.TypeFor[cbor.Unmarshaler]()}
)

// promoted refuses a struct that has the methods to marshal itself only because
// it embeds a type that has them, which know nothing of its other fields. That
// cannot be told from methods of its own, so those are refused too.
func promoted(path string, t reflect.Type) error {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && hasAny(deref(f.Type), slices.Concat(binaryWriters, binaryReaders, cborWriters, cborReaders)) {
			return at(path, "is a %v, which embeds %v and marshals itself as that, so its other fields would be lost: give the embedded field a name, or give an encoding", t, f.Type)
		}
	}
	return nil
}

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// pointer checks what a pointer points to. CBOR has one null, not two.
func (c *lossCheck) pointer(path string, to reflect.Type) error {
	switch to.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if c.inStruct {
			return at(path, "is a pointer to a %v, and could not be told from nil if that is nil: leave out the pointer, or give an encoding", to.Kind())
		}
	}
	return c.value(path, to)
}

func (c *lossCheck) structure(path string, t reflect.Type) error {
	return c.fields(path, t, map[string]string{})
}

// fields checks the fields of a struct, and of those it embeds, which become
// its own. The names of those before are given with their paths.
func (c *lossCheck) fields(path string, t reflect.Type, names map[string]string) error {
	var errs []error
	for i := range t.NumField() {
		if f := t.Field(i); f.Name != "_" {
			errs = append(errs, c.field(strings.TrimPrefix(path+"."+f.Name, "."), f, names))
		}
	}
	return errors.Join(errs...)
}

func (c *lossCheck) field(path string, f reflect.StructField, names map[string]string) error {
	name, tagged := fieldName(f)
	switch {
	case name == "-" && f.Tag.Get("cbor") == "-":
		return nil // as the user wants it
	case name == "-":
		return at(path, `is tagged json:"-" and would be lost: give it a cbor tag too`)
	case f.Anonymous && deref(f.Type).Kind() == reflect.Struct && !tagged:
		return c.embedded(path, f, names)
	case !f.IsExported():
		return at(path, "is not exported and would be lost: export it, implement encoding.BinaryMarshaler, or give an encoding")
	}
	if other, twice := names[name]; twice {
		return at(path, "has the name %q as has %s, and one would be lost: tag one of them, as in `cbor:\"other\"`", name, other)
	}
	names[name] = path
	return c.value(path, f.Type)
}

// embedded checks a struct that another one embeds.
func (c *lossCheck) embedded(path string, f reflect.StructField, names map[string]string) error {
	t := deref(f.Type)
	if t != f.Type && !f.IsExported() {
		return at(path, "is an embedded pointer to a type that is not exported, and cannot be set: embed the type itself, or give an encoding")
	}
	if slices.Contains(c.above, t) {
		return c.value(path, t) // which says so
	}
	c.above = append(c.above, t)
	defer func() { c.above = c.above[:len(c.above)-1] }()
	return c.fields(path, t, names)
}

// fieldName returns the name of a field in CBOR, and whether a tag set it.
func fieldName(f reflect.StructField) (name string, tagged bool) {
	tag := f.Tag.Get("cbor")
	if tag == "" {
		tag = f.Tag.Get("json")
	}
	if tag == "-" {
		return tag, true
	}
	name, rest, _ := strings.Cut(tag, ",")
	if name == "" {
		return f.Name, false
	}
	if slices.Contains(strings.Split(rest, ","), "keyasint") {
		name = "#" + name // names and numbers are apart
	}
	return name, true
}
