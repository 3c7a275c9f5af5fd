package clickhouse

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// plan is how the row type's columns go into the table.
type plan struct {
	types     []columnType // of the blocks' columns
	statement string       // of the INSERT, up to FORMAT
	selects   bool         // it has a SELECT
}

// match compares columns with the table, and says all that is wrong at once.
func match[T any](columns []Column[T], cfg *Config, t *table, server *column.ServerContext) (*plan, error) {
	if t == nil {
		return nil, fmt.Errorf("table %s does not exist; CreateTable writes a statement that makes it", cfg.Table)
	}
	m := &matching{cfg: cfg, table: t, server: server}
	p := &plan{}
	for i := range columns {
		c := &columns[i]
		text := m.typeOf(c.name, c.origin, c.typ)
		p.types = append(p.types, parseType(text))
		if text != "" {
			m.fits(c.name, c.origin, c.typ, parseType(text))
		}
	}
	names := namesOf(columns)
	m.checkNames(names)
	if len(m.wrong) > 0 {
		return nil, fmt.Errorf("the rows don't fit table %s:\n\t%w", t, joined(m.wrong))
	}
	p.statement = statementOf(cfg, t, names, p.types)
	p.selects = len(cfg.Expressions) > 0
	return p, nil
}

func namesOf[T any](columns []Column[T]) []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// joined is like errors.Join, indented.
func joined(errs []error) error {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return errors.New(strings.Join(texts, "\n\t"))
}

type matching struct {
	cfg    *Config
	table  *table
	server *column.ServerContext
	wrong  []error
}

func (m *matching) add(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Errorf(format, args...))
}

// typeOf returns the type that a block's column has, nothing if there is a mistake.
func (m *matching) typeOf(name, origin string, typ reflect.Type) string {
	if text, ok := m.cfg.Inputs[name]; ok {
		return text
	}
	c := m.table.column(name)
	switch {
	case c == nil && m.cfg.Expressions[name] != "":
		return "" // said of the expression
	case c == nil:
		m.add("column %q (%s, %v): the table has none of that name", name, origin, typ)
	case c.kind == "MATERIALIZED" || c.kind == "ALIAS":
		m.add("column %q (%s): the table computes it (%s), it can't be inserted", name, origin, c.kind)
	case m.cfg.Expressions[name] != "":
		return c.typ
	case parseType(c.typ).name == "AggregateFunction":
		m.add("column %q (%s, %v): the table has %s, which is inserted by an expression: Config.Expressions", name, origin, typ, c.typ)
	default:
		return c.typ
	}
	return ""
}

// fits checks a Go type against a column's type.
func (m *matching) fits(name, origin string, typ reflect.Type, t columnType) {
	if why := nullMismatch(typ, t); why != "" {
		m.add("column %q: the table has %s, %s is %v, which may be NULL%s", name, t.text, origin, typ, why)
		return
	}
	if narrows(typ, t) {
		m.add("column %q: the table has %s, %s is %v", name, t.text, origin, typ)
		return
	}
	if e := encoderOf(t); e != nil && bind(e, t, typ) != nil || typ.Kind() == reflect.Interface {
		return
	}
	g, err := newGeneral(name, t, m.server)
	if err != nil {
		m.add("column %q: %s: %w", name, t.text, err)
		return
	}
	if err := g.try(sample(typ, 0).Interface()); err != nil && unfit(err) {
		m.add("column %q: the table has %s, %s is %v", name, t.text, origin, typ)
	}
}

