package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func count(b *Backend[int], v *Value[int, int64], key int) {
	b.SetKey(key, b.hasher(key))
	*v.Upsert()++
}

func begin(t *testing.T, b *Backend[int]) *Snapshotting {
	t.Helper()
	s, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func finish(t *testing.T, s *Snapshotting, dir string) *Snapshot {
	t.Helper()
	snapshot, err := s.Finish(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// TestUnchangedSnapshot: it is so only while the last one is really there.
func TestUnchangedSnapshot(t *testing.T) {
	b := attached[int](t, vfs.NewMem(), false)
	v := NewValue[int64](b, "v")
	count(b, v, 1)
	unchanged := func(when string, want bool) *Snapshotting {
		t.Helper()
		s := begin(t, b)
		if s.Unchanged != want {
			t.Fatalf("%s: unchanged is %v, want %v", when, s.Unchanged, want)
		}
		return s
	}
	first := unchanged("at first", false)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := first.Finish(ended, "0"); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error of a snapshot that was cancelled is %v", err)
	}
	second := unchanged("after one that was cancelled", false)
	if _, err := b.storage.fs.Stat("0"); err == nil {
		t.Error("the snapshot that was cancelled has left a directory")
	}
	finish(t, second, "1")
	unchanged("after one", true)
	unchanged("again", true)
	second.Lost()
	finish(t, unchanged("after one that was lost", false), "2")
	v.Get()
	unchanged("after a look", true)
	count(b, v, 1)
	finish(t, unchanged("after a change", false), "3")
}

// TestSnapshotSparesADirectoryThatIsThere: to finish into one is an error, and
// what is there stays.
func TestSnapshotSparesADirectoryThatIsThere(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		fs := vfs.NewMem()
		b := attached[int](t, fs, inMemory)
		count(b, NewValue[int64](b, "v"), 1)
		files := finish(t, begin(t, b), "one").Files
		count(b, b.declared[0].(*Value[int, int64]), 2)
		if _, err := begin(t, b).Finish(context.Background(), "one"); err == nil {
			t.Error("two snapshots went into one directory")
		}
		if left, err := fs.List("one"); err != nil || len(left) != len(files) {
			t.Errorf("of %v there is %v, %v", files, left, err)
		}
	}
}

// TestRule20_EmptySnapshots: a subtask without an entry can be restored from.
func TestRule20_EmptySnapshots(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		fs := vfs.NewMem()
		b := attached[int](t, fs, inMemory)
		NewValue[int64](b, "v")
		s := finish(t, begin(t, b), "empty")
		again := attached[int](t, fs, !inMemory, Restored{s.Dir, b.Owned()})
		if v := NewValue[int64](again, "v"); v.Len() != 0 || again.Ready() != nil {
			t.Errorf("%d entries, %v", v.Len(), again.Err())
		}
	}
}

// TestRestartKnowsItsSize: the number of entries is known when they did not all
// fit into memory, and they are read when they are asked for.
func TestRestartKnowsItsSize(t *testing.T) {
	fs := vfs.NewMem()
	b := attached[int](t, fs, false)
	v := NewValue[int64](b, "v")
	for k := range 10_000 {
		count(b, v, k)
	}
	s := finish(t, begin(t, b), "full")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := attached[int](t, fs, false, Restored{s.Dir, b.Owned()})
	again.storage.budget = 32 << 10
	v = NewValue[int64](again, "v")
	if n := v.Len(); n != 10_000 || v.t.entries > 5000 {
		t.Errorf("%d entries, %d of them in memory", n, v.t.entries)
	}
	for k := range 10_001 {
		again.SetKey(k, again.hasher(k))
		if _, ok := v.Get(); ok != (k < 10_000) {
			t.Fatalf("key %d is there: %v", k, ok)
		}
	}
}

