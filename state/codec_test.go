package state

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand"
	"math/rand/v2"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

// The shapes of what examples/webanalytics keeps, and of other programs.

type moment struct {
	Time int64
	ID   string
}

func (m moment) When() moment { return m }

type step struct {
	moment
	Page string
}

type match struct {
	moment
	Steps uint64
}

type firsts[T interface{ When() moment }] []T

type visit struct {
	Start, End        int64
	Events, PageViews int64
	Entry, Exit       step
	Path              firsts[step]
}

type typeCount struct {
	Type  string
	Count int64
}

type counts struct {
	Types []typeCount
	Users int64
}

type series struct{ TrackingID, Breakdown, Value string }

type timing uint8

func (t timing) MarshalText() ([]byte, error) { return nil, errors.New("not asked for") }

type result[K comparable, R any] struct {
	Key    K `json:"key"`
	Window struct {
		Start int64 `json:"start"`
		End   int64 `json:"end"`
	} `json:"window"`
	Value R      `json:"value"`
	Pane  timing `json:"pane,omitempty"`
}

type order struct {
	ID, Customer string
	Cents        int64
	Rate         float64
	Paid         bool
	Placed       time.Time
	Items        map[string]int64
	Tags         []string
	Referrer     *url.URL // which marshals itself
	Total        *big.Int
	Took         time.Duration
	_            struct{}
}

type celsius float64

type name string

// seal has private fields and marshals itself, by its pointer only.
type seal struct{ n int32 }

func (s *seal) MarshalBinary() ([]byte, error) {
	return binary.BigEndian.AppendUint32(nil, uint32(s.n)), nil
}
func (s *seal) UnmarshalBinary(data []byte) error {
	if len(data) != 4 {
		return errors.New("not a seal")
	}
	s.n = int32(binary.BigEndian.Uint32(data))
	return nil
}

