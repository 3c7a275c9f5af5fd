package pipeline_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/files"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// What the newest checkpoint needs is damaged: the job refuses to start, names
// the file, and takes no other checkpoint instead, since sinks have delivered
// what the newest stands for.
func TestFaultDamagedCheckpoint(t *testing.T) {
	want := faultJobResults(t)
	flipped := func(b []byte) []byte { b[len(b)/2] ^= 4; return b }
	torn := func(b []byte) []byte { return b[:len(b)/2] }
	missing := func([]byte) []byte { return nil }
	newest := func(name string) bool { return strings.HasPrefix(name, "/job/chk-0000000002/") }
	manifest := func(name string) bool { return name == "/job/chk-0000000002/MANIFEST" }
	table := func(name string) bool { return strings.HasPrefix(name, "/job/shared/") }
	private := func(name string) bool { return newest(name) && !manifest(name) }
	for name, c := range map[string]struct {
		file   func(name string) bool
		damage func([]byte) []byte
		about  []string
	}{
		"torn manifest":        {manifest, torn, []string{"/job/chk-0000000002/MANIFEST", "damaged", "there is no checksum line", "newest checkpoint"}},
		"flipped manifest":     {manifest, flipped, []string{"/job/chk-0000000002/MANIFEST", "damaged", "checksum", "newest checkpoint"}},
		"missing table":        {table, missing, []string{"restore: chk-0000000002: file /job/shared/", ".sst", "damaged"}},
		"flipped table":        {table, flipped, []string{"restore: chk-0000000002: file /job/shared/", ".sst", "damaged", "the manifest says"}},
		"torn table":           {table, torn, []string{"restore: chk-0000000002: file /job/shared/", ".sst", "damaged", "the manifest says"}},
		"missing private file": {private, missing, []string{"restore: chk-0000000002: file /job/chk-0000000002/", "damaged"}},
		"flipped private file": {private, flipped, []string{"restore: chk-0000000002: file /job/chk-0000000002/", "damaged", "the manifest says"}},
	} {
		t.Run(name, func(t *testing.T) {
			fs, l := vfs.NewMem(), newLedger()
			killHalfway(t, l, checkpointsOn(fs, pipeline.KeepCheckpoints(1)))
			before := l.sorted()
			repair := damage(t, fs, c.file, c.damage)
			about := c.about
			if !strings.Contains(name, "manifest") {
				about = append(about, "operator ")
			}
			for range 2 { // a start that is refused does no harm to the next
				mustBeAbout(t, faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()), about...)
			}
			if got := l.sorted(); !slices.Equal(got, before) {
				t.Errorf("results of a job that did not start: %v", got)
			}
			repair()
			if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustBeResults(t, l, want)
		})
	}
}

// damage changes the largest of the files that match, or removes it, and returns
// what undoes that.
func damage(t *testing.T, fs vfs.FS, match func(string) bool, change func([]byte) []byte) (repair func()) {
	t.Helper()
	var path string
	var whole []byte
	for _, dir := range []string{"/job/shared", "/job/chk-0000000002"} {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = fs.PathJoin(dir, name)
			if b := readFile(t, fs, name); match(name) && len(b) > len(whole) {
				path, whole = name, b
			}
		}
	}
	if path == "" {
		t.Fatal("there is no such file")
	}
	put := func(b []byte) {
		if err := fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if b != nil {
			writeFile(t, fs, path, b)
		}
	}
	put(change(slices.Clone(whole)))
	return func() { put(whole) }
}

func readFile(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, fs vfs.FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Somebody moves the store away under a running job: its checkpoints fail, and
// nothing is begun anew in its place.
func TestFaultStoreMovedAway(t *testing.T) {
	want := faultJobResults(t)
	dir := filepath.Join(t.TempDir(), "job")
	opts := pipeline.Checkpoints(dir, pipeline.CheckpointInterval(0), pipeline.ToleratedFailures(1))
	l, g := newLedger(), newGate(halfway)
	job := begin(t, faultJob(l, g, opts), g)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		job.goOn(t, halfway+100*(i+1))
		mustBeAbout(t, job.checkpoint(t), dir, "no such file or directory")
	}
	mustBeAbout(t, job.wait(t), dir, "no such file or directory", "(2 failed in a row, 1 are tolerated)")
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the job has left %v, %v", left, err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".moved", dir)); err != nil {
		t.Fatal(err)
	}
	if err := faultJob(l, ungated(), opts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustBeResults(t, l, want)
}

