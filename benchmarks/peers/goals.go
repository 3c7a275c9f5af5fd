package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// goal is a ratio of one of our sides to another, in one job.
type goal struct {
	Ours   string  `json:"ours"`
	Theirs string  `json:"theirs"`
	Of     string  `json:"of"`
	Least  float64 `json:"goal"` // 0: for information
	// Ratios are those of the rounds: so many times the records by processor time, or
	// so many times less memory.
	Ratios []float64 `json:"ratios"`
	Median float64   `json:"median"`
	Met    bool      `json:"met"`
}

const (
	ofSpeed  = "records per CPU-second"
	ofMemory = "peak memory, theirs by ours"
)

// goals compare like with like: state in memory with state in memory, and state on
// disk with state on disk. The others are for information.
var goals = []goal{
	{Ours: "millrace", Theirs: "goka-memory", Of: ofSpeed, Least: 5},
	{Ours: "millrace", Theirs: "flink-heap", Of: ofSpeed, Least: 2},
	{Ours: "millrace-pebble", Theirs: "goka", Of: ofSpeed, Least: 10},
	{Ours: "millrace-pebble", Theirs: "kafka-streams", Of: ofSpeed, Least: 3},
	{Ours: "millrace-pebble", Theirs: "flink-rocksdb", Of: ofSpeed, Least: 4},
	{Ours: "millrace", Theirs: "flink-heap", Of: ofMemory, Least: 3},
	{Ours: "millrace-pebble", Theirs: "flink-rocksdb", Of: ofMemory, Least: 3},

	{Ours: "millrace", Theirs: "by-hand", Of: ofSpeed},
	{Ours: "millrace-pebble", Theirs: "by-hand", Of: ofSpeed},
	{Ours: "millrace", Theirs: "goka", Of: ofSpeed},
	{Ours: "millrace", Theirs: "kafka-streams", Of: ofSpeed},
	{Ours: "millrace-pebble", Theirs: "goka-memory", Of: ofSpeed},
	{Ours: "millrace-pebble", Theirs: "flink-heap", Of: ofSpeed},
}

// goalsOf is what the turns of a job, by side, say of those goals whose sides ran.
func goalsOf(turns map[string][]results.Turn) (all []goal) {
	for _, g := range goals {
		ours, theirs := turns[g.Ours], turns[g.Theirs]
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		for round, o := range ours {
			if t := theirs[round]; g.Of == ofSpeed {
				g.Ratios = append(g.Ratios, float64(t.CPU)/float64(o.CPU))
			} else {
				g.Ratios = append(g.Ratios, float64(t.Peak)/float64(o.Peak))
			}
		}
		g.Median = results.Quantile(g.Ratios, 0.5)
		g.Met = g.Median >= g.Least
		all = append(all, g)
	}
	return all
}

// print writes what the sides took, and then the goals.
func print(r report, sides []side) error {
	fmt.Printf("%s %s/%s, %d cores, %d records, %d keys, %d rounds\n", r.Go, r.OS, r.Arch, r.Cores, r.Records, r.Keys, r.Rounds)
	for _, j := range r.Jobs {
		fmt.Printf("\n%s: %d lines of output, the same of all sides\n", j.Job, j.Lines)
		if err := printTurns(os.Stdout, j, sides, r.Records); err != nil {
			return err
		}
	}
	fmt.Println()
	return printGoals(os.Stdout, r.Jobs)
}

func printTurns(to io.Writer, j jobReport, sides []side, records int) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "side\trecords/s\trecords per CPU-second\tpeak MiB\t")
	for _, s := range sides {
		turns := j.Turns[s.name]
		if len(turns) == 0 {
			continue
		}
		median := func(of func(t results.Turn) float64) float64 {
			var all []float64
			for _, t := range turns {
				all = append(all, of(t))
			}
			return results.Quantile(all, 0.5)
		}
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t\n", s.name,
			median(func(t results.Turn) float64 { return float64(records) / t.Wall.Seconds() }),
			median(func(t results.Turn) float64 { return float64(records) / t.CPU.Seconds() }),
			median(func(t results.Turn) float64 { return float64(t.Peak) / (1 << 20) }))
	}
	return w.Flush()
}

func printGoals(to io.Writer, jobs []jobReport) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "job\tratio of\tours\tby theirs\tratio\trounds\tgoal\t\t")
	for _, j := range jobs {
		for _, g := range j.Goals {
			least := ""
			if g.Least > 0 {
				least = fmt.Sprintf("at least %g", g.Least)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t%.2f–%.2f\t%s\t%s\n", j.Job, g.Of, g.Ours, g.Theirs, g.Median,
				slices.Min(g.Ratios), slices.Max(g.Ratios), least, results.Verdict(g.Least > 0, g.Met))
		}
	}
	return w.Flush()
}
