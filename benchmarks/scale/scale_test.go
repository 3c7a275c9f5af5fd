package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each job compares its result with what it should be, and fails where that is not the
// same.
func TestJobs(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func() error
	}{
		{"operators", func() error { _, err := chained(3, 10_000); return err }},
		{"exchanges", func() error { _, err := exchanged(3, 10_000); return err }},
		{"splits", func() error { _, err := split(64, 10_000); return err }},
		{"parallelism", func() error {
			in, err := newClicks(100)
			if err != nil {
				return err
			}
			_, _, err = in.count(2, 10_000)
			return err
		}},
		{"keys", func() error {
			c, err := startCount(1000)
			if err != nil {
				return err
			}
			for round := range uint64(3) {
				if _, _, err := c.both(5_000, round); err != nil {
					return err
				}
			}
			return c.end()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.run(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFigure(t *testing.T) {
	f := &figure{Title: "Cost by size", X: "keys", Y: "time, ns", Sizes: []int{1000, 2_500_000}, Doubling: true}
	f.add("ours", "ns", [][]float64{{40, 50, 60}, {120, 130, 140}})
	f.add("one more", "×", [][]float64{nil, {2}}).Aside = true
	f.Goals = append(f.Goals, judge("growth", "why", flat, false, []float64{2.6}))
	var table bytes.Buffer
	if err := f.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Cost by size", "1 k  50.0 (45.0–55.0)", "2.5 M     130 (125–135)  2.00 (2.00–2.00)", "MISSED"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &table)
		}
	}
	path := filepath.Join(t.TempDir(), "chart.svg")
	if err := f.draw(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "2.5 M", "time, ns", "ours, ns", "sans-serif"} {
		if !bytes.Contains(raw, []byte(want)) {
			t.Errorf("the chart has no %q", want)
		}
	}
	if bytes.Contains(raw, []byte("one more")) {
		t.Error("the chart has what is for the table only")
	}
}