// A disk that can't be written to is one for root as well only if it is mounted
// so; a directory without the right to write will do for everybody else.
func TestFaultDirectoryWithoutRights(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	err := faultJob(newLedger(), ungated(), pipeline.Checkpoints(filepath.Join(dir, "job"))).Run(t.Context())
	mustBeAbout(t, err, "open checkpoint store "+dir, "permission denied")
}

// fileJob writes to a file, so that several processes can take turns at it.
func fileJob(dir string, g *gate) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("files"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), pipeline.WatermarkInterval(time.Millisecond),
		pipeline.Checkpoints(filepath.Join(dir, "job"), pipeline.CheckpointInterval(0)))
	n := gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, g,
		pipeline.BoundedDisorder(func(n int) int64 { return int64(n) * 10 }, 100*time.Millisecond))
	pipeline.To(n, "out", files.JSON[int](filepath.Join(dir, "out")))
	return p
}

// TestFaultOtherProcess is not a test but the other process of the next one: a
// job that takes a checkpoint half-way, says so, and then waits to be killed.
func TestFaultOtherProcess(t *testing.T) {
	dir := os.Getenv("MILLRACE_OTHER_PROCESS")
	if dir == "" {
		t.Skip("it is started by another test")
	}
	g := newGate(halfway)
	job := begin(t, fileJob(dir, g), g)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	job.goOn(t, halfway+300)
	fmt.Println("\nhalfway")
	t.Fatal(<-job.ended)
}

// Two processes on one store: the second is refused, and told who is there. Once
// that one was killed, the next start takes over.
func TestFaultTwoProcesses(t *testing.T) {
	straight, dir := t.TempDir(), t.TempDir()
	if err := fileJob(straight, ungated()).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	other := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestFaultOtherProcess$", "-test.v")
	other.Env = append(os.Environ(), "MILLRACE_OTHER_PROCESS="+dir)
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(stdout); !slices.Contains(said, "halfway") && lines.Scan(); {
		said = append(said, lines.Text())
	}
	if !slices.Contains(said, "halfway") {
		t.Fatalf("the other process has ended: %q, %v", said, other.Wait())
	}
	mustBeAbout(t, fileJob(dir, ungated()).Run(t.Context()), "open checkpoint store "+dir, "store is in use",
		fmt.Sprintf("process %d on ", other.Process.Pid), `job "files"`)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	if err := fileJob(dir, ungated()).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := sortedLines(t, dir), sortedLines(t, straight); !slices.Equal(got, want) {
		t.Errorf("%d lines, want %d", len(got), len(want))
	}
}

func sortedLines(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(strings.Lines(string(b)))
}

// alarms sets a processing-time timer an hour ahead for each record.
type alarms struct {
	timers *pipeline.Timers[int]
	last   *state.Value[int, int64]
}

func (a *alarms) Open(c *pipeline.Context[int, string]) error {
	a.timers = c.Timers("alarm")
	a.last = state.NewValue[int64](c.State(), "set")
	return nil
}

func (a *alarms) Process(c *pipeline.Context[int, string], n int) error {
	a.last.Set(c.Now())
	a.timers.SetProcessing(c.Now() + time.Hour.Milliseconds())
	return nil
}

func (a *alarms) OnTimer(c *pipeline.Context[int, string], t pipeline.Timer) error {
	set, ok := a.last.Get()
	c.Emit(fmt.Sprintf("%d set %v, due an hour later: %v, on time: %v", c.Key(), ok, t.Time-set == time.Hour.Milliseconds(), c.Now() >= t.Time))
	return nil
}

