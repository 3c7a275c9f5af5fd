package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/nexmark"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
)

const parallelism = 2

// query is a query and what adds it to a pipeline.
type query struct {
	name string
	add  func(events pipeline.Stream[nexmark.Event])
}

// queries begin with the job of the generator alone.
var queries = []query{
	{generatorAlone, discarded(func(events pipeline.Stream[nexmark.Event]) pipeline.Stream[nexmark.Event] { return events })},
	{"q0", discarded(nexmark.Q0)},
	{"q1", discarded(nexmark.Q1)},
	{"q2", discarded(nexmark.Q2)},
	{"q5", discarded(nexmark.Q5)},
	{"q7", discarded(nexmark.Q7)},
	{"q8", discarded(nexmark.Q8)},
	{"q11", discarded(nexmark.Q11)},
	{"q12", discarded(nexmark.Q12)},
	{"q14", discarded(nexmark.Q14)},
	{"q15", discarded(nexmark.Q15)},
	{"q16", discarded(nexmark.Q16)},
	{"q17", discarded(nexmark.Q17)},
	{"q18", discarded(nexmark.Q18)},
	{"q19", discarded(nexmark.Q19)},
	{"q22", discarded(nexmark.Q22)},
}

const generatorAlone = "generator"

func discarded[T any](q func(pipeline.Stream[nexmark.Event]) pipeline.Stream[T]) func(pipeline.Stream[nexmark.Event]) {
	return func(events pipeline.Stream[nexmark.Event]) { pipeline.To(q(events), "out", discard.Sink[T]()) }
}

// configuration is where state is, and when there are checkpoints.
type configuration struct {
	name    string
	options func(dir string) []pipeline.Option
}

var configurations = []configuration{
	{"memory", func(string) []pipeline.Option {
		return []pipeline.Option{pipeline.StateInMemory()}
	}},
	{"memory, checkpoints", func(dir string) []pipeline.Option {
		return []pipeline.Option{pipeline.StateInMemory(), everySecond(dir)}
	}},
	{"Pebble", func(dir string) []pipeline.Option {
		return []pipeline.Option{pipeline.StateDirectory(dir)}
	}},
	{"Pebble, checkpoints", func(dir string) []pipeline.Option {
		return []pipeline.Option{everySecond(dir)}
	}},
}

func everySecond(dir string) pipeline.Option {
	return pipeline.Checkpoints(dir, pipeline.CheckpointInterval(time.Second))
}

// configurations are those that a query runs in: the generator has no state.
func (q query) configurations() []configuration {
	if q.name == generatorAlone {
		return configurations[:1]
	}
	return configurations
}

// run runs a query once.
func run(c config, name, way string) error {
	dir, err := os.MkdirTemp("", "nexmark-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	g, err := nexmark.NewGenerator(nexmark.Config{})
	if err != nil {
		return err
	}
	opts := configurations[slices.IndexFunc(configurations, func(c configuration) bool { return c.name == way })].options(filepath.Join(dir, "job"))
	p := pipeline.New(append(opts, pipeline.Name(name), pipeline.DefaultParallelism(parallelism))...)
	events := pipeline.From(p, "events", g.Source(c.events), nexmark.Watermarks())
	queries[slices.IndexFunc(queries, func(q query) bool { return q.name == name })].add(events)
	if c.profile != "" {
		stop, err := profile(filepath.Join(c.profile, strings.ReplaceAll(fmt.Sprintf("%s %s.pprof", name, way), " ", "-")))
		if err != nil {
			return err
		}
		defer stop()
	}
	return p.Run(context.Background())
}

func profile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}
