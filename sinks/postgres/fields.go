package postgres

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// field is a struct's field that is written to a column.
type field struct {
	column string
	name   string
	index  []int
	typ    reflect.Type
}

// fieldsOf returns the fields of a struct: exported ones, and those of structs that
// are embedded, under the names of their db tags.
func fieldsOf(t reflect.Type) ([]field, error) {
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("invalid sink: %v is no struct: Encode writes what is none", t)
	}
	var all []field
	seen := map[string]string{}
	for _, f := range reflect.VisibleFields(t) {
		tag, tagged := f.Tag.Lookup("db")
		if tag == "-" || !f.IsExported() || throughPointerOrIgnored(t, f.Index) || f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct {
			continue
		}
		column := tag
		if column == "" {
			column = snake(f.Name)
		}
		if other, twice := seen[column]; twice {
			return nil, fmt.Errorf("invalid sink: fields %s and %s of %v are both for column %q", other, f.Name, t, column)
		}
		seen[column] = f.Name
		all = append(all, field{column, f.Name, f.Index, f.Type})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("invalid sink: %v has no exported fields", t)
	}
	return all, nil
}

// throughPointerOrIgnored says whether a field is promoted from a struct that may be
// nil, or that is not to be written, or that is a column as a whole.
func throughPointerOrIgnored(t reflect.Type, index []int) bool {
	for i := 1; i < len(index); i++ {
		outer := t.FieldByIndex(index[:i])
		_, tagged := outer.Tag.Lookup("db")
		if tagged || outer.Type.Kind() == reflect.Pointer {
			return true
		}
	}
	return false
}

// snake returns the column of a field without a tag: EventID is event_id.
func snake(name string) string {
	var b strings.Builder
	letters := []rune(name)
	for i, r := range letters {
		if i > 0 && unicode.IsUpper(r) {
			wordEnds := !unicode.IsUpper(letters[i-1])
			wordBegins := i+1 < len(letters) && unicode.IsLower(letters[i+1]) && letters[i-1] != '_'
			if wordEnds || wordBegins {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
