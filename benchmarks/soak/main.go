// Soak runs a job whose keys come and go for a long time, with checkpoints, and
// shows that what it remembers stays as large as it is: in entries, in memory and
// on disk (rule 30). It prints a line for each sample, and fails if the last
// third of the run is larger than the second by more than a tenth.
//
//	go run ./benchmarks/soak -for 10m
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/sources/generator"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

func main() {
	length := flag.Duration("for", 10*time.Minute, "how long to run")
	every := flag.Duration("sample", 10*time.Second, "how often to look")
	rate := flag.Float64("rate", 20_000, "events a second")
	memory := flag.Int64("memory", 32, "memory budget of state, in MiB")
	flag.Parse()
	if err := soak(*length, *every, *rate, *memory<<20); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// event is of a user who is there for a minute or so and never comes back.
type event struct {
	ID, User string
	Time     int64
}

func (e event) id() string   { return e.ID }
func (e event) user() string { return e.User }
func (e event) time() int64  { return e.Time }

// speed is how many times faster than the clock event time goes, so that
// horizons of minutes pass many times in a short run.
const speed = 10

func eventAt(rate float64) func(r *rand.Rand, i int64) event {
	perMilli := rate / 1000 / speed
	return func(r *rand.Rand, i int64) event {
		now := int64(float64(i) / perMilli)
		user := now/6_000*100 + r.Int64N(1000) // a thousand of them, one in ten leaves every six seconds
		id := i
		if r.IntN(20) == 0 { // a duplicate of something within the last second
			id -= min(i, r.Int64N(int64(perMilli*1000)+1))
		}
		return event{fmt.Sprintf("event-%016x", uint64(id)*0x9e3779b97f4a7c15), fmt.Sprintf("user-%d", user), now - r.Int64N(500)}
	}
}

// lastSeen remembers users until they have not been seen for a minute.
type lastSeen struct {
	times *state.Value[string, int64]
}

func (l *lastSeen) Open(c *pipeline.Context[string, int64]) error {
	l.times = state.NewValue[int64](c.State(), "times", state.TTL(time.Minute, state.EventTime))
	return nil
}

func (l *lastSeen) Process(c *pipeline.Context[string, int64], e event) error {
	before, ok := l.times.Get()
	l.times.Set(e.Time)
	if !ok {
		c.Emit(before)
	}
	return nil
}

func job(dir string, rate float64, memory int64) *pipeline.Pipeline {
	p := pipeline.New(
		pipeline.Name("soak"), pipeline.StateMemory(memory),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))),
		pipeline.Checkpoints(dir, pipeline.CheckpointInterval(time.Second)),
	)
	events := pipeline.From(p, "events", generator.Func(0, eventAt(rate), generator.Rate(rate)),
		pipeline.BoundedDisorder(event.time, time.Second))
	unique := operators.Dedupe(events, "dedupe", event.id, 5*time.Minute)
	byUser := pipeline.KeyBy(unique, event.user)
	pipeline.To(operators.Aggregate(byUser, "sessions", window.Session(time.Minute), operators.Count[event]()), "sessions out", discard.Sink[operators.Result[string, int64]]())
	pipeline.To(operators.Aggregate(byUser, "minutes", window.Sliding(5*time.Minute, time.Minute), operators.Distinct(event.id)), "minutes out", discard.Sink[operators.Result[string, int64]]())
	pipeline.To(pipeline.Process(byUser, "last seen", func() *lastSeen { return &lastSeen{} }), "new users", discard.Sink[int64]())
	return p
}

// sample is what there is at one moment.
type sample struct {
	at       time.Duration
	events   int64
	entries  int64
	timers   int64
	heap     int64 // live after the last collection
	resident int64
	disk     int64 // checkpoints and working state
}

func soak(length, every time.Duration, rate float64, memory int64) error {
	dir, err := os.MkdirTemp("", "millrace-soak-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	p := job(filepath.Join(dir, "checkpoints"), rate, memory)
	samples := make(chan []sample)
	go func() { samples <- watch(ctx, p, dir, every) }()
	err = p.Run(ctx)
	cancel()
	all := <-samples
	if err != nil {
		return err
	}
	fmt.Printf("\n%+v\n", p.CheckpointStats())
	return flat(all)
}

func watch(ctx context.Context, p *pipeline.Pipeline, dir string, every time.Duration) (all []sample) {
	began := time.Now()
	fmt.Println("| time | events | state entries | timers in memory | live heap MiB | resident MiB | disk MiB |")
	fmt.Println("|---|---|---|---|---|---|---|")
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return all
		case <-tick.C:
		}
		s := look(p, dir)
		s.at = time.Since(began).Round(time.Second)
		all = append(all, s)
		fmt.Printf("| %v | %d | %d | %d | %d | %d | %d |\n",
			s.at, s.events, s.entries, s.timers, s.heap>>20, s.resident>>20, s.disk>>20)
	}
}

func look(p *pipeline.Pipeline, dir string) (s sample) {
	for _, op := range p.Stats() {
		s.entries += op.Gauges["state_entries"]
		s.timers += op.Gauges["timers"]
		if op.Operator == "events" {
			s.events += op.Out
		}
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	s.heap, s.resident, s.disk = int64(live[0].Value.Uint64()), resident(), sizeOf(dir)
	return s
}

// sizeOf adds up the files below dir, each once however many names it has.
func sizeOf(dir string) (size int64) {
	var seen []fs.FileInfo
	known := map[int64][]fs.FileInfo{}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it was removed meanwhile
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if slices.ContainsFunc(known[info.Size()], func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
			return nil
		}
		known[info.Size()] = append(known[info.Size()], info)
		seen = append(seen, info)
		return nil
	})
	for _, info := range seen {
		size += info.Size()
	}
	return size
}

// resident returns the process's memory as Linux counts it, 0 elsewhere.
func resident() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// flat compares the medians of the second and the last third.
func flat(all []sample) error {
	third := len(all) / 3
	if third < 3 {
		return errors.New("too few samples to tell")
	}
	var errs []error
	for _, figure := range []struct {
		name string
		of   func(sample) int64
	}{
		{"state entries", func(s sample) int64 { return s.entries }},
		{"live heap", func(s sample) int64 { return s.heap }},
		{"resident memory", func(s sample) int64 { return s.resident }},
		{"disk", func(s sample) int64 { return s.disk }},
	} {
		middle, last := median(all[third:2*third], figure.of), median(all[2*third:], figure.of)
		verdict := "flat"
		if float64(last) > 1.1*float64(middle) {
			verdict = "grows"
			errs = append(errs, fmt.Errorf("%s grew from %d to %d", figure.name, middle, last))
		}
		fmt.Printf("%-16s second third %12d, last third %12d: %s\n", figure.name, middle, last, verdict)
	}
	return errors.Join(errs...)
}

func median(of []sample, figure func(sample) int64) int64 {
	sorted := slices.SortedFunc(slices.Values(of), func(a, b sample) int { return cmp.Compare(figure(a), figure(b)) })
	return figure(sorted[len(sorted)/2])
}
