package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// These tests break what a job keeps its checkpoints and its working state in,
// and demand three things: an error that says what is wrong and where, an end
// instead of a wait for ever, and, once the damage is repaired and the job
// started again, the results of an undisturbed run.

// gate holds a source back after a number of records, so that a test knows
// where the job stands.
type gate struct {
	mu    sync.Mutex
	read  int           // guarded by mu
	taken int           // by the source's task, of those read; guarded by mu
	limit int           // guarded by mu
	at    chan struct{} // closed when the source waits at the limit and all is taken; guarded by mu
	moved chan struct{} // closed when the limit was moved; guarded by mu
}

func newGate(limit int) *gate {
	return &gate{limit: limit, at: make(chan struct{}), moved: make(chan struct{})}
}

// ungated is a gate that holds nobody back.
func ungated() *gate { return newGate(math.MaxInt) }

// to lets the source read until it has read so many records.
func (g *gate) to(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.moved)
	g.limit, g.at, g.moved = limit, make(chan struct{}), make(chan struct{})
}

// open holds the source back no longer.
func (g *gate) open() { g.to(math.MaxInt) }

func (g *gate) reached() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

func (g *gate) wait(ctx context.Context) error {
	for {
		moved, wait := g.look()
		if !wait {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) look() (moved chan struct{}, wait bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.read < g.limit {
		return nil, false
	}
	g.tell()
	return g.moved, true
}

func (g *gate) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.read += n
}

// take notes that a record is on its way: a barrier of now comes behind it.
func (g *gate) take() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken++
	g.tell()
}

// tell says so when the gate was reached. It is called with mu held.
func (g *gate) tell() {
	if g.read < g.limit || g.taken < g.read {
		return
	}
	select {
	case <-g.at:
	default:
		close(g.at)
	}
}

// gatedNumbers are the records of a numbersSource behind a gate.
func gatedNumbers(p *pipeline.Pipeline, name string, s numbersSource, g *gate, opts ...pipeline.OperatorOption) pipeline.Stream[int] {
	return operators.Filter(pipeline.From(p, name, gatedSource{s, g}, opts...), name+" taken", func(int) bool {
		g.take()
		return true
	})
}

type gatedSource struct {
	numbersSource
	g *gate
}

func (s gatedSource) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int], error) {
	r, err := s.numbersSource.Open(ctx, env)
	return &gatedReader{r, s.g}, err
}

type gatedReader struct {
	pipeline.Reader[int]
	g *gate
}

func (r *gatedReader) Read(ctx context.Context, b *pipeline.SourceBatch[int]) error {
	if err := r.g.wait(ctx); err != nil {
		return err
	}
	err := r.Reader.Read(ctx, b)
	r.g.add(len(b.Values))
	return err
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// faultJob is a job with all kinds of state: values, Bloom filters, timers. No
// checkpoint is taken but where a test asks for it, and at the end.
func faultJob(l *ledger, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name("faults"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), pipeline.WatermarkInterval(time.Millisecond),
	}, opts...)...)
	n := gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, g,
		pipeline.BoundedDisorder(func(n int) int64 { return int64(n) * 10 }, 100*time.Millisecond))
	unique := operators.Dedupe(n, "dedupe", func(n int) int { return n/6*3 + n%3 }, time.Second)
	counts := operators.Aggregate(pipeline.KeyBy(unique, func(n int) int { return n % 17 }), "count", window.Tumbling(time.Second), operators.Count[int]())
	sessions := operators.Aggregate(pipeline.KeyBy(unique, func(n int) int { return n % 100 }), "sessions", window.Session(3*time.Second), operators.Count[int]())
	pipeline.To(counts, "counts", ledgerSink[operators.Result[int, int64]]{l})
	pipeline.To(sessions, "sessions out", ledgerSink[operators.Result[int, int64]]{l})
	return p
}

// halfway is in the middle of a faultJob's input.
const halfway = 900

func faultJobResults(t *testing.T) []string {
	t.Helper()
	l := newLedger()
	if err := faultJob(l, ungated()).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.sorted(); len(got) > 50 {
		return got
	}
	t.Fatal("hardly any results")
	return nil
}

func checkpointsOn(fs vfs.FS, more ...pipeline.CheckpointOption) pipeline.Option {
	return pipeline.Checkpoints("/job", append([]pipeline.CheckpointOption{
		pipeline.CheckpointFiles(fs), pipeline.CheckpointInterval(0), pipeline.ToleratedFailures(2),
	}, more...)...)
}

// begun is a job in the background.
type begun struct {
	*pipeline.Pipeline
	g     *gate
	ended chan error
}

// begin runs a job until its source waits at the gate.
func begin(t *testing.T, p *pipeline.Pipeline, g *gate) begun {
	t.Helper()
	b := begun{p, g, make(chan error, 1)}
	go func() { b.ended <- p.Run(t.Context()) }()
	b.reach(t)
	return b
}

