package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// life is a process that takes checkpoints, prunes and exports, until a call to
// the file system ends it.
type life struct {
	s         *Store
	committed int64 // the last whose Commit said so
	tried     int64 // the last whose Commit was called, or would have been
	exported  bool
}

func (l *life) run(fs vfs.FS) (err error) {
	if l.s, err = Open(fs, dir, Options{Job: "visits", Keep: 2, Logger: quiet}); err != nil {
		return err
	}
	for id := range int64(5) {
		l.tried = id + 1
		m, err := take(l.s, id+1)
		if err != nil {
			return err
		}
		l.committed = id + 1
		if id == 1 {
			if _, err := l.s.Export(m, "kept"); err != nil {
				return err
			}
			l.exported = true
		}
		if err := l.s.Prune(); err != nil {
			return err
		}
	}
	return l.s.Close()
}

func (l *life) end() {
	if l.s != nil {
		_ = l.s.Close()
	}
}

// atOperation calls f at the n-th call to the file system, which fails with
// what f returns, as do all that follow.
func atOperation(fs vfs.FS, n int, f func() error) vfs.FS {
	var over error
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(errorfs.Op) error {
		if n--; n == 0 {
			over = f()
		}
		return over
	}))
}

// operations returns how many calls to the file system a life consists of.
func operations(t *testing.T) int {
	n := 0
	count := errorfs.InjectorFunc(func(errorfs.Op) error { n++; return nil })
	l := &life{}
	if err := l.run(errorfs.Wrap(vfs.NewCrashableMem(), count)); err != nil {
		t.Fatal(err)
	}
	return n
}

var errKilled = errors.New("killed")

// TestRule26_PowerLossAtEveryCall loses the power at every call to the file
// system, and with it none, some, or all of what was not synced.
func TestRule26_PowerLossAtEveryCall(t *testing.T) {
	t.Parallel()
	for n := range operations(t) {
		mem := vfs.NewCrashableMem()
		var after []*vfs.MemFS
		l := &life{}
		err := l.run(atOperation(mem, n+1, func() error {
			for seed, percent := range []int{0, 40, 60, 100} {
				rng := rand.New(rand.NewPCG(uint64(n), uint64(seed)))
				after = append(after, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
			return errKilled
		}))
		l.end()
		for i, crashed := range after {
			if _, bad := l.survivor(t, crashed); bad != nil {
				t.Fatalf("call %d (%v), loss %d: %v\n%s", n+1, err, i, bad, crashed)
			}
		}
	}
}

// TestRule26_KillThenPowerLoss kills the process at every call, starts it again
// on what it can see, and then loses the power: what was restored from, and may
// have been delivered, has to be there still.
func TestRule26_KillThenPowerLoss(t *testing.T) {
	t.Parallel()
	for n := range operations(t) {
		mem := vfs.NewCrashableMem()
		l := &life{}
		err := l.run(atOperation(mem, n+1, func() error { return errKilled }))
		l.end()
		seen, bad := l.survivor(t, mem)
		if bad != nil {
			t.Fatalf("call %d (%v): %v\n%s", n+1, err, bad, mem)
		}
		lost := mem.CrashClone(vfs.CrashCloneCfg{})
		still, bad := l.survivor(t, lost)
		if bad != nil || still != seen {
			t.Fatalf("call %d (%v): restored from checkpoint %d, then the newest was %d, %v\n%s", n+1, err, seen, still, bad, lost)
		}
	}
}

// TestRule26_PowerLossDuringRecovery loses the power at every call of the start
// that follows a kill, while it removes what that left.
func TestRule26_PowerLossDuringRecovery(t *testing.T) {
	t.Parallel()
	// before is a life that was killed at the last moment before checkpoint 5.
	before := func() (*life, *vfs.MemFS) {
		mem, l, killed := vfs.NewCrashableMem(), &life{}, error(nil)
		err := l.run(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, "chk-0000000005/MANIFEST.tmp") {
				killed = errKilled
			}
			return killed
		})))
		l.end()
		if err == nil || l.committed != 4 || l.tried != 5 {
			t.Fatalf("checkpoint %d was committed, %v", l.committed, err)
		}
		return l, mem
	}
	for n, died := 1, true; died; n++ {
		l, mem := before()
		died = false
		var after []*vfs.MemFS
		err := startAgain(atOperation(mem, n, func() error {
			died = true
			for seed, percent := range []int{0, 50, 100} {
				rng := rand.New(rand.NewPCG(uint64(n), uint64(seed)))
				after = append(after, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
			return errKilled
		}))
		if !died && err != nil {
			t.Fatal(err)
		}
		for i, crashed := range after {
			if _, bad := l.survivor(t, crashed); bad != nil {
				t.Fatalf("call %d (%v), loss %d: %v\n%s", n, err, i, bad, crashed)
			}
		}
	}
}

// startAgain opens the store and takes checkpoint 5.
func startAgain(fs vfs.FS) error {
	s, err := Open(fs, dir, Options{Job: "visits", Keep: 2, Logger: quiet})
	if err != nil {
		return err
	}
	_, err = take(s, 5)
	return errors.Join(err, s.Close())
}

// survivor opens what is left and returns its newest checkpoint. That is the
// last committed, or the one that was being committed; everything is whole, and
// nothing else is there.
func (l *life) survivor(t *testing.T, fs vfs.FS) (int64, error) {
	s, err := Open(fs, dir, Options{Job: "visits", Keep: 2, Logger: quiet})
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Close() }()
	m, err := s.Latest()
	if err != nil {
		return 0, err
	}
	var id int64
	if m != nil {
		id = m.ID
	}
	if id != l.committed && id != l.tried {
		return id, fmt.Errorf("newest is %d, the last committed was %d", id, l.committed)
	}
	if all, err := s.Verify(t.Context(), nil); err != nil || len(all) > 0 {
		return id, fmt.Errorf("problems %v, %w", all, err)
	}
	if _, err := s.Load("kept"); l.exported && err != nil {
		return id, err
	}
	return id, nil
}

