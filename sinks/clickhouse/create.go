package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// TableOptions say how a table is made by [Sink.CreateTable].
type TableOptions struct {
	// OrderBy is the sorting key: columns, or expressions. It must be set; "tuple()" is
	// none.
	OrderBy []string
	// Engine is the engine with its parameters, one of the MergeTree family. Default
	// MergeTree.
	Engine string
	// PartitionBy is the partitioning expression. A block makes one part for each
	// partition that it touches. Default: none.
	PartitionBy string
	// PrimaryKey is the primary key where it is not the sorting key. Default: that.
	PrimaryKey []string
	// TTL is when rows are removed, moved or summed up: "at + INTERVAL 30 DAY". Default:
	// never.
	TTL string
	// Types are the types of columns, by name, which the Go type does not tell, or tells
	// otherwise: "LowCardinality(String)", "Enum8('a' = 1)", and those that
	// Config.Expressions fill: "AggregateFunction(uniq, UInt64)". Default: String for
	// string, DateTime64(3) for time.Time, Nullable for pointers, Array for slices, Map,
	// Tuple for structs, and the numbers as they are.
	Types map[string]string
	// Cluster has the table made on all servers of a cluster. Default: one server.
	Cluster string
	// Window is how many deduplication tokens the table remembers; 0 is the default
	// 10,000, negative leaves the setting out.
	Window int
	// Settings are further settings of the table. Default: none.
	Settings map[string]string
}

// CreateTable returns the CREATE TABLE statement of a table that fits the sink: with
// its columns, and with the deduplication window that [ExactlyOnce] needs. Nothing is
// run; [Sink.Create] does that.
func (s *Sink[T]) CreateTable(o TableOptions) (string, error) {
	if err := errors.Join(s.invalid, s.cfg.check()); err != nil {
		return "", err
	}
	if len(o.OrderBy) == 0 {
		return "", errors.New("create table: OrderBy is empty; \"tuple()\" is no order")
	}
	columns, err := s.tableColumns(o)
	if err != nil {
		return "", err
	}
	if o.Engine == "" {
		o.Engine = "MergeTree"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s", quotedTable(s.cfg.Table))
	if o.Cluster != "" {
		fmt.Fprintf(&b, " ON CLUSTER %s", quoteName(o.Cluster))
	}
	fmt.Fprintf(&b, "\n(\n\t%s\n)\nENGINE = %s", strings.Join(columns, ",\n\t"), o.Engine)
	if o.PartitionBy != "" {
		fmt.Fprintf(&b, "\nPARTITION BY %s", o.PartitionBy)
	}
	if len(o.PrimaryKey) > 0 {
		fmt.Fprintf(&b, "\nPRIMARY KEY (%s)", strings.Join(o.PrimaryKey, ", "))
	}
	fmt.Fprintf(&b, "\nORDER BY (%s)", strings.Join(o.OrderBy, ", "))
	if o.TTL != "" {
		fmt.Fprintf(&b, "\nTTL %s", o.TTL)
	}
	if settings := o.settings(); len(settings) > 0 {
		fmt.Fprintf(&b, "\nSETTINGS %s", strings.Join(settings, ", "))
	}
	return b.String(), nil
}

func (o *TableOptions) settings() []string {
	settings := maps.Clone(o.Settings)
	if settings == nil {
		settings = map[string]string{}
	}
	engine, _, _ := strings.Cut(o.Engine, "(")
	count, _ := windowSettings(strings.TrimSpace(engine))
	if _, set := settings[count]; !set && count != "" && o.Window >= 0 {
		window := o.Window
		defaultTo(&window, 10_000)
		settings[count] = fmt.Sprint(window)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		all = append(all, name+" = "+settings[name])
	}
	return all
}

func quotedTable(name string) string {
	if database, table, ok := strings.Cut(name, "."); ok {
		return quoteName(database) + "." + quoteName(table)
	}
	return quoteName(name)
}

// tableColumns returns the columns with their types.
func (s *Sink[T]) tableColumns(o TableOptions) ([]string, error) {
	var all []string
	var errs []error
	used := map[string]bool{}
	add := func(name, typ string, err error) {
		used[name] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("create table: column %q: %w: name one in Types", name, err))
			return
		}
		all = append(all, quoteName(name)+" "+typ)
	}
	for _, c := range s.columns {
		if _, only := s.cfg.Inputs[c.name]; only || s.cfg.Expressions[c.name] != "" {
			continue
		}
		typ, err := o.Types[c.name], error(nil)
		if typ == "" {
			typ, err = typeFor(c.typ, false)
		}
		add(c.name, typ, err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Expressions)) {
		var err error
		if o.Types[name] == "" {
			err = errors.New("the type of an expression is not known")
		}
		add(name, o.Types[name], err)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Types)) {
		if !used[name] {
			errs = append(errs, fmt.Errorf("create table: Types names column %q, which the sink has not", name))
		}
	}
	return all, errors.Join(errs...)
}

