package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// twice is a task that is done once to warm up, and once to be measured.
type twice struct {
	task
	warmIn, warmOut string
}

// serve is one of the sides in Go, as a process of its own.
func (t twice) serve(name, profile string) error {
	s, ok := sideNamed(name)
	if !ok || s.run == nil || !s.does(t.job) {
		return fmt.Errorf("there is no side %q in Go that does job %q", name, t.job)
	}
	warm := t.task
	warm.in, warm.out, warm.dir = t.warmIn, t.warmOut, filepath.Join(t.dir, "warm")
	t.dir = filepath.Join(t.dir, "measured")
	if err := errors.Join(os.MkdirAll(warm.dir, 0o755), os.MkdirAll(t.dir, 0o755)); err != nil {
		return err
	}
	if err := s.run(warm); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	stop, err := startProfile(profile)
	if err != nil {
		return err
	}
	var failed error
	results.Serve(func() error {
		failed = s.run(t.task)
		return failed
	})
	return errors.Join(failed, stop())
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

// run has a side do a task in a process of its own.
func (c config) run(s side, t twice) (results.Turn, error) {
	flags := []string{
		"-job", t.job, "-brokers", strings.Join(c.brokers, ","), "-in", t.in, "-out", t.out,
		"-warm-in", t.warmIn, "-warm-out", t.warmOut, "-parallelism", fmt.Sprint(t.parallelism), "-dir", t.dir,
	}
	if s.command == nil {
		if c.profiles != "" {
			flags = append(flags, "-profile", filepath.Join(c.profiles, t.job+"-"+s.name+".pprof"))
		}
		return results.Run(s.name, append([]string{"-side", s.name}, flags...)...)
	}
	program, err := filepath.Abs(filepath.Join(c.java, "run.sh"))
	if err != nil {
		return results.Turn{}, err
	}
	args := append([]string{"-launch", program, "--"}, s.command...)
	return results.Run(s.name, append(args, flags...)...)
}
