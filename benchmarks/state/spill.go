package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// turn is what a side has done in one round.
type turn struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	Sum  int64         `json:"sum"` // of the counts that were read
}

// sides are what is compared.
var sides = map[string]func(c config) (side, error){"millrace": newOurs, "pebble": newDirect}

// side updates the values of keys, in batches.
type side interface {
	// update adds one to the count of each key, and returns the sum of what the
	// counts were before.
	update(keys []string) (int64, error)
	close() error
}

// serve runs a side: it does what it is ordered and answers with a turn.
func serve(name string, c config) error {
	s, err := sides[name](c)
	if err != nil {
		return err
	}
	err = results.Obey(func(order string) (any, error) {
		var pattern string
		var events int
		var seed uint64
		if _, err := fmt.Sscan(order, &pattern, &events, &seed); err != nil {
			return nil, err
		}
		return run(s, newKeys(pattern, c.keys, seed), events)
	})
	return errors.Join(err, s.close())
}

// run times the updates alone, and not how the keys come about.
func run(s side, keys *keys, events int) (t turn, err error) {
	for n := 0; n < events; n += batchSize {
		batch := keys.batch(min(batchSize, events-n))
		start, cpuStart := time.Now(), results.CPU()
		sum, err := s.update(batch)
		if err != nil {
			return t, err
		}
		t.Sum += sum
		t.Wall += time.Since(start)
		t.CPU += results.CPU() - cpuStart
	}
	return t, nil
}

// process is a side that runs in a process of its own.
type process struct {
	*results.Process
	dir string
}

func start(name string, c config) (p process, err error) {
	self, err := os.Executable()
	if err != nil {
		return p, err
	}
	if p.dir, err = os.MkdirTemp(c.dir, "state-"); err != nil {
		return p, err
	}
	p.Process, err = results.Start(self, "-side", name, "-keys", fmt.Sprint(c.keys), "-memory", fmt.Sprint(c.memory>>20), "-dir", p.dir)
	return p, err
}

func (p process) do(pattern string, events int, seed uint64) (t turn, err error) {
	err = p.Order(fmt.Sprintf("%s %d %d", pattern, events, seed), &t)
	return t, err
}

func (p process) stop() error {
	return errors.Join(p.Stop(), os.RemoveAll(p.dir))
}

// measureAll runs the parts.
func measureAll(c config, parts string) (report, error) {
	r := newReport(c)
	for _, part := range strings.Split(parts, ",") {
		f, ok := map[string]func(config) ([]goal, error){"spill": spill, "hot": hot, "checkpoint": checkpoints, "restore": restores, "throughput": throughput}[part]
		if !ok {
			return r, fmt.Errorf("there is no part %q", part)
		}
		goals, err := f(c)
		if err != nil {
			return r, fmt.Errorf("%s: %w", part, err)
		}
		r.Goals = append(r.Goals, goals...)
	}
	return r, nil
}

// spill compares the two sides.
func spill(c config) (goals []goal, err error) {
	ours, err := start("millrace", c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	direct, err := start("pebble", c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, direct.stop()) }()
	for _, p := range []process{ours, direct} {
		began := time.Now()
		if _, err := p.do("fill", c.keys, 0); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "filled in %v\n", time.Since(began).Round(time.Second))
	}
	least := map[string]float64{"zipf": 5, "uniform": 1.5}
	for _, pattern := range strings.Split(c.patterns, ",") {
		g, err := compare(ours, direct, pattern, c)
		if err != nil {
			return nil, err
		}
		g.Goal, g.Met = fmt.Sprintf("at least %.1f", least[pattern]), g.Value >= least[pattern]
		goals = append(goals, g)
	}
	peak, limit := ours.Peak(), 2*c.memory+200<<20
	return append(goals, goal{
		Name: "peak resident memory", Goal: fmt.Sprintf("at most %d MiB", limit>>20), Value: float64(peak) / (1 << 20), Unit: "MiB", Met: peak <= limit,
	}), nil
}

// zipfRound is how many times the events of another round one under Zipf has. They cost
// so little that a round would otherwise be over in less time than passes between two
// compactions, and have one or none.
const zipfRound = 4

// compare lets both sides warm up and take turns.
func compare(ours, direct process, pattern string, c config) (goal, error) {
	var ratios, cpus, our, their []float64
	for round := range c.rounds + 1 {
		seed, events := uint64(round+1), c.events
		if pattern == "zipf" {
			events *= zipfRound
			if round == 0 {
				events = max(events, c.keys) // until the cache holds what is asked for most often
			}
		}
		o, err := ours.do(pattern, events, seed)
		if err != nil {
			return goal{}, err
		}
		d, err := direct.do(pattern, events, seed)
		if err != nil {
			return goal{}, err
		}
		if o.Sum != d.Sum {
			return goal{}, fmt.Errorf("%s: the counts add up to %d, and to %d on Pebble", pattern, o.Sum, d.Sum)
		}
		fmt.Fprintf(os.Stderr, "%s: %v (cpu %v) and %v (cpu %v) per event\n", pattern, o.Wall/time.Duration(events), o.CPU/time.Duration(events), d.Wall/time.Duration(events), d.CPU/time.Duration(events))
		if round == 0 {
			continue // the pattern is new to the caches
		}
		ratios = append(ratios, float64(d.Wall)/float64(o.Wall))
		cpus = append(cpus, float64(d.CPU)/float64(o.CPU))
		our, their = append(our, float64(o.Wall)/float64(events)), append(their, float64(d.Wall)/float64(events))
	}
	return goal{
		Name: fmt.Sprintf("throughput by Pebble's per event, %s", pattern), Value: median(ratios), Unit: "times",
		Note: fmt.Sprintf("%.0f ns and %.0f ns an event; of processor time %.2f times", median(our), median(their), median(cpus)),
	}, nil
}
