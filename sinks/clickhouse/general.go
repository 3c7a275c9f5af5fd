package clickhouse

import (
	"database/sql/driver"
	"errors"
	"reflect"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/millrace/millrace/pipeline"
)

// general is a column of any type that clickhouse-go encodes. Its columns can't take
// a value back, and one that they refuse may be half in them: then the column is
// made again from the values it had, and from there on, to the end of the block,
// each value is tried on another column first.
type general struct {
	typ      string
	nullable bool
	inside   func(v reflect.Value) error // finds what clickhouse-go would change; nil: nothing
	server   *column.ServerContext
	column   column.Interface
	trial    column.Interface
	held     []any
	bytes    int
	last     int
}

func newGeneral(name string, t columnType, server *column.ServerContext) (*general, error) {
	g := &general{typ: t.text, nullable: t.nullable(), server: server}
	var err error
	if g.column, err = column.Type(t.text).Column(name, server); err != nil {
		return nil, err
	}
	g.trial, err = column.Type(t.text).Column(name, server)
	return g, err
}

// try says whether a value can be put.
func (g *general) try(v any) error {
	defer g.trial.Reset()
	return appendRow(g.trial, v)
}

// put adds a value. After an error the column is to be repaired.
func (g *general) put(v any) error {
	if err := appendRow(g.column, v); err != nil {
		return err
	}
	g.held = append(g.held, v)
	g.last = roughSize(reflect.ValueOf(v), 0)
	g.bytes += g.last
	return nil
}

// check finds a NULL where there must be none, which clickhouse-go would make zero,
// and what is out of range.
func (g *general) check(v any) error {
	switch null := isNull(v); {
	case null && !g.nullable:
		return errNull
	case null || g.inside == nil:
		return nil
	}
	return g.inside(reflect.ValueOf(v))
}

// repair brings the column back to a number of rows.
func (g *general) repair(rows int) error {
	for len(g.held) > rows {
		g.bytes -= roughSize(reflect.ValueOf(g.held[len(g.held)-1]), 0)
		g.held = g.held[:len(g.held)-1]
	}
	fresh, err := column.Type(g.typ).Column(g.column.Name(), g.server) // Reset leaves something in some
	if err != nil {
		return err
	}
	g.column = fresh
	for _, v := range g.held {
		if err := appendRow(g.column, v); err != nil {
			return err
		}
	}
	return nil
}

func appendRow(c column.Interface, v any) (err error) {
	defer pipeline.CatchPanic(&err)
	return c.AppendRow(v)
}

// encode appends the column's data to b.
func (g *general) encode(b []byte) (_ []byte, err error) {
	defer pipeline.CatchPanic(&err)
	buf := chproto.Buffer{Buf: b}
	if prefix, ok := g.column.(column.CustomSerialization); ok {
		if err := prefix.WriteStatePrefix(&buf); err != nil {
			return nil, err
		}
	}
	g.column.Encode(&buf)
	return buf.Buf, nil
}

func (g *general) reset() error {
	clear(g.held)
	g.held, g.bytes = g.held[:0], 0
	return g.repair(0)
}

// isNull says whether a value is NULL for clickhouse-go.
func isNull(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer && r.IsNil() {
		return true
	}
	valuer, ok := v.(driver.Valuer)
	if !ok {
		return false
	}
	value, err := valuer.Value()
	return err == nil && value == nil
}

// roughSize is about how many bytes a value takes in a block.
func roughSize(v reflect.Value, depth int) int {
	if depth > 8 {
		return 8
	}
	switch v.Kind() {
	case reflect.Invalid:
		return 1
	case reflect.String:
		return v.Len() + 1
	case reflect.Pointer, reflect.Interface:
		return roughSize(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if n := v.Len(); n == 0 || v.Type().Elem().Kind() < reflect.Array { // numbers
			return 8 + n*int(v.Type().Elem().Size())
		}
		size := 8
		for i := range v.Len() {
			size += roughSize(v.Index(i), depth+1)
		}
		return size
	case reflect.Map:
		size := 8
		for it := v.MapRange(); it.Next(); {
			size += roughSize(it.Key(), depth+1) + roughSize(it.Value(), depth+1)
		}
		return size
	case reflect.Struct:
		if v.Type() == timeType {
			return 8
		}
		size := 0
		for i := range v.NumField() {
			size += roughSize(v.Field(i), depth+1)
		}
		return size
	}
	return int(v.Type().Size())
}

// unfit says whether an error of clickhouse-go is about the Go type, and not about
// the value.
func unfit(err error) bool {
	var converter *column.ColumnConverterError
	var unsupported *column.UnsupportedColumnTypeError
	var panicked *pipeline.PanicError
	return errors.As(err, &converter) || errors.As(err, &unsupported) || errors.As(err, &panicked)
}
