// Command guard says whether the engine has become slower beside hand-written code than
// it was: it measures key ratios in a short form, compares them with the committed
// ones in benchmarks/results/guard.json, and fails past a margin.
//
//	go run ./benchmarks/guard [-update] [-passes 5] [-rounds 9] [-attempts 3] [-file FILE]
//
// Only ratios within one run are compared, of two sides that took turns, and by the
// best quarter of the rounds: a neighbour on the machine disturbs some rounds, a slower
// engine is slower in all of them. What is past its margin is measured again, in a new
// process, up to -attempts times, and fails if it is so every time.
//
// -update measures everything -passes times and commits the median of each ratio, with
// a margin of one and a half times what the worst pass was above it, at least 15 % and
// at most 40 %. A ratio depends on the processor, too: the file names the one it was
// made on, and a guard on another says so when it fails.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// config is what the flags say.
type config struct {
	update   bool
	passes   int
	rounds   int
	attempts int
	file     string
}

func main() {
	var c config
	flag.BoolVar(&c.update, "update", false, "write the committed ratios anew")
	flag.IntVar(&c.passes, "passes", 5, "how often -update measures everything")
	flag.IntVar(&c.rounds, "rounds", 9, "how often each side of a comparison runs")
	flag.IntVar(&c.attempts, "attempts", 3, "how often a ratio is measured before it fails")
	flag.StringVar(&c.file, "file", filepath.Join("benchmarks", "results", "guard.json"), "the committed ratios")
	flag.Parse()
	if c.passes < 1 || c.rounds < 1 || c.attempts < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "guard: -passes, -rounds and -attempts must be at least 1, and there are no arguments")
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

func run(c config) (err error) {
	dir, err := os.MkdirTemp("", "guard-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := build(dir); err != nil {
		return err
	}
	measure := func(check check) (float64, error) { return check.measure(dir, c.rounds) }
	if c.update {
		return update(c, measure)
	}
	before, err := read(c.file)
	if err != nil {
		return err
	}
	outcomes, err := judge(before.Ratios, c.attempts, measure)
	if err != nil {
		return err
	}
	if err := print(os.Stdout, outcomes); err != nil {
		return err
	}
	return verdict(outcomes, before.Processor, processor())
}

// build builds the programs that measure.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-o", dir, "./benchmarks/engine", "./benchmarks/state")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build what measures, from the module's directory: %w", err)
	}
	return nil
}

// update measures all ratios and commits them.
func update(c config, measure func(check) (float64, error)) error {
	f := file{Machine: results.Here(), Processor: processor(), Rounds: c.rounds, Passes: c.passes}
	measured := make([][]float64, len(checks))
	for pass := range c.passes {
		for i, check := range checks {
			fmt.Fprintf(os.Stderr, "pass %d of %d: %s …\n", pass+1, c.passes, check.name)
			ratio, err := measure(check)
			if err != nil {
				return err
			}
			measured[i] = append(measured[i], ratio)
		}
	}
	for i, check := range checks {
		f.Ratios = append(f.Ratios, committing(check.name, measured[i]))
	}
	if err := results.Write(c.file, f); err != nil {
		return err
	}
	return printCommitted(os.Stdout, f.Ratios)
}

func print(to io.Writer, outcomes []outcome) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ratio\tcommitted\tmeasured\tchange\tmargin\tattempts\t")
	for _, o := range outcomes {
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%+.0f %%\t%.0f %%\t%d\t%s\n", o.Name, o.Ratio, o.measured, 100*o.change(), 100*o.Margin, o.attempts, o)
	}
	return w.Flush()
}

func printCommitted(to io.Writer, ratios []committed) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ratio\tcommitted\tspread\tmargin\t")
	for _, r := range ratios {
		fmt.Fprintf(w, "%s\t%.3f\t%.0f %%\t%.0f %%\t\n", r.Name, r.Ratio, 100*r.Spread, 100*r.Margin)
	}
	return w.Flush()
}
