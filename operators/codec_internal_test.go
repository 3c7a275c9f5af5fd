package operators

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

type view struct {
	User, Page string
	Took       float64
	Cents      int64
}

func viewUser(v view) string   { return v.User }
func viewPage(v view) string   { return v.Page }
func viewTook(v view) float64  { return v.Took }
func viewCents(v view) int64   { return v.Cents }
func isProduct(v view) bool    { return strings.HasPrefix(v.Page, "/1") }
func slower(a, b view) view    { return map[bool]view{true: a, false: b}[a.Took >= b.Took] }
func viewLess(a, b view) int   { return strings.Compare(a.User+a.Page, b.User+b.Page) }
func viewCents8(v view) int8   { return int8(v.Cents) }
func viewTook32(v view) myReal { return myReal(v.Took) }

type myReal float32

type pageCount struct {
	Page  string
	Count int64
}

// pageCounts is an aggregation of a user's own, with an accumulator that has
// the default codec.
func pageCounts() Aggregation[view, []pageCount, int] {
	add := func(acc *[]pageCount, page string, n int64) {
		for i := range *acc {
			if (*acc)[i].Page == page {
				(*acc)[i].Count += n
				return
			}
		}
		*acc = append(*acc, pageCount{page, n})
	}
	return Aggregation[view, []pageCount, int]{
		Add: func(acc *[]pageCount, v view) { add(acc, v.Page, 1) },
		Merge: func(acc, other *[]pageCount) {
			for _, p := range *other {
				add(acc, p.Page, p.Count)
			}
		},
		Result: func(acc *[]pageCount) int { return len(*acc) },
	}
}

// only is a wrapper as users write them.
func only[T, A, R any](keep func(T) bool, agg Aggregation[T, A, R]) Aggregation[T, A, R] {
	add := agg.Add
	agg.Add = func(acc *A, v T) {
		if keep(v) {
			add(acc, v)
		}
	}
	return agg
}

func randomView(rng *rand.Rand) view {
	took := math.Exp(rng.NormFloat64() * 5)
	switch rng.IntN(50) {
	case 0:
		took = 0
	case 1:
		took = -took
	}
	return view{fmt.Sprint("u", rng.IntN(1+rng.IntN(20000))), fmt.Sprint("/", rng.IntN(300)), took, rng.Int64N(1000) - 100}
}

