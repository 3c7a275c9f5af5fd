// Command latency measures how long a record takes from being sent to a topic until the
// result that it caused can be read from another, by load.
//
//	go run ./benchmarks/latency -brokers localhost:9092
//
// The job decodes JSON events, counts them by key in keyed state, and writes each new
// count; it takes a checkpoint every second, at least once or exactly once, in which case
// a result can be read when its transaction is committed. It runs in a process of its own;
// the sender and the reader are this one.
//
// First the maximum is found: what goes through sender, brokers, job and reader, all on
// this machine, when the sender goes on as soon as less than a fixed number of records
// are under way. Then records are sent at 10, 50 and 80 percent of it. Each has a time at
// which it is to be sent, fixed by the rate alone, and its latency counts from that time,
// whether or not sender, brokers or job could keep it: a stall is seen by all the records
// that it delayed, and not just by one. To leave those out is "coordinated omission"
// (G. Tene, How Not to Measure Latency).
//
// A loop by hand that keeps its counts in a map, and promises nothing, is sent the same
// as the job at least once: what it shows is due to the brokers, their client, and three
// processes on one machine.
//
// Percentiles are those of a sketch whose values are right within a thousandth.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	brokers  []string
	keys     int
	span     time.Duration // of each measurement
	delivery string
}

// What is measured.
const (
	atLeastOnce = "at least once"
	exactlyOnce = "exactly once"
	byHand      = "by hand"
)

// interval is the time between two checkpoints.
const interval = time.Second

// loads are the shares of the maximum at which latency is measured.
var loads = []float64{0.1, 0.5, 0.8}

// judged is the load that the goals speak of.
const judged = 0.5

// goals are what 99 of 100 results have to be there within.
var goals = map[string]time.Duration{
	atLeastOnce: 20 * time.Millisecond,
	exactlyOnce: interval + 50*time.Millisecond,
}

// measurement is what one load showed.
type measurement struct {
	Delivery string                   `json:"delivery"`
	Load     float64                  `json:"load"`    // share of the maximum; by hand, of that at least once
	Rate     float64                  `json:"rate"`    // records a second
	Records  int64                    `json:"records"` // measured
	Latency  map[string]time.Duration `json:"latency"` // by percentile
	Goal     time.Duration            `json:"goal,omitempty"`
	Met      bool                     `json:"met"`
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Keys    int                `json:"keys"`
	Maximum map[string]float64 `json:"maximum"` // records a second, by delivery
	Loads   []measurement      `json:"loads"`
}

func main() {
	var c config
	brokers := flag.String("brokers", os.Getenv("MILLRACE_KAFKA_BROKERS"), "brokers to use, `host:port`, separated by commas (default: $MILLRACE_KAFKA_BROKERS)")
	flag.IntVar(&c.keys, "keys", 10_000, "different keys")
	flag.DurationVar(&c.span, "span", 8*time.Second, "how long each load is measured")
	out := flag.String("json", "", "`file` to write the results to")
	job := flag.String("job", "", "used by the program itself: the job to run, from:to")
	flag.StringVar(&c.delivery, "delivery", "", "used by the program itself: what the job promises")
	flag.Parse()
	if *brokers == "" || c.keys < 1 || c.span < time.Second || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "latency: -brokers must name some, -keys be positive, -span at least 1s, and there are no arguments")
		os.Exit(2)
	}
	c.brokers = strings.Split(*brokers, ",")
	if err := run(c, *job, *out); err != nil {
		fmt.Fprintln(os.Stderr, "latency:", err)
		os.Exit(1)
	}
}

func run(c config, job, out string) error {
	if from, to, ok := strings.Cut(job, ":"); ok {
		return count(c, from, to)
	}
	r := report{Machine: results.Here(), Keys: c.keys, Maximum: map[string]float64{}}
	for _, c.delivery = range []string{atLeastOnce, byHand, exactlyOnce} {
		if err := measure(c, &r); err != nil {
			return fmt.Errorf("%s: %w", c.delivery, err)
		}
	}
	if err := print(r); err != nil || out == "" {
		return err
	}
	return results.Write(out, r)
}

// measure adds what one kind of delivery shows.
func measure(c config, r *report) error {
	b, err := newBed(c)
	if err != nil {
		return err
	}
	defer b.close()
	maximum, err := b.maximum(c)
	if err != nil {
		return err
	}
	r.Maximum[c.delivery] = maximum
	fmt.Fprintf(os.Stderr, "%s: at most %.0f records/s\n", c.delivery, maximum)
	if c.delivery == byHand {
		maximum = r.Maximum[atLeastOnce]
	}
	for _, load := range loads {
		m, err := b.load(c, load*maximum)
		if err != nil {
			return err
		}
		m.Delivery, m.Load = c.delivery, load
		if goal := goals[m.Delivery]; goal > 0 && load == judged {
			m.Goal = goal
			m.Met = m.Latency["99"] <= m.Goal
		}
		fmt.Fprintf(os.Stderr, "%s at %3.0f %%: %v\n", m.Delivery, load*100, m.Latency["99"])
		r.Loads = append(r.Loads, m)
	}
	return nil
}

func print(r report) error {
	fmt.Printf("%s %s/%s, %d cores, %d keys, a checkpoint every %v\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Keys, interval)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tload\trecords/s\t")
	for _, p := range percentiles {
		fmt.Fprintf(w, "%s %%\t", p.name)
	}
	fmt.Fprintln(w, "goal at 99 %\t\t")
	for _, m := range r.Loads {
		fmt.Fprintf(w, "%s\t%.0f %%\t%.0f\t", m.Delivery, m.Load*100, m.Rate)
		for _, p := range percentiles {
			fmt.Fprintf(w, "%.1f ms\t", float64(m.Latency[p.name].Microseconds())/1000)
		}
		goal := ""
		if m.Goal > 0 {
			goal = fmt.Sprintf("at most %v", m.Goal)
		}
		fmt.Fprintf(w, "%s\t%s\t\n", goal, results.Verdict(m.Goal > 0, m.Met))
	}
	return w.Flush()
}
