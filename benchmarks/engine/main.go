// Command engine measures what the engine costs beside the same work written
// by hand, both in one run, and says of every goal whether it is met.
//
//	go run ./benchmarks/engine [-rounds 9] [-only REGEXP] [-short] [-json FILE]
//
// The two sides of a comparison take turns, so that a machine that slows down
// slows both; the ratio quoted is the median of the rounds' ratios. Costs are
// processor time of the whole process, all goroutines and the collector
// included, since wall time would hide what runs on another core.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// comparison is one goal: ours against theirs, in nanoseconds per record.
type comparison struct {
	Name string `json:"name"`
	Goal string `json:"goal"`
	// Ours and Theirs are medians over the rounds, in ns of processor time per
	// record (and per operator for the chain).
	Ours   float64 `json:"ours_ns"`
	Theirs float64 `json:"by_hand_ns"`
	// Ratio is the median of the rounds' ratios; Low and High are its quartiles.
	Ratio float64 `json:"ratio"`
	Low   float64 `json:"ratio_low"`
	High  float64 `json:"ratio_high"`
	Met   bool    `json:"met"`
	// Rounds are what the medians are of, in the order they were measured.
	Rounds []round `json:"rounds"`
}

// round is what both sides have cost in one round, in the same unit.
type round struct {
	cost
	Theirs float64 `json:"by_hand_ns"`
}

// cost is what we cost: a job that does what is measured, less one that does not.
type cost struct {
	With    float64 `json:"with_ns"`
	Without float64 `json:"without_ns"`
}

// costOf divides the processor time of both jobs among n units.
func costOf(with, without float64, n int) cost {
	return cost{with / float64(n), without / float64(n)}
}

func (c cost) ns() float64 { return c.With - c.Without }

// report is the JSON form of a run.
type report struct {
	results.Machine
	Rounds      int          `json:"rounds"`
	Comparisons []comparison `json:"comparisons"`
}

// short is set by the flag of that name.
var short bool

// quarter returns n, or a quarter of it in a short run.
func quarter(n int) int {
	if short {
		return n / 4
	}
	return n
}

func main() {
	rounds := flag.Int("rounds", 9, "how often each side of a comparison runs")
	only := flag.String("only", "", "regular expression: the comparisons to make, by name; default: all")
	flag.BoolVar(&short, "short", false, "a quarter of the records in each round: the ratios are those of shorter jobs")
	out := flag.String("json", "", "file to write the results to")
	flag.Parse()
	chosen, err := regexp.Compile(*only)
	if *rounds < 1 || flag.NArg() > 0 || err != nil {
		fmt.Fprintln(os.Stderr, "engine: -rounds must be at least 1, -only a regular expression, and there are no arguments")
		os.Exit(2)
	}
	r := report{Machine: results.Here(), Rounds: *rounds}
	for _, b := range benches() {
		if !chosen.MatchString(b.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s …\n", b.name)
		r.Comparisons = append(r.Comparisons, b.compare(*rounds))
	}
	print(r)
	if *out == "" {
		return
	}
	if err := results.Write(*out, r); err != nil {
		fmt.Fprintln(os.Stderr, "engine: write results:", err)
		os.Exit(1)
	}
}

func print(r report) {
	fmt.Printf("%s %s/%s, %d cores, %d rounds; processor time per record, medians\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmillrace\tby hand\tratio\tquartiles\tgoal\t")
	for _, c := range r.Comparisons {
		fmt.Fprintf(w, "%s\t%.1f ns\t%.1f ns\t%.2f\t%.2f–%.2f\t%s\t%s\n", c.Name, c.Ours, c.Theirs, c.Ratio, c.Low, c.High, c.Goal, results.Verdict(true, c.Met))
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "engine: print:", err)
	}
}

// bench is one comparison to be made. Both sides return what they cost in ns
// per record, and a checksum that must agree.
type bench struct {
	name   string
	goal   string
	met    func(ours, theirs, ratio float64) bool
	ours   func() (c cost, checksum int64)
	theirs func() (ns float64, checksum int64)
}

func (b bench) compare(rounds int) comparison {
	b.ours() // warm up
	b.theirs()
	c := comparison{Name: b.name, Goal: b.goal}
	var ours, theirs, ratios []float64
	for range rounds {
		o, sum := b.ours()
		t, want := b.theirs()
		if sum != want {
			panic(fmt.Sprintf("%s: millrace computes %d, the hand-written loop %d", b.name, sum, want))
		}
		c.Rounds = append(c.Rounds, round{o, t})
		ours, theirs, ratios = append(ours, o.ns()), append(theirs, t), append(ratios, o.ns()/t)
	}
	c.Ours, c.Theirs = results.Quantile(ours, 0.5), results.Quantile(theirs, 0.5)
	c.Ratio, c.Low, c.High = results.Quantile(ratios, 0.5), results.Quantile(ratios, 0.25), results.Quantile(ratios, 0.75)
	c.Met = b.met(c.Ours, c.Theirs, c.Ratio)
	return c
}

// measure returns the processor time of f in nanoseconds.
func measure(f func()) float64 {
	runtime.GC()
	before := results.CPU()
	f()
	return float64(results.CPU() - before)
}
