package clickhouse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/show"
)

// TestEncoders compares what the encoders of our own write with clickhouse-go's
// columns.
func TestEncoders(t *testing.T) {
	at := time.Date(2024, 2, 29, 23, 59, 58, 987654321, time.FixedZone("", 3600))
	text, number := "text", int16(-3)
	for typ, values := range map[string][]any{
		"UInt8": {uint8(0), uint8(255)}, "UInt16": {uint16(513)}, "UInt32": {uint32(1 << 31)}, "UInt64": {uint64(1 << 63)},
		"Int8": {int8(-1)}, "Int16": {int16(-300)}, "Int32": {int32(-1 << 31)}, "Int64": {int64(-1 << 63), int64(5)},
		"Float32": {float32(1.5)}, "Float64": {-2.5, math.Inf(1)}, "Bool": {true, false},
		"String": {"", "x", strings.Repeat("é", 200)}, "FixedString(5)": {"abcde", "ab", ""},
		"Enum8('a' = 1, 'b' = -2)": {"a", "b"}, "Enum16('a' = 300)": {"a"},
		"UUID": {uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff")},
		"Date": {at, time.Time{}.AddDate(1969, 0, 0)}, "DateTime": {at}, "DateTime('Asia/Tokyo')": {at},
		"DateTime64(0)": {at}, "DateTime64(3)": {at, time.Unix(-5, 0)}, "DateTime64(9, 'UTC')": {at}, "DateTime64(6)": {at},
		"LowCardinality(String)": {"a", "b", "a", ""},
		"Nullable(String)":       {(*string)(nil), &text}, "Nullable(Int16)": {&number, (*int16)(nil), &number}, "Nullable(DateTime64(3))": {&at, (*time.Time)(nil)},
		"Nullable(Enum8('x' = 1))": {(*string)(nil)}, "Nullable(FixedString(2))": {(*string)(nil)}, "Nullable(IPv4)": {(*netip.Addr)(nil)},
		"IPv4": {netip.MustParseAddr("10.1.2.3")}, "IPv6": {netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.1.2.3")},
	} {
		parsed := parseType(typ)
		e := encoderOf(parsed)
		theirs, err := newGeneral("c", parsed, testContext)
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		put := bind(e, parsed, reflect.TypeOf(values[0]))
		if put == nil {
			t.Errorf("%s has no encoder for %T", typ, values[0])
			continue
		}
		for _, v := range values {
			if err := put(reflect.ValueOf(v)); err != nil {
				t.Errorf("%s: %v: %v", typ, v, err)
			}
			if err := put(reflect.ValueOf(values[0])); err != nil {
				t.Errorf("%s: %v: %v", typ, v, err)
			}
			e.undo()
			if err := theirs.put(v); err != nil {
				t.Errorf("%s: %v: %v", typ, v, err)
			}
		}
		again, err := theirs.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := decodeColumn(typ, again, len(values))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeColumn(typ, e.appendTo(nil), len(values))
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		for i := range values {
			if got, want := show.Value(reflect.Indirect(reflect.ValueOf(got.Row(i, false)))), show.Value(reflect.Indirect(reflect.ValueOf(want.Row(i, false)))); got != want {
				t.Errorf("%s: row %d is %v, want %v", typ, i, got, want)
			}
		}
	}
}

func decodeColumn(typ string, data []byte, rows int) (column.Interface, error) {
	c, err := column.Type(typ).Column("c", testContext)
	if err != nil {
		return nil, err
	}
	r := chproto.NewReader(bytes.NewReader(data))
	if prefix, ok := c.(column.CustomSerialization); ok {
		if err := prefix.ReadStatePrefix(r); err != nil {
			return nil, err
		}
	}
	return c, c.Decode(r, rows)
}

// TestDictionaries have numbers of every width.
func TestDictionaries(t *testing.T) {
	for _, words := range []int{1, 254, 255, 256, 257, 65_534, 65_535, 65_536, 65_537} {
		d := newDictionary()
		for range 2 {
			for i := range words {
				if err := d.putString(fmt.Sprint("w", i)); err != nil {
					t.Fatal(err)
				}
			}
			c, err := decodeColumn("LowCardinality(String)", d.appendTo(nil), words)
			if err != nil {
				t.Fatalf("%d words: %v", words, err)
			}
			for i := range words {
				if got, want := c.Row(i, false), fmt.Sprint("w", i); got != want {
					t.Fatalf("%d words: row %d is %v, want %s", words, i, got, want)
				}
			}
			d.reset()
		}
	}
}

func TestOutOfRange(t *testing.T) {
	for typ, values := range map[string][]any{
		"DateTime":      {time.Unix(-1, 0), time.Unix(math.MaxUint32+1, 0)},
		"Date":          {time.Unix(-86400, 0).UTC(), time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC)},
		"DateTime64(9)": {time.Date(2270, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1899, 12, 31, 0, 0, 0, 0, time.UTC)},
		"IPv4":          {netip.MustParseAddr("2001:db8::1"), netip.Addr{}},
	} {
		e := encoderOf(parseType(typ))
		put := bind(e, parseType(typ), reflect.TypeOf(values[0]))
		for _, v := range values {
			if err := put(reflect.ValueOf(v)); err == nil || e.size() != 0 {
				t.Errorf("%s takes %v", typ, v)
			}
		}
	}
}

func TestParseType(t *testing.T) {
	got := parseType(`Map(String, Tuple(a Enum8('x,y' = 1, 'it\'s (' = 2), b Array(UInt8)))`)
	want := []string{"String", `Tuple(a Enum8('x,y' = 1, 'it\'s (' = 2), b Array(UInt8))`}
	if got.name != "Map" || !reflect.DeepEqual(got.args, want) {
		t.Errorf("got %q", got)
	}
	values := parseType(`Enum8('x,y' = 1, 'it\'s (' = -2, 'a = 5' = 7)`).enumValues()
	if !reflect.DeepEqual(values, map[string]int16{"x,y": 1, "it's (": -2, "a = 5": 7}) {
		t.Errorf("got %v", values)
	}
	if got := parseType("SimpleAggregateFunction(sum, UInt64)"); got.text != "UInt64" {
		t.Errorf("got %q", got)
	}
}

// TestViewTarget finds the table behind a view in its statement.
func TestViewTarget(t *testing.T) {
	for create, want := range map[string][2]string{
		"CREATE MATERIALIZED VIEW default.mv TO default.t2 (`a` UInt64) AS SELECT a FROM default.t1":              {"default", "t2"},
		"CREATE MATERIALIZED VIEW d.`m v` TO `d-2`.`t\\`2` AS SELECT 1":                                           {"d-2", "t`2"},
		"CREATE MATERIALIZED VIEW d.m UUID '00' ON CLUSTER c DEFINER = u SQL SECURITY DEFINER TO d.x AS SELECT 1": {"d", "x"},
		"CREATE MATERIALIZED VIEW d.m (`a` UInt64) ENGINE = MergeTree ORDER BY a AS SELECT a AS TO FROM d.t":      {},
	} {
		var got [2]string
		if m := viewTarget.FindStringSubmatch(create); m != nil {
			got = [2]string{unquoteName(m[3]), unquoteName(m[4])}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", create, got, want)
		}
	}
}

func TestCreateTable(t *testing.T) {
	type inner struct{ A string }
	type row struct {
		ID    uint64
		Maybe *int32
		Tags  []string
		Map   map[string]float64
		Inner inner
		Hash  [4]byte
		Other any
	}
	sink := Structs[row](newConfig())
	_, err := sink.CreateTable(TableOptions{OrderBy: []string{"ID"}, Types: map[string]string{"Gone": "String"}})
	wantError(t, err, `column "Other"`, "no type is known", `names column "Gone"`)
	_, err = sink.CreateTable(TableOptions{})
	wantError(t, err, "OrderBy is empty")
	got, err := sink.CreateTable(TableOptions{
		OrderBy: []string{"ID"}, PrimaryKey: []string{"ID"}, Types: map[string]string{"Other": "JSON"}, Cluster: "c",
		Engine: "ReplicatedMergeTree('/x', '{replica}')", Window: 500, Settings: map[string]string{"ttl_only_drop_parts": "1"},
	})
	const want = "CREATE TABLE IF NOT EXISTS `d`.`t` ON CLUSTER `c`\n(\n\t`ID` UInt64,\n\t`Maybe` Nullable(Int32),\n\t`Tags` Array(String),\n\t`Map` Map(String, Float64),\n" +
		"\t`Inner` Tuple(`A` String),\n\t`Hash` FixedString(4),\n\t`Other` JSON\n)\nENGINE = ReplicatedMergeTree('/x', '{replica}')\nPRIMARY KEY (ID)\nORDER BY (ID)\n" +
		"SETTINGS replicated_deduplication_window = 500, ttl_only_drop_parts = 1"
	if err != nil || got != want {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
	}
}

func FuzzPrepared(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"time":5,"table":"d.t","file":"a-1.staged","blocks":2,"rows":7}`, `{"version":2}`, `{"version":1,"letters":[{"error":"x"}]}`, ``, `{"version":1,"file":"../x","blocks":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePrepared(b)
		if err != nil {
			return
		}
		if strings.ContainsAny(p.File+p.LettersFile, `/\`) {
			t.Fatalf("file %q, letters %q lead elsewhere", p.File, p.LettersFile)
		}
		again, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := decodePrepared(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v becomes %+v: %v", p, q, err)
		}
	})
}

func FuzzStagedFile(f *testing.F) {
	var file bytes.Buffer
	b := &block{rows: 2, columns: []rawColumn{{"id", "UInt8", []byte{1, 2}}, {"s", "String", []byte{1, 'a', 0}}}, times: []int64{1000, -5}}
	if err := errors.Join(writeStagedHead(&file, &plan{statement: "INSERT INTO t"}), newPacker().write(&file, b), newPacker().write(&file, b)); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("{\"version\":1}\n\x05\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bufio.NewReader(bytes.NewReader(content))
		if _, err := readStagedHead(r); err != nil {
			return
		}
		for {
			got, err := (unpacker{r}).next()
			if errors.Is(err, io.EOF) || err != nil {
				return
			}
			if got.rows == 0 || len(got.times) != got.rows {
				t.Fatalf("a block of %d rows and %d times", got.rows, len(got.times))
			}
			if o, err := got.open(testContext); err == nil {
				_ = o.show(got.rows - 1)
			}
		}
	})
}

// TestRowsDoNotAllocate holds for the types that columns mostly have, with structs
// and with values.
func TestRowsDoNotAllocate(t *testing.T) {
	var types []columnType
	for _, c := range hitColumns() {
		types = append(types, parseType(c.typ))
	}
	for name, columns := range map[string][]Column[hit]{"structs": structColumns[hit](mustFields[hit](t)), "values": hitValues(newConfig()).columns} {
		r, err := newRows(columns, types, 1000, testContext)
		if err != nil {
			t.Fatal(err)
		}
		h := newHit(1)
		add := func() {
			if err := r.add(&h, 1000); err != nil {
				t.Fatal(err)
			}
		}
		for range 20_000 { // room for those that count
			add()
		}
		if _, err := r.cut(); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(5000, add); n != 0 {
			t.Errorf("%s: %v allocations for a row, want none", name, n)
		}
	}
}
