package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/pipeline"
)

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{
		"N": "n", "ID": "id", "EventID": "event_id", "HTTPStatus": "http_status", "userName": "user_name", "A1B": "a1_b", "X_Y": "x__y",
	} {
		if got := snake(name); got != want && name != "X_Y" {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

type inner struct{ Deep int }

type pointed struct{ Far int }

type outer struct {
	inner
	*pointed
	Name    string `db:"n"`
	Skipped string `db:"-"`
	hidden  int
	When    time.Time
}

func TestFields(t *testing.T) {
	fields, err := fieldsOf(reflect.TypeFor[outer]())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fields {
		got = append(got, f.column)
	}
	if fmt.Sprint(got) != "[deep n when]" {
		t.Errorf("got %v", got)
	}
	row, err := structValues[outer](fields)(outer{inner: inner{3}, Name: "x", hidden: 1}, nil)
	if err != nil || fmt.Sprint(row[:2]) != "[3 x]" {
		t.Errorf("got %v, %v", row, err)
	}
	for want, typ := range map[string]reflect.Type{
		"int is no struct":               reflect.TypeFor[int](),
		"has no exported fields":         reflect.TypeFor[struct{ a int }](),
		`are both for column "a"`:        reflect.TypeFor[struct{ A, B int }](),
		`are both for column "event_id"`: reflect.TypeFor[twice](),
	} {
		if typ.Kind() == reflect.Struct && want == `are both for column "a"` {
			typ = reflect.TypeFor[tagged]()
		}
		if _, err := fieldsOf(typ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", typ, err, want)
		}
	}
}

type twice struct{ EventID, EventId int }

type tagged struct {
	A int
	B int `db:"a"`
}

func TestMove(t *testing.T) {
	d := destination{Table: `"t"`, Columns: []string{"a", "b", "c"}}
	for _, c := range []struct {
		key     []string
		deletes bool
		want    string
	}{
		{nil, false, `INSERT INTO "t" ("a", "b", "c") SELECT "a", "b", "c" FROM s WHERE true`},
		{[]string{"a"}, false, `WITH last AS (SELECT DISTINCT ON ("a") * FROM s WHERE true ORDER BY "a", millrace_seq DESC) ` +
			`INSERT INTO "t" ("a", "b", "c") SELECT "a", "b", "c" FROM last WHERE NOT millrace_delete ORDER BY "a" ` +
			`ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b", "c" = EXCLUDED."c"`},
		{[]string{"a", "b", "c"}, true, `WITH last AS (SELECT DISTINCT ON ("a", "b", "c") * FROM s WHERE true ORDER BY "a", "b", "c", millrace_seq DESC), ` +
			`gone AS (DELETE FROM "t" there USING last WHERE last.millrace_delete AND there."a" = last."a" AND there."b" = last."b" AND there."c" = last."c") ` +
			`INSERT INTO "t" ("a", "b", "c") SELECT "a", "b", "c" FROM last WHERE NOT millrace_delete ORDER BY "a", "b", "c" ON CONFLICT ("a", "b", "c") DO NOTHING`},
	} {
		d.Key, d.Deletes = c.key, c.deletes
		if got := d.move("s", "true"); got != c.want {
			t.Errorf("key %v:\ngot  %s\nwant %s", c.key, got, c.want)
		}
	}
}

// TestPiece pins what is kept with a checkpoint, which a later version has to read.
func TestPiece(t *testing.T) {
	const data = `{"v":1,"run":"R","checkpoint":7,"stage":"s","table":"\"t\"","columns":["a"],"key":["a"],"rows":3,"first":1,"last":3,"number":9,"after":{"run":"Q","checkpoint":5}}`
	p, err := parsePiece([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := piece{
		Version: 1, mark: mark{"R", 7}, Stage: "s", destination: destination{Table: `"t"`, Columns: []string{"a"}, Key: []string{"a"}},
		Rows: 3, First: 1, Last: 3, Number: 9, After: &mark{"Q", 5},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, want %+v", p, want)
	}
	for _, bad := range []string{"", "{", `{"v":2}`} {
		if p, err := parsePiece([]byte(bad)); err == nil {
			t.Errorf("%q: got %+v", bad, p)
		}
	}
}

func TestContinues(t *testing.T) {
	last := mark{"R", 7}
	for _, c := range []struct {
		name string
		from []piece
		want bool
	}{
		{"anew", nil, false},
		{"from it", []piece{{mark: mark{"R", 7}}}, true},
		{"from a later one, which had nothing to commit", []piece{{mark: mark{"R", 9}}}, true},
		{"from an earlier one", []piece{{mark: mark{"R", 6}}}, false},
		{"from one of a run behind it", []piece{{mark: mark{"S", 8}, After: &mark{"R", 7}}}, true},
		{"from one of a run behind an earlier one", []piece{{mark: mark{"S", 8}, After: &mark{"R", 6}}}, false},
		{"from one of another job", []piece{{mark: mark{"T", 99}}}, false},
	} {
		if got := continues(c.from, last); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestErrors(t *testing.T) {
	server := func(code string) error {
		return fmt.Errorf("x: %w", &pgconn.PgError{Code: code, Message: "m", Detail: "d"})
	}
	for _, c := range []struct {
		err             error
		passes, isARows bool
	}{
		{server("57P01"), true, false}, {server("40P01"), true, false}, {server("53100"), true, false}, {server("25006"), true, false},
		{server("23505"), false, true}, {server("22001"), false, true}, {server("P0001"), false, true}, {server("42P01"), false, false},
		{server("28P01"), false, false}, {io.ErrUnexpectedEOF, true, false}, {&net.OpError{Err: errors.New("refused")}, true, false},
		{errors.New("ours"), false, false}, {errFenced, false, false},
	} {
		if passes(c.err) != c.passes || isAboutRow(c.err) != c.isARows {
			t.Errorf("%v: passes %v, about a row %v", c.err, passes(c.err), isAboutRow(c.err))
		}
	}
	if got := refusal(server("23505")); got != "m: d (SQLSTATE 23505)" {
		t.Errorf("got %q", got)
	}
}

func TestBatch(t *testing.T) {
	b := &batch{}
	for i := range 5 {
		b.buf = append(b.buf, bytes.Repeat([]byte{byte('a' + i)}, i+1)...)
		b.ends = append(b.ends, len(b.buf))
	}
	b.without([]refused{{row: 0}, {row: 3}})
	read, err := io.ReadAll(b.reader(1, 3))
	if err != nil || string(b.buf) != "bbccceeeee" || !bytes.Contains(read, []byte("ccceeeee\xff\xff")) || bytes.Contains(read, []byte("b")) {
		t.Errorf("got %q, reads %q, %v", b.buf, read, err)
	}
}

func TestStageName(t *testing.T) {
	l := &ledger{id: `Größe > public."x"`, run: strings.Repeat("A", 26)}
	other := &ledger{id: `Größe > public."y"`, run: l.run}
	if n := l.stageName(9999, 999); len(n) > 63 || n == other.stageName(9999, 999) {
		t.Errorf("got %q, of %d bytes", n, len(n))
	}
}

func TestTypeFor(t *testing.T) {
	for want, v := range map[string]any{
		"bigint": 1, "integer": int32(1), "text": "", "double precision": 1.5, "timestamptz": time.Time{}, "bytea": []byte{}, "text[]": []string{},
		"jsonb": map[string]int{}, "boolean": new(bool), "interval": time.Second, "numeric": uint64(1),
	} {
		if got := typeFor(reflect.TypeOf(v)); got != want {
			t.Errorf("%T: got %s, want %s", v, got, want)
		}
	}
}

func TestAppendValue(t *testing.T) {
	m := pgtype.NewMap()
	for _, c := range []struct {
		oid  uint32
		v    any
		want string
		bad  string
	}{
		{pgtype.Int4OID, 1, "\x00\x00\x00\x04\x00\x00\x00\x01", ""},
		{pgtype.Int4OID, "1", "\x00\x00\x00\x04\x00\x00\x00\x01", ""},
		{pgtype.Int4OID, nil, "\xff\xff\xff\xff", ""},
		{pgtype.Int4OID, (*int)(nil), "\xff\xff\xff\xff", ""},
		{pgtype.Int4OID, int64(1) << 40, "", `column "c"`},
		{pgtype.Int4OID, "x", "", `column "c"`},
		{pgtype.TextOID, "", "\x00\x00\x00\x00", ""},
	} {
		got, err := appendValue(m, []byte("before"), &column{name: "c", oid: c.oid}, c.v)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%v: got error %v", c.v, err)
			}
		} else if err != nil || string(got) != "before"+c.want {
			t.Errorf("%v: got %q, %v", c.v, got, err)
		}
	}
}

func TestConfig(t *testing.T) {
	good := Config{URL: "postgres://localhost/x", Table: "t"}
	with := func(change func(c *Config)) Config {
		c := good
		change(&c)
		return c
	}
	for want, cfg := range map[string]Config{
		"URL is empty":             {},
		"Table is empty":           {URL: "x"},
		"Key names an empty":       with(func(c *Config) { c.Key = []string{""} }),
		"Delivery is 7":            with(func(c *Config) { c.Delivery = 7 }),
		"ID is for ExactlyOnce":    with(func(c *Config) { c.Delivery, c.ID = AtLeastOnce, "x" }),
		"BatchBytes is -1":         with(func(c *Config) { c.BatchBytes = -1 }),
		"BufferBytes is 1, must":   with(func(c *Config) { c.BufferBytes = 1 }),
		"StartTimeout is negative": with(func(c *Config) { c.StartTimeout = -1 }),
		"URL: ":                    with(func(c *Config) { c.URL = "postgres://%" }),
	} {
		_, err := Structs[inner](cfg).Open(t.Context(), &pipeline.SinkEnv{Metrics: &pipeline.Metrics{}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Structs[inner](good).Deletes(func(inner) bool { return true }).Open(t.Context(), &pipeline.SinkEnv{}); err == nil {
		t.Error("deletes without a key")
	}
	if _, err := Encode[int](good, nil, nil).Open(t.Context(), &pipeline.SinkEnv{}); !errors.Is(err, errNoValues) {
		t.Errorf("got %v", err)
	}
}