// TestRule14_ClockBack kills a job, and starts it again on a clock that is ten
// hours behind: checkpoints go on counting, the newest is still the newest, and
// every timer fires once, when the clock has come to its time.
func TestRule14_ClockBack(t *testing.T) {
	fs, l := vfs.NewMem(), newLedger()
	job := func(g *gate) *pipeline.Pipeline {
		p := pipeline.New(pipeline.Name("clock"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), checkpointsOn(fs))
		n := gatedNumbers(p, "numbers", numbersSource{1, 100, 0}, g)
		byN := pipeline.KeyBy(n, func(n int) int { return n })
		pipeline.To(pipeline.Process(byN, "alarms", func() *alarms { return &alarms{} }), "out", ledgerSink[string]{l})
		return p
	}
	var before pipeline.CheckpointStats
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Hour)
		g := newGate(100)
		j := begin(t, job(g), g)
		for range 2 {
			if err := j.checkpoint(t); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		before = j.CheckpointStats()
		j.Kill()
		if err := j.wait(t); !errors.Is(err, pipeline.ErrKilled) {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // whose clock begins anew
		g := newGate(0)
		j := begin(t, job(g), g)
		time.Sleep(10*time.Hour + 59*time.Minute)
		if err := j.checkpoint(t); err != nil {
			t.Error(err)
		}
		if got := j.CheckpointStats().LastID; got <= before.LastID {
			t.Errorf("checkpoint %d after %d", got, before.LastID)
		}
		if got := l.sorted(); len(got) > 0 {
			t.Errorf("timers have fired too early: %q", got)
		}
		time.Sleep(2 * time.Minute)
		g.open()
		if err := j.wait(t); err != nil {
			t.Error(err)
		}
	})
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("out %d set true, due an hour later: true, on time: true @%d", i, pipeline.MinWatermark+1))
	}
	slices.Sort(want)
	if got := l.sorted(); !slices.Equal(got, want) {
		t.Errorf("%d alarms, want %d: %q", len(got), len(want), got[:min(3, len(got))])
	}
}

// TestRule21_UnclaimedState renames an operator between two starts: what it
// remembered would be lost.
func TestRule21_UnclaimedState(t *testing.T) {
	fs, l := vfs.NewMem(), newLedger()
	killHalfway(t, l, checkpointsOn(fs))
	renamed := func(more ...pipeline.CheckpointOption) error {
		p := pipeline.New(pipeline.Name("faults"), pipeline.Logger(quiet), checkpointsOn(fs, more...))
		n := gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, ungated())
		pipeline.To(n, "counts", ledgerSink[int]{newLedger()})
		pipeline.To(n, "sessions out", ledgerSink[int]{newLedger()})
		return p.Run(t.Context())
	}
	err := renamed()
	if !errors.Is(err, pipeline.ErrUnclaimedState) {
		t.Fatalf("got %v, want %v", err, pipeline.ErrUnclaimedState)
	}
	mustBeAbout(t, err, "chk-0000000002", `operator "dedupe"`, `operator "sessions"`)
	// With leave it starts. What the sinks had prepared may not be known to their
	// new ledgers.
	if err := renamed(pipeline.AllowUnclaimed()); err != nil && !strings.Contains(err.Error(), "was never prepared") {
		t.Error(err)
	}
}

// TestRule15_LateBeforeAndAfter kills a job between the records that bring time
// forward and those that are then late.
func TestRule15_LateBeforeAndAfter(t *testing.T) {
	job := func(l *ledger, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.Name("late"), pipeline.Logger(quiet), pipeline.WatermarkInterval(time.Millisecond)}, opts...)...)
		n := gatedNumbers(p, "numbers", numbersSource{1, 40, 0}, g, pipeline.Parallelism(1), pipeline.BoundedDisorder(func(n int) int64 {
			if n < 20 {
				return int64(10_000 + n)
			}
			return 5
		}, 0))
		counts := operators.Aggregate(pipeline.KeyBy(n, func(n int) int { return n % 5 }), "count", window.Tumbling(time.Second), operators.Count[int]())
		pipeline.To(counts, "counts", ledgerSink[operators.Result[int, int64]]{l})
		return p
	}
	straight := newLedger()
	if err := job(straight, ungated(), pipeline.DefaultParallelism(2)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := straight.sorted()
	if len(want) != 5 {
		t.Fatalf("windows of late records: %q", want)
	}
	for _, parallelism := range []int{2, 3} {
		fs, l, g := vfs.NewMem(), newLedger(), newGate(20)
		j := begin(t, job(l, g, pipeline.DefaultParallelism(2), checkpointsOn(fs)), g)
		if err := j.checkpoint(t); err != nil {
			t.Fatal(err)
		}
		j.Kill()
		if err := j.wait(t); !errors.Is(err, pipeline.ErrKilled) {
			t.Fatal(err)
		}
		if err := job(l, ungated(), pipeline.DefaultParallelism(parallelism), checkpointsOn(fs)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustBeResults(t, l, want)
	}
}

// TestRule19_FinishedJobAgain runs a job once more that has come to its end.
func TestRule19_FinishedJobAgain(t *testing.T) {
	want := faultJobResults(t)
	fs, l := vfs.NewMem(), newLedger()
	for range 3 {
		if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustBeResults(t, l, want)
	}
}
