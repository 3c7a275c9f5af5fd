package operators

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestGenerationsHaveEveryID checks that growing and being wrongly sized lose
// nothing, and that the false-positive rate is kept.
func TestGenerationsHaveEveryID(t *testing.T) {
	for _, rate := range []float64{0.01, 1e-4} {
		for _, expected := range []int{0, 100, 50_000} {
			const ids = 50_000
			plan := bloomPlan{rate: rate, expected: expected, keep: 1000, step: 1}
			r := rand.New(rand.NewPCG(1, 1))
			hash := func() uint64 { return r.Uint64() &^ 127 } // one group's, at 128 groups
			var g generations
			var known []uint64
			for range ids {
				h := hash()
				g.add(g.of(0, 999), newProbe(h), &plan)
				known = append(known, h)
			}
			for _, h := range known {
				if !g.has(newProbe(h), 0, 0) {
					t.Fatalf("rate %v, expected %d: an id is lost", rate, expected)
				}
			}
			wrong := 0
			const tries = 400_000
			for range tries {
				if g.has(newProbe(hash()), math.MinInt64, math.MaxInt64) {
					wrong++
				}
			}
			got, estimate := float64(wrong)/tries, g.falsePositives(1000)
			if got > 1.1*rate+3*math.Sqrt(rate/tries) {
				t.Errorf("rate %v, expected %d: got %v", rate, expected, got)
			}
			if math.Abs(got-estimate) > 0.2*estimate+4*math.Sqrt(rate/tries) {
				t.Errorf("rate %v, expected %d: got %v, estimated %v", rate, expected, got, estimate)
			}
			if g.ids() != ids {
				t.Errorf("%d ids, want %d", g.ids(), ids)
			}
			t.Logf("rate %v, expected %6d: %d filters, %.1f bits an id, rate %.5f, estimate %.5f",
				rate, expected, len(g.live[0].filters), float64(8*g.bytes())/ids, got, estimate)
		}
	}
}

func TestGenerationsForgetByEventTime(t *testing.T) {
	plan := bloomPlan{rate: 0.01, keep: 10, step: 4}
	var g generations
	p := newProbe(42)
	g.add(g.of(0, 9), p, &plan)
	for _, c := range []struct {
		watermark int64
		want      bool
	}{{math.MinInt64, true}, {18, true}, {19, true}, {20, false}} { // 9+10, rounded up to a step
		g.forget(c.watermark, &plan)
		if got := g.has(p, 5, 5); got != c.want {
			t.Errorf("at %d: got %v, want %v", c.watermark, got, c.want)
		}
	}
}

func TestExpiry(t *testing.T) {
	for _, c := range []struct{ keep, step, time, want int64 }{
		{10, 1, 5, 15},
		{10, 4, 5, 16},
		{10, 4, 6, 16},
		{10, 4, -21, -8},
		{10, 4, -14, -4},
		{10, 4, math.MinInt64, math.MinInt64 + 12},
		{10, 4, math.MaxInt64 - 3, math.MaxInt64},
		{10, 4, math.MaxInt64 - 12, math.MaxInt64},
		{0, 1, math.MinInt64, math.MinInt64},
	} {
		plan := bloomPlan{keep: c.keep, step: c.step}
		if got := plan.expiry(c.time); got != c.want {
			t.Errorf("expiry of %d, kept for %d, in steps of %d: got %d, want %d", c.time, c.keep, c.step, got, c.want)
		}
	}
}

// TestNewestKeepsGenerationsFew lets a lagging split hold the watermark back,
// and then catch up.
func TestNewestKeepsGenerationsFew(t *testing.T) {
	plan := bloomPlan{rate: 0.01, keep: 1000, step: 10}
	var g generations
	most := 0
	see := func(time, watermark int64) {
		g.forget(watermark, &plan)
		g.newest(time, watermark, &plan)
		most = max(most, len(g.live))
	}
	for ts := range int64(100_000) { // steady
		see(ts, ts-50)
	}
	if most > 3 {
		t.Errorf("%d generations in a steady stream, want at most 3", most)
	}
	most = 0
	for ts := int64(100_000); ts < 2_000_000; ts += 10 { // one split far ahead
		see(ts, 100_000+(ts-100_000)/100)
		see(100_000+(ts-100_000)/100+1, 100_000+(ts-100_000)/100)
	}
	for ts := int64(119_000); ts < 2_000_000; ts += 10 { // the other catches up
		see(ts+1, ts)
	}
	if most > 12 {
		t.Errorf("%d generations while a split lags, want few", most)
	}
	g.forget(math.MaxInt64, &plan)
	if len(g.live) != 0 {
		t.Errorf("%d generations are left at the end", len(g.live))
	}
}
