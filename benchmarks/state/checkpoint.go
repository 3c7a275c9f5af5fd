package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/benchmarks/internal/results"
	"github.com/millrace/millrace/state"
)

const (
	checkpointKeys = 1_000_000
	// entryBytes is what an entry is encoded as: key group, state, key, version,
	// and the value.
	entryBytes = 2 + 4 + 13 + 1 + 1 + 10 + 10
)

// checkpoints measures the pause of a checkpoint, and what it writes.
func checkpoints(c config) (goals []goal, err error) {
	if c.dir, err = os.MkdirTemp(c.dir, "state-"); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(c.dir) }()
	o, err := openOurs(c, "checkpoint")
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.close() }()
	if _, err := run(o, newKeys("fill", checkpointKeys, 0), checkpointKeys); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	if _, _, err := o.checkpoint(filepath.Join(c.dir, "first")); err != nil {
		return nil, err
	}
	o.settle()
	run := checkpointRun{ours: o, dir: c.dir, changes: newKeys("uniform", checkpointKeys, 5), before: o.backend.DiskStats().Written}
	if err := run.take(20); err != nil {
		return nil, err
	}
	short := run.bytes(20)
	if err := run.take(100); err != nil { // in all, so that compactions have their part
		return nil, err
	}
	pause := median(run.pauses)
	return []goal{
		{Name: "pause of a checkpoint, 1 M keys, 1 % dirty", Goal: "under 50 ms", Value: pause, Unit: "ms", Met: pause < 50, Note: fmt.Sprintf("the longest %.1f ms", slices.Max(run.pauses))},
		short, run.bytes(100),
	}, nil
}

type checkpointRun struct {
	*ours
	dir     string
	changes *keys
	before  int64
	private int64 // bytes that are not in tables
	pauses  []float64
}

// take takes checkpoints until there are n.
func (r *checkpointRun) take(n int) error {
	for len(r.pauses) < n {
		if _, err := run(r.ours, r.changes, checkpointKeys/100); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		pause, private, err := r.checkpoint(filepath.Join(r.dir, fmt.Sprint("checkpoint-", len(r.pauses))))
		if err != nil {
			return err
		}
		r.pauses = append(r.pauses, float64(pause)/float64(time.Millisecond))
		r.private += private
	}
	r.settle()
	return nil
}

func (r *checkpointRun) bytes(n int) goal {
	written := r.backend.DiskStats().Written - r.before + r.private
	dirty := int64(n * checkpointKeys / 100 * entryBytes)
	ratio := float64(written) / float64(dirty)
	return goal{
		Name: fmt.Sprintf("bytes written by dirty bytes, %d checkpoints", n), Goal: "at most 3", Value: ratio, Unit: "times", Met: ratio <= 3,
		Note: fmt.Sprintf("%.1f MB, of which %.1f MB besides tables; dirty are %.1f MB", float64(written)/1e6, float64(r.private)/1e6, float64(dirty)/1e6),
	}
}

// settle waits until nothing is written any more: compactions count.
func (o *ours) settle() {
	for last := int64(-1); last != o.backend.DiskStats().Written; {
		last = o.backend.DiskStats().Written
		time.Sleep(2 * time.Second)
	}
}

// checkpoint takes one, and returns how long the backend's owner was held up,
// and the bytes of the files that this checkpoint shares with no other.
func (o *ours) checkpoint(dir string) (pause time.Duration, private int64, err error) {
	start := time.Now()
	s, err := o.backend.Snapshot()
	pause = time.Since(start)
	if err != nil {
		return 0, 0, err
	}
	snapshot, err := s.Finish(context.Background(), dir)
	if err != nil {
		return 0, 0, err
	}
	for _, file := range snapshot.Files {
		if state.Immutable(file) {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			return 0, 0, err
		}
		private += info.Size()
	}
	return pause, private, nil
}

// ── hot keys ─────────────────────────────────────────────────────────────────

func hot(c config) ([]goal, error) { return c.bySize("-hot", c.hot, hotKeys) }

// bySize measures one number of keys after the other, those that a flag names, in a
// folder of their own.
func (c config) bySize(flag, sizes string, measure func(c config, n int) ([]goal, error)) (goals []goal, err error) {
	if c.dir, err = os.MkdirTemp(c.dir, "state-"); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(c.dir) }()
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s: %q is no number of keys", flag, size)
		}
		g, err := measure(c, n)
		if err != nil {
			return nil, fmt.Errorf("%d keys: %w", n, err)
		}
		goals = append(goals, g...)
	}
	return goals, nil
}

func hotKeys(c config, n int) ([]goal, error) {
	o, err := openOurs(c, fmt.Sprint("hot-", n))
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.close() }()
	counts := map[string]int64{}
	events := slices.Clone(newKeys("uniform", n, 6).batch(2_000_000 / batchSize * batchSize))
	values := state.NewValue[int64](o.backend, "hot")
	var ratios, our, their []float64
	var both []round
	for turn := range 2*c.rounds + 1 {
		runtime.GC()
		start := results.CPU()
		sum := int64(0)
		for at := 0; at < len(events); at += batchSize {
			sum += o.count(values, events[at:at+batchSize])
		}
		middle := results.CPU()
		runtime.GC()
		want, again := int64(0), results.CPU()
		for _, k := range events {
			n := counts[k]
			want += n
			counts[k] = n + 1
		}
		end := results.CPU()
		if sum != want {
			return nil, fmt.Errorf("the counts add up to %d, want %d", sum, want)
		}
		if turn > 0 {
			x, y := float64(middle-start)/float64(len(events)), float64(end-again)/float64(len(events))
			ratios, our, their = append(ratios, x/y), append(our, x), append(their, y)
			both = append(both, round{x, y})
		}
	}
	r := median(ratios)
	return []goal{{
		Name: fmt.Sprintf("hot keys by a plain map, %d keys", n), Goal: "at most 1.3", Value: r, Unit: "times", Met: r <= 1.3,
		Note: fmt.Sprintf("%.0f ns and %.0f ns an event", median(our), median(their)), Rounds: both,
	}}, nil
}

func (o *ours) count(values *state.Value[string, int64], keys []string) (sum int64) {
	o.hashes = o.hashes[:0]
	for _, k := range keys {
		o.hashes = append(o.hashes, o.hash(k))
	}
	values.Prefetch(keys, o.hashes)
	for i, k := range keys {
		o.backend.SetKey(k, o.hashes[i])
		n := values.Upsert()
		sum += *n
		*n++
	}
	o.backend.Relieve()
	return sum
}
