package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

// threeWayRecords is how many records the runs of TestThreeWays read: few, since
// what takes long is to start, again and again.
const threeWayRecords = 6000

// TestThreeWays: a run that is killed and started again, and one that is stopped
// and goes on at another parallelism, give what an undisturbed run gives.
func TestThreeWays(t *testing.T) {
	events := filepath.Join(t.TempDir(), "events.jsonl")
	if err := generate(events, threeWayRecords); err != nil {
		t.Fatal(err)
	}
	funnel := writeFile(t, "funnel.json", `[{"name":"purchase","within":"20m","steps":[
		{"name":"product","page_url":"/products/*"},{"name":"cart","page_url":"/cart"},{"name":"bought","page_url":"/thanks"}]}]`)
	for _, c := range []struct {
		name string
		args func(t *testing.T) []string
	}{
		{"events", func(*testing.T) []string { return []string{"-input", events} }},
		{"all flags", func(*testing.T) []string {
			return []string{
				"-input", events, "-funnel", funnel, "-allowed-lateness", "10m", "-out-of-orderness", "3s", "-split-sessions-by-day",
				"-timezone", "Europe/Berlin", "-dimensions", "browser+os,language,page_url,referrer", "-max-path", "3", "-top-pages", "100",
				"-hll-precision", "10", "-session-gap", "10m", "-dedupe-horizon", "10m",
			}
		}},
		{"nasa", func(t *testing.T) []string {
			return []string{"-input", nasaLines(t, threeWayRecords), "-format", "tsv", "-tracking-id", "nasa"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if raceEnabled && c.name != "all flags" {
				t.Skip("takes long under the race detector, which sees nothing new here")
			}
			t.Parallel()
			args := c.args(t)
			want := final(t, analyze(t, append(args, "-parallelism", "2")...))
			t.Run("killed", func(t *testing.T) {
				t.Parallel()
				final(t, killed(t, args)).same(t, "killed", want)
			})
			t.Run("rescaled", func(t *testing.T) {
				t.Parallel()
				final(t, rescaled(t, args)).same(t, "rescaled", want)
			})
		})
	}
}

// final takes the revisions out of the metrics that do not stand. How many there
// are depends on how records happen to travel, killed or not: a window that has
// not heard of the watermark yet takes a late event in its stride.
func final(t *testing.T, o output) output {
	t.Helper()
	o = maps.Clone(o)
	standing := []string{}
	for k, v := range o.metrics(t) {
		standing = append(standing, fmt.Sprint(k, " ", v))
	}
	slices.Sort(standing)
	o["metrics.jsonl"] = standing
	return o
}

// nasaLines is the beginning of the day at NASA.
func nasaLines(t *testing.T, n int) string {
	t.Helper()
	data, err := os.ReadFile(nasaFile(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	return writeFile(t, "nasa.tsv", strings.Join(lines[:min(n, len(lines))], ""))
}

// ready is a job that was started as the program starts it.
func ready(t *testing.T, g *gate, args ...string) *job {
	t.Helper()
	cfg, err := parseFlags(args, io.Discard)
	cfg.around = g.around
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.close)
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	return newJob(cfg)
}

// killed runs a job that is killed at random points until it gets through, which
// it does, as the points are ever further from where it starts.
func killed(t *testing.T, args []string) output {
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	r := rand.New(rand.NewPCG(1, uint64(len(args))))
	for kills := 0; ; kills++ {
		parallelism := []string{"2", "1", "3"}[kills%3]
		g := newGate(r.Int64N(threeWayRecords * int64(kills+1) / 3))
		j := ready(t, g, append(slices.Clone(args), "-output", out, "-checkpoints", dir,
			"-checkpoint-interval", "20ms", "-parallelism", parallelism, "-batch-size", "32")...)
		over, watched := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			if g.await(over) {
				j.Kill()
			}
		}()
		err := j.Run(t.Context())
		close(over)
		<-watched
		if err == nil {
			t.Logf("%d kills", kills)
			if kills == 0 {
				t.Error("it was not killed")
			}
			return readOutput(t, out)
		}
		if !errors.Is(err, pipeline.ErrKilled) {
			t.Fatal(err)
		}
	}
}

// rescaled runs a job that stops with savepoints, from 1 to 8 and 8 to 3.
func rescaled(t *testing.T, args []string) output {
	out, from := filepath.Join(t.TempDir(), "out"), ""
	for i, parallelism := range []string{"1", "8", "3"} {
		dir, name := t.TempDir(), "stop"+strconv.Itoa(i)
		all := append(slices.Clone(args), "-output", out, "-checkpoints", dir, "-parallelism", parallelism, "-batch-size", "32")
		if from != "" {
			all = append(all, "-start-from", from)
		}
		if i < 2 {
			all = append(all, "-savepoint-on-exit", name)
		}
		g := newGate([]int64{threeWayRecords / 6, threeWayRecords / 6, math.MaxInt64}[i])
		j := ready(t, g, all...)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer cancel()
			g.await(over)
		}()
		var stdout, stderr bytes.Buffer
		code := j.run(ctx, &stdout, &stderr)
		close(over)
		cancel()
		if want := []int{exitInterrupted, exitInterrupted, exitOK}[i]; code != want {
			t.Fatalf("parallelism %s: exit code %d, want %d\n%s", parallelism, code, want, stderr.String())
		}
		from = filepath.Join(dir, "savepoints", name)
	}
	return readOutput(t, out)
}

// gate lets a job read a number of records and no more, so that it is where a test
// wants it when it is stopped or killed, however busy the machine.
type gate struct {
	left    atomic.Int64
	reached chan struct{}
	once    sync.Once
}