func codecOf[T any](t testing.TB) Codec[T] {
	t.Helper()
	c, err := CodecFor[T]()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode[T any](t testing.TB, c Codec[T], v T) []byte {
	t.Helper()
	got, err := c.Append([]byte("before"), &v)
	if err != nil {
		t.Fatalf("Append(%+v): %v", v, err)
	}
	data, ok := bytes.CutPrefix(got, []byte("before"))
	if !ok {
		t.Fatalf("Append(%+v) changed what was there", v)
	}
	return data
}

func hasNaN(v any) bool { return strings.Contains(fmt.Sprintf("%+v", v), "NaN") }

func roundTrip[T any](t *testing.T, values ...T) {
	t.Helper()
	c := codecOf[T](t)
	for _, v := range values {
		data := encode(t, c, v)
		var got T
		if err := c.Decode(data, &got); err != nil {
			t.Errorf("Decode(%x) of %T: %v", data, v, err)
			continue
		}
		if !reflect.DeepEqual(got, v) && !hasNaN(v) {
			t.Errorf("%T read back as\n%#v, want\n%#v", v, got, v)
		}
		for i := range data { // nothing refers to what was decoded from
			data[i] = 0xee
		}
		if !reflect.DeepEqual(got, v) && !hasNaN(v) {
			t.Errorf("%T changes with the bytes it was decoded from", v)
		}
	}
}

// randomly compares many random values of a type with what is read back.
func randomly[T any](t *testing.T) {
	t.Helper()
	c := codecOf[T](t)
	cfg := &quick.Config{MaxCount: 200, Rand: mathrand.New(mathrand.NewSource(1))}
	if err := quick.Check(func(v T) bool {
		var got T
		return c.Decode(encode(t, c, v), &got) == nil && reflect.DeepEqual(got, v)
	}, cfg); err != nil {
		t.Errorf("%T: %v", *new(T), err)
	}
}

func TestRule22_CodecReadsBackWhatItWrote(t *testing.T) {
	roundTrip(t, false, true)
	roundTrip[int](t, 0, 1, -1, math.MaxInt, math.MinInt)
	roundTrip[int8](t, 0, -1, math.MaxInt8, math.MinInt8)
	roundTrip[int16](t, 0, -1, math.MaxInt16, math.MinInt16)
	roundTrip[int32](t, 0, -1, math.MaxInt32, math.MinInt32)
	roundTrip[int64](t, 0, 63, 64, -64, -65, 1700000000000, math.MaxInt64, math.MinInt64)
	roundTrip[uint8](t, 0, 1, math.MaxUint8)
	roundTrip[uint16](t, 0, 1, math.MaxUint16)
	roundTrip[uint32](t, 0, 1, math.MaxUint32)
	roundTrip[uint64](t, 0, 127, 128, math.MaxUint64)
	roundTrip[uint](t, 0, math.MaxUint)
	roundTrip[uintptr](t, 0, 1<<31)
	roundTrip(t, "", "a", "\x00", "\xff\xfe", strings.Repeat("é", 5000))
	roundTrip(t, name(""), name("x"))
	roundTrip(t, []byte(nil), []byte{}, []byte{0}, bytes.Repeat([]byte{7}, 300))
	roundTrip(t, []int64(nil), []int64{}, []int64{1, -1, math.MinInt64})
	roundTrip(t, [][]string{nil, {}, {"a", ""}})
	roundTrip(t, [64]int64{}, [64]int64{1, 2, 63: math.MinInt64})
	roundTrip(t, [4]byte{1, 2, 3, 4})
	roundTrip(t, [0]int{})
	roundTrip(t, []struct{}{{}, {}}, nil, []struct{}{})
	roundTrip(t, map[string]int64(nil), map[string]int64{}, map[string]int64{"": 0, "a": -5})
	roundTrip(t, map[string]int{"a": 1, "b": 2})
	roundTrip(t, map[string]float64{"a": 0.1})
	roundTrip(t, map[string]string{"a": "b", "c": ""})
	roundTrip(t, map[string]bool{"a": true, "b": false})
	roundTrip(t, map[string]struct{}{"a": {}, "\xff": {}})
	roundTrip(t, map[struct{}]int{{}: 4})
	roundTrip(t, map[name][]celsius{"a": {1.5}, "b": nil})
	roundTrip(t, map[[2]int16]bool{{1, 2}: true})
	roundTrip(t, (*int64)(nil), new(int64))
	roundTrip(t, []*string{nil, new(string)})
	nilSlice := []int(nil)
	roundTrip(t, &nilSlice)
	roundTrip(t, time.Duration(0), time.Hour, math.MinInt64)
	roundTrip(t, seal{}, seal{-5})
	roundTrip(t, map[string]*seal{"a": {7}, "b": nil})
	roundTrip(t, []seal{{1}, {2}})
}

func TestRule22_CodecReadsBackStructs(t *testing.T) {
	s := func(i int64) step { return step{moment{i, fmt.Sprint("id", i)}, "/p"} }
	roundTrip(t, visit{}, visit{Start: math.MinInt64, End: math.MaxInt64, Events: 1, Entry: s(1), Exit: s(2), Path: firsts[step]{s(1), s(2)}}, visit{Path: firsts[step]{}})
	roundTrip(t, []firsts[match](nil), []firsts[match]{nil, {}, {{moment{5, "a"}, 1 << 63}}})
	roundTrip(t, []typeCount(nil), []typeCount{}, []typeCount{{"view", 3}, {"\xff", -3}})
	roundTrip(t, []result[series, counts]{{Key: series{"a", "b", "c"}, Value: counts{[]typeCount{{"a", 1}}, 9}, Pane: 2}})
	roundTrip(t, map[series]counts{{TrackingID: "a"}: {Users: 1}})
	roundTrip(t, map[string]*counts{"": nil, "a": {}})
	url, _ := url.Parse("https://example.com/a?b=c")
	roundTrip(t, order{}, order{
		ID: "o", Cents: -1, Rate: 1e300, Paid: true, Placed: time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC),
		Items: map[string]int64{"a": 1}, Tags: []string{""}, Referrer: url, Total: big.NewInt(math.MaxInt64), Took: time.Hour,
	}, order{Items: map[string]int64{}, Tags: []string{}})
	roundTrip(t, struct{ Seals map[string]seal }{map[string]seal{"a": {1}}})
	roundTrip(t, struct {
		A [3]int32
		B [3]byte
		C map[[2]int8]string
		D name
		E *int
		F []byte
	}{[3]int32{1, 2, 3}, [3]byte{1, 2, 3}, map[[2]int8]string{{1, 2}: "x"}, "\xc0", new(int), []byte{}})
}

