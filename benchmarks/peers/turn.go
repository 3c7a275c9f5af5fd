package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// serve is one of the sides in Go, as a process of its own.
func (t task) serve(name, profile string) error {
	s, ok := sideNamed(name)
	if !ok || s.run == nil || !s.does(t.job) {
		return fmt.Errorf("there is no side %q in Go that does job %q", name, t.job)
	}
	return results.Obey(func(order string) (any, error) {
		in, out, ok := strings.Cut(order, " ")
		if !ok {
			return nil, fmt.Errorf("the order %q has no two topics", order)
		}
		return t.over(in, out).timed(s, profile)
	})
}

// over is the same job over other topics, in a folder of its own.
func (t task) over(in, out string) task {
	t.in, t.out, t.dir = in, out, filepath.Join(t.dir, out)
	return t
}

// timed does a task. What the one before has left is collected before the clock starts.
func (t task) timed(s side, profile string) (turn results.Turn, err error) {
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return turn, err
	}
	runtime.GC()
	stop, err := startProfile(profile)
	if err != nil {
		return turn, err
	}
	turn, err = results.Timed(func() error { return s.run(t) })
	return turn, errors.Join(err, stop())
}

func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// process is a side that runs in a process of its own, which does one job as often as
// it is ordered to.
type process struct {
	*results.Process
	name string
	dir  string
}

func (c config) start(s side, job string, parallelism int) (*process, error) {
	dir, err := os.MkdirTemp("", "bench-peers-")
	if err != nil {
		return nil, err
	}
	flags := []string{"-job", job, "-brokers", strings.Join(c.brokers, ","), "-parallelism", fmt.Sprint(parallelism), "-dir", dir}
	var program string
	if s.command == nil {
		program, err = os.Executable()
		flags = append(flags, "-side", s.name)
		if c.profiles != "" {
			flags = append(flags, "-profile", filepath.Join(c.profiles, job+"-"+s.name+".pprof"))
		}
	} else {
		program, err = filepath.Abs(filepath.Join(c.java, "run.sh"))
		flags = append(flags, s.command...)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p, err := results.Start(program, flags...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), os.RemoveAll(dir))
	}
	return &process{Process: p, name: s.name, dir: dir}, nil
}

// do has the side do its job from one topic to another.
func (p *process) do(in, out string) (turn results.Turn, err error) {
	if err := p.Order(in+" "+out, &turn); err != nil {
		return turn, fmt.Errorf("%s: %w", p.name, err)
	}
	turn.Peak = p.Peak()
	return turn, nil
}

// stop lets the side end, and removes its folder.
func (p *process) stop() error {
	err := cmp.Or(p.Stop(), os.RemoveAll(p.dir))
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}