// reach waits until the source waits at the gate.
func (b begun) reach(t *testing.T) {
	t.Helper()
	select {
	case <-b.g.reached():
	case err := <-b.ended:
		t.Fatalf("the job ended before its source had come to the gate: %v", err)
	case <-time.After(patience):
		t.Fatal("the source does not come to the gate")
	}
}

// goOn lets the source read more, so that state changes.
func (b begun) goOn(t *testing.T, to int) {
	t.Helper()
	b.g.to(to)
	b.reach(t)
}

// patience is how long a test waits for what is to come at once.
const patience = 30 * time.Second

func (b begun) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-b.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the job hangs")
		return nil
	}
}

func (b begun) checkpoint(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := b.Checkpoint(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal("the checkpoint hangs")
	}
	return err
}

func mustBeAbout(t *testing.T, err error, all ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", all)
	}
	for _, text := range all {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not mention %q", err, text)
		}
	}
}

func mustBeResults(t *testing.T, l *ledger, want []string) {
	t.Helper()
	got := l.sorted()
	known := map[string]bool{}
	for _, s := range want {
		known[s] = true
	}
	for _, s := range got {
		if !known[s] {
			t.Errorf("unexpected %s", s)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d results, want %d", len(got), len(want))
	}
}

// breakable is a file system part of which can be broken.
type breakable struct {
	vfs.FS
	rule atomic.Pointer[func(errorfs.Op) error]
}

func newBreakable(under vfs.FS) *breakable {
	b := &breakable{}
	b.FS = errorfs.Wrap(under, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if rule := b.rule.Load(); rule != nil {
			return (*rule)(op)
		}
		return nil
	}))
	return b
}

// Unwrap lets a store find what it is really on.
func (b *breakable) Unwrap() vfs.FS { return b.FS }

func (b *breakable) fail(rule func(errorfs.Op) error) { b.rule.Store(&rule) }
func (b *breakable) repair()                          { b.rule.Store(nil) }

// full is a disk without space left, below a path and not below another.
func full(below, except string) func(errorfs.Op) error {
	return refusing(syscall.ENOSPC, below, except, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpLink)
}

// readOnly is a disk mounted anew without the right to write.
func readOnly(below, except string) func(errorfs.Op) error {
	return refusing(syscall.EROFS, below, except, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpMkdirAll,
		errorfs.OpLink, errorfs.OpRename, errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpReuseForWrite)
}

func refusing(err error, below, except string, kinds ...errorfs.OpKind) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if !slices.Contains(kinds, op.Kind) || !strings.HasPrefix(op.Path, below) || except != "" && strings.HasPrefix(op.Path, except) {
			return nil
		}
		return fmt.Errorf("%s: %w", op.Path, err)
	}
}

// onlyTables leaves a disk just enough space for everything but sorted tables.
func onlyTables(rule func(errorfs.Op) error) func(errorfs.Op) error {
	return func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".sst") {
			return rule(op)
		}
		return nil
	}
}

var faults = map[string]struct {
	rule  func(errorfs.Op) error
	about []string
}{
	"full store":              {full("/job", "/job/work"), []string{"begin checkpoint", "/job/chk-", "no space left on device"}},
	"full working state":      {full("/job/work", ""), []string{"/job/work", "no space left on device"}},
	"no space for tables":     {onlyTables(full("/job", "")), []string{"flush", ".sst", "no space left on device"}},
	"read-only store":         {readOnly("/job", "/job/work"), []string{"begin checkpoint", "/job/chk-", "read-only file system"}},
	"read-only working state": {readOnly("/job/work", ""), []string{"/job/work", "read-only file system"}},
}

// A fault that passes costs the checkpoints taken meanwhile and nothing else.
func TestFaultPasses(t *testing.T) {
	want := faultJobResults(t)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			fs, l, g := newBreakable(vfs.NewMem()), newLedger(), newGate(halfway)
			job := begin(t, faultJob(l, g, checkpointsOn(fs)), g)
			if err := job.checkpoint(t); err != nil {
				t.Fatal(err)
			}
			fs.fail(fault.rule)
			for i := range 2 {
				job.goOn(t, halfway+100*(i+1))
				mustBeAbout(t, job.checkpoint(t), fault.about...)
			}
			fs.repair()
			if err := job.checkpoint(t); err != nil {
				t.Fatal(err)
			}
			if s := job.CheckpointStats(); s.Completed != 2 || s.Failed != 2 {
				t.Errorf("%d checkpoints completed and %d failed, want 2 and 2", s.Completed, s.Failed)
			}
			g.open()
			if err := job.wait(t); err != nil {
				t.Fatal(err)
			}
			mustBeResults(t, l, want)
		})
	}
}

