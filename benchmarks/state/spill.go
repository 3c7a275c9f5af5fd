package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// turn is what a side has done in one round.
type turn struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	Sum  int64         `json:"sum"` // of the counts that were read
	Peak int64         `json:"peak"`
	Err  string        `json:"err,omitempty"`
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

// serve runs a side: it does what it reads and answers with a turn.
func serve(name string, c config) error {
	s, err := sides[name](c)
	if err != nil {
		return err
	}
	answer := json.NewEncoder(os.Stdout)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var pattern string
		var events int
		var seed uint64
		if _, err := fmt.Sscan(orders.Text(), &pattern, &events, &seed); err != nil {
			return err
		}
		t := run(s, newKeys(pattern, c.keys, seed), events)
		if err := answer.Encode(t); err != nil {
			return err
		}
	}
	return errors.Join(orders.Err(), s.close())
}

// run times the updates alone, and not how the keys come about.
func run(s side, keys *keys, events int) turn {
	t := turn{}
	for n := 0; n < events; n += batchSize {
		batch := keys.batch(min(batchSize, events-n))
		start, cpuStart := time.Now(), results.CPU()
		sum, err := s.update(batch)
		if err != nil {
			return turn{Err: err.Error()}
		}
		t.Sum += sum
		t.Wall += time.Since(start)
		t.CPU += results.CPU() - cpuStart
	}
	t.Peak = results.Peak()
	return t
}

// process is a side that runs in a process of its own.
type process struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	answer *json.Decoder
}

func start(name string, c config) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.dir, "state-")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, "-side", name, "-keys", fmt.Sprint(c.keys), "-memory", fmt.Sprint(c.memory>>20), "-dir", dir)}
	p.cmd.Stderr = os.Stderr
	if p.orders, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answer = json.NewDecoder(out)
	return p, p.cmd.Start()
}

func (p *process) do(pattern string, events int, seed uint64) (turn, error) {
	var t turn
	if _, err := fmt.Fprintln(p.orders, pattern, events, seed); err != nil {
		return t, err
	}
	if err := p.answer.Decode(&t); err != nil {
		return t, err
	}
	if t.Err != "" {
		return t, errors.New(t.Err)
	}
	return t, nil
}

func (p *process) stop() error {
	err := errors.Join(p.orders.Close(), p.cmd.Wait())
	return errors.Join(err, os.RemoveAll(p.cmd.Args[len(p.cmd.Args)-1]))
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
	for _, p := range []*process{ours, direct} {
		began := time.Now()
		if _, err := p.do("fill", c.keys, 0); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "filled in %v\n", time.Since(began).Round(time.Second))
	}
	least := map[string]float64{"zipf": 5, "uniform": 1.5}
	peak := int64(0)
	for _, pattern := range strings.Split(c.patterns, ",") {
		g, last, err := compare(ours, direct, pattern, c)
		if err != nil {
			return nil, err
		}
		g.Goal, g.Met = fmt.Sprintf("at least %.1f", least[pattern]), g.Value >= least[pattern]
		goals = append(goals, g)
		peak = last.Peak
	}
	limit := 2*c.memory + 200<<20
	return append(goals, goal{
		Name: "peak resident memory", Goal: fmt.Sprintf("at most %d MiB", limit>>20), Value: float64(peak) / (1 << 20), Unit: "MiB", Met: peak <= limit,
	}), nil
}

// zipfRound is how many times the events of another round one under Zipf has. They cost
// so little that a round would otherwise be over in less time than passes between two
// compactions, and have one or none.
const zipfRound = 4

// compare lets both sides warm up and take turns.
func compare(ours, direct *process, pattern string, c config) (goal, turn, error) {
	var ratios, cpus, our, their []float64
	var last turn
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
			return goal{}, last, err
		}
		d, err := direct.do(pattern, events, seed)
		if err != nil {
			return goal{}, last, err
		}
		if o.Sum != d.Sum {
			return goal{}, last, fmt.Errorf("%s: the counts add up to %d, and to %d on Pebble", pattern, o.Sum, d.Sum)
		}
		fmt.Fprintf(os.Stderr, "%s: %v (cpu %v) and %v (cpu %v) per event\n", pattern, o.Wall/time.Duration(events), o.CPU/time.Duration(events), d.Wall/time.Duration(events), d.CPU/time.Duration(events))
		if last = o; round == 0 {
			continue // the pattern is new to the caches
		}
		ratios = append(ratios, float64(d.Wall)/float64(o.Wall))
		cpus = append(cpus, float64(d.CPU)/float64(o.CPU))
		our, their = append(our, float64(o.Wall)/float64(events)), append(their, float64(d.Wall)/float64(events))
	}
	return goal{
		Name: fmt.Sprintf("throughput by Pebble's per event, %s", pattern), Value: median(ratios), Unit: "times",
		Note: fmt.Sprintf("%.0f ns and %.0f ns an event; of processor time %.2f times", median(our), median(their), median(cpus)),
	}, last, nil
}