func mustCodec[T, A, R any](t testing.TB, agg *Aggregation[T, A, R]) state.Codec[A] {
	t.Helper()
	c, err := codecOf(agg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func restored[A any](t testing.TB, c state.Codec[A], acc *A) A {
	t.Helper()
	data, err := c.Append([]byte("x"), acc)
	if err != nil {
		t.Fatalf("Append: %v", err)
	}
	var got A
	if err := c.Decode(data[1:], &got); err != nil {
		t.Fatalf("Decode(%x): %v", data[1:], err)
	}
	clear(data)
	return got
}

// survives adds the same records to an accumulator that is left alone, and to
// one that is stored and restored again and again, and wants the same results.
func survives[A, R any](t *testing.T, name string, agg Aggregation[view, A, R]) {
	t.Run(name, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		c := mustCodec(t, &agg)
		straight, stored := agg.empty(), agg.empty()
		stored = restored(t, c, &stored)
		for i := range 6000 {
			v := randomView(rng)
			agg.Add(&straight, v)
			agg.Add(&stored, v)
			if i%97 == 5 {
				stored = restored(t, c, &stored)
			}
			if i%501 == 7 { // merging an accumulator that was restored
				other := agg.empty()
				for range i % 300 {
					agg.Add(&other, randomView(rng))
				}
				again := restored(t, c, &other)
				agg.Merge(&straight, &other)
				agg.Merge(&stored, &again)
			}
			if i%211 == 0 {
				want, got := fmt.Sprintf("%+v", agg.Result(&straight)), fmt.Sprintf("%+v", agg.Result(&stored))
				if want != got {
					t.Fatalf("after %d records:\n%.300s, want\n%.300s", i, got, want)
				}
			}
		}
	})
}

func TestRule22_AggregationsSurviveBeingStored(t *testing.T) {
	survives(t, "Count", Count[view]())
	survives(t, "Sum", Sum(viewTook))
	survives(t, "Sum of int8", Sum(viewCents8))
	survives(t, "Sum of a named float32", Sum(viewTook32))
	survives(t, "Mean", Mean(viewTook))
	survives(t, "Min", Min(viewUser))
	survives(t, "Max", Max(viewTook))
	survives(t, "MinBy", MinBy(viewCents))
	survives(t, "MaxBy", MaxBy(viewUser))
	survives(t, "Collect", Collect[view]())
	survives(t, "CollectN", CollectN[view](10))
	survives(t, "Top", Top(10, viewTook))
	survives(t, "TopFunc", TopFunc(5, viewLess))
	survives(t, "TopCounts", TopCounts(10, viewPage))
	survives(t, "Reduce", reduction(slower))
	survives(t, "Distinct", Distinct(viewUser))
	survives(t, "HLL(4)", HLL(4, viewUser))
	survives(t, "HLL(18)", HLL(18, viewUser))
	survives(t, "Quantiles", Quantiles(viewTook, 0, 0.01, 0.5, 0.9, 0.99, 1))
	survives(t, "QuantilesWithin", QuantilesWithin(0.3, viewTook, 0.5))
	survives(t, "HeavyHitters, exact", HeavyHitters(40, viewPage))
	survives(t, "HeavyHitters, full", HeavyHitters(3, viewUser))
	counting := Combine2(pageCounts(), HLL(12, viewUser), func(n int, users int64) string { return fmt.Sprint(n, users) })
	survives(t, "Combine2", counting)
	survives(t, "Combine3", Combine3(counting, only(isProduct, HeavyHitters(5, viewPage)), only(isProduct, HeavyHitters(2, viewUser)),
		func(c string, pages, users []Hitter) string { return fmt.Sprint(c, pages, users) }))
	survives(t, "Combine4", Combine4(Count[view](), Sum(viewCents), Min(viewTook), Mean(viewTook),
		func(n, sum int64, least, mean float64) string { return fmt.Sprint(n, sum, least, mean) }))
}

func TestRule22_SumsKeepNaNAndNegativeZero(t *testing.T) {
	sum := Sum(func(x float64) float64 { return x })
	c := mustCodec(t, &sum)
	for _, total := range []Total[float64]{{}, {math.Copysign(0, -1), math.Copysign(0, -1)}, {1e300, -1e-300}, {math.Inf(1), math.NaN()}} {
		got := restored(t, c, &total)
		if math.Float64bits(got.sum) != math.Float64bits(total.sum) || math.Float64bits(got.lost) != math.Float64bits(total.lost) {
			t.Errorf("%+v read back as %+v", total, got)
		}
	}
	quantiles := Quantiles(func(x float64) float64 { return x }, 0.5)
	acc := quantiles.empty()
	quantiles.Add(&acc, math.NaN())
	acc = restored(t, quantiles.Codec, &acc)
	if got := quantiles.Result(&acc); !math.IsNaN(got[0]) {
		t.Errorf("the NaN was forgotten: %v", got)
	}
}

// The mapping of quantile sketches has tables of its own.
func TestRestoredQuantilesShareOneMapping(t *testing.T) {
	agg := Quantiles(viewTook, 0.5)
	acc := agg.empty()
	got := restored(t, agg.Codec, &acc)
	if got.sketch.IndexMapping != acc.sketch.IndexMapping {
		t.Error("the restored sketch has a mapping of its own")
	}
}

func TestRule22_SketchesOfOtherSettingsAreRefused(t *testing.T) {
	p12, p14 := HLL(12, viewUser), HLL(14, viewUser)
	otherSetting(t, p12, p14, "the sketch has precision 12, the aggregation 14")
	coarse, fine := QuantilesWithin(0.02, viewTook, 0.5), Quantiles(viewTook, 0.5)
	otherSetting(t, coarse, fine, "the sketch has the relative accuracy 0.02, the aggregation 0.01")
	ten, twenty := HeavyHitters(10, viewPage), HeavyHitters(20, viewPage)
	otherSetting(t, ten, twenty, "the sketch has room for 100 counters, the aggregation for 200")
}

func otherSetting[A, R any](t *testing.T, from, to Aggregation[view, A, R], want string) {
	t.Helper()
	acc := from.empty()
	from.Add(&acc, view{User: "u", Page: "/", Took: 1})
	data, err := from.Codec.Append(nil, &acc)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Codec.Decode(data, new(A)); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

type secret struct{ hidden int }

func TestRule22_AccumulatorsThatCannotBeStoredSayWhy(t *testing.T) {
	const want = "state of type operators.secret: field hidden is not exported and would be lost"
	reduce := reduction(func(a, _ secret) secret { return a })
	if _, err := codecOf(&reduce); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Reduce: got %v, want %s", err, want)
	}
	least := MinBy(func(s secret) int { return s.hidden })
	both := Combine2(Count[secret](), least, func(int64, secret) int { return 0 })
	if err := both.check(true); err != nil {
		t.Errorf("in memory it is no mistake, got %v", err)
	}
	_, err := codecOf(&both)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Combine2: got %v, want %s", err, want)
	}
}

