// Command clickhouse compares what it costs to bring rows into ClickHouse:
//
//	go run ./benchmarks/clickhouse -url clickhouse://localhost:9000/default
//
// The sides are this library's sink in a job of one subtask, with columns and with
// structs, at least once and exactly once with a checkpoint every second; batches of
// clickhouse-go, by column and by struct; and ch-go. All insert the same rows in
// blocks of the same size over the native protocol, into tables of their own. Each
// runs in a process of its own, in turns, and what the tables hold is compared before
// any time counts.
//
// The ratios are those of the wall clock and of processor time of the process; the
// server's is not a part of it, but it runs on the same machine unless -url says
// otherwise. cmd/devclickhouse is a server to try it with.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	url    string
	rows   int
	block  int
	rounds int
}

// turn is what a side has done in one round.
type turn struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	Err  string        `json:"err,omitempty"`
}

// sides are what is compared. Each writes the rows to a table.
var sides = []struct {
	name string
	run  func(c config, table string, rows []event) error
}{
	{"clickhouse-go, columns", byColumn},
	{"clickhouse-go, structs", byStruct},
	{"ch-go", withChGo},
	{"millrace, columns, at least once", func(c config, table string, rows []event) error { return millrace(c, table, rows, true, false) }},
	{"millrace, columns, exactly once", func(c config, table string, rows []event) error { return millrace(c, table, rows, true, true) }},
	{"millrace, structs, at least once", func(c config, table string, rows []event) error { return millrace(c, table, rows, false, false) }},
	{"millrace, structs, exactly once", func(c config, table string, rows []event) error { return millrace(c, table, rows, false, true) }},
}

// goal is a ratio of rows per second, of ours by theirs.
type goal struct {
	Ours   string    `json:"ours"`
	Theirs string    `json:"theirs"`
	Least  float64   `json:"goal"` // 0: for information
	Wall   []float64 `json:"wall"` // ratios by round
	CPU    []float64 `json:"cpu"`
	Met    bool      `json:"met"`
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Rows   int               `json:"rows"`
	Block  int               `json:"block"`
	Rounds int               `json:"rounds"`
	Turns  map[string][]turn `json:"turns"`
	Goals  []goal            `json:"goals"`
}

func main() {
	var c config
	flag.StringVar(&c.url, "url", os.Getenv("MILLRACE_CLICKHOUSE_URL"), "server to use, with its parameters (default: $MILLRACE_CLICKHOUSE_URL)")
	flag.IntVar(&c.rows, "rows", 1_000_000, "rows that each side inserts")
	flag.IntVar(&c.block, "block", 100_000, "rows of a block")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each side runs")
	out := flag.String("json", "", "`file` to write the results to")
	side := flag.String("side", "", "used by the program itself: the side to run")
	table := flag.String("table", "", "used by the program itself: the table to write to")
	flag.Parse()
	if c.url == "" || c.rows < 1 || c.block < 1 || c.rounds < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "clickhouse: -url must name a server, the numbers must be positive, and there are no arguments")
		os.Exit(2)
	}
	if *side != "" {
		serve(c, *side, *table)
		return
	}
	r, err := measure(c)
	if err == nil {
		err = print(r)
	}
	if err == nil && *out != "" {
		err = results.Write(*out, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse:", err)
		os.Exit(1)
	}
}

// serve runs a side once, and says how long it took. The rows are made before.
func serve(c config, side, table string) {
	rows := events(c.rows)
	t := turn{Err: "no such side"}
	for _, s := range sides {
		if s.name == side {
			start, cpuStart := time.Now(), cpu()
			err := s.run(c, table, rows)
			t = turn{Wall: time.Since(start), CPU: cpu() - cpuStart}
			if err != nil {
				t.Err = err.Error()
			}
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(t)
}

func run(c config, side, table string) (turn, error) {
	self, err := os.Executable()
	if err != nil {
		return turn{}, err
	}
	cmd := exec.Command(self, "-url", c.url, "-side", side, "-table", table, "-rows", fmt.Sprint(c.rows), "-block", fmt.Sprint(c.block))
	cmd.Stderr = os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return turn{}, fmt.Errorf("%s: %w", side, err)
	}
	var t turn
	if err := json.Unmarshal(raw, &t); err != nil {
		return turn{}, fmt.Errorf("%s: %w", side, err)
	}
	if t.Err != "" {
		return turn{}, fmt.Errorf("%s: %s", side, t.Err)
	}
	return t, nil
}

func measure(c config) (report, error) {
	r := report{Machine: results.Here(), Rows: c.rows, Block: c.block, Rounds: c.rounds, Turns: map[string][]turn{}, Goals: []goal{
		{Ours: "millrace, columns, at least once", Theirs: "clickhouse-go, columns", Least: 0.9},
		{Ours: "millrace, columns, exactly once", Theirs: "clickhouse-go, columns", Least: 0.8},
		{Ours: "millrace, structs, at least once", Theirs: "clickhouse-go, structs"},
		{Ours: "millrace, structs, exactly once", Theirs: "clickhouse-go, structs"},
		{Ours: "millrace, columns, at least once", Theirs: "ch-go"},
		{Ours: "millrace, columns, exactly once", Theirs: "ch-go"},
	}}
	b, err := newBed(c)
	if err != nil {
		return r, err
	}
	defer b.close()
	for range c.rounds {
		if err := b.round(c, r.Turns); err != nil {
			return r, err
		}
	}
	for i := range r.Goals {
		g := &r.Goals[i]
		for round, o := range r.Turns[g.Ours] {
			t := r.Turns[g.Theirs][round]
			g.Wall = append(g.Wall, float64(t.Wall)/float64(o.Wall))
			g.CPU = append(g.CPU, float64(t.CPU)/float64(o.CPU))
		}
		g.Met = results.Quantile(g.Wall, 0.5) >= g.Least
	}
	return r, nil
}

// round lets all sides run, and compares what the tables hold.
func (b *bed) round(c config, turns map[string][]turn) error {
	var want content
	for i, s := range sides {
		table, err := b.newTable()
		if err != nil {
			return err
		}
		t, err := run(c, s.name, table)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%-35s %8.0f rows/s, %5.2f s of processor time for a million\n", s.name,
			float64(c.rows)/t.Wall.Seconds(), t.CPU.Seconds()*1e6/float64(c.rows))
		got, err := b.read(table)
		if err != nil {
			return err
		}
		if i == 0 {
			want = got
		}
		if got != want || got.rows != uint64(c.rows) {
			return fmt.Errorf("%s wrote %+v, the first side %+v", s.name, got, want)
		}
		if err := b.drop(table); err != nil {
			return err
		}
		turns[s.name] = append(turns[s.name], t)
	}
	return nil
}

func print(r report) error {
	fmt.Printf("%s %s/%s, %d cores, %d rows in blocks of %d, %d rounds\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Rows, r.Block, r.Rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "rows/s of\tby those of\tratio\trounds\tprocessor time\tgoal\t")
	for _, g := range r.Goals {
		least, verdict := "", ""
		if g.Least > 0 {
			least, verdict = fmt.Sprintf("at least %g", g.Least), "met"
			if !g.Met {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f–%.2f\t%.2f\t%s\t%s\n", g.Ours, g.Theirs, results.Quantile(g.Wall, 0.5),
			slices.Min(g.Wall), slices.Max(g.Wall), results.Quantile(g.CPU, 0.5), least, verdict)
	}
	return w.Flush()
}

// cpu is the processor time of the whole process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
