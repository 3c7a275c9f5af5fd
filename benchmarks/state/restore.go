package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/state"
)

// restoreEvents are what is done after a restore, to see when it is warm.
const restoreEvents = 100_000

// restores measures how long a backend takes to open what a checkpoint has of it, by
// its size: as it was, and divided, which is what a job of another parallelism does.
func restores(c config) ([]goal, error) { return c.bySize("-restore", c.restore, restoreKeys) }

func restoreKeys(c config, n int) ([]goal, error) {
	c.dir = filepath.Join(c.dir, fmt.Sprint("restore-", n))
	bytes, err := c.fillSnapshot(n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(c.dir) }()
	var goals []goal
	for _, parts := range []int{1, 2} {
		var opened, warm []float64
		for round := range c.rounds {
			o, w, err := c.restoreHalf(fmt.Sprintf("%d-%d", parts, round), n, parts)
			if err != nil {
				return nil, err
			}
			opened, warm = append(opened, o.Seconds()*1000), append(warm, w.Seconds()*1000)
		}
		how := "as it was"
		if parts > 1 {
			how = "one half of it"
		}
		goals = append(goals, goal{
			Name: fmt.Sprintf("restore %d keys, %s", n, how), Value: median(opened), Unit: "ms",
			Note: fmt.Sprintf("%.0f MB; %d events after it took %.0f ms", float64(bytes)/1e6, restoreEvents, median(warm)),
		})
	}
	return goals, nil
}

// snapshot is where the checkpoint is.
func (c config) snapshot() string { return filepath.Join(c.dir, "snapshot") }

func (c config) fillSnapshot(n int) (bytes int64, err error) {
	o, err := openOurs(c, "first")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if _, err := run(o, newKeys("fill", n, 0), n); err != nil {
		return 0, fmt.Errorf("fill: %w", err)
	}
	s, err := o.backend.Snapshot()
	if err != nil {
		return 0, err
	}
	snapshot, err := s.Finish(context.Background(), c.snapshot())
	for _, file := range snapshot.Files {
		if info, err := os.Stat(filepath.Join(c.snapshot(), file)); err == nil {
			bytes += info.Size()
		}
	}
	return bytes, err
}

// restoreHalf opens the first of so many parts of the snapshot, and counts events of
// the keys in it.
func (c config) restoreHalf(name string, n, parts int) (opened, warm time.Duration, err error) {
	dir := filepath.Join(c.dir, name)
	if err := os.CopyFS(dir+"-from", os.DirFS(c.snapshot())); err != nil {
		return 0, 0, err
	}
	all := state.RangeOf(0, 1, state.DefaultMaxParallelism)
	owned := state.RangeOf(0, parts, state.DefaultMaxParallelism)
	start := time.Now()
	o, err := attachOurs(c, name, owned, state.Restored{Dir: dir + "-from", Owned: all})
	if err != nil {
		return 0, 0, err
	}
	opened = time.Since(start)
	defer func() { err = errors.Join(err, o.close()) }()
	events := c.ownedKeys(o, owned, n)
	start = time.Now()
	for at := 0; at < len(events); at += batchSize {
		if _, err := o.update(events[at:min(at+batchSize, len(events))]); err != nil {
			return 0, 0, err
		}
	}
	return opened, time.Since(start), o.check(events[0])
}

// ownedKeys are the keys of events that are in some key groups.
func (c config) ownedKeys(o *ours, owned state.Range, n int) []string {
	k := newKeys("uniform", n, 8)
	var events []string
	for len(events) < restoreEvents {
		for _, key := range k.batch(batchSize) {
			if owned.Contains(state.KeyGroup(o.hash(key), state.DefaultMaxParallelism)) {
				events = append(events, key)
			}
		}
	}
	return events
}

// check says whether a key has what it had before the restore.
func (o *ours) check(key string) error {
	o.backend.SetKey(key, o.hash(key))
	got, want := *o.values.Upsert(), fresh(key)
	if got[0] < 2 || got[1] != want[1] || got[2] != want[2] {
		return fmt.Errorf("key %q has %v after the restore", key, got)
	}
	return nil
}