func hasState[S any](t *testing.T, c state.Codec[S], s S, wantHex string) {
	t.Helper()
	data, err := c.Append(nil, &s)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != wantHex {
		t.Errorf("the encoding of %T is %s, was %s: raise the version of the format", s, got, wantHex)
	}
	if got := restored(t, c, &s); !reflect.DeepEqual(got, s) {
		t.Errorf("%T read back as\n%+v, want\n%+v", s, got, s)
	}
	for i := range data { // the beginning of a state may be one, but must not panic
		_ = c.Decode(data[:i], new(S))
	}
}

var minute = window.Window{Start: 1700000040000, End: 1700000100000}

func after(w window.Window) window.Window { return window.Window{Start: w.End, End: 2*w.End - w.Start} }

func TestRule22_StateBytesArePinned(t *testing.T) {
	agg := Count[view]()
	count := mustCodec(t, &agg)
	second, third := after(minute), after(after(minute))
	pane := window.PaneState{Phase: window.PhaseLate, Index: 2, Fresh: 3}
	const start = "8091b0fef962" // 1700000040000

	once := newOnceCodec(count)
	hasState(t, once, onceWindows[int64]{First: onceWindow[int64]{minute.Start, 5}}, "01"+start+"010a")
	hasState(t, once, onceWindows[int64]{onceWindow[int64]{minute.Start, 5}, &[]onceWindow[int64]{{second.Start, 300}, {-1, 0}}},
		"01"+start+"010a"+"c0a907"+"02d804"+"c1bab7fef962"+"0100")
	hasState(t, once, onceWindows[int64]{First: onceWindow[int64]{math.MinInt64, 1}, More: &[]onceWindow[int64]{{math.MaxInt64, 2}}},
		"01"+"ffffffffffffffffff01"+"0102"+"01"+"0104")

	windows := newWindowsCodec(count)
	hasState(t, windows, keyWindows[int64]{First: liveWindow[int64]{Window: minute, Acc: 5, Panes: pane}}, "0100"+start+"c0a907"+"0906"+"010a")
	hasState(t, windows, keyWindows[int64]{
		First: liveWindow[int64]{Window: minute}, Rest: &restWindows[int64]{[]liveWindow[int64]{{second, 1, pane}}, minute.Start + 1},
	}, "0102"+"8291b0fef962"+"01c0a907"+"0000"+"0100"+"00c0a907"+"0906"+"0102")

	slices := newSlicesCodec(count)
	hasState(t, slices, keySlices[int64]{Slices: []liveSlice[int64]{{minute, second.End, 7}}, Alarm: alarm{minute.End - 1, true}},
		"0101"+"bebab7fef962"+"01"+"bda907"+"c0a907"+"c0a907"+"010e")
	hasState(t, slices, keySlices[int64]{Ended: []endedWindow{{minute, pane}, {third, window.PaneState{}}}},
		"010000"+start+"c0a907"+"0906"+"c0a907"+"c0a907"+"0000")

	sessions := newSessionsCodec(count)
	hasState(t, sessions, keySessions[int64]{
		Set:  window.Sessions{NextID: 3, Live: []window.LiveSession{{ID: 2, Window: minute, Last: minute.Start + 5, Panes: pane}}},
		Accs: []sessionAcc[int64]{{2, 9}}, Alarm: alarm{minute.End, true}, EarlyAt: minute.End + 1,
	}, "0103"+"c0bab7fef962"+"02"+"0301"+"02"+"c1a907"+"c0a907"+"b5a907"+"0906"+"02"+"0112")

	levels := []window.TumblingAssigner{window.Tumbling(time.Minute), window.Tumbling(2 * time.Minute)}
	rollup := rollupCodec[int64]{count, levels}
	hasState[rolledKey[int64]](t, rollup, rolledKey[int64]{
		Live:  []rolledWindow[int64]{{0, levels[0].Window(minute.Start), pane, 4, true}, {1, levels[1].Window(minute.Start), window.PaneState{}, 0, false}},
		Alarm: alarm{minute.Start, true},
	}, "0101"+start+"01"+"00"+"c0a907"+"0906"+"0108"+"02"+"bfa907"+"80d30e"+"0000")
	otherLevels := rollupCodec[int64]{count, levels[:1]}
	data, _ := rollup.Append(nil, &rolledKey[int64]{Live: []rolledWindow[int64]{{Level: 1, Window: levels[1].Window(0)}}})
	if err := otherLevels.Decode(data, new(rolledKey[int64])); err == nil || !strings.Contains(err.Error(), "the sizes have changed") {
		t.Errorf("a window of a level that is gone: %v", err)
	}
}

