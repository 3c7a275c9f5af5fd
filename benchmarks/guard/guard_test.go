package main

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asCommitted has every check at ratio 1 with a margin of a fifth.
func asCommitted() (all []committed) {
	for _, c := range checks {
		all = append(all, committed{Name: c.name, Ratio: 1, Margin: 0.2})
	}
	return all
}

// measuring returns what a script says of the first check, and 1 of all others. It
// counts the measurements of the first.
func measuring(script []float64, n *int) func(check) (float64, error) {
	return func(c check) (float64, error) {
		if c.name != checks[0].name {
			return 1, nil
		}
		*n++
		return script[*n-1], nil
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name     string
		script   []float64
		attempts int
		measured float64
		says     string
	}{
		{"as before", []float64{1}, 1, 1, "passed"},
		{"just within the margin", []float64{1.199}, 1, 1.199, "passed"},
		{"much better", []float64{0.5}, 1, 0.5, "better: -update commits that"},
		{"disturbed once", []float64{1.5, 1.1}, 2, 1.1, "passed at attempt 2"},
		{"disturbed twice", []float64{1.5, 1.3, 1}, 3, 1, "passed at attempt 3"},
		{"slower", []float64{1.3, 1.25, 1.4}, 3, 1.25, "FAILED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := 0
			outcomes, err := judge(asCommitted(), 3, measuring(tc.script, &n))
			if err != nil {
				t.Fatal(err)
			}
			o := outcomes[0]
			if o.attempts != tc.attempts || n != tc.attempts || o.measured != tc.measured || o.String() != tc.says {
				t.Errorf("got %d attempts, %v, %q; want %d, %v, %q", o.attempts, o.measured, o, tc.attempts, tc.measured, tc.says)
			}
			if err := verdict(outcomes, "a", "a"); (err != nil) != (tc.says == "FAILED") {
				t.Errorf("the verdict is %v", err)
			}
			for _, o := range outcomes[1:] {
				if o.attempts != 1 || o.failed() {
					t.Errorf("%s: got %d attempts, %s; want one that passed", o.Name, o.attempts, o)
				}
			}
		})
	}
}

func TestJudgeStopsAtAnError(t *testing.T) {
	broken := errors.New("broken")
	_, err := judge(asCommitted(), 3, func(check) (float64, error) { return 0, broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the measurement", err)
	}
}

func TestVerdict(t *testing.T) {
	outcomes := []outcome{
		{committed{Name: "chain", Ratio: 2, Margin: 0.2}, 3, 3},
		{committed{Name: "exchange", Ratio: 1, Margin: 0.2}, 1.1, 1},
	}
	same := verdict(outcomes, "this", "this").Error()
	want := "chain: the ratio was committed as 2.000 and is 3.000, the best of 3 attempts: 50 % more, with a margin of 20 %"
	if same != want {
		t.Errorf("got %q, want %q", same, want)
	}
	if other := verdict(outcomes, "that", "this").Error(); !strings.Contains(other, "another processor (that, this is this)") {
		t.Errorf("got %q, want it to name the processors", other)
	}
	if err := verdict(outcomes[1:], "that", "this"); err != nil {
		t.Errorf("got %v where nothing failed", err)
	}
}

func TestPairWantsBothToBeTheSame(t *testing.T) {
	all := asCommitted()
	for _, tc := range []struct {
		name   string
		before []committed
		want   string
	}{
		{"one is missing", all[1:], "no ratio is committed for"},
		{"one too many", append(all[:len(all):len(all)], committed{Name: "gone", Ratio: 1, Margin: 1}), `"gone" is not measured any more`},
		{"no margin", []committed{{Name: all[0].Name, Ratio: 1}}, "must be above 0"},
	} {
		if _, err := pair(tc.before); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

// What is committed fits this version of the program.
func TestCommittedFile(t *testing.T) {
	f, err := read(filepath.Join("..", "results", "guard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair(f.Ratios); err != nil {
		t.Error(err)
	}
}

func TestCommitting(t *testing.T) {
	for _, tc := range []struct {
		measured              []float64
		ratio, spread, margin float64
	}{
		{[]float64{2, 2, 2}, 2, 0, 0.35},
		{[]float64{2, 1.2, 2.6}, 2, 0.3, 0.45},
		{[]float64{2, 3, 2}, 2, 0.5, 0.5},
	} {
		c := committing("x", tc.measured)
		for _, v := range []struct{ got, want float64 }{{c.Ratio, tc.ratio}, {c.Spread, tc.spread}, {c.Margin, tc.margin}} {
			if math.Abs(v.got-v.want) > 1e-9 {
				t.Errorf("%v: got ratio, spread and margin %v, %v, %v, want %v, %v, %v", tc.measured, c.Ratio, c.Spread, c.Margin, tc.ratio, tc.spread, tc.margin)
				break
			}
		}
	}
}

func TestBestIgnoresDisturbedRounds(t *testing.T) {
	if got := best([]float64{1, 1, 1, 3, 4, 5, 1, 3, 3}); got != 1 {
		t.Errorf("got %v, want 1: less than a quarter of the rounds may be better", got)
	}
}

func TestRatiosOf(t *testing.T) {
	for _, report := range []string{
		`{"comparisons":[{"name":"other","rounds":[{"with_ns":9,"by_hand_ns":1}]},
			{"name":"chain","rounds":[{"with_ns":5,"without_ns":3,"by_hand_ns":2},{"with_ns":6,"by_hand_ns":3}]}]}`,
		`{"goals":[{"name":"chain","rounds":[{"with_ns":2,"by_hand_ns":2},{"with_ns":4,"by_hand_ns":2}]}]}`,
	} {
		got, err := ratiosOf([]byte(report), "chain")
		if err != nil || !slices.Equal(got, []float64{1, 2}) {
			t.Errorf("%s: got %v, %v, want [1 2]", report, got, err)
		}
	}
	if _, err := ratiosOf([]byte(`{"goals":[{"name":"chain"}]}`), "chain"); err == nil {
		t.Error("got no error for a report without rounds")
	}
}
