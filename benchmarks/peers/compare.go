package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// report is the JSON form of a run.
type report struct {
	results.Machine
	Records int         `json:"records"`
	Keys    int         `json:"keys"`
	Rounds  int         `json:"rounds"`
	Jobs    []jobReport `json:"jobs"`
}

// jobReport is what the sides took for a job, round by round, and what follows.
type jobReport struct {
	Job   string                    `json:"job"`
	Lines int                       `json:"lines"` // of output that were compared
	Turns map[string][]results.Turn `json:"turns"` // by side
	Goals []goal                    `json:"goals"`
}

// compare runs everything, and prints and writes what came of it.
func compare(c config, parallelism int, out string) error {
	if err := os.Setenv("GOMEMLIMIT", "1GiB"); err != nil { // for the sides
		return err
	}
	b, err := newBed(c.brokers)
	if err != nil {
		return err
	}
	defer b.close()
	m := &match{config: c, bed: b, parallelism: parallelism, inputs: map[string]inputs{}}
	r := report{Machine: results.Here(), Records: c.records, Keys: c.keys, Rounds: c.rounds}
	for _, j := range c.jobs {
		jr, err := m.job(j)
		if err != nil {
			return fmt.Errorf("job %s: %w", j.name, err)
		}
		r.Jobs = append(r.Jobs, jr)
	}
	if err := print(r, c.sides); err != nil || out == "" {
		return err
	}
	return results.Write(out, r)
}

// match has all sides do all jobs.
type match struct {
	config
	*bed
	parallelism int
	inputs      map[string]inputs
}

// inputs are the topics of one kind of input.
type inputs struct{ large, warm string }

// input brings the records, where they are not there yet.
func (m *match) input(kind string) (in inputs, err error) {
	if in, there := m.inputs[kind]; there {
		return in, nil
	}
	fmt.Fprintf(os.Stderr, "%s: writing %d records\n", kind, m.records)
	if in.large, err = m.fill(kind, m.records, m.keys, 1); err != nil {
		return in, err
	}
	if in.warm, err = m.fill(kind, m.warm, max(1, m.keys*m.warm/m.records), 2); err != nil {
		return in, err
	}
	m.inputs[kind] = in
	return in, nil
}

func (m *match) job(j job) (r jobReport, err error) {
	r = jobReport{Job: j.name, Turns: map[string][]results.Turn{}}
	in, err := m.input(j.input)
	if err != nil {
		return r, err
	}
	processes := map[string]*process{} // by side
	defer func() {
		for _, p := range processes {
			err = errors.Join(err, p.stop())
		}
	}()
	var first side
	var want []string
	for round := range m.rounds {
		for _, s := range m.sides {
			if !s.does(j.name) {
				continue
			}
			if round == 0 {
				p, err := m.start(s, j.name, m.parallelism)
				if err != nil {
					return r, err
				}
				processes[s.name] = p
				if _, _, err := m.turn(j, s, p, in.warm); err != nil {
					return r, fmt.Errorf("to warm up: %w", err)
				}
			}
			turn, got, err := m.turn(j, s, processes[s.name], in.large)
			if err != nil {
				return r, err
			}
			fmt.Fprintf(os.Stderr, "%-9s round %d  %-16s %9.0f records/s  %9.0f per CPU-second  %5d MiB  %d lines\n", j.name, round+1, s.name,
				float64(m.records)/turn.Wall.Seconds(), float64(m.records)/turn.CPU.Seconds(), turn.Peak>>20, len(got))
			if want == nil {
				first, want = s, got
			}
			if err := difference(first.name, want, s.name, got); err != nil {
				return r, err
			}
			r.Turns[s.name] = append(r.Turns[s.name], turn)
		}
	}
	r.Lines = len(want)
	r.Goals = goalsOf(r.Turns)
	return r, nil
}

// turn has a side do a job once, and reads what it has written.
func (m *match) turn(j job, s side, p *process, in string) (turn results.Turn, got []string, err error) {
	out, err := m.topic(j.name)
	if err != nil {
		return turn, nil, err
	}
	extra, err := m.extra(s, out)
	if err != nil {
		return turn, nil, err
	}
	if turn, err = p.do(in, out); err != nil {
		return turn, nil, err
	}
	got, err = m.output(j, out)
	if err == nil && len(got) == 0 {
		err = errors.New(s.name + " has written nothing")
	}
	return turn, slices.Clip(got), errors.Join(err, m.remove(append(extra, out)...))
}

// extra makes the topics that a side has besides its output. goka would make them
// itself, but goes on before the broker tells of them, and fails.
func (m *match) extra(s side, out string) (topics []string, err error) {
	for suffix, cleanup := range s.topics {
		topics = append(topics, out+suffix)
		err = errors.Join(err, m.create(out+suffix, cleanup))
	}
	return topics, err
}