func TestRule22_CodecReadsBackRandomValues(t *testing.T) {
	randomly[int64](t)
	randomly[uint64](t)
	randomly[string](t)
	randomly[[]float64](t)
	randomly[[][]byte](t)
	randomly[map[string]int64](t)
	randomly[map[int32][]string](t)
	randomly[[5]*uint16](t)
	randomly[struct {
		From, To int64
		Rate     float32
		Path     []series
		By       map[string]*counts
	}](t)
	randomly[[]result[series, counts]](t)
}

func TestRule22_CodecKeepsEveryBitOfFloats(t *testing.T) {
	floats := []float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff0000000000001),
		math.Float64frombits(0xfff8000000001234), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, 65504, 1.5}
	plain, inStruct := codecOf[float64](t), codecOf[struct{ F []float64 }](t)
	for _, f := range floats {
		var got float64
		if err := plain.Decode(encode(t, plain, f), &got); err != nil || math.Float64bits(got) != math.Float64bits(f) {
			t.Errorf("%x read back as %x, %v", math.Float64bits(f), math.Float64bits(got), err)
		}
	}
	var got struct{ F []float64 }
	if err := inStruct.Decode(encode(t, inStruct, struct{ F []float64 }{floats}), &got); err != nil {
		t.Fatal(err)
	}
	for i, f := range floats {
		if math.Float64bits(got.F[i]) != math.Float64bits(f) {
			t.Errorf("in a struct %x read back as %x", math.Float64bits(f), math.Float64bits(got.F[i]))
		}
	}
	narrow := codecOf[map[string]float32](t)
	var m map[string]float32
	err := narrow.Decode(encode(t, narrow, map[string]float32{"a": math.Float32frombits(0xff800001)}), &m)
	if err != nil || math.Float32bits(m["a"]) != 0xff800001 {
		t.Errorf("a float32 NaN read back as %x, %v", math.Float32bits(m["a"]), err)
	}
	nans := codecOf[map[float64]int8](t)
	var n map[float64]int8
	if err := nans.Decode(encode(t, nans, map[float64]int8{math.NaN(): 1, 2: 3}), &n); err != nil || len(n) != 2 {
		t.Errorf("a map with a NaN read back as %v, %v", n, err)
	}
}

func TestRule22_CodecKeepsInstantAndOffset(t *testing.T) {
	east := time.FixedZone("east", 5*3600+1800)
	times := []time.Time{{}, time.Unix(0, 0).UTC(), time.Date(2024, 2, 29, 1, 2, 3, 4, time.UTC), time.Date(1960, 1, 1, 0, 0, 0, 999999999, east),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2024, 7, 1, 0, 0, 0, 0, time.FixedZone("", -1)), time.Date(-50000, 1, 1, 0, 0, 0, 0, east)}
	c, in := codecOf[time.Time](t), codecOf[struct{ T time.Time }](t)
	for i, want := range times {
		var got time.Time
		if err := c.Decode(encode(t, c, want), &got); err != nil || !sameTime(got, want) {
			t.Errorf("%v read back as %v, %v", want, got, err)
		}
		if i >= 5 { // a struct holds minutes of the offset, and years up to 9999
			continue
		}
		var s struct{ T time.Time }
		if err := in.Decode(encode(t, in, struct{ T time.Time }{want}), &s); err != nil || !sameTime(s.T, want) {
			t.Errorf("%v in a struct read back as %v, %v", want, s.T, err)
		}
	}
	if _, err := in.Append(nil, &struct{ T time.Time }{times[6]}); err == nil {
		t.Error("a year that can't be written was")
	}
}

func sameTime(a, b time.Time) bool {
	_, ao := a.Zone()
	_, bo := b.Zone()
	return a.Equal(b) && ao == bo && (b.Location() != time.UTC || a.Location() == time.UTC)
}

