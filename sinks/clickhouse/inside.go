package clickhouse

import (
	"database/sql/driver"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// insideCheck returns what refuses values of a Go type that a column can't hold, but
// that clickhouse-go would make others of: it cuts off the upper bits of numbers and
// times, and NULL becomes zero. nil where there is nothing to check.
func insideCheck(t columnType, typ reflect.Type) func(v reflect.Value) error {
	switch t.name {
	case "Nullable":
		return nullCheck(t.inner(), typ, true)
	case "LowCardinality":
		return nullCheck(t.inner(), typ, t.nullable())
	case "Dynamic", "Variant", "JSON":
		return nil
	}
	return nullCheck(t, typ, false)
}

// dynamicCheck is insideCheck for values of any type.
func dynamicCheck(t columnType) func(v reflect.Value) error {
	return func(v reflect.Value) error {
		if check := insideCheck(t, v.Type()); check != nil {
			return check(v)
		}
		return nil
	}
}

// nullCheck looks through pointers and interfaces.
func nullCheck(t columnType, typ reflect.Type, nullable bool) func(v reflect.Value) error {
	if t.name == "Nullable" {
		t, nullable = t.inner(), true
	}
	if typ.Kind() != reflect.Pointer && typ.Kind() != reflect.Interface {
		return valueCheck(t, typ)
	}
	if typ.Kind() == reflect.Pointer && pointedValue(typ.Elem()) {
		return nil
	}
	var known func(v reflect.Value) error
	if typ.Kind() == reflect.Pointer {
		known = insideCheck(t, typ.Elem())
	}
	return func(v reflect.Value) error {
		check := known
		switch {
		case v.IsNil() && !nullable:
			return errNull
		case v.IsNil():
			return nil
		case v.Kind() == reflect.Interface:
			check = insideCheck(t, v.Elem().Type())
		}
		if check == nil {
			return nil
		}
		return check(v.Elem())
	}
}

// valueCheck is for what is there.
func valueCheck(t columnType, typ reflect.Type) func(v reflect.Value) error {
	_, number := numbers[t.name]
	switch {
	case strings.HasPrefix(t.name, "Decimal"):
		return decimalCheck(t, typ)
	case typ == timeType:
		return timeCheck(t)
	case number && typ.Implements(valuerType):
		return valuerCheck(t)
	case number:
		return numberCheck(t, typ)
	case t.name == "DateTime" && typ.Kind() >= reflect.Int && typ.Kind() <= reflect.Uint64:
		return numberCheck(columnType{name: "UInt32", text: t.text}, typ)
	case t.name == "Array" && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Array):
		return elementsCheck(insideCheck(t.inner(), typ.Elem()))
	case t.name == "Map" && typ.Kind() == reflect.Map && len(t.args) == 2:
		return entriesCheck(insideCheck(t.inner(), typ.Key()), insideCheck(parseType(t.args[1]), typ.Elem()))
	case t.name == "Tuple":
		return tupleCheck(t, typ)
	}
	return nil
}

func valuerCheck(t columnType) func(v reflect.Value) error {
	return func(v reflect.Value) error {
		value, err := v.Interface().(driver.Valuer).Value()
		if err != nil || value == nil {
			return nil // clickhouse-go says so, or it was looked at before
		}
		if check := valueCheck(t, reflect.TypeOf(value)); check != nil {
			return check(reflect.ValueOf(value))
		}
		return nil
	}
}

