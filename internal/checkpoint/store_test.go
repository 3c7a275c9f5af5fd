package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const dir = "/data/checkpoints"

func openStore(t testing.TB, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(fs, dir, Options{Job: "visits", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sstContent is what the n-th shared file of a test holds.
func sstContent(n int64) []byte { return fmt.Appendf(nil, "sorted table %d", n) }

// take takes the checkpoint with that id: it shares one new file, reuses that
// of the checkpoint before it, and has a private one.
func take(s *Store, id int64) (*Manifest, error) {
	before, err := s.Latest()
	if err != nil {
		return nil, err
	}
	p, err := s.Begin(id)
	if err != nil {
		return nil, err
	}
	m, err := bring(s, p, id, before)
	if err == nil {
		err = p.Commit(m)
	}
	if err != nil {
		p.Abandon()
		return nil, err
	}
	return m, nil
}

func bring(s *Store, p *Pending, id int64, before *Manifest) (*Manifest, error) {
	var files []File
	local := s.disk.PathJoin(s.WorkDir(), fmt.Sprintf("%06d.sst", id))
	if err := writeUnsynced(s, local, sstContent(id)); err != nil {
		return nil, err
	}
	f, err := p.Share(local, s.disk.PathBase(local))
	if err != nil {
		return nil, err
	}
	files = append(files, f)
	if before != nil {
		newest := before.Operators[0].Subtasks[0].Keyed.Files[0]
		if f, err = p.Reuse(newest); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if f, err = p.Private("CURRENT", fmt.Appendf(nil, "private %d", id)); err != nil {
		return nil, err
	}
	return manifestOf(append(files, f)), nil
}

// writeUnsynced leaves it to the store to bring what is written to the disk.
func writeUnsynced(s *Store, path string, data []byte) error {
	f, err := s.disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return pathError("create", path, err)
	}
	_, err = f.Write(data)
	return closeAfter(f, pathError("write", path, err))
}

func manifestOf(files []File) *Manifest {
	return &Manifest{MaxParallelism: 128, Operators: []Operator{{
		Name: "uv", Kind: "operator", Parallelism: 1, KeyType: "string",
		States: []State{{Name: "count", Kind: "value", Type: "int64", Versions: []uint32{1}}},
		Subtasks: []Subtask{{
			End: 128, Watermark: 1234,
			Keyed:    &Snapshot{Format: "pebble", Files: files, Entries: 7, Bytes: 70},
			Splits:   []Split{{Name: "a.log", Position: []byte("offset 17"), Watermark: 1234}},
			Prepared: []Prepared{{Checkpoint: 3, Data: []byte("rows")}},
		}},
	}}}
}

func mustTake(t testing.TB, s *Store, id int64) *Manifest {
	t.Helper()
	m, err := take(s, id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func names(t testing.TB, s *Store) string {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, l := range all {
		name := l.Name
		if l.Err != nil {
			name += " (damaged)"
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

// problems returns what Verify finds, notes too.
func problems(t testing.TB, s *Store) []Problem {
	t.Helper()
	all, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestStoreKeepsTheLastThree(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	if m, err := s.Latest(); m != nil || err != nil {
		t.Fatalf("a new store has %v, %v", m, err)
	}
	for id := range int64(5) {
		mustTake(t, s, id+1)
		if err := s.Prune(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := names(t, s), "chk-0000000003, chk-0000000004, chk-0000000005"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// 3 to 5 have a file each, and 3 reuses that of 2.
	shared, err := mem.List(dir + "/shared")
	if err != nil || len(shared) != 4 {
		t.Errorf("shared files %v, %v, want 4", shared, err)
	}
	if got := problems(t, s); len(got) > 0 {
		t.Errorf("problems: %v", got)
	}
}

func TestStoreReopened(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	want := mustTake(t, s, 1)
	if err := s.disk.write(s.WorkDir()+"/left", []byte("x")); err != nil {
		t.Fatal(err)
	}
	run := s.Run()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, mem)
	if s.Run() == run {
		t.Errorf("two runs are called %s", run)
	}
	got, err := s.Latest()
	if err != nil {
		t.Fatal(err)
	}
	if g, w := encoded(t, got), encoded(t, want); g != w {
		t.Errorf("got %s\nwant %s", g, w)
	}
	// The working state of an unclean exit is gone: rule 26.
	if left, _ := s.disk.list(s.WorkDir()); len(left) > 0 {
		t.Errorf("work holds %v", left)
	}
	// What the store held before can be reused.
	mustTake(t, s, 2)
	if got := s.LastID(); got != 2 {
		t.Errorf("last id %d", got)
	}
}

func encoded(t testing.TB, m *Manifest) string {
	t.Helper()
	b, err := encodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFetch(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	mustTake(t, s, 1)
	m := mustTake(t, s, 2)
	for i, want := range []string{"sorted table 2", "sorted table 1", "private 2"} {
		f := m.Operators[0].Subtasks[0].Keyed.Files[i]
		local := s.WorkDir() + "/fetched-" + f.Name
		if err := s.Fetch(f, m, local); err != nil {
			t.Fatal(err)
		}
		if b, err := s.disk.read(local); err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", f.Name, b, err, want)
		}
		if b, err := s.Read(f, m); err != nil || string(b) != want {
			t.Errorf("%s: read %q, %v, want %q", f.Name, b, err, want)
		}
		if err := s.Fetch(f, m, local); err == nil && f.shared() {
			t.Errorf("%s: fetched over a file that was there", f.Name)
		}
	}
}

func TestAbandonRemovesWhatWasBrought(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	before := mustTake(t, s, 1)
	p, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	m, err := bring(s, p, 2, before)
	if err != nil {
		t.Fatal(err)
	}
	p.Abandon()
	p.Abandon()
	if got := problems(t, s); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	for _, f := range m.Files() {
		if want := f.Path == before.Files()[0].Path; s.Holds(f) != want {
			t.Errorf("holds %s: %v, want %v", f.Path, !want, want)
		}
	}
	if err := p.Commit(m); err == nil {
		t.Error("an abandoned checkpoint was committed")
	}
	mustTake(t, s, 2)
}

func TestBeginRefuses(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	mustTake(t, s, 4)
	if _, err := s.Begin(4); err == nil {
		t.Error("checkpoint 4 was begun twice")
	}
	if _, err := s.Begin(5); err != nil {
		t.Error(err)
	}
	if _, err := s.Begin(5); err == nil {
		t.Error("checkpoint 5 was begun twice")
	}
	for _, name := range []string{"", "a/b", `a\b`, "..", ".hidden", "ä", strings.Repeat("x", 200)} {
		if _, err := s.Savepoint(name, 6); err == nil {
			t.Errorf("savepoint %q was begun", name)
		}
	}
}

func TestCommitRefusesFilesNobodyBrought(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	first := mustTake(t, s, 1)
	p, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abandon()
	if err := p.Commit(manifestOf(first.Files())); err == nil {
		t.Error("committed with files of another checkpoint")
	}
	f := first.Files()[0]
	f.Path = "shared/unknown"
	if _, err := p.Reuse(f); !errors.Is(err, ErrUnknownFile) {
		t.Errorf("reused an unknown file: %v", err)
	}
}

func TestReuseKeepsAFileFromPruning(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	s.opts.Keep = 1
	first := mustTake(t, s, 1)
	p, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.Reuse(first.Files()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(manifestOf([]File{f})); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "chk-0000000002" {
		t.Errorf("got %s", got)
	}
	if got := problems(t, s); len(got) > 0 {
		t.Errorf("problems: %v", got)
	}
}

func TestSavepoint(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	m := mustTake(t, s, 1)
	if _, err := s.Export(m, "before-upgrade"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(m, "before-upgrade"); err == nil {
		t.Error("one savepoint over another")
	}
	for id := range int64(4) {
		mustTake(t, s, id+2)
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, s), "chk-0000000003, chk-0000000004, chk-0000000005, before-upgrade"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	checkSavepoint(t, s, "before-upgrade")

	// It can be moved, and the store taken away.
	if err := mem.MkdirAll("/backup", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := mem.Rename(dir+"/savepoints/before-upgrade", "/backup/moved"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mem.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	checkSavepoint(t, openStore(t, mem), "/backup/moved")
	alone, err := OpenReadOnly(mem, "/backup/moved")
	if err != nil {
		t.Fatal(err)
	}
	if got := problems(t, alone); len(got) > 0 || names(t, alone) != "moved" {
		t.Errorf("%s has problems %v", names(t, alone), got)
	}
}

func checkSavepoint(t *testing.T, s *Store, name string) {
	t.Helper()
	m, err := s.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if m.Kind != KindSavepoint || m.Name != "before-upgrade" || m.ID != 1 {
		t.Errorf("got %s %q of %d", m.Kind, m.Name, m.ID)
	}
	var got []string
	for _, f := range m.Files() {
		b, err := s.Read(f, m)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	if want := []string{"sorted table 1", "private 1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestManyTasks has tasks bring files while the store is pruned.
func TestManyTasks(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	s.opts.Keep = 1
	var before *Manifest
	for id := range int64(20) {
		p, err := s.Begin(id + 1)
		if err != nil {
			t.Fatal(err)
		}
		files := make([][]File, 8)
		var tasks sync.WaitGroup
		for i := range files {
			tasks.Go(func() { files[i] = bringOne(t, s, p, i, before) })
		}
		if err := s.Prune(); err != nil {
			t.Error(err)
		}
		tasks.Wait()
		m := manifestOf(slices.Concat(files...))
		if err := p.Commit(m); err != nil {
			t.Fatal(err)
		}
		before = m
	}
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if all := problems(t, s); len(all) > 0 {
		t.Errorf("problems: %v", all)
	}
}

// bringOne brings what one of several tasks has: a new file, and that of the
// checkpoint before.
func bringOne(t *testing.T, s *Store, p *Pending, task int, before *Manifest) []File {
	name := fmt.Sprintf("%d-%d.sst", p.id, task)
	err1 := writeUnsynced(s, s.WorkDir()+"/"+name, []byte(name))
	sst, err2 := p.Share(s.WorkDir()+"/"+name, name)
	private, err3 := p.Private("CURRENT", []byte(name))
	files := []File{sst, private}
	var err4 error
	if before != nil {
		last := slices.IndexFunc(before.Files(), func(f File) bool { return f.Name == fmt.Sprintf("%d-%d.sst", p.id-1, task) })
		var again File
		again, err4 = p.Reuse(before.Files()[last])
		files = append(files, again)
	}
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Error(err)
	}
	return files
}

// TestPruneSparesWhatIsPending prunes between what a checkpoint brings and its
// commit: a new file, and one that only a pruned checkpoint had.
func TestPruneSparesWhatIsPending(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	s.opts.Keep = 1
	old := mustTake(t, s, 1).Files()[0]
	second, err1 := s.Begin(2)
	own, err2 := second.Private("own", nil)
	err3 := second.Commit(manifestOf([]File{own}))
	p, err4 := s.Begin(3)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	again, err1 := p.Reuse(old)
	err2 = writeUnsynced(s, s.WorkDir()+"/new.sst", []byte("new"))
	fresh, err3 := p.Share(s.WorkDir()+"/new.sst", "new.sst")
	err4 = s.Prune()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "chk-0000000002" {
		t.Errorf("got %s", got)
	}
	if err := p.Commit(manifestOf([]File{again, fresh})); err != nil {
		t.Fatal(err)
	}
	if all := problems(t, s); len(all) > 0 {
		t.Errorf("problems: %v", all)
	}
}
