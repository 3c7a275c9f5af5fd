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
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	url    string
	rows   int
	block  int
	rounds int
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

// report is the JSON form of a run.
type report struct {
	results.Machine
	Rows   int                       `json:"rows"`
	Block  int                       `json:"block"`
	Rounds int                       `json:"rounds"`
	Turns  map[string][]results.Turn `json:"turns"`
	Goals  []results.Goal            `json:"goals"`
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

// serve runs a side. The rows are made before.
func serve(c config, name, table string) {
	rows := events(c.rows)
	results.Serve(func() error {
		for _, s := range sides {
			if s.name == name {
				return s.run(c, table, rows)
			}
		}
		return errors.New("no such side")
	})
}

func run(c config, side, table string) (results.Turn, error) {
	return results.Run(side, "-url", c.url, "-side", side, "-table", table, "-rows", fmt.Sprint(c.rows), "-block", fmt.Sprint(c.block))
}

func measure(c config) (report, error) {
	r := report{Machine: results.Here(), Rows: c.rows, Block: c.block, Rounds: c.rounds, Turns: map[string][]results.Turn{}, Goals: []results.Goal{
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
		turns, err := b.round(c)
		if err != nil {
			return r, err
		}
		for side, t := range turns {
			r.Turns[side] = append(r.Turns[side], t)
		}
		for i := range r.Goals {
			r.Goals[i].Add(turns)
		}
	}
	return r, nil
}

// round lets all sides run, and compares what the tables hold.
func (b *bed) round(c config) (map[string]results.Turn, error) {
	turns := map[string]results.Turn{}
	var want content
	for i, s := range sides {
		table, err := b.newTable()
		if err != nil {
			return nil, err
		}
		t, err := run(c, s.name, table)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%-35s %8.0f rows/s, %5.2f s of processor time for a million\n", s.name,
			float64(c.rows)/t.Wall.Seconds(), t.CPU.Seconds()*1e6/float64(c.rows))
		got, err := b.read(table)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			want = got
		}
		if got != want || got.rows != uint64(c.rows) {
			return nil, fmt.Errorf("%s wrote %+v, the first side %+v", s.name, got, want)
		}
		if err := b.drop(table); err != nil {
			return nil, err
		}
		turns[s.name] = t
	}
	return turns, nil
}

func print(r report) error {
	fmt.Printf("%s %s/%s, %d cores, %d rows in blocks of %d, %d rounds\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Rows, r.Block, r.Rounds)
	return results.PrintGoals(os.Stdout, "rows", r.Goals)
}