// A failure here says that state in checkpoints can no longer be read. What
// changes bytes needs a version of its own, see docs/format/state.md.
func TestRule22_CodecBytesArePinned(t *testing.T) {
	pin(t, true, "01")
	pin[int64](t, 0, "00")
	pin[int64](t, -1, "01")
	pin[int64](t, 63, "7e")
	pin[int64](t, 64, "8001")
	pin[int8](t, -1, "ff")
	pin[uint32](t, 300, "ac02")
	pin[float64](t, 1, "000000000000f03f")
	pin[float32](t, 1, "0000803f")
	pin(t, "abc", "03616263")
	pin(t, []byte(nil), "00")
	pin(t, []byte{9}, "0209")
	pin(t, []int64{}, "01")
	pin(t, []string{"a", ""}, "03016100")
	pin(t, [2]int16{1, -1}, "0201")
	pin(t, map[string]int64{"a": 5}, "0201610a")
	pin(t, map[int32]bool{7: true}, "020e01")
	pin(t, (*int64)(nil), "00")
	pin(t, new(int64), "0100")
	pin(t, time.Second, "80a8d6b907")
	pin(t, time.Unix(1, 5).UTC(), "020500")
	pin(t, time.Unix(1, 0).In(time.FixedZone("", 3600)), "0200a138")
	pin(t, seal{-1}, "04ffffffff")
	pin(t, typeCount{"view", 3}, "a264547970656476696577"+"65436f756e7403")
	pin(t, step{moment{1, "i"}, "p"}, "a3"+"6454696d6501"+"6249446169"+"64506167656170")
	pin(t, struct{ F float64 }{0.5}, "a16146f93800")
	pin(t, []typeCount(nil), "f6")
	pin(t, []typeCount{}, "80")
	pin(t, struct{ T time.Time }{time.Unix(0, 5).UTC()}, "a1"+"6154"+"781e313937302d30312d30315430303a30303a30302e3030303030303030355a")
	pin(t, struct{ S seal }{seal{1}}, "a1615344"+"00000001")
}

func pin[T any](t *testing.T, v T, want string) {
	t.Helper()
	if got := hex.EncodeToString(encode(t, codecOf[T](t), v)); got != want {
		t.Errorf("the encoding of %T %+v is %s, was %s: raise the version of the format", v, v, got, want)
	}
}

func TestRule22_CodecAllowsFieldsToComeAndGo(t *testing.T) {
	type before struct {
		Kept int
		Gone string
	}
	type after struct {
		New  []string
		Kept int
	}
	old, current := codecOf[before](t), codecOf[after](t)
	var got after
	if err := current.Decode(encode(t, old, before{7, "x"}), &got); err != nil || !reflect.DeepEqual(got, after{Kept: 7}) {
		t.Errorf("read %+v, %v", got, err)
	}
}

//nolint:unused // what can't be reached can't be kept
type hidden struct{ id string }
type nested struct{ Path []hiddenIn }

//nolint:unused // as above: an embedded type whose name is not exported
type hiddenIn struct{ hidden }
type embedsTime struct {
	time.Time
	N int
}

//nolint:unused // never decoded
type halfway struct{ n int }

func (halfway) MarshalBinary() ([]byte, error) { return nil, nil }

type tree struct{ Kids []*tree }
type forest []forest
type left struct{ ID int }
type right struct{ ID int }
type stamp time.Time

func TestRule22_CodecRefusesWhatWouldBeLost(t *testing.T) {
	refuse[hidden](t, "state of type state.hidden: field id is not exported and would be lost: export it, implement encoding.BinaryMarshaler, or give an encoding")
	refuse[nested](t, "state of type state.nested: field Path.hidden.id is not exported and would be lost: export it, implement encoding.BinaryMarshaler, or give an encoding")
	refuse[map[string][]*hidden](t, "state of type map[string][]*state.hidden: field id is not exported")
	refuse[stamp](t, "field wall is not exported")
	refuse[chan int](t, "state of type chan int: it is a chan, which has no encoding: leave it out, or give an encoding")
	refuse[struct{ F []func() }](t, "field F is a func, which has no encoding")
	refuse[map[string]any](t, "it is a interface, which has no encoding")
	refuse[struct{ E error }](t, "field E is a interface")
	refuse[complex128](t, "it is a complex128")
	refuse[struct{ U uintptr }](t, "field U is a uintptr, which has no encoding in a struct: make it a uint64")
	refuse[embedsTime](t, "it is a state.embedsTime, which embeds time.Time and marshals itself as that, so its other fields would be lost")
	refuse[struct{ H halfway }](t, "field H is a state.halfway, which marshals itself one way only")
	refuse[tree](t, "field Kids is of a recursive type, state.tree")
	refuse[forest](t, "it is of a recursive type, state.forest")
	refuse[struct {
		left
		right
	}](t, `field right.ID has the name "ID" as has left.ID, and one would be lost`)
	refuse[struct {
		A int
		B int `json:"A"`
	}](t, `field B has the name "A" as has A`)
	refuse[struct {
		A int `json:"-"`
	}](t, `field A is tagged json:"-" and would be lost: give it a cbor tag too`)
	refuse[struct{ P **int }](t, "field P is a pointer to a ptr, and could not be told from nil if that is nil")
	refuse[struct{ *left }](t, "field left is an embedded pointer to a type that is not exported")
	refuse[struct {
		a int
		b string
	}](t, "field a is not exported and would be lost: export it, implement encoding.BinaryMarshaler, or give an encoding\nfield b is not")

	roundTrip(t, struct {
		A int    `cbor:"-"`
		b string `cbor:"-"`
		C int    `cbor:"c,omitempty" json:"-"`
	}{C: 3})
}

