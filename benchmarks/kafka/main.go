// Kafka compares what a job costs from topic to topic: JSON events are decoded and
// counted by key and minute, and the counts written.
//
//	go run ./benchmarks/kafka -brokers localhost:9092
//
// The sides are this library, at least once and exactly once with a checkpoint
// every second; a loop written by hand on the same client, with a map and offsets
// committed every second, which loses its map when it dies; and goka, with the
// storage it has by default and with one in memory. Each runs in a process of its
// own, on the same topic, in turns, and what they write is compared before any
// time counts.
//
// The ratios are those of the wall clock and of processor time of the process; the
// broker's is not a part of it, but it runs on the same machine unless -brokers says
// otherwise.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	brokers []string
	topic   string
	records int
	keys    int
	rounds  int
}

// sides are what is compared. Each counts the records of a topic and writes to
// another.
var sides = map[string]func(c config, out string) error{
	"millrace, at least once": func(c config, out string) error { return millrace(c, out, false) },
	"millrace, exactly once":  func(c config, out string) error { return millrace(c, out, true) },
	"by hand":                 byHand,
	"goka, default storage":   func(c config, out string) error { return withGoka(c, out, false) },
	"goka, in memory":         func(c config, out string) error { return withGoka(c, out, true) },
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Records int            `json:"records"`
	Keys    int            `json:"keys"`
	Rounds  int            `json:"rounds"`
	Goals   []results.Goal `json:"goals"`
}

func main() {
	var c config
	brokers := flag.String("brokers", os.Getenv("MILLRACE_KAFKA_BROKERS"), "brokers to use, `host:port`, separated by commas (default: $MILLRACE_KAFKA_BROKERS)")
	flag.IntVar(&c.records, "records", 3_000_000, "events in the topic")
	flag.IntVar(&c.keys, "keys", 10_000, "different keys")
	flag.IntVar(&c.rounds, "rounds", 3, "how often each side runs")
	flag.StringVar(&c.topic, "topic", "", "used by the program itself: the topic to read")
	out := flag.String("json", "", "`file` to write the results to")
	side := flag.String("side", "", "used by the program itself: the side to run")
	to := flag.String("to", "", "used by the program itself: the topic to write to")
	flag.Parse()
	if *brokers == "" || c.records < 1 || c.keys < 1 || c.rounds < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "kafka: -brokers must name some, the numbers must be positive, and there are no arguments")
		os.Exit(2)
	}
	c.brokers = strings.Split(*brokers, ",")
	if *side != "" {
		results.Serve(func() error { return sides[*side](c, *to) })
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
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1)
	}
}

func run(c config, side, to string) (results.Turn, error) {
	return results.Run(side, "-brokers", strings.Join(c.brokers, ","), "-side", side, "-topic", c.topic, "-to", to,
		"-records", fmt.Sprint(c.records), "-keys", fmt.Sprint(c.keys))
}

func measure(c config) (report, error) {
	r := report{Machine: results.Here(), Records: c.records, Keys: c.keys, Rounds: c.rounds, Goals: []results.Goal{
		{Ours: "millrace, at least once", Theirs: "by hand", Least: 0.95},
		{Ours: "millrace, exactly once", Theirs: "by hand", Least: 0.8},
		{Ours: "millrace, exactly once", Theirs: "goka, default storage", Least: 10},
		{Ours: "millrace, exactly once", Theirs: "goka, in memory", Least: 5},
	}}
	b, err := newBed(c)
	if err != nil {
		return r, err
	}
	defer b.close()
	c.topic = b.topic
	for range c.rounds {
		turns, err := b.round(c)
		if err != nil {
			return r, err
		}
		for i := range r.Goals {
			r.Goals[i].Add(turns)
		}
	}
	return r, nil
}

// round lets all sides run, and compares what they have written.
func (b *bed) round(c config) (map[string]results.Turn, error) {
	turns := map[string]results.Turn{}
	var want []string
	order := []string{"by hand", "millrace, at least once", "millrace, exactly once", "goka, in memory", "goka, default storage"}
	for _, side := range order {
		to, err := b.newTopic("counts")
		if err != nil {
			return nil, err
		}
		t, err := run(c, side, to)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%-25s %8.0f records/s, %5.2f µs of processor time each\n", side,
			float64(c.records)/t.Wall.Seconds(), float64(t.CPU.Microseconds())/float64(c.records))
		got, err := b.read(to)
		if err != nil {
			return nil, err
		}
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			return nil, fmt.Errorf("%s wrote %d counts that are not the %d of the others", side, len(got), len(want))
		}
		turns[side] = t
	}
	return turns, nil
}

func print(r report) error {
	fmt.Printf("%s %s/%s, %d cores, %d records, %d keys, %d rounds\n\n", r.Go, r.OS, r.Arch, r.Cores, r.Records, r.Keys, r.Rounds)
	return results.PrintGoals(os.Stdout, "records", r.Goals)
}
