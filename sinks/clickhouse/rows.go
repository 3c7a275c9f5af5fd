package clickhouse

import (
	"fmt"
	"reflect"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/millrace/millrace/pipeline"
)

// Column is a column of [Columns]. It is made by [Value].
type Column[T any] struct {
	name, origin string
	typ          reflect.Type
	// bind returns what puts a row's value into an encoder, nil if it does not fit. It
	// is called with the row, and with its reflection where that is needed.
	bind func(e encoder, t columnType) func(row *T, r reflect.Value) error
	// value returns a row's value for clickhouse-go's columns.
	value    func(row *T, r reflect.Value) any
	reflects bool
}

// Value returns a column that holds what value returns for each row. The fastest types
// are exactly the column's own: uint32 for UInt32, string for String, FixedString,
// LowCardinality(String) and enums, [time.Time] for dates and times, [uuid.UUID]; all
// others that clickhouse-go can encode as the column's type do as well.
func Value[T, V any](column string, value func(row *T) V) Column[T] {
	return Column[T]{
		name: column, origin: "Value", typ: reflect.TypeFor[V](),
		bind: func(e encoder, t columnType) func(row *T, r reflect.Value) error {
			if put := bindTyped[V](e, t); put != nil {
				return func(row *T, _ reflect.Value) error { return put(value(row)) }
			}
			put := bind(e, t, reflect.TypeFor[V]())
			if put == nil {
				return nil
			}
			return func(row *T, _ reflect.Value) error { return put(reflect.ValueOf(value(row))) }
		},
		value: func(row *T, _ reflect.Value) any { return value(row) },
	}
}

// structColumns returns a column for each field.
func structColumns[T any](fields []field) []Column[T] {
	var all []Column[T]
	for _, f := range fields {
		get := func(r reflect.Value) reflect.Value { return r.FieldByIndex(f.index) }
		if len(f.index) == 1 {
			i := f.index[0]
			get = func(r reflect.Value) reflect.Value { return r.Field(i) }
		}
		all = append(all, Column[T]{
			name: f.column, origin: fmt.Sprintf("field %s of %v", f.name, reflect.TypeFor[T]()), typ: f.typ, reflects: true,
			bind: func(e encoder, t columnType) func(*T, reflect.Value) error {
				put := bind(e, t, f.typ)
				if put == nil {
					return nil
				}
				return func(_ *T, r reflect.Value) error { return put(get(r)) }
			},
			value: func(_ *T, r reflect.Value) any { return get(r).Interface() },
		})
	}
	return all
}

// rows gathers rows for a block, column by column.
type rows[T any] struct {
	columns  []blockColumn
	puts     []put[T]
	values   []value[T]
	reflects bool
	rowBytes int // at most
	careful  bool
	row      []any   // the general values of the row in hand
	times    []int64 // of the rows
	bytes    int     // all rows together
}

// blockColumn is one of the columns that the server gets.
type blockColumn struct {
	name, typ string
	encoder   encoder  // nil for a general one
	general   *general // nil for one of our own
}

// put puts a row's value into an encoder of our own.
type put[T any] struct {
	name    string
	put     func(row *T, r reflect.Value) error
	encoder encoder
}

// value takes a row's value for a general column.
type value[T any] struct {
	name    string
	get     func(row *T, r reflect.Value) any
	general *general
}

// newRows binds columns to their types. The types have been checked.
func newRows[T any](columns []Column[T], types []columnType, rowBytes int, server *column.ServerContext) (*rows[T], error) {
	r := &rows[T]{rowBytes: rowBytes}
	for i, c := range columns {
		r.reflects = r.reflects || c.reflects
		b := blockColumn{name: c.name, typ: types[i].text}
		if e := encoderOf(types[i]); e != nil {
			if fn := c.bind(e, types[i]); fn != nil {
				b.encoder = e
				r.puts = append(r.puts, put[T]{c.name, fn, e})
			}
		}
		if b.encoder == nil {
			g, err := newGeneral(c.name, types[i], server)
			if err != nil {
				return nil, err
			}
			if g.inside = insideCheck(types[i], c.typ); c.typ.Kind() == reflect.Interface {
				g.inside = dynamicCheck(types[i])
			}
			b.general = g
			r.values = append(r.values, value[T]{c.name, c.value, g})
		}
		r.columns = append(r.columns, b)
	}
	r.row = make([]any, len(r.values))
	return r, nil
}

