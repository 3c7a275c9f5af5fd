package checkpoint

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// damage changes a file in place.
func damage(t testing.TB, s *Store, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := s.disk.read(path)
	if err == nil {
		err = s.disk.write(path, change(bytes.Clone(b)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipBit(b []byte) []byte { b[len(b)/2] ^= 0x10; return b }

func saysAll(t testing.TB, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// TestTornManifest cuts the newest manifest at every length and flips each of
// its bytes: never is the one before it taken instead.
func TestTornManifest(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	mustTake(t, s, 1)
	mustTake(t, s, 2)
	path := s.path("chk-0000000002", manifestName)
	whole, err := s.disk.read(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		if err := s.disk.write(path, b); err != nil {
			t.Fatal(err)
		}
		m, err := s.Latest()
		if m != nil || !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: got %v, %v", what, m, err)
		}
		saysAll(t, err, path, "move "+s.path("chk-0000000002")+" away")
	}
	for n := range whole {
		refused(fmt.Sprintf("cut at %d", n), whole[:n])
		refused(fmt.Sprintf("bit of %d", n), append(append(bytes.Clone(whole[:n]), whole[n]^1), whole[n+1:]...))
	}
	if got, want := names(t, s), "chk-0000000001, chk-0000000002 (damaged)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m, err := s.Load("1"); err != nil || m.ID != 1 {
		t.Errorf("the one before can't be read: %v", err)
	}
}

// TestDamagedManifestStopsCleanUp has an older manifest damaged: nobody knows
// which files it needs, so none is removed, and it does not count as kept.
func TestDamagedManifestStopsCleanUp(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	mustTake(t, s, 1)
	mustTake(t, s, 2)
	damage(t, s, s.path("chk-0000000001", manifestName), flipBit)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, mem)
	mustTake(t, s, 3)
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, s), "chk-0000000001 (damaged), chk-0000000002, chk-0000000003"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if shared, _ := s.disk.list(s.path(sharedDir)); len(shared) != 3 {
		t.Errorf("shared files: %v", shared)
	}
	mustTake(t, s, 4)
	if err := s.Prune(); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, s), "chk-0000000002, chk-0000000003, chk-0000000004"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDamagedFiles(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(s *Store, path string) error
		says   string
	}{
		{"missing", func(s *Store, path string) error { return s.disk.remove(path) }, "not exist"},
		{"bit flipped", func(s *Store, path string) error {
			b, err := s.disk.read(path)
			return errors.Join(err, s.disk.write(path, flipBit(b)))
		}, "the manifest says 14 bytes, xxhash64 "},
		{"cut short", func(s *Store, path string) error { return s.disk.write(path, []byte("sorted")) }, "it has 6 bytes"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			first := mustTake(t, s, 1)
			mustTake(t, s, 2)
			f := first.Files()[0]
			if err := c.change(s, s.path(f.Path)); err != nil {
				t.Fatal(err)
			}
			err := s.Fetch(f, first, s.WorkDir()+"/fetched")
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("fetched: %v", err)
			}
			saysAll(t, err, "chk-0000000001", f.Path, c.says)
			if left, _ := s.disk.exists(s.WorkDir() + "/fetched"); left {
				t.Error("a damaged file was left at the local path")
			}
			all := problems(t, s)
			if len(all) != 1 || all[0].Path != f.Path || all[0].Note {
				t.Fatalf("problems: %v", all)
			}
			saysAll(t, errors.New(all[0].String()), f.Path, "chk-0000000001, chk-0000000002")
		})
	}
}

