package clickhouse

import (
	"database/sql"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestOutOfRangeInside rejects what clickhouse-go would cut off without a word: values
// within values, and those whose type only shows with the row.
func TestOutOfRangeInside(t *testing.T) {
	type row struct {
		V any `ch:"v"`
	}
	far := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		typ  string
		v    any
		want string // nothing: it is taken
	}{
		{"UInt8", 300, "300 is no UInt8"},
		{"UInt8", -1, "-1 is no UInt8"},
		{"UInt8", 1.5, "1.5 is no UInt8"},
		{"UInt8", 255, ""},
		{"Int8", uint64(128), "128 is no Int8"},
		{"Int64", uint64(math.MaxInt64), ""},
		{"Int64", uint64(math.MaxInt64) + 1, "is no Int64"},
		{"UInt64", int64(-1), "-1 is no UInt64"},
		{"Int64", math.Ldexp(1, 63), "is no Int64"},
		{"Nullable(UInt8)", 300, "300 is no UInt8"},
		{"Nullable(UInt8)", nil, ""},
		{"LowCardinality(UInt8)", 300, "300 is no UInt8"},
		{"Int16", sql.NullInt64{Int64: 40_000, Valid: true}, "40000 is no Int16"},
		{"Array(UInt8)", []any{1, 256}, "element 1: 256 is no UInt8"},
		{"Array(Array(UInt8))", [][]int{{1}, {-2}}, "element 1: element 0: -2 is no UInt8"},
		{"Array(String)", []any{"a", nil}, "NULL"},
		{"Array(Nullable(String))", []any{"a", nil}, ""},
		{"Array(DateTime)", []time.Time{far}, "out of DateTime's range"},
		{"Array(Date)", []time.Time{far}, "out of Date's range"},
		{"Date32", far.AddDate(500, 0, 0), "out of Date32's range"},
		{"Date32", far, ""},
		{"Tuple(UInt8, String)", []any{300, "x"}, "element 1: 300 is no UInt8"},
		{"Tuple(a UInt8, b Int8)", map[string]any{"a": 1, "b": 200}, "element 2: 200 is no Int8"},
		{"Decimal(5, 2)", decimalOf("1000"), "1000 is no Decimal(5, 2)"},
		{"Decimal(5, 2)", decimalOf("-999.99"), ""},
		{"Array(Decimal(5, 2))", []any{decimalOf("1000")}, "element 0: 1000 is no Decimal(5, 2)"},
	} {
		f := newFakeTable(tableColumn{"v", c.typ, ""})
		s := mustOpen(t, attach(f, Structs[row](newConfig())), vfs.NewMem(), "a")
		s.write(row{c.v})
		switch {
		case c.want == "" && len(s.rejected) > 0:
			t.Errorf("%s: %v is rejected: %s", c.typ, c.v, s.rejected[0].Error)
		case c.want != "" && len(s.rejected) == 0:
			t.Errorf("%s: %v is taken", c.typ, c.v)
		case c.want != "" && !strings.Contains(s.rejected[0].Error, c.want):
			t.Errorf("%s: %v: %s, want %q", c.typ, c.v, s.rejected[0].Error, c.want)
		}
	}
}

// TestMapsInside is TestOutOfRangeInside for what has to be a map, and a struct.
func TestMapsInside(t *testing.T) {
	type point struct {
		X int64     `ch:"x"`
		T time.Time `ch:"t"`
	}
	type row struct {
		M map[string]time.Time `ch:"m"`
		P point                `ch:"p"`
	}
	f := newFakeTable(tableColumn{"m", "Map(String, DateTime)", ""}, tableColumn{"p", "Tuple(x Int8, t DateTime)", ""})
	s := mustOpen(t, attach(f, Structs[row](newConfig())), vfs.NewMem(), "a")
	now := time.Unix(1_700_000_000, 0).UTC()
	far := now.AddDate(200, 0, 0)
	s.write(row{map[string]time.Time{"a": now}, point{1, now}}, row{map[string]time.Time{"b": far}, point{1, now}},
		row{nil, point{1000, now}}, row{nil, point{1, far}})
	var got []string
	for _, l := range s.rejected {
		got = append(got, l.Error)
	}
	for i, want := range []string{`column "m": key b: `, `column "p": element 1: 1000 is no Int8`, `column "p": element 2: `} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Errorf("rejected %q, want %q", got, want)
		}
	}
	if s.prepare() == nil {
		t.Error("the first row is gone as well")
	}
}

// TestNarrowInside lists fields at the start whose elements are wider than the
// column's.
func TestNarrowInside(t *testing.T) {
	type row struct {
		A []int64           `ch:"a"`
		M map[string]uint32 `ch:"m"`
		L uint64            `ch:"l"`
		B []int32           `ch:"b"`
	}
	f := newFakeTable(tableColumn{"a", "Array(UInt8)", ""}, tableColumn{"m", "Map(String, UInt16)", ""},
		tableColumn{"l", "LowCardinality(UInt32)", ""}, tableColumn{"b", "Array(Int64)", ""})
	_, err := open(t, attach(f, Structs[row](newConfig())), vfs.NewMem(), "a")
	wantError(t, err, `column "a": the table has Array(UInt8)`, `column "m": the table has Map(String, UInt16)`, `column "l": the table has LowCardinality(UInt32)`)
	if strings.Contains(err.Error(), `column "b"`) {
		t.Error(err)
	}
}

// TestTooLargeOnce rejects one row that is too large, and not those behind it.
func TestTooLargeOnce(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.RowBytes = 1000
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	large := newHit(0)
	large.Page = strings.Repeat("x", 2000) // of a LowCardinality
	s.write(large, newHit(1), newHit(2))
	if len(s.rejected) != 1 {
		t.Errorf("%d rows are rejected, want 1: %v", len(s.rejected), s.rejected)
	}
	if err := s.commit(s.prepareMore(newHit(3))); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, f, []uint64{1, 2, 3})
	if got, want := hitOf(f.rows[2]), newHit(3); got != want {
		t.Errorf("the row is %v, want %v", got, want)
	}
}
