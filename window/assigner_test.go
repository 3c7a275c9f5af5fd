package window_test

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // The tests of zones must not depend on the machine.

	"github.com/millrace/millrace/window"
)

const ms = time.Millisecond

// extremes are event times at which careless arithmetic overflows.
var extremes = []int64{
	math.MinInt64, math.MinInt64 + 1, math.MinInt64 + 999,
	time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(),
	-1, 0, 1,
	time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli(),
	math.MaxInt64 - 999, math.MaxInt64 - 1, math.MaxInt64,
}

func TestRule28_TumblingStart(t *testing.T) {
	for _, c := range []struct {
		size, offset time.Duration
		ts           int64
		want         window.Window
	}{
		{10 * ms, 0, 0, win(0, 10)},
		{10 * ms, 0, 9, win(0, 10)},
		{10 * ms, 0, 10, win(10, 20)},
		{10 * ms, 0, -1, win(-10, 0)},
		{10 * ms, 0, -10, win(-10, 0)},
		{10 * ms, 0, -11, win(-20, -10)},
		{10 * ms, 3 * ms, 2, win(-7, 3)},
		{10 * ms, 3 * ms, 3, win(3, 13)},
		{10 * ms, -3 * ms, 6, win(-3, 7)},
		{10 * ms, -3 * ms, 7, win(7, 17)},
		{10 * ms, 13 * ms, -8, win(-17, -7)},
		{7 * ms, 0, math.MinInt64, win(math.MinInt64, math.MinInt64+1)},
		{10 * ms, 0, math.MaxInt64, win(math.MaxInt64-7, math.MaxInt64)},
	} {
		a := window.Tumbling(c.size).Offset(c.offset)
		if got := a.Window(c.ts); got != c.want {
			t.Errorf("%v at %d: got %v, want %v", a, c.ts, got, c.want)
		}
		if got := a.Start(c.ts); got != c.want.Start {
			t.Errorf("%v start at %d: got %d, want %d", a, c.ts, got, c.want.Start)
		}
	}
}

// slowGrid returns every window [offset+k*slide, +size) with ts in it, by
// arithmetic without bounds, clamped at the very end.
func slowGrid(ts, size, slide, offset int64) []window.Window {
	b := func(x int64) *big.Int { return big.NewInt(x) }
	clamp := func(x *big.Int) int64 {
		switch {
		case x.IsInt64():
			return x.Int64()
		case x.Sign() < 0:
			return math.MinInt64
		}
		return math.MaxInt64
	}
	if ts == math.MaxInt64 {
		ts--
	}
	// Div is Euclidean, which is floor for a positive divisor.
	k := new(big.Int).Div(new(big.Int).Sub(b(ts), b(offset)), b(slide))
	start := k.Mul(k, b(slide)).Add(k, b(offset))
	var all []window.Window
	for {
		end := new(big.Int).Add(start, b(size))
		if end.Cmp(b(ts)) <= 0 {
			break
		}
		all = append(all, win(clamp(start), clamp(end)))
		start = new(big.Int).Sub(start, b(slide))
	}
	slices.Reverse(all)
	return all
}

// slowCumulative does the same for cumulative windows.
func slowCumulative(ts, size, step, offset int64) []window.Window {
	var all []window.Window
	for s := step; s <= size; s += step {
		for _, w := range slowGrid(ts, s, size, offset) {
			if !slices.Contains(all, w) {
				all = append(all, w)
			}
		}
	}
	return all
}

func randomTime(r *rand.Rand) int64 {
	switch r.IntN(4) {
	case 0:
		return extremes[r.IntN(len(extremes))]
	case 1:
		return int64(r.Uint64())
	}
	return r.Int64N(400) - 200
}

