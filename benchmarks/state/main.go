// Command state measures keyed state that is larger than memory, and what its
// checkpoints cost, and says of every goal whether it is met.
//
//	go run ./benchmarks/state [-keys 10000000] [-memory 256] [-rounds 3] [-json FILE]
//
// The first part is one read-modify-write per event on ten million keys, with a
// memory budget of 256 MiB, against reading and writing Pebble for every event
// with a block cache of that size. Each side is a process of its own, so that
// the memory of one is not that of the other, and they take turns, so that a
// machine that slows down slows both; the ratio quoted is the median of the
// rounds' ratios, of time by the clock. Events come in batches of 512.
//
// The second part is a plain map of keys that all fit into memory against state
// that has a disk behind it, in processor time.
//
// The third part is twenty checkpoints of a million keys, one in a hundred of
// which, chosen at random, has changed since the one before. The fourth is what it takes
// to start from such a checkpoint.
//
// The last is a job that takes a checkpoint every second beside one that takes none.
package main

import (
	"flag"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	keys   int
	memory int64
	events int
	rounds int
	dir    string

	patterns string
	hot      string
	restore  string
}

// goal is one thing measured and what it should be.
type goal struct {
	Name  string  `json:"name"`
	Goal  string  `json:"goal"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Met   bool    `json:"met"`
	Note  string  `json:"note,omitempty"`
	// Rounds are those whose median ratio Value is, for what is a ratio to code by hand.
	Rounds []round `json:"rounds,omitempty"`
}

// round is what both sides have cost in one round, in ns an event.
type round struct {
	Ours   float64 `json:"with_ns"`
	Theirs float64 `json:"by_hand_ns"`
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Keys   int    `json:"keys"`
	Memory int64  `json:"memory"`
	Rounds int    `json:"rounds"`
	Goals  []goal `json:"goals"`
}

func main() {
	var c config
	flag.IntVar(&c.keys, "keys", 10_000_000, "number of keys")
	memory := flag.Int("memory", 256, "memory budget in MiB")
	flag.IntVar(&c.events, "events", 1_000_000, "events in a round; under zipf there are four times as many")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each side of a comparison runs")
	flag.StringVar(&c.patterns, "patterns", "uniform,zipf", "the patterns of access of the first part")
	flag.StringVar(&c.hot, "hot", "1000,100000,1000000", "the numbers of keys of the second part")
	flag.StringVar(&c.restore, "restore", "100000,1000000,10000000", "the numbers of keys of the fourth part")
	flag.StringVar(&c.dir, "dir", "", "where to put the data; default: a temporary directory")
	parts := flag.String("parts", "spill,hot,checkpoint,restore,throughput", "the parts to run")
	out := flag.String("json", "", "file to write the results to")
	side := flag.String("side", "", "used by the program itself: the side to run, told what to do on standard input")
	flag.Parse()
	c.memory = int64(*memory) << 20
	if *side != "" {
		exit(serve(*side, c))
	}
	r, err := measureAll(c, *parts)
	if err == nil {
		err = print(r)
	}
	if err == nil && *out != "" {
		err = results.Write(*out, r)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "state:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func newReport(c config) report {
	return report{Machine: results.Here(), Keys: c.keys, Memory: c.memory, Rounds: c.rounds}
}

func print(r report) error {
	fmt.Printf("%s %s/%s, %d cores, %d keys, budget %d MiB, %d rounds\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Keys, r.Memory>>20, r.Rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\tgoal\t\t")
	for _, g := range r.Goals {
		fmt.Fprintf(w, "%s\t%.2f %s\t%s\t%s\t%s\n", g.Name, g.Value, g.Unit, g.Goal, results.Verdict(g.Goal != "", g.Met), g.Note)
	}
	return w.Flush()
}

func median(values []float64) float64 {
	return results.Quantile(values, 0.5)
}
