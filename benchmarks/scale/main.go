// Command scale measures what a record costs as a job grows: by the number of keys,
// of operators, of exchanges and of splits, and what throughput becomes with more
// parallelism. It says of every goal whether it is met.
//
//	cd benchmarks/scale && go run . [-short] [-parts keys,operators,exchanges,splits,parallelism]
//	    [-rounds 7] [-json FILE] [-profile DIR]
//
// Each part prints a table. A full run also writes them to benchmarks/results/scale.json
// and beside it one chart a part, as SVG; -short takes fewer sizes and rounds, and
// writes only where -json says. -profile writes processor profiles of the smallest and the
// largest size of keys and operators, and changes nothing that is measured.
//
// All sizes of a part take turns, so that a machine that slows down slows all of them;
// what is quoted is the median over the rounds, goals are judged by the median of the
// rounds' ratios. Costs are processor time of the whole process, throughput is by the
// clock: parallelism is for the clock, and costs something in processor time.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is the size of a run.
type config struct {
	short   bool
	rounds  int
	profile string
}

// of chooses by the length of the run.
func (c config) of(short, full int) int {
	if c.short {
		return short
	}
	return full
}

// part is one kind of growth.
type part struct {
	name    string
	measure func(config) (*figure, error)
}

var parts = []part{
	{"keys", keys}, {"operators", chain}, {"exchanges", exchanges}, {"splits", splits}, {"parallelism", parallelism},
}

// report is the JSON form of a run.
type report struct {
	results.Machine
	Short   bool      `json:"short"`
	Rounds  int       `json:"rounds"`
	Figures []*figure `json:"figures"`
}

func main() {
	var c config
	flag.BoolVar(&c.short, "short", false, "fewer sizes and rounds, for a minute at most; nothing is written unless -json is given")
	flag.IntVar(&c.rounds, "rounds", 0, "how often each size runs; default 7, with -short 3")
	flag.StringVar(&c.profile, "profile", "", "directory to write processor profiles to")
	only := flag.String("parts", "", "the parts to run; default: all")
	out := flag.String("json", "", "file to write the results to, charts go beside it; default: benchmarks/results/scale.json, for a full run of all parts")
	flag.Parse()
	if c.rounds == 0 {
		c.rounds = c.of(3, 7)
	}
	if *out == "" && !c.short && *only == "" {
		*out = filepath.Join("..", "results", "scale.json")
	}
	if err := run(c, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(c config, only, out string) error {
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if c.profile != "" {
		if err := os.MkdirAll(c.profile, 0o755); err != nil {
			return err
		}
	}
	r := report{Machine: results.Here(), Short: c.short, Rounds: c.rounds}
	fmt.Printf("%s %s/%s, %d cores, %d rounds; medians and quartiles\n", r.Go, r.OS, r.Arch, r.Cores, r.Rounds)
	for _, p := range chosen {
		fmt.Fprintf(os.Stderr, "%s …\n", p.name)
		f, err := p.measure(c)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		f.Part = p.name
		if err := f.print(os.Stdout); err != nil {
			return err
		}
		r.Figures = append(r.Figures, f)
	}
	if out == "" {
		return nil
	}
	return write(r, out)
}

func choose(only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no part %q", name)
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

func write(r report, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range r.Figures {
		if err := f.draw(filepath.Join(dir, "scale-"+f.Part+".svg")); err != nil {
			return err
		}
	}
	return results.Write(path, r)
}
