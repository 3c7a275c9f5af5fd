package main

import (
	"fmt"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// goal is a ratio and what it should be.
type goal struct {
	Name string `json:"name"`
	// Judged says what the ratio is of.
	Judged string `json:"judged"`
	// Limit is 0 where the ratio is for information only.
	Limit float64 `json:"limit"`
	// Least says that the ratio should be at least the limit; else it is at most.
	Least bool    `json:"least"`
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Met   bool    `json:"met"`
}

// flat is the limit of costs that should not grow.
const flat = 1.2

// judge judges a goal by the median of the rounds' ratios.
func judge(name, judged string, limit float64, least bool, ratios []float64) goal {
	p := pointOf(ratios)
	g := goal{Name: name, Judged: judged, Limit: limit, Least: least, Ratio: p.Median, Low: p.Low, High: p.High}
	g.Met = limit == 0 || least && g.Ratio >= limit || !least && g.Ratio <= limit
	return g
}

// String implements [fmt.Stringer].
func (g goal) String() string {
	text := fmt.Sprintf("%s: %.2f (%.2f–%.2f); %s", g.Name, g.Ratio, g.Low, g.High, g.Judged)
	if g.Limit == 0 {
		return "no goal  " + text
	}
	bound := "at most"
	if g.Least {
		bound = "at least"
	}
	return fmt.Sprintf("%-8s %s; goal %s %g", results.Verdict(true, g.Met), text, bound, g.Limit)
}

// ratios divides round by round.
func ratios(of, by []float64) []float64 {
	out := make([]float64, len(of))
	for i := range of {
		out[i] = of[i] / by[i]
	}
	return out
}

// perUnit is what each of n units adds to the cost of none, round by round.
func perUnit(with, without []float64, n int) []float64 {
	out := make([]float64, len(with))
	for i := range with {
		out[i] = (with[i] - without[i]) / float64(n)
	}
	return out
}

// beyondMisses is our cost by what it would be if nothing but misses of the cache came
// to our cost of the smallest size. What they add is taken from a bare map: it does
// the same at both sizes, only its memory is larger. A map that became cheaper adds
// nothing.
func beyondMisses(ours, bare, oursSmall, bareSmall []float64) []float64 {
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = ours[i] / (oursSmall[i] + max(bare[i]-bareSmall[i], 0))
	}
	return out
}

// worst returns the index of the sizes' rounds with the largest median.
func worst(rounds [][]float64) int {
	at := 0
	for i, r := range rounds {
		if results.Quantile(r, 0.5) > results.Quantile(rounds[at], 0.5) {
			at = i
		}
	}
	return at
}