func TestFetchToADirectoryThatIsNotThere(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	m := mustTake(t, s, 1)
	if err := s.Fetch(m.Files()[0], m, "/nowhere/file"); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestVerifyNotesLeftovers(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	m := mustTake(t, s, 1)
	p, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bring(s, p, 2, m); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Savepoint("half", 2); err != nil {
		t.Fatal(err)
	}
	look, err := OpenReadOnly(mem, dir)
	if err != nil {
		t.Fatal(err)
	}
	all := problems(t, look)
	var paths []string
	for _, p := range all {
		if !p.Note {
			t.Errorf("not a note: %v", p)
		}
		paths = append(paths, p.Path)
	}
	got := strings.Join(paths, " ")
	if len(all) != 3 || !strings.HasPrefix(got, "chk-0000000002 shared/") || !strings.HasSuffix(got, " savepoints/.unfinished-half") {
		t.Errorf("got %s", got)
	}
	_ = s.Close()
	if got := problems(t, openStore(t, mem)); len(got) > 0 {
		t.Errorf("after the next start: %v", got)
	}
}

func TestVerifyProgressAndCancel(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	m := mustTake(t, s, 1)
	var done, total int64
	if _, err := s.Verify(t.Context(), func(d, n int64) { done, total = d, n }); err != nil {
		t.Fatal(err)
	}
	var want int64
	for _, f := range m.Files() {
		want += f.Size
	}
	if done != want || total != want {
		t.Errorf("read %d of %d, want %d", done, total, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownFormat(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	mustTake(t, s, 1)
	later := []byte("{\n  \"format\": 2,\n  \"program\": \"millrace v9.1.0\",\n  \"layout\": [\"of another world\"]\n}\n")
	manifest := append(later, checksumLine(sumOfBytes(later))...)
	if err := s.disk.write(s.path("chk-0000000001", manifestName), manifest); err != nil {
		t.Fatal(err)
	}
	_, err := s.Latest()
	if !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	saysAll(t, err, "format is 2", "millrace v9.1.0", "reads up to format 1")
	_ = s.Close()

	if err := s.disk.write(s.path(formatName), []byte("millrace checkpoints 2\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(mem, dir, Options{Logger: quiet}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenReadOnly(mem, dir); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("got %v", err)
	}
}

func sumOfBytes(b []byte) Checksum {
	s, _ := sumOfFile(bytes.NewReader(b), nil)
	return s.checksum
}

func TestOpenRefusesOtherDirectories(t *testing.T) {
	mem := vfs.NewMem()
	d := disk{mem}
	if err := errors.Join(d.makeDir("/home/work"), d.write("/home/thesis", []byte("x")), d.makeDir("/fresh/lost+found"),
		d.makeDir("/odd"), d.write("/odd/FORMAT", []byte("another program 7\n"))); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/home", "/odd"} {
		if _, err := Open(mem, dir, Options{}); !errors.Is(err, ErrNotStore) {
			t.Errorf("%s: got %v", dir, err)
		}
		if _, err := OpenReadOnly(mem, dir); !errors.Is(err, ErrNotStore) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
	if left, _ := d.list("/home"); strings.Join(left, " ") != "thesis work" {
		t.Errorf("a directory that was refused now holds %v", left)
	}
	if _, err := OpenReadOnly(mem, "/nowhere"); !missing(err) {
		t.Errorf("got %v", err)
	}
	s, err := Open(mem, "/fresh", Options{}) // a new volume
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestOpenRefusesAnotherJob(t *testing.T) {
	mem := vfs.NewMem()
	s := openStore(t, mem)
	mustTake(t, s, 1)
	_ = s.Close()
	_, err := Open(mem, dir, Options{Job: "sales", Logger: quiet})
	saysAll(t, err, `"visits"`, `"sales"`, dir)
	openStore(t, mem)
}

func TestTwoStoresOfOneProcess(t *testing.T) {
	at := filepath.Join(t.TempDir(), "checkpoints")
	s, err := Open(vfs.Default, at, Options{Job: "visits", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(at, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(at))
	for _, spelled := range []string{at, at + "/.", "checkpoints", link} {
		_, err = Open(vfs.Default, spelled, Options{Job: "visits"})
		if !errors.Is(err, ErrLocked) {
			t.Errorf("%s: got %v", spelled, err)
		}
		saysAll(t, err, fmt.Sprintf("process %d ", os.Getpid()), `job "visits"`)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(vfs.Default, link, Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

// TestTwoProcesses has a second process hold the store, and then be killed.
func TestTwoProcesses(t *testing.T) {
	const at = "MILLRACE_TEST_HOLD_STORE"
	if dir := os.Getenv(at); dir != "" {
		holdStore(dir)
		return
	}
	dir := t.TempDir()
	other := exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$")
	other.Env = append(os.Environ(), at+"="+dir)
	in, err1 := other.StdinPipe() // closes with this process, and ends the other
	out, err2 := other.StdoutPipe()
	if err := errors.Join(err1, err2, other.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Open(vfs.Default, dir, Options{Job: "visits", Logger: quiet})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	saysAll(t, err, dir, fmt.Sprintf("process %d ", other.Process.Pid), `job "other"`)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	s, err := Open(vfs.Default, dir, Options{Job: "visits", Logger: quiet})
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	mustTake(t, s, 1)
	_ = s.Close()
}

func holdStore(dir string) {
	if _, err := Open(vfs.Default, dir, Options{Job: "other"}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// TestOnDisk runs a life on the real file system.
func TestOnDisk(t *testing.T) {
	at := filepath.Join(t.TempDir(), "deep", "er")
	for run := range int64(3) {
		s, err := Open(vfs.Default, at, Options{Job: "visits", Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		for id := range int64(3) {
			m := mustTake(t, s, run*3+id+1)
			if err := s.Prune(); err != nil {
				t.Fatal(err)
			}
			if id == 1 {
				if _, err := s.Export(m, fmt.Sprint("run-", run)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if all := problems(t, s); len(all) > 0 {
			t.Errorf("problems: %v", all)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	look, err := OpenReadOnly(vfs.Default, at)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, look), "chk-0000000007, chk-0000000008, chk-0000000009, run-0, run-1, run-2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestCopyWhereLinksAreRefused has a file system without hard links.
func TestCopyWhereLinksAreRefused(t *testing.T) {
	s := openStore(t, noLinks{vfs.NewMem()})
	mustTake(t, s, 1)
	m := mustTake(t, s, 2)
	if err := s.Fetch(m.Files()[0], m, s.WorkDir()+"/fetched"); err != nil {
		t.Error(err)
	}
	if all := problems(t, s); len(all) > 0 {
		t.Errorf("problems: %v", all)
	}
}

type noLinks struct{ vfs.FS }

func (noLinks) Link(string, string) error { return errors.New("no links here") }