func (r *rows[T]) len() int { return len(r.times) }

// add adds a row. An error is about the row, which is not added then; one that is
// fatal is about the rows before.
func (r *rows[T]) add(row *T, time int64) (err error) {
	done := 0
	defer func() {
		if err != nil {
			r.undo(done)
		}
	}()
	defer pipeline.CatchPanic(&err)
	var reflected reflect.Value
	if r.reflects {
		reflected = reflect.ValueOf(row).Elem()
	}
	for i := range r.puts {
		if err := r.puts[i].put(row, reflected); err != nil {
			return fmt.Errorf("column %q: %w", r.puts[i].name, err)
		}
		done++
	}
	size, err := r.addGeneral(row, reflected)
	if err != nil {
		return err
	}
	r.times = append(r.times, time)
	r.bytes = size
	return nil
}

func (r *rows[T]) undo(puts int) {
	for _, p := range r.puts[:puts] {
		p.encoder.undo()
	}
}

// addGeneral adds the values of the general columns, which can't be undone: so what
// could fail comes first. It returns the size of all rows.
func (r *rows[T]) addGeneral(row *T, reflected reflect.Value) (size int, err error) {
	if len(r.values) == 0 {
		return r.fitting()
	}
	values := r.row[:len(r.values)]
	for i := range r.values {
		v := &r.values[i]
		values[i] = v.get(row, reflected)
		err := v.general.check(values[i])
		if err == nil && r.careful {
			err = v.general.try(values[i])
		}
		if err != nil {
			return 0, fmt.Errorf("column %q: %w", v.name, err)
		}
	}
	for i := range r.values {
		v := &r.values[i]
		if err = v.general.put(values[i]); err != nil {
			err = fmt.Errorf("column %q: %w", v.name, err)
			break
		}
	}
	if err == nil {
		if size, err = r.fitting(); err == nil {
			return size, nil
		}
	}
	r.careful = true
	for i := range r.values {
		if rerr := r.values[i].general.repair(r.len()); rerr != nil {
			return 0, pipeline.Fatal(fmt.Errorf("column %q: a value is taken once and not twice: %w", r.values[i].name, rerr))
		}
	}
	return 0, err
}

// fitting returns the size of all rows, or an error if the last one is too large.
func (r *rows[T]) fitting() (int, error) {
	size := 0
	for i := range r.columns {
		if c := &r.columns[i]; c.encoder != nil {
			size += c.encoder.size()
		} else {
			size += c.general.bytes
		}
	}
	if n := size - r.bytes; n > r.rowBytes {
		return 0, fmt.Errorf("the row has about %d bytes, RowBytes is %d", n, r.rowBytes)
	}
	return size, nil
}

// cut returns the rows as a block, and begins the next.
func (r *rows[T]) cut() (*block, error) {
	b := &block{rows: r.len(), times: append([]int64(nil), r.times...)}
	for i := range r.columns {
		c := &r.columns[i]
		data, err := c.encode()
		if err != nil {
			return nil, fmt.Errorf("encode column %q: %w", c.name, err)
		}
		b.columns = append(b.columns, rawColumn{c.name, c.typ, data})
	}
	r.times, r.bytes, r.careful = r.times[:0], 0, false
	return b, nil
}

// encode returns the column's data, and resets it.
func (c *blockColumn) encode() ([]byte, error) {
	if c.encoder != nil {
		data := c.encoder.appendTo(make([]byte, 0, c.encoder.size()+64))
		c.encoder.reset()
		return data, nil
	}
	data, err := c.general.encode(nil)
	if err != nil {
		return nil, err
	}
	return data, c.general.reset()
}
