package gokastore_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/lovoo/goka/storage"

	"github.com/millrace/millrace/state/gokastore"
)

// update is a record of the table's topic.
type update struct{ key, value string }

func updates(rng *rand.Rand, n int) []update {
	all := make([]update, n)
	for i := range all {
		all[i].key = fmt.Sprintf("key-%d", rng.IntN(50))
		if rng.IntN(5) > 0 {
			// Large enough for a recovery to write several times, and for Pebble to
			// flush its tables.
			all[i].value = fmt.Sprintf("%d-%0*d", i, 1+rng.IntN(20<<10), i)
		}
	}
	return all
}

func apply(s storage.Storage, u update) error {
	if u.value == "" {
		return s.Delete(u.key)
	}
	return s.Set(u.key, []byte(u.value))
}

// replay returns the table after the updates.
func replay(all []update) []string {
	table := map[string]string{}
	for _, u := range all {
		if table[u.key] = u.value; u.value == "" {
			delete(table, u.key)
		}
	}
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(table)) {
		lines = append(lines, k+"="+table[k])
	}
	return lines
}

// TestCrash takes what a crash would leave, at random moments of a recovery and
// of the time after it. The offset and the records must always be those of one
// moment; and what is promised to be on disk must be there.
func TestCrash(t *testing.T) {
	for seed, c := range []struct {
		name     string
		percent  int // of what was not synced that survives
		unlogged bool
	}{
		{"killed", 100, false},
		{"power lost", 0, false},
		{"power lost, half survives", 50, false},
		{"killed without log", 100, true},
		{"power lost without log", 30, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			crash(t, rand.New(rand.NewPCG(uint64(seed), 1)), c.percent, c.unlogged)
		})
	}
}

func crash(t *testing.T, rng *rand.Rand, percent int, unlogged bool) {
	t.Helper()
	const n, recovered = 250, 150
	all := updates(rng, n)
	fs := vfs.NewCrashableMem()
	on := func(fs vfs.FS) storage.Builder {
		return onFS(fs, gokastore.Pebble(func(o *pebble.Options) {
			o.FS, o.DisableWAL, o.MemTableSize = fs, unlogged, 256<<10
		}))
	}
	s := open(t, on(fs))
	for i, u := range all {
		must(t, apply(s, u))
		must(t, s.SetOffset(int64(i)))
		if i == recovered {
			must(t, s.MarkRecovered())
		}
		if rng.IntN(30) != 0 && i != recovered {
			continue
		}
		least := int64(-1)
		if i >= recovered {
			least = recovered
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
		left := open(t, on(after))
		checkCrashed(t, left, all, least, int64(i))
		must(t, left.Close())
	}
}

// checkCrashed checks that a storage has all updates up to its offset and none
// behind, and that the offset is at least and at most what is given.
func checkCrashed(t *testing.T, s storage.Storage, all []update, least, most int64) {
	t.Helper()
	offset, err := s.GetOffset(-1)
	must(t, err)
	if offset < least || offset > most {
		t.Fatalf("offset %d after a crash at %d, want at least %d", offset, most, least)
	}
	it, err := s.Iterator()
	must(t, err)
	defer it.Release()
	if got, want := pairs(t, it), replay(all[:offset+1]); !slices.Equal(got, want) {
		t.Fatalf("crash at %d: the offset is %d, and the table of %d keys is not the one of that moment, with %d", most, offset, len(got), len(want))
	}
}

// TestCloseLosesNothing loses power after Close.
func TestCloseLosesNothing(t *testing.T) {
	for _, logged := range []bool{true, false} {
		fs := vfs.NewCrashableMem()
		build := onFS(fs, gokastore.Pebble(func(o *pebble.Options) { o.FS, o.DisableWAL = fs, !logged }))
		all := updates(rand.New(rand.NewPCG(1, 1)), 50)
		s := open(t, build)
		for i, u := range all {
			must(t, apply(s, u))
			must(t, s.SetOffset(int64(i)))
		}
		must(t, s.Close())
		after := fs.CrashClone(vfs.CrashCloneCfg{})
		checkCrashed(t, open(t, onFS(after)), all, 49, 49)
	}
}

// TestDiskIsFull has the log refuse to grow. goka is to hear of it by an error,
// and what is left on disk is of one moment.
func TestDiskIsFull(t *testing.T) {
	var full atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	s, err := onFS(fs)("group-table", 3)
	must(t, err)
	must(t, s.MarkRecovered())
	all := updates(rand.New(rand.NewPCG(1, 1)), 400)
	for i, u := range all {
		if i == 200 {
			full.Store(true)
		}
		if err = errors.Join(apply(s, u), s.SetOffset(int64(i))); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want that the disk is full", err)
	}
	full.Store(false)
	if err := s.SetOffset(1000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a broken storage goes on: %v", err)
	}
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: got %v, want that the disk was full", err)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	checkCrashed(t, open(t, onFS(after)), all, -1, 399)
}