func refuse[T any](t *testing.T, want string) {
	t.Helper()
	c, err := CodecFor[T]()
	if err == nil || !strings.Contains(err.Error(), want) || c != nil {
		t.Errorf("CodecFor[%T] gave the error\n%v, want\n%s", *new(T), err, want)
	}
}

func TestRule22_CodecRefusesGarbage(t *testing.T) {
	garbage[bool](t, "", "02", "0000")
	garbage[int64](t, "", "80", "8000", "ffffffffffffffffff02", "ffffffffffffffffffff01", "0000")
	garbage[int16](t, "808008")
	garbage[uint16](t, "808004")
	garbage[string](t, "", "05616263", "ffffffffffffffffff01", "0361626364")
	garbage[[]byte](t, "", "0461", "ffffffffffffffffff01")
	garbage[[]int64](t, "ffffffff0f", "0301")
	garbage[[]struct{}](t, "ffffffffffffffffff01")
	garbage[[]float64](t, "03ffffffffffffffff")
	garbage[map[string]int64](t, "ffffffff0f", "030161020161", "03016102016104")
	garbage[map[int16]int64](t, "0302020202", "ffffff7f")
	garbage[map[struct{}]int8](t, "030101")
	garbage[*int64](t, "", "02", "01", "0001")
	garbage[[3]byte](t, "0102", "01020304")
	garbage[time.Time](t, "0200", "020000ff", "0280a8d6b90700", "0000"+"ffffffffffffffffff01")
	garbage[seal](t, "", "0300", "03000000")
	garbage[visit](t, "", "00", "a1", "a2617300", "9bffffffffffffffff", "a1655374617274"+"6161", "a000")
}

func garbage[T any](t *testing.T, encodings ...string) {
	t.Helper()
	c := codecOf[T](t)
	for _, e := range encodings {
		src, err := hex.DecodeString(e)
		if err != nil {
			t.Fatal(err)
		}
		var v T
		if c.Decode(src, &v) == nil {
			t.Errorf("%s was taken for %T %+v", e, v, v)
		}
	}
}

func TestNestedValuesShowTheirEnd(t *testing.T) {
	c := codecOf[string](t)
	values := []string{"", "a", strings.Repeat("b", 125), strings.Repeat("c", 126), strings.Repeat("d", 127), strings.Repeat("e", 20000)}
	var all []byte
	for _, v := range values {
		var err error
		if all, err = AppendValue(all, c, &v); err != nil {
			t.Fatal(err)
		}
	}
	rest := all
	for _, want := range values {
		var got string
		var err error
		if rest, err = DecodeValue(rest, c, &got); err != nil || got != want {
			t.Fatalf("a string of %d read back as one of %d, %v", len(want), len(got), err)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
	for _, cut := range []int{0, 1, 100} {
		long := values[5]
		data, _ := AppendValue(nil, c, &long)
		if _, err := DecodeValue(data[:cut], c, new(string)); err == nil {
			t.Errorf("the first %d bytes of a value were taken for one", cut)
		}
	}
}

func TestCodecDoesNotAllocateWhereItNeedNot(t *testing.T) {
	noAllocs(t, int64(1700000000000))
	noAllocs(t, [64]int64{1, 2, 3})
	noAllocs(t, []int64{1, 2, 3})
	noAllocs(t, time.Unix(1, 2).UTC())
	if !raceEnabled {
		noAllocs(t, someVisit())
	}
}

func noAllocs[T any](t *testing.T, v T) {
	t.Helper()
	c := codecOf[T](t)
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Append(dst, &v) }); n > 0 {
		t.Errorf("encoding a %T allocates %v times", v, n)
	}
}