// narrows says whether numbers of a Go type may not be ones of the column's:
// clickhouse-go would cut off what is too much.
func narrows(typ reflect.Type, t columnType) bool {
	for t.name == "Nullable" || t.name == "LowCardinality" {
		t = t.inner()
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch kind := typ.Kind(); {
	case t.name == "Array" && (kind == reflect.Slice || kind == reflect.Array):
		return narrows(typ.Elem(), t.inner())
	case t.name == "Map" && kind == reflect.Map && len(t.args) == 2:
		return narrows(typ.Key(), t.inner()) || narrows(typ.Elem(), parseType(t.args[1]))
	}
	into, number := numbers[t.name]
	if !number || typ.Kind() < reflect.Int || typ.Kind() > reflect.Float64 || typ.Implements(valuerType) {
		return false
	}
	width := int(typ.Size())
	switch goFloat, goSigned := typ.Kind() >= reflect.Float32, typ.Kind() <= reflect.Int64; {
	case t.name == "Bool":
		return true
	case strings.HasPrefix(t.name, "Float"):
		return !goFloat || width > into.width
	case goFloat, goSigned && strings.HasPrefix(t.name, "UInt"):
		return true
	case !goSigned && strings.HasPrefix(t.name, "Int"):
		return width >= into.width
	}
	return width > into.width
}

// nullMismatch says where a Go value may be NULL and the column's not, "" if nowhere.
func nullMismatch(typ reflect.Type, t columnType) string {
	if typ.Kind() == reflect.Pointer && !pointedValue(typ.Elem()) && !t.nullable() {
		return " while the column is not Nullable"
	}
	switch {
	case t.name == "Array" && typ.Kind() == reflect.Slice:
		if why := nullMismatch(typ.Elem(), t.inner()); why != "" {
			return " in its elements" + why
		}
	case t.name == "Map" && typ.Kind() == reflect.Map && len(t.args) == 2:
		if why := nullMismatch(typ.Elem(), parseType(t.args[1])); why != "" {
			return " in its values" + why
		}
	}
	return ""
}

// pointedValue says whether values of a type are passed around as pointers.
func pointedValue(typ reflect.Type) bool {
	return typ == reflect.TypeFor[big.Int]() || strings.HasPrefix(typ.PkgPath(), "github.com/ClickHouse/")
}

// sample returns a value of a type with something in it, to be tried on a column.
func sample(typ reflect.Type, depth int) reflect.Value {
	v := reflect.New(typ).Elem()
	if depth > 6 {
		return v
	}
	switch typ.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		if typ.Elem() != timeType && !typ.Implements(valuerType) {
			v.Elem().Set(sample(typ.Elem(), depth+1))
		}
	case reflect.Slice:
		v.Set(reflect.Append(v, sample(typ.Elem(), depth+1)))
	case reflect.Map:
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(sample(typ.Key(), depth+1), sample(typ.Elem(), depth+1))
	}
	return v
}

// checkNames checks what the config names.
func (m *matching) checkNames(names []string) {
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Expressions)) {
		if c := m.table.column(name); c == nil {
			m.add("column %q (of Config.Expressions): the table has none of that name", name)
		} else if c.kind == "MATERIALIZED" || c.kind == "ALIAS" {
			m.add("column %q (of Config.Expressions): the table computes it (%s)", name, c.kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.cfg.Inputs)) {
		if !slices.Contains(names, name) {
			m.add("value %q (of Config.Inputs): the rows have none of that name", name)
		}
	}
}

// statementOf writes the INSERT.
func statementOf(cfg *Config, t *table, names []string, types []columnType) string {
	if len(cfg.Expressions) == 0 {
		return fmt.Sprintf("INSERT INTO %s (%s)", t.quoted(), quoteNames(names))
	}
	var into, values, structure []string
	for i, name := range names {
		structure = append(structure, quoteName(name)+" "+types[i].text)
		if _, input := cfg.Inputs[name]; input || cfg.Expressions[name] != "" {
			continue
		}
		into, values = append(into, quoteName(name)), append(values, quoteName(name))
	}
	group := ""
	for _, name := range slices.Sorted(maps.Keys(cfg.Expressions)) {
		into = append(into, quoteName(name))
		values = append(values, cfg.Expressions[name])
		if strings.HasSuffix(parseTypeName(t.column(name).typ), "AggregateFunction") {
			group = " GROUP BY ALL"
		}
	}
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM input(%s)%s", t.quoted(), strings.Join(into, ", "), strings.Join(values, ", "),
		quoteText(strings.Join(structure, ", ")), group)
}

// parseTypeName returns the outermost name, of SimpleAggregateFunction too.
func parseTypeName(typ string) string {
	name, _, _ := strings.Cut(typ, "(")
	return name
}
