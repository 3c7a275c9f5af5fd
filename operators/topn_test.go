package operators_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// TestTopNAgainstNaive compares with sorting each window's records, at shapes
// that split and reorder them.
func TestTopNAgainstNaive(t *testing.T) {
	const n, width = 5, 100
	r := rand.New(rand.NewPCG(1, 5))
	var events []event
	perWindow := map[string][]rec{}
	for i := range 3000 {
		rc := rec{Key: fmt.Sprint("k", r.IntN(4)), Time: int64(i/3) - r.Int64N(20), ID: i * 7919 % 3001}
		events = append(events, event{rec: rc})
		start := rc.Time - (rc.Time%width+width)%width
		k := fmt.Sprintf("%s [%d,%d)", rc.Key, start, start+width)
		perWindow[k] = append(perWindow[k], rc)
		if i%50 == 0 {
			events = append(events, mark(int64(i/3)-25)...)
		}
	}
	var want []string
	for k, recs := range perWindow {
		slices.SortFunc(recs, func(a, b rec) int { return cmp.Compare(b.ID, a.ID) })
		want = append(want, fmt.Sprint(k, " ", recs[:min(n, len(recs))]))
	}
	slices.Sort(want)
	score := func(r rec) float64 { return float64(r.ID) }
	for _, s := range shapes {
		j := newJob(s, events)
		top := operators.TopN(j.keyed(), "top", window.Tumbling(width*ms), n, score)
		out := gather(top, "out")
		j.run(t)
		var got []string
		for _, g := range out.got {
			got = append(got, fmt.Sprint(g.Value.Key, " ", g.Value.Window, " ", g.Value.Value))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %s", s, firstDifference(got, want))
		}
	}
}

// TestAggregationMistakesReachTheGraph checks that what an aggregation has to
// say of its arguments is reported with the line of the verb.
func TestAggregationMistakesReachTheGraph(t *testing.T) {
	p := pipeline.New()
	in := pipeline.KeyBy(pipeline.From(p, "fed", fed{}, pipeline.SourceWatermarks(rec.time)), rec.key)
	gather(operators.TopN(in, "top", window.Tumbling(ms), 0, func(rec) float64 { return 0 }), "a")
	gather(operators.Aggregate(in, "uv", window.Tumbling(ms), operators.HLL(20, rec.key)), "b")
	err := p.Validate()
	for _, want := range []string{
		`operator "top": Top: n is 0, must be at least 1`,
		`operator "uv": HLL: precision is 20, must be between 4 and 18`,
	} {
		if err == nil || !strings.Contains(err.Error(), "topn_test.go:") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant in it %q", err, want)
		}
	}
}