func newGate(n int64) *gate {
	g := &gate{reached: make(chan struct{})}
	g.left.Store(n)
	return g
}

func (g *gate) around(s pipeline.Source[Event]) pipeline.Source[Event] { return gatedSource{s, g} }

// await says whether the job has come to the gate, once it has or is over.
func (g *gate) await(over <-chan struct{}) bool {
	select {
	case <-g.reached:
		return true
	case <-over:
		return false
	}
}

type gatedSource struct {
	pipeline.Source[Event]
	g *gate
}

func (s gatedSource) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[Event], error) {
	r, err := s.Source.Open(ctx, env)
	return &gatedReader{r, s.g}, err
}

type gatedReader struct {
	pipeline.Reader[Event]
	g *gate
}

func (r *gatedReader) Read(ctx context.Context, b *pipeline.SourceBatch[Event]) error {
	if r.g.left.Load() <= 0 {
		r.g.once.Do(func() { close(r.g.reached) })
		<-ctx.Done()
		return ctx.Err()
	}
	err := r.Reader.Read(ctx, b)
	r.g.left.Add(-int64(len(b.Values)))
	return err
}

func (r *gatedReader) Close() error {
	if c, ok := r.Reader.(pipeline.Closer); ok {
		return c.Close()
	}
	return nil
}

// TestGoesOn: the same command, given again and again, gets the job done once.
func TestGoesOn(t *testing.T) {
	input := filepath.Join(t.TempDir(), "events.jsonl")
	if err := generate(input, 12_000); err != nil {
		t.Fatal(err)
	}
	want := analyze(t, "-input", input, "-session-gap", "1m")
	out := t.TempDir()
	args := []string{"-input", input, "-session-gap", "1m", "-output", out, "-checkpoints", t.TempDir(), "-overwrite"}
	for _, name := range []string{"metrics.jsonl", "funnels.jsonl"} { // of some earlier run
		if err := os.WriteFile(filepath.Join(out, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}

	cmd := program(append(args, "-batch-size", "16")...)
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	interruptOnce(t, cmd, filepath.Join(out, "sessions.jsonl"))
	if err := cmd.Wait(); exitCode(err) != exitInterrupted || !strings.Contains(text.String(), "it goes on from here") {
		t.Fatalf("interrupted: %v\n%s", err, text.String())
	}

	for _, shows := range [][]string{{"bounce rate", "Since this start"}, {"An earlier start had come to the end"}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != exitOK {
			t.Fatalf("started again: exit code %d\n%s", code, stderr.String())
		}
		for _, s := range shows {
			if !strings.Contains(stdout.String(), s) {
				t.Errorf("started again: no %q in\n%s", s, stdout.String())
			}
		}
		readOutput(t, out).same(t, "started again", want)
	}
}

// TestForeignResults: results and checkpoints of different runs are told apart.
func TestForeignResults(t *testing.T) {
	input := writeFile(t, "in.jsonl", jsonLines(testEvent("1", "u", "page_view", "/", 0)))
	here, there, empty := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "empty")
	a, b := t.TempDir(), t.TempDir()
	for _, c := range []struct {
		what, output, checkpoints string
		overwrite                 bool
		want                      string // in the error; empty for success
	}{
		{"a first run", here, a, false, ""},
		{"the same again", here, a, false, ""},
		{"other checkpoints", here, b, false, "already (-overwrite"},
		{"no checkpoints", here, "", false, "already (-overwrite"},
		{"other results", empty, a, false, "has no results of the run whose checkpoints are in " + a},
		{"another run", there, b, false, ""},
		{"its results, the first one's checkpoints", there, a, true, "has no results of the run whose checkpoints are in " + a},
		{"without checkpoints, over it", here, "", true, ""},
		{"the first run, whose results are gone", here, a, false, "has no results of the run whose checkpoints are in " + a},
	} {
		args := []string{"-input", input, "-output", c.output}
		if c.checkpoints != "" {
			args = append(args, "-checkpoints", c.checkpoints)
		}
		if c.overwrite {
			args = append(args, "-overwrite")
		}
		before := map[string]output{here: readOutput(t, here), there: readOutput(t, there)}
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), args, &stdout, &stderr)
		switch {
		case c.want == "" && code != exitOK:
			t.Errorf("%s: exit code %d\n%s", c.what, code, stderr.String())
		case c.want != "" && (code != exitUsage || !strings.Contains(stderr.String(), c.want)):
			t.Errorf("%s: exit code %d, want 2 and %q in:\n%s", c.what, code, c.want, stderr.String())
		case c.want != "":
			readOutput(t, here).same(t, c.what, before[here])
			readOutput(t, there).same(t, c.what, before[there])
		}
	}
}

// TestGenerate: a generated file is always the same, and its faults are as rare
// as the demo's.
func TestGenerate(t *testing.T) {
	var one, two bytes.Buffer
	if err := writeEvents(&one, 3000); err != nil {
		t.Fatal(err)
	}
	if err := writeEvents(&two, 6000); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(two.Bytes(), one.Bytes()) || bytes.Count(two.Bytes(), []byte("\n")) != 6000 {
		t.Error("3000 events are not the first ones of 6000")
	}
	out := analyze(t, "-input", writeFile(t, "events.jsonl", two.String()))
	for name, least := range map[string]int{"late.jsonl": 5, "duplicates.jsonl": 30, "dead_letters.jsonl": 3} {
		if n := len(out[name]); n < least || n > 20*least {
			t.Errorf("%d lines in %s", n, name)
		}
	}
}
