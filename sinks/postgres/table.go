package postgres

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// table is what the database says of the table to write to.
type table struct {
	oid     uint32
	name    string // quoted, with its schema
	columns []*column
	indexes [][]string // columns of those that are unique, sorted
	checks  []check
}

// column is one of a table.
type column struct {
	name      string
	typ       string // as in CREATE TABLE
	oid       uint32 // of the type that the client encodes
	notNull   bool
	fills     bool // the table has a value where none is written
	generated bool // nothing may be written
}

// check is a CHECK of a table.
type check struct {
	expression string
	columns    []string
}

func (t *table) column(name string) *column {
	for _, c := range t.columns {
		if c.name == name {
			return c
		}
	}
	return nil
}

// identifier quotes a name, of which parts may be separated by dots.
func identifier(name string) string { return pgx.Identifier(strings.Split(name, ".")).Sanitize() }

func list(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = pgx.Identifier{n}.Sanitize()
	}
	return strings.Join(quoted, ", ")
}

// readTable asks for a table, nil if it is not there.
func readTable(ctx context.Context, c *pgx.Conn, name string) (*table, error) {
	t := &table{}
	err := c.QueryRow(ctx, `SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'f', 'v')`, identifier(name)).Scan(&t.oid, &t.name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, *pgx.Conn) error{t.readColumns, t.readIndexes, t.readChecks} {
		if err := read(ctx, c); err != nil {
			return nil, fmt.Errorf("read what table %s is: %w", t.name, err)
		}
	}
	return t, nil
}