// A fault that stays ends the job, and the next one goes on once it is repaired.
func TestFaultStays(t *testing.T) {
	want := faultJobResults(t)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			fs, l, g := newBreakable(vfs.NewMem()), newLedger(), newGate(halfway)
			job := begin(t, faultJob(l, g, checkpointsOn(fs)), g)
			if err := job.checkpoint(t); err != nil {
				t.Fatal(err)
			}
			fs.fail(fault.rule)
			for i := range 3 {
				job.goOn(t, halfway+100*(i+1))
				mustBeAbout(t, job.checkpoint(t), fault.about...)
			}
			mustBeAbout(t, job.wait(t), append(fault.about, "(3 failed in a row, 2 are tolerated)")...)
			if got := l.sorted(); slices.Equal(got, want) {
				t.Error("all is committed though the last checkpoint failed")
			}
			fs.repair()
			if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustBeResults(t, l, want)
		})
	}
}

// A job that can't so much as open its store starts nothing.
func TestFaultAtStart(t *testing.T) {
	want := faultJobResults(t)
	for name, fault := range map[string]struct {
		rule  func(errorfs.Op) error
		about []string
	}{
		"full":      {full("/job", ""), []string{"open checkpoint store /job", "no space left on device"}},
		"read-only": {readOnly("/job", ""), []string{"open checkpoint store /job", "read-only file system"}},
	} {
		for _, started := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/started=%v", name, started), func(t *testing.T) {
				fs, l := newBreakable(vfs.NewMem()), newLedger()
				if started {
					killHalfway(t, l, checkpointsOn(fs))
				}
				fs.fail(fault.rule)
				before := l.sorted()
				mustBeAbout(t, faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()), fault.about...)
				if got := l.sorted(); !slices.Equal(got, before) {
					t.Errorf("results of a job that did not start: %v", got)
				}
				fs.repair()
				if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				mustBeResults(t, l, want)
			})
		}
	}
}

// killHalfway leaves two checkpoints behind, and a job killed after them.
func killHalfway(t *testing.T, l *ledger, opts ...pipeline.Option) {
	t.Helper()
	g := newGate(halfway - 300)
	job := begin(t, faultJob(l, g, opts...), g)
	for _, to := range []int{halfway, halfway + 100} {
		if err := job.checkpoint(t); err != nil {
			t.Fatal(err)
		}
		job.goOn(t, to)
	}
	job.Kill()
	if err := job.wait(t); !errors.Is(err, pipeline.ErrKilled) {
		t.Fatal(err)
	}
}

// When space runs out in the very file in which Pebble notes its tables, nobody
// knows what that file holds: nothing is kept there any more, and the job ends.
func TestFaultPebbleManifest(t *testing.T) {
	want := faultJobResults(t)
	fs, l, g := newBreakable(vfs.NewMem()), newLedger(), newGate(halfway)
	job := begin(t, faultJob(l, g, checkpointsOn(fs)), g)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	fs.fail(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "/MANIFEST-") {
			return full("/job/work", "")(op)
		}
		return nil
	})
	about := []string{"operator ", "/job/work/state/", "MANIFEST", "no space left on device"}
	job.goOn(t, halfway+100)
	mustBeAbout(t, job.checkpoint(t), about...)
	fs.repair() // too late
	job.goOn(t, halfway+200)
	mustBeAbout(t, job.checkpoint(t))
	mustBeAbout(t, job.wait(t), about...)
	if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustBeResults(t, l, want)
}

// State that no longer fits into memory, and has no disk to go to, ends the job.
func TestFaultNoRoomToSpill(t *testing.T) {
	wide := func(l *ledger, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.Name("wide"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), pipeline.StateMemory(1 << 20)}, opts...)...)
		n := gatedNumbers(p, "numbers", numbersSource{3, 12_000, 0}, g,
			pipeline.BoundedDisorder(func(n int) int64 { return int64(n) }, 100*time.Millisecond))
		counts := operators.Aggregate(pipeline.KeyBy(n, func(n int) int { return n / 3 }), "count", window.Tumbling(time.Hour), operators.Count[int]())
		pipeline.To(counts, "counts", ledgerSink[operators.Result[int, int64]]{l})
		return p
	}
	straight := newLedger()
	if err := wide(straight, ungated()).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	fs, l, g := newBreakable(vfs.NewMem()), newLedger(), newGate(18_000)
	job := begin(t, wide(l, g, checkpointsOn(fs)), g)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	fs.fail(full("/job/work", ""))
	g.open()
	mustBeAbout(t, job.wait(t), `operator "count" subtask 0`, "write to", "/job/work/state/", "no space left on device")
	fs.repair()
	if err := wide(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustBeResults(t, l, straight.sorted())
}