func TestRule22_AccumulatorBytesArePinned(t *testing.T) {
	one := view{"u", "/p", 2, 3}
	pinAcc(t, "Sum of ints", Sum(viewCents), one, "0106")
	pinAcc(t, "Sum of floats", Sum(viewTook), one, "080000000000000040")
	pinAcc(t, "Mean", Mean(viewTook), one, "0209080000000000000040")
	pinAcc(t, "Max", Max(viewCents), one, "0106")
	pinAcc(t, "MinBy", MinBy(viewCents), one, "0106"+"1fa4645573657261756450616765622f7064546f6f6bf940006543656e747303")
	pinAcc(t, "Collect", CollectN[int64](2), 7, "020e")
	pinAcc(t, "TopCounts", TopCounts(2, viewPage), one, "0103022f7002")
	pinAcc(t, "Reduce", reduction(func(a, _ int64) int64 { return a }), 7, "010e")
	pinAcc(t, "Distinct", Distinct(viewUser), one, "0102"+"020e0001"+"00000001"+"01840006"+"000000000000000000000000")
	pinAcc(t, "Quantiles", Quantiles(viewTook, 0.5), one, "01"+"7b14ae47e17a843f"+"00"+"00"+"00"+"01"+"4401")
	pinAcc(t, "HeavyHitters", HeavyHitters(1, viewPage), one, "010a01022f700200")
	pinAcc(t, "Combine2", Combine2(Count[view](), Sum(viewCents), func(a, b int64) int64 { return a + b }), one, "0102"+"020106")
}

func pinAcc[T, A, R any](t *testing.T, name string, agg Aggregation[T, A, R], v T, want string) {
	t.Helper()
	acc := agg.empty()
	agg.Add(&acc, v)
	data, err := mustCodec(t, &agg).Append(nil, &acc)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("the accumulator of %s is %s, was %s: raise the version of the format", name, got, want)
	}
}

// A state with one window and a small count, the most frequent of all.
func TestOneWindowWithACountTakesTenBytes(t *testing.T) {
	agg := Count[view]()
	c := newOnceCodec(mustCodec(t, &agg))
	data, err := c.Append(nil, &onceWindows[int64]{First: onceWindow[int64]{minute.Start, 1000}})
	if err != nil || len(data) != 10 {
		t.Errorf("it takes %d bytes (%x), %v", len(data), data, err)
	}
	dst, k := make([]byte, 0, 100), onceWindows[int64]{First: onceWindow[int64]{minute.Start, 1000}}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Append(dst, &k) }); n > 0 {
		t.Errorf("encoding it allocates %v times", n)
	}
}

// fuzzState decodes what may be garbage. What is taken has an encoding that is
// stable from then on.
func fuzzState[S any](t *testing.T, c state.Codec[S], src []byte, inOrder bool) {
	t.Helper()
	var s, again S
	if c.Decode(bytes.Clone(src), &s) != nil {
		return
	}
	first, err := c.Append(nil, &s)
	if err != nil {
		t.Fatalf("%x was taken for %T and can't be encoded: %v", src, s, err)
	}
	if err := c.Decode(first, &again); err != nil {
		t.Fatalf("%x was taken for %T, and its encoding %x not: %v", src, s, first, err)
	}
	second, _ := c.Append(nil, &again)
	if inOrder && !bytes.Equal(first, second) || len(first) != len(second) {
		t.Fatalf("%x was taken for %T, encoded as %x, and that as %x", src, s, first, second)
	}
}