// Create runs the statement of [Sink.CreateTable]. A table that is there is left as
// it is.
func (s *Sink[T]) Create(ctx context.Context, o TableOptions) error {
	statement, err := s.CreateTable(o)
	if err != nil {
		return err
	}
	options, err := s.cfg.options()
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing waits in it
	if err := conn.Exec(ctx, statement); err != nil {
		if e := exceptionOf(err); e != nil {
			err = e
		}
		return fmt.Errorf("create table %s: %w", s.cfg.Table, err)
	}
	return nil
}

// kindTypes are the types of Go kinds.
var kindTypes = map[reflect.Kind]string{
	reflect.Bool: "Bool", reflect.String: "String", reflect.Float32: "Float32", reflect.Float64: "Float64",
	reflect.Int: "Int64", reflect.Int8: "Int8", reflect.Int16: "Int16", reflect.Int32: "Int32", reflect.Int64: "Int64",
	reflect.Uint: "UInt64", reflect.Uint8: "UInt8", reflect.Uint16: "UInt16", reflect.Uint32: "UInt32", reflect.Uint64: "UInt64",
}

// goTypes are the types of Go types that their kind does not tell.
var goTypes = map[reflect.Type]string{
	timeType: "DateTime64(3)", uuidType: "UUID", reflect.TypeFor[time.Duration](): "Int64",
	reflect.TypeFor[netip.Addr](): "IPv6", reflect.TypeFor[net.IP](): "IPv6", reflect.TypeFor[big.Int](): "Int256",
	reflect.TypeFor[[]byte](): "String", reflect.TypeFor[json.RawMessage](): "JSON", reflect.TypeFor[clickhouse.JSON](): "JSON",
}

// typeFor returns the type of a column for a Go type. Within a Nullable there can be
// no other, and no collection.
func typeFor(typ reflect.Type, nullable bool) (string, error) {
	if known, ok := goTypes[typ]; ok {
		return known, nil
	}
	if known, ok := kindTypes[typ.Kind()]; ok && !typ.Implements(valuerType) {
		return known, nil
	}
	if nullable || typ.Implements(valuerType) {
		return "", fmt.Errorf("no type is known for %v", typ)
	}
	switch typ.Kind() {
	case reflect.Pointer:
		if pointedValue(typ.Elem()) {
			return typeFor(typ.Elem(), false)
		}
		inner, err := typeFor(typ.Elem(), true)
		return "Nullable(" + inner + ")", err
	case reflect.Slice:
		inner, err := typeFor(typ.Elem(), false)
		return "Array(" + inner + ")", err
	case reflect.Array:
		if typ.Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("FixedString(%d)", typ.Len()), nil
		}
	case reflect.Map:
		key, err := typeFor(typ.Key(), true)
		if err != nil {
			return "", err
		}
		value, err := typeFor(typ.Elem(), false)
		return "Map(" + key + ", " + value + ")", err
	case reflect.Struct:
		return tupleFor(typ)
	}
	return "", fmt.Errorf("no type is known for %v", typ)
}

func tupleFor(typ reflect.Type) (string, error) {
	fields, err := fieldsOf(typ)
	if err != nil {
		return "", fmt.Errorf("no type is known for %v", typ)
	}
	var parts []string
	for _, f := range fields {
		inner, err := typeFor(f.typ, false)
		if err != nil {
			return "", err
		}
		parts = append(parts, quoteName(f.column)+" "+inner)
	}
	return "Tuple(" + strings.Join(parts, ", ") + ")", nil
}