// syncAll does what whoever keeps a snapshot does: after it, the snapshot is on
// disk, whatever of the working state is not.
func syncAll(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	files, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{dir, "/"} {
		d, err := fs.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRule26_SnapshotSurvivesACrash: the files that Finish has returned are all
// there is to a snapshot, whatever the crash leaves of the working state.
func TestRule26_SnapshotSurvivesACrash(t *testing.T) {
	for seed := range uint64(10) {
		fs := vfs.NewCrashableMem()
		w := newWorld(t, seed, fs)
		w.open(nil)
		for ; w.step < 500; w.step++ {
			w.change(w.rng.IntN(w.keys))
		}
		w.snapshot()
		for ; w.step < 700; w.step++ {
			w.change(w.rng.IntN(w.keys))
			w.subtasks[0].b.Relieve()
		}
		w.join()
		saved := w.saved[0]
		for _, part := range saved.parts {
			syncAll(t, fs, part.Dir)
		}
		w.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed) * 10, RNG: w.rng})
		w.close()
		w.dirs += 1000 // the crash has left others behind
		w.open(saved)
		w.compareKeys()
		w.drain()
		w.close()
	}
}

// TestFaultsComeOut: whatever call to the file system fails, the caller gets to
// know, and never sees a value that is wrong or missing.
func TestFaultsComeOut(t *testing.T) {
	failures, step := 0, int32(3)
	if raceEnabled { // which takes ten times as long
		step = 13
	}
	for at := int32(0); at < 400; at += step {
		if faulty(t, at) {
			failures++
		}
	}
	if failures == 0 {
		t.Error("no fault has come out")
	}
}

var errInjected = errorfs.ErrInjected

// faulty runs with reads and data files that fail from a given call on.
func faulty(t *testing.T, at int32) (failed bool) {
	t.Helper()
	var calls atomic.Int32
	var on atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		// A manifest that can't be written ends the process.
		if !on.Load() || !strings.HasSuffix(op.Path, ".sst") {
			return nil
		}
		if calls.Add(1) > at {
			return errInjected
		}
		return nil
	}))
	s, err := NewStorage(StorageConfig{Dir: "work", FS: fs, Memory: 8 << 20, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.budget, s.memTable = 4<<10, 256<<10
	b := NewBackend[int](7, Range{0, 6})
	if err := b.Attach(s, "backend", nil); err != nil {
		t.Fatal(err)
	}
	v := NewValue[string](b, "v")
	if err := b.Ready(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	defer func() {
		if r := recover(); r != nil {
			err, ok := r.(*StorageError)
			if !ok || !errors.Is(err, errInjected) {
				panic(r)
			}
			failed = true
		}
	}()
	use := func(k int) { b.SetKey(k, b.hasher(k)) }
	for round := range 6 {
		for k := range 300 {
			use(k)
			if got, want := *v.Upsert(), fmt.Sprint(k, round-1); got != want && round > 0 {
				t.Fatalf("fault at %d, round %d: %d is %q, want %q", at, round, k, got, want)
			}
			*v.Upsert() = fmt.Sprint(k, round)
			if k%50 == 0 {
				b.Relieve()
			}
		}
		on.Store(round > 0)
		snapshot, err := b.Snapshot()
		if err == nil {
			_, err = snapshot.Finish(context.Background(), fmt.Sprint("snapshot-", round))
		}
		if err != nil && !errors.Is(err, errInjected) {
			t.Fatalf("fault at %d: %v", at, err)
		}
		failed = failed || err != nil
	}
	return failed
}

// TestAttachClosesWhatItOpened: a snapshot that is no good is an error, after
// which nothing is left open and Close is harmless.
func TestAttachClosesWhatItOpened(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		for _, split := range []bool{false, true} {
			fs := vfs.NewMem()
			good := attached[int](t, fs, false)
			count(good, NewValue[int64](good, "v"), 1)
			s := finish(t, begin(t, good), "good")
			from := []Restored{{s.Dir, Range{0, 63}}, {"missing", Range{64, 127}}}
			if !split {
				from = from[1:]
				from[0].Owned = good.Owned()
			}
			storage, err := NewStorage(StorageConfig{Dir: "other", FS: fs, InMemory: inMemory, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			b := NewBackend[int](DefaultMaxParallelism, good.Owned())
			err = b.Attach(storage, "backend", from)
			NewValue[int64](b, "v")
			if err = errors.Join(err, b.Err()); err == nil {
				t.Errorf("in memory %v, split %v: a snapshot that is missing was taken", inMemory, split)
			}
			if n := storage.backends.Load(); n != 0 {
				t.Errorf("in memory %v, split %v: %d backends are open", inMemory, split, n)
			}
			if err := b.Close(); err != nil {
				t.Errorf("in memory %v, split %v: close: %v", inMemory, split, err)
			}
			storage.Close() // which panics if a file is still open
		}
	}
}