// TestFaultAtEveryCall has one call fail, or all from one on until the
// checkpoint is given up. The error says what and where, and the store goes on.
func TestFaultAtEveryCall(t *testing.T) {
	writes := func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }
	every := func(errorfs.Op) bool { return true }
	for _, c := range []struct {
		what    string
		calls   func(errorfs.Op) bool
		lasting bool
		err     error
	}{
		{"disk full for a moment", writes, false, syscall.ENOSPC},
		{"disk full", writes, true, syscall.ENOSPC},
		{"read-only", writes, true, syscall.EROFS},
		{"no permission", every, true, syscall.EACCES},
		{"one broken call", every, false, syscall.EIO},
	} {
		t.Run(c.what, func(t *testing.T) {
			for n := 1; ; n++ {
				mem := vfs.NewMem()
				calls, on := 0, false
				s := openStore(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if !on || !c.calls(op) {
						return nil
					}
					if calls++; calls == n || c.lasting && calls > n {
						return c.err
					}
					return nil
				})))
				mustTake(t, s, 1)
				on = true
				_, err := take(s, 2)
				on = false
				if bad := afterFault(t, s, mem, err, c.err); bad != nil {
					t.Fatalf("call %d: %v\n%s", n, bad, mem)
				}
				if calls < n {
					break
				}
			}
		})
	}
}

// afterFault checks the error of checkpoint 2, and that the store is fit for
// use.
func afterFault(t *testing.T, s *Store, mem *vfs.MemFS, fault, cause error) error {
	switch {
	case fault != nil && !errors.Is(fault, cause):
		return fmt.Errorf("the error does not say what is wrong: %w", fault)
	case fault != nil && !strings.Contains(fault.Error(), dir):
		return fmt.Errorf("the error does not say where: %w", fault)
	case errors.Is(fault, ErrUncertain):
		if _, err := s.Begin(3); !errors.Is(err, ErrUncertain) {
			return fmt.Errorf("the store goes on in uncertainty: %w", err)
		}
		_ = s.Close()
		s = openStore(t, mem)
	}
	newest, err := s.Latest()
	if err != nil {
		return err
	}
	if (newest.ID == 1) != (fault != nil) && !errors.Is(fault, ErrUncertain) {
		return fmt.Errorf("newest is %d after %w", newest.ID, fault)
	}
	if _, err := take(s, 3); err != nil {
		return err
	}
	if err := s.Prune(); err != nil {
		return err
	}
	if all := problems(t, s); len(all) > 0 {
		return fmt.Errorf("problems: %v", all)
	}
	return s.Close()
}

// TestUncertainCommit has the sync after the rename fail: the only case in
// which nobody knows.
func TestUncertainCommit(t *testing.T) {
	mem := vfs.NewCrashableMem()
	renamed := false
	s := openStore(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, "MANIFEST.tmp") {
			renamed = true
			return nil
		}
		if renamed && op.Kind == errorfs.OpFileSync {
			return syscall.EIO
		}
		return nil
	})))
	_, err := take(s, 1)
	if !errors.Is(err, ErrUncertain) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if err := s.Prune(); !errors.Is(err, ErrUncertain) {
		t.Errorf("pruned in uncertainty: %v", err)
	}
	lost := openStore(t, mem.CrashClone(vfs.CrashCloneCfg{}))
	if m, err := lost.Latest(); m != nil || err != nil {
		t.Errorf("after a power loss: %v, %v", m, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	there := openStore(t, mem)
	if m, err := there.Latest(); err != nil || m == nil || m.ID != 1 {
		t.Errorf("after a restart: %v, %v", m, err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	mustTake(t, s, 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ro := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
			return syscall.EROFS
		}
		return nil
	}))
	_, err := Open(ro, dir, Options{Logger: quiet})
	if !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	look, err := OpenReadOnly(ro, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := problems(t, look); len(got) > 0 || names(t, look) != "chk-0000000001" {
		t.Errorf("%s has problems %v", names(t, look), got)
	}
	if _, err := look.Begin(2); err == nil {
		t.Error("began a checkpoint in a store opened to read only")
	}
}
