package clickhouse

import (
	"fmt"
	"reflect"
)

// field is a struct's field that is written to a column.
type field struct {
	column string
	name   string
	index  []int
	typ    reflect.Type
}

// fieldsOf returns the fields of a struct, exported ones and those of structs that
// are embedded, in the order of their declaration, under the names of their ch tags,
// as clickhouse-go finds them.
func fieldsOf(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("invalid sink: %v is no struct: Columns writes what is none", t)
	}
	var all []field
	seen := map[string]string{}
	for _, f := range structFields(t, nil) {
		if other, twice := seen[f.column]; twice {
			return nil, fmt.Errorf("invalid sink: fields %s and %s of %v are both for column %q", other, f.name, t, f.column)
		}
		seen[f.column] = f.name
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("invalid sink: %v has no exported fields", t)
	}
	return all, nil
}

func structFields(t reflect.Type, outer []int) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int{}, outer...), i)
		tag := f.Tag.Get("ch")
		switch {
		case tag == "-":
		case f.Anonymous && f.Type.Kind() == reflect.Struct && tag == "" && f.Type != timeType:
			all = append(all, structFields(f.Type, index)...)
		case f.IsExported():
			column := tag
			if column == "" {
				column = f.Name
			}
			all = append(all, field{column, f.Name, index, f.Type})
		}
	}
	return all
}