// readColumns reads the columns. A domain is encoded as what it is made of, an enum
// as text.
func (t *table) readColumns(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `WITH RECURSIVE made (of, base, kind, next) AS (
			SELECT t.oid, t.oid, t.typtype, t.typbasetype FROM pg_type t
			WHERE t.oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = $1)
			UNION ALL
			SELECT m.of, t.oid, t.typtype, t.typbasetype FROM made m JOIN pg_type t ON m.kind = 'd' AND t.oid = m.next)
		SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE m.kind WHEN 'e' THEN 'text'::regtype::oid ELSE m.base END, a.attnotnull,
			a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '' OR a.attidentity = 'a'
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN made m ON m.of = a.atttypid AND m.kind <> 'd'
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, t.oid)
	if err != nil {
		return err
	}
	t.columns, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (*column, error) {
		var c column
		return &c, r.Scan(&c.name, &c.typ, &c.oid, &c.notNull, &c.fills, &c.generated)
	})
	return err
}

// readIndexes reads which columns are unique together. Partial ones, and those on
// expressions, are none that a key suffices for.
func (t *table) readIndexes(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `SELECT array_agg(a.attname::text ORDER BY a.attname::text)
		FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
		WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		GROUP BY i.indexrelid`, t.oid)
	if err != nil {
		return err
	}
	t.indexes, err = pgx.CollectRows(rows, pgx.RowTo[[]string])
	return err
}

func (t *table) readChecks(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, `SELECT pg_get_expr(k.conbin, k.conrelid),
			ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))
		FROM pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'c' AND k.convalidated ORDER BY k.conname`, t.oid)
	if err != nil {
		return err
	}
	t.checks, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (k check, err error) {
		return k, r.Scan(&k.expression, &k.columns)
	})
	return err
}

// shape is what a sink wants of its table.
type shape struct {
	table   string
	columns []string
	types   []reflect.Type // of the columns' values; nil where they are not known before
	origin  []string       // which field each is, for errors
	key     []string
}

// match returns the table's columns in the order of the sink's, or everything that
// does not fit, each with the statement that mends it.
func (s *shape) match(t *table, m *pgtype.Map) ([]*column, error) {
	if t == nil {
		return nil, fmt.Errorf("table %s does not exist%s", identifier(s.table), s.creation())
	}
	var wrong []error
	mismatch := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	columns := make([]*column, len(s.columns))
	for i, name := range s.columns {
		c := t.column(name)
		switch {
		case c == nil:
			mismatch("column %q (%s) does not exist%s", name, s.origin[i], mend("ALTER TABLE %s ADD COLUMN %s %s", t.name, list([]string{name}), s.typeOf(i)))
		case c.generated:
			mismatch("column %q (%s) has values that the table makes: leave it out", name, s.origin[i])
		case !s.encodes(m, i, c):
			mismatch("column %q is %s, which takes no %v (%s)%s", name, c.typ, s.types[i], s.origin[i],
				mend("ALTER TABLE %s ALTER COLUMN %s TYPE %s", t.name, list([]string{name}), s.typeOf(i)))
		}
		columns[i] = c
	}
	for _, c := range t.columns {
		if c.notNull && !c.fills && !c.generated && !slices.Contains(s.columns, c.name) {
			mismatch("column %q is NOT NULL, has no default, and nothing is written to it%s", c.name,
				mend("ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL", t.name, list([]string{c.name})))
		}
	}
	wrong = append(wrong, s.matchKey(t)...)
	if len(wrong) > 0 {
		return nil, fmt.Errorf("table %s does not fit:\n%w", t.name, errors.Join(wrong...))
	}
	return columns, nil
}

func mend(format string, args ...any) string { return fmt.Sprintf(": "+format+";", args...) }

// matchKey checks that the key is one.
func (s *shape) matchKey(t *table) (wrong []error) {
	if len(s.key) == 0 {
		return nil
	}
	for _, k := range s.key {
		if !slices.Contains(s.columns, k) {
			wrong = append(wrong, fmt.Errorf("key column %q is none that is written, which are %s", k, list(s.columns)))
		}
	}
	sorted := slices.Sorted(slices.Values(s.key))
	if len(wrong) == 0 && !slices.ContainsFunc(t.indexes, func(columns []string) bool { return slices.Equal(columns, sorted) }) {
		wrong = append(wrong, fmt.Errorf("the key (%s) has no unique index%s", list(s.key),
			mend("CREATE UNIQUE INDEX ON %s (%s)", t.name, list(s.key))))
	}
	return wrong
}

// encodes says whether values of a field can be written to a column at all.
func (s *shape) encodes(m *pgtype.Map, i int, c *column) bool {
	if s.types == nil {
		return true
	}
	t := s.types[i]
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String || t.Kind() == reflect.Interface {
		return true // it depends on the value
	}
	return m.PlanEncode(c.oid, pgtype.BinaryFormatCode, reflect.Zero(t).Interface()) != nil
}

// creation returns a statement that makes the table.
func (s *shape) creation() string {
	var columns []string
	for i, name := range s.columns {
		columns = append(columns, list([]string{name})+" "+s.typeOf(i))
	}
	if len(s.key) > 0 {
		columns = append(columns, "PRIMARY KEY ("+list(s.key)+")")
	}
	return mend("CREATE TABLE %s (%s)", identifier(s.table), strings.Join(columns, ", "))
}

// typeOf returns the type for a column.
func (s *shape) typeOf(i int) string {
	if s.types == nil {
		return "…"
	}
	return typeFor(s.types[i])
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	bytesType = reflect.TypeFor[[]byte]()
)

// typeFor returns the type of column that suits a Go type.
func typeFor(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		return typeFor(t.Elem())
	}
	switch t {
	case timeType:
		return "timestamptz"
	case bytesType:
		return "bytea"
	case reflect.TypeFor[time.Duration]():
		return "interval"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int8, reflect.Uint8, reflect.Int16:
		return "smallint"
	case reflect.Uint16, reflect.Int32:
		return "integer"
	case reflect.Uint64, reflect.Uint:
		return "numeric"
	case reflect.Int, reflect.Int64, reflect.Uint32:
		return "bigint"
	case reflect.Float32:
		return "real"
	case reflect.Float64:
		return "double precision"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Array:
		if e := t.Elem().Kind(); e != reflect.Struct && e != reflect.Map && e != reflect.Interface && e != reflect.Slice {
			return typeFor(t.Elem()) + "[]"
		}
	}
	return "jsonb"
}
