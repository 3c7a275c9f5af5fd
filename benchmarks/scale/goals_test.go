package main

import (
	"slices"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limit  float64
		least  bool
		ratios []float64
		met    bool
		says   string
	}{
		{"flat", 1.2, false, []float64{1.1, 9, 1.1}, true, "met      cost: 1.10 (1.10–5.05); why; goal at most 1.2"},
		{"on the limit", 1.2, false, []float64{1.2}, true, "met "},
		{"grows", 1.2, false, []float64{1.3, 1.3, 0.1}, false, "MISSED   cost: 1.30 (0.70–1.30); why; goal at most 1.2"},
		{"fast enough", 1.7, true, []float64{1.8}, true, "goal at least 1.7"},
		{"too slow", 1.7, true, []float64{1.6}, false, "MISSED "},
		{"for information", 0, false, []float64{3}, true, "no goal  cost: 3.00 (3.00–3.00); why"},
	} {
		g := judge("cost", "why", tc.limit, tc.least, tc.ratios)
		if g.Met != tc.met || !strings.Contains(g.String(), tc.says) {
			t.Errorf("%s: got %v, %q, want %v, %q", tc.name, g.Met, g, tc.met, tc.says)
		}
	}
}

func TestBeyondMisses(t *testing.T) {
	for _, tc := range []struct {
		name                             string
		ours, bare, oursSmall, bareSmall float64
		want                             float64
	}{
		{"as much more as the map", 150, 120, 50, 20, 1},
		{"more than the map by our own cost", 225, 120, 50, 20, 1.5},
		{"less than the map", 75, 120, 50, 20, 0.5},
		{"a map that became cheaper", 60, 15, 50, 20, 1.2},
	} {
		got := beyondMisses([]float64{tc.ours}, []float64{tc.bare}, []float64{tc.oursSmall}, []float64{tc.bareSmall})
		if got[0] != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got[0], tc.want)
		}
	}
}

func TestPerUnit(t *testing.T) {
	if got, want := perUnit([]float64{84, 164}, []float64{4, 4}, 32), []float64{2.5, 5}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLinear(t *testing.T) {
	for _, tc := range []struct {
		name string
		cost [3]float64 // with 0, 4 and 32 operators
		met  bool
	}{
		{"linear", [3]float64{10, 20, 90}, true},
		{"a little more", [3]float64{10, 20, 104}, true},
		{"superlinear", [3]float64{10, 20, 110}, false},
		{"cheaper by the dozen", [3]float64{10, 20, 50}, true},
	} {
		f := &figure{Sizes: []int{0, 4, 32}}
		f.linear("an operator", [][]float64{{tc.cost[0]}, {tc.cost[1]}, {tc.cost[2]}}, 4, 32)
		if g := f.Goals[0]; g.Met != tc.met {
			t.Errorf("%s: got %v of %v, want %v", tc.name, g.Met, g, tc.met)
		}
	}
}

func TestWorst(t *testing.T) {
	if got := worst([][]float64{{1, 1, 9}, {2, 2, 2}, {1.5, 1.5, 1.5}}); got != 1 {
		t.Errorf("got %d, want 1, the largest median", got)
	}
}

func TestCeiling(t *testing.T) {
	got, want := ceiling(2, []float64{1.2, 1.3, 1.25}, []float64{1.9, 0.5, 1.95}), "; it ran on 1.25 cores and on 1.90, of 2 that allow 1.60"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