func FuzzStateOfWindows(f *testing.F) {
	agg := Count[view]()
	count := mustCodec(f, &agg)
	for _, seed := range []string{"018091b0fef962010a", "01008091b0fef962c0a9070906010a", "0101bebab7fef96201bda907c0a907c0a907010e",
		"0103c0bab7fef96202030102c1a907c0a907b5a9070906020112", "01018091b0fef9620100c0a9070906010802bfa90780d30e0000"} {
		data, _ := hex.DecodeString(seed)
		f.Add(data)
	}
	levels := []window.TumblingAssigner{window.Tumbling(time.Minute), window.Tumbling(2 * time.Minute)}
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzState(t, newOnceCodec(count), src, true)
		fuzzState(t, newWindowsCodec(count), src, true)
		fuzzState(t, newSlicesCodec(count), src, true)
		fuzzState(t, newSessionsCodec(count), src, true)
		fuzzState[rolledKey[int64]](t, rollupCodec[int64]{count, levels}, src, true)
	})
}

func FuzzAccumulators(f *testing.F) {
	distinct, quantiles, hitters := HLL(6, viewUser), Quantiles(viewTook, 0.5), HeavyHitters(1, viewPage)
	counts, chosen, mean := TopCounts(2, viewPage), MinBy(viewCents), Mean(viewTook)
	tuple := Combine3(Sum(viewTook), Min(viewUser), reduction(slower), func(float64, string, view) int { return 0 })
	pair := Combine2(Count[view](), Count[view](), func(a, b int64) int64 { return a })
	four := Combine4(Count[view](), Count[view](), Count[view](), Count[view](), func(a, b, c, d int64) int64 { return a })
	rng := rand.New(rand.NewPCG(1, 1))
	seed(f, distinct, rng)
	seed(f, quantiles, rng)
	seed(f, hitters, rng)
	seed(f, counts, rng)
	seed(f, chosen, rng)
	seed(f, tuple, rng)
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzState(t, distinct.Codec, src, false) // sets have no order
		fuzzState(t, quantiles.Codec, src, true)
		fuzzState(t, hitters.Codec, src, true)
		fuzzState(t, counts.Codec, src, false)
		fuzzState(t, chosen.Codec, src, true)
		fuzzState(t, mean.Codec, src, true)
		fuzzState(t, tuple.Codec, src, true)
		fuzzState(t, pair.Codec, src, true)
		fuzzState(t, four.Codec, src, true)
	})
}

func seed[A, R any](f *testing.F, agg Aggregation[view, A, R], rng *rand.Rand) {
	acc := agg.empty()
	for range 20 {
		agg.Add(&acc, randomView(rng))
		data, err := agg.Codec.Append(nil, &acc)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func BenchmarkCodec(b *testing.B) {
	count := Count[view]()
	benchCodec(b, "once, count", newOnceCodec(mustCodec(b, &count)), onceWindows[int64]{First: onceWindow[int64]{minute.Start, 1000}})
	benchCodec(b, "sessions, count", newSessionsCodec(mustCodec(b, &count)), keySessions[int64]{
		Set:  window.Sessions{NextID: 1, Live: []window.LiveSession{{Window: minute, Last: minute.Start}}},
		Accs: []sessionAcc[int64]{{0, 9}}, Alarm: alarm{minute.End, true}})
	for _, n := range []int{1, 100, 10000} {
		benchAcc(b, fmt.Sprintf("distinct/n=%d", n), Distinct(viewUser), n)
		benchAcc(b, fmt.Sprintf("quantiles/n=%d", n), Quantiles(viewTook, 0.5), n)
		benchAcc(b, fmt.Sprintf("hitters/n=%d", n), HeavyHitters(10, viewUser), n)
	}
}

func benchAcc[A, R any](b *testing.B, name string, agg Aggregation[view, A, R], n int) {
	rng := rand.New(rand.NewPCG(1, 1))
	acc := agg.empty()
	for range n {
		agg.Add(&acc, randomView(rng))
	}
	agg.Result(&acc)
	benchCodec(b, name, agg.Codec, acc)
}

func benchCodec[S any](b *testing.B, name string, c state.Codec[S], s S) {
	data, err := c.Append(nil, &s)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(name+"/encode", func(b *testing.B) {
		b.ReportAllocs()
		dst := make([]byte, 0, 2*len(data))
		for b.Loop() {
			_, _ = c.Append(dst, &s)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	})
	b.Run(name+"/decode", func(b *testing.B) {
		b.ReportAllocs()
		var got S
		for b.Loop() {
			got = *new(S)
			if err := c.Decode(data, &got); err != nil {
				b.Fatal(err)
			}
		}
	})
}