func someVisit() visit {
	s := func(i int64) step { return step{moment{1700000000000 + i, "5f0c8a9e-1b2c-4d3e"}, "/products/shoes"} }
	return visit{1700000000000, 1700000100000, 9, 5, s(0), s(4), firsts[step]{s(0), s(1), s(2), s(3), s(4)}}
}

func TestUnencodableStateSaysWhy(t *testing.T) {
	why := errors.New("its values are a secret")
	if _, err := schemaOf[chan int]([]Option{Unencodable(why)}); !errors.Is(err, why) || strings.Contains(err.Error(), "chan") {
		t.Errorf("got %v, want %v", err, why)
	}
}

func FuzzCodecCompact(f *testing.F) {
	f.Add([]byte{2, 1, 'a', 10})
	f.Add([]byte{3, 1, 1})
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzDecode[map[string]int64](t, src)
		fuzzDecode[map[int32][]string](t, src)
		fuzzDecode[[]*[2]uint16](t, src)
		fuzzDecode[[][]byte](t, src)
		fuzzDecode[[3]bool](t, src)
		fuzzDecode[[]time.Time](t, src)
		fuzzDecode[[]seal](t, src)
		fuzzDecode[map[struct{}]int8](t, src)
	})
}

func FuzzCodecStruct(f *testing.F) {
	c := codecOf[visit](f)
	f.Add(encode(f, c, visit{Path: firsts[step]{{}}}))
	o := codecOf[order](f)
	f.Add(encode(f, o, order{Items: map[string]int64{"a": 1}, Total: big.NewInt(1)}))
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzDecode[visit](t, src)
		fuzzDecode[[]result[series, counts]](t, src)
		fuzzDecode[map[series]*counts](t, src)
		fuzzDecode[struct {
			F []float64
			M map[[2]int8]seal
		}](t, src)
	})
}

// fuzzDecode decodes what may be garbage. What is taken must have an encoding
// that is stable from then on.
func fuzzDecode[T any](t *testing.T, src []byte) {
	t.Helper()
	c := codecOf[T](t)
	var v, again T
	if c.Decode(bytes.Clone(src), &v) != nil {
		return
	}
	data := encode(t, c, v)
	if err := c.Decode(data, &again); err != nil {
		t.Fatalf("%x was taken for %T %+v, and its encoding %x not: %v", src, v, v, data, err)
	}
	if !reflect.DeepEqual(v, again) && !hasNaN(v) {
		t.Fatalf("%x was taken for %T\n%#v, and read back as\n%#v", src, v, v, again)
	}
}

func BenchmarkCodec(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := map[string]int64{}
	for i := range 10 {
		m[fmt.Sprint("key", i)] = rng.Int64N(1000)
	}
	bench(b, "int64", int64(1234))
	bench(b, "string", "/products/shoes")
	bench(b, "array", [3]int64{1, 200, 1700000000000})
	bench(b, "slice", []float64{1, 2, 3})
	bench(b, "map", m)
	bench(b, "time", time.Unix(1700000000, 123000000).UTC())
	bench(b, "counts", struct{ Sessions, Bounces, DurationMillis, PathCuts int64 }{12, 3, 1234567, 0})
	bench(b, "visit", someVisit())
}

func bench[T any](b *testing.B, what string, v T) {
	c := codecOf[T](b)
	data := encode(b, c, v)
	b.Run(what+"/encode", func(b *testing.B) {
		b.ReportAllocs()
		dst := make([]byte, 0, len(data))
		for b.Loop() {
			if _, err := c.Append(dst, &v); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(data)), "bytes")
	})
	b.Run(what+"/decode", func(b *testing.B) {
		b.ReportAllocs()
		var got T
		for b.Loop() {
			got = *new(T)
			if err := c.Decode(data, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}