func TestRule28_AssignLikeTheSlowWay(t *testing.T) {
	r := rand.New(rand.NewPCG(28, 1))
	for range 5000 {
		ts := randomTime(r)
		slide := 1 + r.Int64N(12)
		size := slide + r.Int64N(40)
		n := 1 + r.Int64N(5)
		offset := r.Int64N(60) - 30
		d := func(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
		for _, c := range []struct {
			a    window.Assigner
			want []window.Window
		}{
			{window.Tumbling(d(size)).Offset(d(offset)), slowGrid(ts, size, size, offset)},
			{window.Sliding(d(size), d(slide)).Offset(d(offset)), slowGrid(ts, size, slide, offset)},
			{window.Cumulative(d(n*slide), d(slide)).Offset(d(offset)), slowCumulative(ts, n*slide, slide, offset)},
		} {
			if err := window.Validate(c.a); err != nil {
				t.Fatalf("%v: %v", c.a, err)
			}
			if got := c.a.Assign(ts, nil); !slices.Equal(got, c.want) {
				t.Fatalf("%v at %d:\n got %v\nwant %v", c.a, ts, got, c.want)
			}
			checkAssigner(t, c.a, ts)
		}
	}
}

// checkAssigner checks what every assigner promises, at one event time.
func checkAssigner(t *testing.T, a window.Assigner, ts int64) {
	t.Helper()
	in := min(ts, math.MaxInt64-1)
	ws := a.Assign(ts, nil)
	if len(ws) == 0 {
		t.Fatalf("%v at %d: no window", a, ts)
	}
	for i, w := range ws {
		if !w.Contains(in) {
			t.Fatalf("%v at %d: %v does not contain it", a, ts, w)
		}
		if i > 0 && (w == ws[i-1] || w.End < ws[i-1].End) {
			t.Fatalf("%v at %d: %v are out of order", a, ts, ws)
		}
	}
	if d, ok := a.(window.Disjoint); ok {
		checkRow(t, a, d.Window, ts)
		if len(ws) != 1 || ws[0] != d.Window(ts) {
			t.Fatalf("%v at %d: Assign gives %v, Window %v", a, ts, ws, d.Window(ts))
		}
	}
	if s, ok := a.(window.Slicer); ok {
		checkRow(t, a, s.Slice, ts)
		checkSlices(t, s, ts, ws)
	}
}

// checkRow checks that the windows next to that of ts leave no hole.
func checkRow(t *testing.T, a window.Assigner, find func(int64) window.Window, ts int64) {
	t.Helper()
	w := find(ts)
	for _, same := range []int64{w.Start, w.End - 1} {
		if got := find(same); got != w {
			t.Fatalf("%v: %d is in %v and %d in %v", a, ts, w, same, got)
		}
	}
	if w.Start > math.MinInt64 {
		if got := find(w.Start - 1); got.End != w.Start {
			t.Fatalf("%v: before %v comes %v", a, w, got)
		}
	}
	if w.End < math.MaxInt64 {
		if got := find(w.End); got.Start != w.End {
			t.Fatalf("%v: after %v comes %v", a, w, got)
		}
	}
}

func checkSlices(t *testing.T, s window.Slicer, ts int64, ws []window.Window) {
	t.Helper()
	slice := s.Slice(ts)
	if got := s.WindowsOf(slice, nil); !slices.Equal(got, ws) {
		t.Fatalf("%v at %d: slice %v is part of %v, want %v", s, ts, slice, got, ws)
	}
	for _, w := range ws {
		row := s.SlicesOf(w, nil)
		at := w.Start
		for _, p := range row {
			if p.Start != at || !slices.Contains(s.WindowsOf(p, nil), w) {
				t.Fatalf("%v: %v is not the row of slices %v", s, w, row)
			}
			at = p.End
		}
		if at != w.End || !slices.Contains(row, slice) {
			t.Fatalf("%v: %v is not the row of slices %v", s, w, row)
		}
	}
}

func TestRule28_Extremes(t *testing.T) {
	berlin := location(t, "Europe/Berlin")
	for _, a := range []window.Assigner{
		window.Tumbling(time.Hour).Offset(-7 * time.Minute),
		window.Tumbling(math.MaxInt64 / ms * ms),
		window.Sliding(time.Hour, 7*time.Minute),
		window.Sliding(math.MaxInt64/ms*ms, 20*365*24*time.Hour),
		window.Cumulative(24*time.Hour, time.Hour).Offset(time.Minute),
		window.Session(time.Hour),
		window.Session(math.MaxInt64 / ms * ms),
		window.Session(time.Hour).SplitByDay(berlin),
		window.Days(berlin), window.Weeks(berlin), window.Months(berlin),
		window.Global(),
	} {
		if err := window.Validate(a); err != nil {
			t.Errorf("%v: %v", a, err)
		}
		for _, ts := range extremes {
			checkAssigner(t, a, ts)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		a    window.Assigner
		want string
	}{
		{nil, "invalid window: assigner is nil"},
		{window.Tumbling(0), "invalid window: size is not positive"},
		{window.Tumbling(-1).Offset(time.Hour), "invalid window: size is not positive"},
		{window.Tumbling(1500 * time.Microsecond), "invalid window: size is not a whole number of milliseconds"},
		{window.Tumbling(time.Second).Offset(1), "invalid window: offset is not a whole number of milliseconds"},
		{window.Sliding(0, time.Second), "invalid window: size is not positive"},
		{window.Sliding(time.Second, 0), "invalid window: slide is not positive"},
		{window.Sliding(time.Second, time.Minute), "invalid window: slide is larger than size"},
		{window.Cumulative(time.Minute, 0), "invalid window: step is not positive"},
		{window.Cumulative(time.Minute, 7*time.Second), "invalid window: max is not a multiple of step"},
		{window.Session(0), "invalid window: gap is not positive"},
		{window.Session(time.Second).SplitByDay(nil), "invalid window: location is nil"},
		{window.Days(nil), "invalid window: location is nil"},
		{window.Weeks(time.UTC).StartingOn(7), "invalid window: first day 7 is not a weekday"},
	} {
		err := window.Validate(c.a)
		if err == nil || err.Error() != c.want || !errors.Is(err, window.ErrInvalid) {
			t.Errorf("%v: got %v, want %v", c.a, err, c.want)
		}
	}
}

func TestMerging(t *testing.T) {
	if !window.Merging(window.Session(time.Second)) {
		t.Error("sessions do not merge")
	}
	if window.Merging(window.Tumbling(time.Second)) {
		t.Error("tumbling windows merge")
	}
}

func TestSlicesAreFew(t *testing.T) {
	for _, c := range []struct {
		a    window.SlidingAssigner
		want int
	}{
		{window.Sliding(time.Hour, time.Minute), 60},
		{window.Sliding(time.Hour, 7*time.Second), 1029},
		{window.Sliding(10*ms, 4*ms), 5},
		{window.Sliding(time.Hour, time.Hour), 1},
	} {
		w := c.a.Assign(0, nil)[0]
		if got := len(c.a.SlicesOf(w, nil)); got != c.want {
			t.Errorf("%v: got %d slices, want %d", c.a, got, c.want)
		}
	}
}

func TestCursor(t *testing.T) {
	a := window.Tumbling(10 * ms)
	calls := 0
	c := window.NewCursor(func(ts int64) window.Window { calls++; return a.Window(ts) })
	for _, ts := range []int64{0, 5, 9, 10, 3, 4, -1, math.MaxInt64} {
		if got, want := c.At(ts), a.Window(ts); got != want {
			t.Errorf("at %d: got %v, want %v", ts, got, want)
		}
	}
	if calls != 5 {
		t.Errorf("got %d calls, want 5", calls)
	}
}

func TestAssignDoesNotAllocate(t *testing.T) {
	berlin := location(t, "Europe/Berlin")
	dst := make([]window.Window, 0, 64)
	for _, a := range []window.Assigner{
		window.Tumbling(time.Minute), window.Sliding(time.Hour, time.Minute),
		window.Cumulative(24*time.Hour, time.Hour), window.Global(),
		window.Session(time.Minute), window.Session(time.Minute).SplitByDay(berlin),
		window.Days(berlin), window.Weeks(berlin), window.Months(berlin),
	} {
		ts := int64(1_700_000_000_000)
		if n := testing.AllocsPerRun(100, func() {
			ts += 1000
			dst = a.Assign(ts, dst[:0])
		}); n != 0 {
			t.Errorf("%v: got %v allocations, want 0", a, n)
		}
		if s, ok := a.(window.Slicer); ok {
			if n := testing.AllocsPerRun(100, func() {
				dst = s.SlicesOf(s.Assign(ts, dst[:0])[0], dst[:0])
			}); n != 0 {
				t.Errorf("%v slices: got %v allocations, want 0", a, n)
			}
		}
	}
}

func FuzzAssign(f *testing.F) {
	for _, ts := range extremes {
		f.Add(ts, int64(60_000), int64(7_000), int64(-90))
	}
	f.Fuzz(func(t *testing.T, ts, size, slide, offset int64) {
		const most = math.MaxInt64 / int64(ms)
		if size < 1 || size > most || slide < 1 || slide > size || offset < -most || offset > most {
			t.Skip()
		}
		d := func(x int64) time.Duration { return time.Duration(x) * ms }
		checkAssigner(t, window.Tumbling(d(size)).Offset(d(offset)), ts)
		checkAssigner(t, window.Session(d(size)), ts)
		if size/slide > 100 {
			t.Skip("too many windows to look at")
		}
		checkAssigner(t, window.Sliding(d(size), d(slide)).Offset(d(offset)), ts)
		checkAssigner(t, window.Cumulative(d(size-size%slide), d(slide)).Offset(d(offset)), ts)
	})
}

func BenchmarkAssign(b *testing.B) {
	berlin := location(b, "Europe/Berlin")
	tumbling := window.Tumbling(time.Minute)
	dst := make([]window.Window, 0, 64)
	for _, a := range []window.Assigner{
		tumbling, window.Sliding(time.Hour, time.Minute), window.Session(time.Minute), window.Days(berlin),
	} {
		b.Run("assigner="+a.(interface{ String() string }).String(), func(b *testing.B) {
			ts := int64(1_700_000_000_000)
			for b.Loop() {
				ts++
				dst = a.Assign(ts, dst[:0])
			}
		})
	}
	for name, find := range map[string]func(int64) window.Window{"tumbling": tumbling.Window, "days": window.Days(berlin).Window} {
		b.Run("cursor="+name, func(b *testing.B) {
			c := window.NewCursor(find)
			ts := int64(1_700_000_000_000)
			for b.Loop() {
				ts++
				c.At(ts)
			}
		})
	}
}