func elementsCheck(check func(v reflect.Value) error) func(v reflect.Value) error {
	if check == nil {
		return nil
	}
	return func(v reflect.Value) error {
		for i := range v.Len() {
			if err := check(v.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		return nil
	}
}

func entriesCheck(key, value func(v reflect.Value) error) func(v reflect.Value) error {
	if key == nil && value == nil {
		return nil
	}
	return func(v reflect.Value) error {
		for it := v.MapRange(); it.Next(); {
			for _, part := range []struct {
				check func(v reflect.Value) error
				v     reflect.Value
			}{{key, it.Key()}, {value, it.Value()}} {
				if part.check == nil {
					continue
				}
				if err := part.check(part.v); err != nil {
					return fmt.Errorf("key %v: %w", it.Key(), err)
				}
			}
		}
		return nil
	}
}

// tupleCheck is for the Go types that clickhouse-go makes tuples of: slices by
// position, maps and structs by name.
func tupleCheck(t columnType, typ reflect.Type) func(v reflect.Value) error {
	var names []string
	var types []columnType
	for _, arg := range t.args {
		name, text := splitElement(arg)
		names, types = append(names, name), append(types, parseType(text))
	}
	var checks []func(v reflect.Value) error
	add := func(i int, typ reflect.Type, get func(v reflect.Value) reflect.Value) {
		check := insideCheck(types[i], typ)
		if check == nil {
			return
		}
		checks = append(checks, func(v reflect.Value) error {
			if v = get(v); !v.IsValid() {
				return nil
			}
			if err := check(v); err != nil {
				return fmt.Errorf("element %d: %w", i+1, err)
			}
			return nil
		})
	}
	for i := range types {
		switch {
		case typ.Kind() == reflect.Slice || typ.Kind() == reflect.Array:
			add(i, typ.Elem(), func(v reflect.Value) reflect.Value {
				if i >= v.Len() {
					return reflect.Value{}
				}
				return v.Index(i)
			})
		case typ.Kind() == reflect.Map && typ.Key().Kind() == reflect.String:
			add(i, typ.Elem(), func(v reflect.Value) reflect.Value {
				return v.MapIndex(reflect.ValueOf(names[i]).Convert(typ.Key()))
			})
		case typ.Kind() == reflect.Struct:
			for _, f := range structFields(typ, nil) {
				if f.column == names[i] {
					add(i, f.typ, func(v reflect.Value) reflect.Value { return v.FieldByIndex(f.index) })
				}
			}
		}
	}
	if len(checks) == 0 {
		return nil
	}
	return func(v reflect.Value) error {
		for _, check := range checks {
			if err := check(v); err != nil {
				return err
			}
		}
		return nil
	}
}

// splitElement splits an element of a Tuple into its name, which it need not have, and
// its type.
func splitElement(arg string) (name, text string) {
	if strings.HasPrefix(arg, "`") {
		if end := strings.LastIndexByte(arg, '`'); end > 0 {
			return unquoteName(arg[:end+1]), arg[end+1:]
		}
	}
	space, open := strings.IndexByte(arg, ' '), strings.IndexByte(arg, '(')
	if space > 0 && (open < 0 || space < open) {
		return arg[:space], arg[space+1:]
	}
	return "", arg
}

// numberCheck is for numbers that may not be ones of the column's.
func numberCheck(t columnType, typ reflect.Type) func(v reflect.Value) error {
	into := numbers[t.name]
	kind := typ.Kind()
	if strings.HasPrefix(t.name, "Float") || t.name == "Bool" || kind < reflect.Int || kind > reflect.Float64 || kind == reflect.Uintptr ||
		!narrows(typ, t) {
		return nil
	}
	low, high := int64(-1)<<(8*into.width-1), uint64(1)<<(8*into.width-1)-1
	if strings.HasPrefix(t.name, "UInt") {
		low, high = 0, math.MaxUint64>>(64-8*into.width)
	}
	return func(v reflect.Value) error {
		fits := false
		switch {
		case v.CanInt():
			fits = v.Int() >= low && (v.Int() < 0 || uint64(v.Int()) <= high)
		case v.CanUint():
			fits = v.Uint() <= high
		default: // the float next to high is high+1, where it is not high itself
			f := v.Float()
			fits = f == math.Trunc(f) && f >= float64(low) && (f < float64(high) || f == float64(high) && into.width < 8)
		}
		if !fits {
			return fmt.Errorf("%v is no %s", v, t.text)
		}
		return nil
	}
}

func timeCheck(t columnType) func(v reflect.Value) error {
	var convert func(t time.Time) (uint64, error)
	switch t.name {
	case "Date":
		convert = date
	case "Date32":
		convert = date32
	case "DateTime":
		convert = dateTime
	case "DateTime64":
		if p := t.number(0); p >= 0 && p <= 9 {
			convert = dateTime64(p)
		}
	}
	if convert == nil {
		return nil
	}
	return func(v reflect.Value) error {
		_, err := convert(v.Interface().(time.Time))
		return err
	}
}

func date32(t time.Time) (uint64, error) {
	if y := t.Year(); !t.IsZero() && (y < 1900 || y > 2299) {
		return 0, fmt.Errorf("%v is out of Date32's range, 1900 to 2299", t)
	}
	return uint64(daysOf(t)), nil
}

// decimalCheck is for decimals with more digits before the point than the column has.
// Those behind it that are too many are cut off, as the server does.
func decimalCheck(t columnType, typ reflect.Type) func(v reflect.Value) error {
	precision, scale := t.number(0), t.number(1)
	if t.name != "Decimal" || precision == 0 || typ != reflect.TypeFor[decimal.Decimal]() {
		return nil
	}
	limit := decimal.New(1, int32(precision-scale))
	return func(v reflect.Value) error {
		if d := v.Interface().(decimal.Decimal); d.Abs().GreaterThanOrEqual(limit) {
			return fmt.Errorf("%v is no %s", d, t.text)
		}
		return nil
	}
}
