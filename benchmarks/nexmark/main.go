// Command nexmark measures the queries of the Nexmark benchmark: events of an online
// auction, from a generator within the job to a sink that drops the results.
//
//	go run ./benchmarks/nexmark [-events N] [-queries q0,q5] [-rounds N] [-json FILE]
//
// Every query runs at parallelism 2, with state in memory and with state in Pebble
// behind its cache, and each of the two without checkpoints and with one every second.
// Each run is a process of its own, and configurations take turns. The first line is
// a job of the generator alone. The second table is what a query costs besides it, in
// processor time of the whole process.
//
// With -profile each run leaves a processor profile in a folder, for go tool pprof.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	events  int64
	rounds  int
	profile string
}

// measured is a query in one configuration. EventsPerSecond and EventsPerCPUSecond are
// medians of the rounds, and Net is the median processor time of an event, in ns,
// without that of the generator's job.
type measured struct {
	Query              string         `json:"query"`
	Configuration      string         `json:"configuration"`
	EventsPerSecond    float64        `json:"events_per_second"`
	EventsPerCPUSecond float64        `json:"events_per_cpu_second"`
	Net                float64        `json:"net_ns"`
	Turns              []results.Turn `json:"turns"`
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Events   int64      `json:"events"`
	Rounds   int        `json:"rounds"`
	Measured []measured `json:"measured"`
}

func main() {
	var c config
	flag.Int64Var(&c.events, "events", 2_000_000, "events of a run")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each query runs in each configuration")
	flag.StringVar(&c.profile, "profile", "", "`folder` to write a processor profile of each run to")
	names := flag.String("queries", "", "the queries to run, separated by commas (default: all)")
	out := flag.String("json", "", "`file` to write the results to")
	side := flag.String("side", "", "used by the program itself: the query to run")
	configuration := flag.String("configuration", "", "used by the program itself: the configuration to run it in")
	flag.Parse()
	if c.events < 1 || c.rounds < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "nexmark: the numbers must be positive, and there are no arguments")
		os.Exit(2)
	}
	if *side != "" {
		results.Serve(func() error { return run(c, *side, *configuration) })
		return
	}
	chosen, err := choose(*names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nexmark:", err)
		os.Exit(2)
	}
	r, err := measure(c, chosen)
	if err == nil {
		err = r.print(os.Stdout)
	}
	if err == nil && *out != "" {
		err = results.Write(*out, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nexmark:", err)
		os.Exit(1)
	}
}

// choose returns the queries of these names, and the generator before them.
func choose(names string) ([]query, error) {
	if names == "" {
		return queries, nil
	}
	chosen := []query{queries[0]}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(queries[1:], func(q query) bool { return q.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no query %q", name)
		}
		chosen = append(chosen, queries[1+i])
	}
	return chosen, nil
}

func measure(c config, chosen []query) (report, error) {
	r := report{Machine: results.Here(), Events: c.events, Rounds: c.rounds}
	for _, q := range chosen {
		for _, way := range q.configurations() {
			r.Measured = append(r.Measured, measured{Query: q.name, Configuration: way.name})
		}
	}
	for range c.rounds {
		for i := range r.Measured {
			m := &r.Measured[i]
			t, err := results.Run(m.Query+" with "+m.Configuration, "-side", m.Query, "-configuration", m.Configuration,
				"-events", fmt.Sprint(c.events), "-profile", c.profile)
			if err != nil {
				return r, err
			}
			m.Turns = append(m.Turns, t)
			fmt.Fprintf(os.Stderr, "%-9s %-20s %6.2f s, %6.2f s of processor time\n", m.Query, m.Configuration, t.Wall.Seconds(), t.CPU.Seconds())
		}
	}
	generator := perEvent(r.Measured[0].Turns, cpu, c.events)
	for i := range r.Measured {
		m := &r.Measured[i]
		m.EventsPerSecond = 1e9 / perEvent(m.Turns, wall, c.events)
		m.EventsPerCPUSecond = 1e9 / perEvent(m.Turns, cpu, c.events)
		m.Net = perEvent(m.Turns, cpu, c.events) - generator
	}
	return r, nil
}

func wall(t results.Turn) time.Duration { return t.Wall }
func cpu(t results.Turn) time.Duration  { return t.CPU }

// perEvent is the median time for an event, in ns.
func perEvent(turns []results.Turn, of func(results.Turn) time.Duration, events int64) float64 {
	var all []float64
	for _, t := range turns {
		all = append(all, float64(of(t))/float64(events))
	}
	return results.Quantile(all, 0.5)
}

func (r report) print(to io.Writer) error {
	fmt.Fprintf(to, "%s %s/%s, %d cores, %d events, parallelism %d, %d rounds\n\n",
		r.Go, r.OS, r.Arch, r.Cores, r.Events, parallelism, r.Rounds)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	r.table(w, "thousand events/s · per processor second", func(m measured) string {
		return fmt.Sprintf("%.0f · %.0f", m.EventsPerSecond/1e3, m.EventsPerCPUSecond/1e3)
	})
	fmt.Fprintln(w)
	r.table(w, "ns of processor time an event, without the generator", func(m measured) string {
		return fmt.Sprintf("%.0f", m.Net)
	})
	return w.Flush()
}

// table writes a line for each query, with a column for each configuration.
func (r report) table(w io.Writer, what string, cell func(measured) string) {
	fmt.Fprintln(w, what)
	fmt.Fprint(w, "query\t")
	for _, way := range configurations {
		fmt.Fprint(w, way.name, "\t")
	}
	last := ""
	for _, m := range r.Measured {
		if m.Query != last {
			fmt.Fprintf(w, "\n%s\t", m.Query)
			last = m.Query
		}
		fmt.Fprint(w, cell(m), "\t")
	}
	fmt.Fprintln(w)
}
