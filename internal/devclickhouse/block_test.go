package devclickhouse

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

// columnsForTest are columns that ch-go encodes. It encodes maps in any order, so there
// is one key in each.
func columnsForTest() []proto.InputColumn {
	low := new(proto.ColStr).LowCardinality()
	low.AppendArr([]string{"one", "two", "one"})
	nested := proto.NewArray(new(proto.ColStr).Nullable())
	nested.Append([]proto.Nullable[string]{proto.NewNullable("x"), proto.Null[string]()})
	nested.Append(nil)
	nested.Append([]proto.Nullable[string]{proto.NewNullable("")})
	m := proto.NewMap[string, uint64](new(proto.ColStr), new(proto.ColUInt64))
	m.Append(map[string]uint64{"a": 1})
	m.Append(nil)
	m.Append(map[string]uint64{"b": 2})
	arrays := proto.NewArray(new(proto.ColStr).LowCardinality())
	arrays.Append([]string{"p", "q"})
	arrays.Append(nil)
	arrays.Append([]string{"q"})
	return []proto.InputColumn{
		{Name: "id", Data: proto.ColUInt64{1, 2, 3}},
		{Name: "low", Data: low},
		{Name: "nested", Data: nested},
		{Name: "m", Data: m},
		{Name: "arrays", Data: arrays},
		{Name: "t", Data: proto.ColTuple{&proto.ColUInt8{1, 2, 3}, &proto.ColIPv6{{}, {}, {}}}},
		{Name: "last", Data: proto.ColInt8{-1, -2, -3}},
	}
}

// encoded is the block as ch-go writes it for a revision.
func encoded(t testing.TB, version int) []byte {
	t.Helper()
	var b proto.Buffer
	block := proto.Block{Columns: len(columnsForTest()), Rows: 3, Info: proto.BlockInfo{BucketNum: -1}}
	encode := block.EncodeBlock
	if version == 0 {
		encode = block.EncodeRawBlock
	}
	if err := encode(&b, version, columnsForTest()); err != nil {
		t.Fatal(err)
	}
	return b.Buf
}

func TestCopyBlockBetweenRevisions(t *testing.T) {
	for _, from := range []int{0, 54453, revision} {
		for _, to := range []int{0, 54453, revision} {
			in := newSliceReader(append(encoded(t, from), "more"...))
			c := copier{r: in}
			b, err := c.copyBlock(from, to)
			if err != nil || b.rows != 3 || b.columns != 7 {
				t.Fatalf("from %d to %d: %+v, %v", from, to, b, err)
			}
			if !bytes.Equal(c.out, encoded(t, to)) {
				t.Errorf("from %d to %d:\n got %q\nwant %q", from, to, c.out, encoded(t, to))
			}
			if in.Len() != len("more") {
				t.Errorf("from %d to %d: %d bytes are left, want %d", from, to, in.Len(), len("more"))
			}
		}
	}
}

// jsonBlock is one that ClickHouse 26.5 wrote: paths with and without types, more of
// them than have columns of their own, and a path of several types.
const jsonBlock = "\x01\x03\x01j'JSON(max_dynamic_paths=2, typed UInt32)\x00\x00\x00\x00\x00\x00\x00\x00\x02\x02\x03a.b\x01c" +
	"\x01\x00\x00\x00\x00\x00\x00\x00\x01\x01\x16Array(Nullable(Int64))\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x02\x05Int64\x06String\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\xff\xff\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00" +
	"\x02\x00\xff\a\x00\x00\x00\x00\x00\x00\x00\x01x" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01d\x01e\x02-\x01\t\x0e\x00\x00\x00\x00\x00\x00\xf8?"

func TestCopyJSON(t *testing.T) {
	in := newSliceReader([]byte(jsonBlock))
	c := copier{r: in}
	if _, err := c.copyBlock(0, 0); err != nil || in.Len() != 0 || string(c.out) != jsonBlock {
		t.Errorf("%v, %d bytes left, got\n%q, want\n%q", err, in.Len(), c.out, jsonBlock)
	}
}

func TestCopyCutBlock(t *testing.T) {
	whole := encoded(t, revision)
	for n := range whole {
		c := copier{r: newSliceReader(whole[:n])}
		if _, err := c.copyBlock(revision, 0); err == nil {
			t.Fatalf("the first %d of %d bytes are taken for a block", n, len(whole))
		}
	}
}

// A state has no length, so the block can't be taken apart, and the client is told.
func TestCopyAggregateState(t *testing.T) {
	c := copier{r: newSliceReader([]byte("\x01\x01\x01u\x1fAggregateFunction(uniq, String)\x00"))}
	_, err := c.copyBlock(0, revision)
	if !isCode(err, proto.ErrNotImplemented) || !strings.Contains(err.Error(), "column u") {
		t.Errorf("got %v", err)
	}
}

func TestParseColumn(t *testing.T) {
	for _, text := range []string{
		"Array(", "Array()", "Map(String)", "Nullable(Int8, Int8)", "FixedString(x)", "Decimal(x, y)", "Enum8('a", "NoSuchType", "",
		"Array(AggregateFunction(uniq, String))",
	} {
		if col, err := parseColumn(text); err == nil && !strings.HasPrefix(text, "Enum8") {
			t.Errorf("%q is taken for a type: %v", text, col)
		}
	}
	for text, width := range map[string]int{
		"Decimal(9, 3)": 4, "Decimal(18, 3)": 8, "Decimal(38, 0)": 16, "Decimal(39, 0)": 32, "DateTime64(3, 'a,(b')": 8,
		"FixedString(7)": 7, "Enum16('x)' = 1)": 2, "IntervalDay": 8, "SimpleAggregateFunction(sum, Int32)": 4,
	} {
		if got, err := parseColumn(text); err != nil || got != column(fixedColumn(width)) {
			t.Errorf("%s: got %v, %v, want a width of %d", text, got, err, width)
		}
	}
}

func TestWithoutName(t *testing.T) {
	for element, want := range map[string]string{
		"a Int8": "Int8", "`a b` Array(Int8)": "Array(Int8)", "Map(String, Int8)": "Map(String, Int8)", "Int8": "Int8",
		"DateTime64(3, 'UTC')": "DateTime64(3, 'UTC')", "e Enum8('a b' = 1)": "Enum8('a b' = 1)",
	} {
		if got := withoutName(element); got != want {
			t.Errorf("%s: got %s, want %s", element, got, want)
		}
	}
}

// Whatever the bytes, they are either a block or an error, and no memory is set aside
// for what is not there.
func FuzzCopyBlock(f *testing.F) {
	f.Add(encoded(f, revision), revision)
	f.Add([]byte(jsonBlock), 0)
	f.Fuzz(func(t *testing.T, data []byte, from int) {
		c := copier{r: newSliceReader(data)}
		_, err := c.copyBlock(from, revision)
		if err == io.EOF { //nolint:errorlint // exactly this one
			t.Error("an end within a block is taken for the end")
		}
		if len(c.out) > 64*len(data)+2*maxStep {
			t.Errorf("%d bytes became %d", len(data), len(c.out))
		}
	})
}
