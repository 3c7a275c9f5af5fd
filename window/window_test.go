package window_test

import (
	"math"
	"testing"
	"time"

	"github.com/millrace/millrace/window"
)

func win(start, end int64) window.Window { return window.Window{Start: start, End: end} }

func TestRule05_CleanupTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		w        window.Window
		lateness time.Duration
		want     int64
	}{
		{"no lateness", win(0, 10), 0, 9},
		{"lateness", win(0, 10), time.Second, 1009},
		{"negative time", win(-20, -10), 5 * time.Millisecond, -6},
		{"would overflow", win(0, math.MaxInt64-10), time.Hour, math.MaxInt64},
		{"just fits", win(0, math.MaxInt64-10), 11 * time.Millisecond, math.MaxInt64},
		{"global", window.Global().Window(0), 0, math.MaxInt64 - 1},
		{"global with lateness", window.Global().Window(0), math.MaxInt64, math.MaxInt64},
		{"empty at the beginning of time", win(math.MinInt64, math.MinInt64), 0, math.MinInt64},
	} {
		if got := c.w.CleanupTime(c.lateness); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestRule05_LateIsTheWindow(t *testing.T) {
	const lateness = 5 * time.Millisecond
	w := win(0, 10)
	for watermark, want := range map[int64]bool{
		math.MinInt64: false, 9: false, 13: false, 14: true, 15: true, math.MaxInt64: true,
	} {
		if got := w.Late(watermark, lateness); got != want {
			t.Errorf("watermark %d: got %v, want %v", watermark, got, want)
		}
	}
	if window.Global().Window(0).Late(math.MaxInt64-2, time.Hour) {
		t.Error("global window is late before the end of input")
	}
}

func TestWindowIntervals(t *testing.T) {
	w := win(0, 10)
	for _, c := range []struct {
		o          window.Window
		intersects bool
		cover      window.Window
	}{
		{win(-5, 0), false, win(-5, 10)},
		{win(-5, 1), true, win(-5, 10)},
		{win(3, 4), true, win(0, 10)},
		{win(9, 12), true, win(0, 12)},
		{win(10, 12), false, win(0, 12)},
	} {
		if got := w.Intersects(c.o); got != c.intersects {
			t.Errorf("%v intersects %v: got %v, want %v", w, c.o, got, c.intersects)
		}
		if got := c.o.Intersects(w); got != c.intersects {
			t.Errorf("%v intersects %v: got %v, want %v", c.o, w, got, c.intersects)
		}
		if got := w.Cover(c.o); got != c.cover {
			t.Errorf("%v cover %v: got %v, want %v", w, c.o, got, c.cover)
		}
	}
	for ts, want := range map[int64]bool{-1: false, 0: true, 9: true, 10: false} {
		if got := w.Contains(ts); got != want {
			t.Errorf("%v contains %d: got %v, want %v", w, ts, got, want)
		}
	}
}
