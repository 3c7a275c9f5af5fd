package pipeline_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// depot is a sink that stages: nothing leaves the job before the commit, and what
// comes twice under one name counts once, as with a server that knows tokens.
type depot struct {
	mu        sync.Mutex
	delivered map[string][]string // by file; guarded by mu
	refuse    func(name string) error
	spoil     string // what the writers do wrong
}

func newDepot() *depot { return &depot{delivered: map[string][]string{}} }

func (d *depot) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[int], error) {
	if env.Staging == nil {
		return nil, errors.New("no staging")
	}
	return &depotWriter{d: d, staging: env.Staging}, nil
}

type depotWriter struct {
	d       *depot
	staging *pipeline.Staging
	files   []*pipeline.StagedFile
	rows    int
}

// Write puts seven rows into each file.
func (w *depotWriter) Write(_ context.Context, b *pipeline.Records[int]) error {
	for _, v := range b.Values {
		if w.rows%7 == 0 {
			if err := w.next(); err != nil {
				return err
			}
		}
		w.rows++
		if _, err := fmt.Fprintln(w.files[len(w.files)-1], v); err != nil {
			return err
		}
	}
	return nil
}

func (w *depotWriter) next() error {
	f, err := w.staging.Create()
	w.files = append(w.files, f)
	return err
}

func (w *depotWriter) Prepare(context.Context, int64) ([]byte, error) {
	var names []string
	for _, f := range w.files {
		names = append(names, f.Name())
		if w.d.spoil == "left open" {
			break
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	w.files, w.rows = nil, 0
	if names == nil || w.d.spoil == "not mentioned" {
		return nil, nil
	}
	return json.Marshal(names)
}

func (w *depotWriter) Commit(_ context.Context, prepared []byte) error {
	var names []string
	if err := json.Unmarshal(prepared, &names); err != nil {
		return err
	}
	for _, name := range names {
		if err := w.deliver(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *depotWriter) deliver(name string) error {
	f, err := w.staging.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was read
	var rows []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rows = append(rows, lines.Text())
	}
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	if w.d.refuse != nil {
		if err := w.d.refuse(name); err != nil {
			return err
		}
	}
	w.d.delivered[name] = rows
	return nil
}

func (d *depot) sorted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, rows := range d.delivered {
		all = append(all, rows...)
	}
	slices.Sort(all)
	return all
}

func depotJob(d *depot, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.Name("depot"), pipeline.Logger(quiet)}, opts...)...)
	pipeline.To(gatedNumbers(p, "numbers", numbersSource{3, 400, 500 * time.Microsecond}, g), "out", pipeline.Sink[int](d))
	return p
}

func allNumbers() []string {
	var want []string
	for i := range 3 * 400 {
		want = append(want, fmt.Sprint(i))
	}
	slices.Sort(want)
	return want
}

func wantAllNumbers(t *testing.T, d *depot) {
	t.Helper()
	if got, want := d.sorted(), allNumbers(); !slices.Equal(got, want) {
		t.Errorf("%d rows were delivered, want each of %d once", len(got), len(want))
	}
}

// TestStagedAndKilled kills a job that stages between any two deliveries, some of
// which fail, and starts it again at other parallelisms.
func TestStagedAndKilled(t *testing.T) {
	files := vfs.NewMem()
	d := newDepot()
	kills := 0
	for attempt := 0; ; attempt++ {
		if attempt > 300 {
			t.Fatal("the job makes no progress")
		}
		// What is read waits for what is delivered, so that the numbers last for many
		// attempts however long a checkpoint takes.
		const step = 12
		limit := step
		g := newGate(limit)
		p := depotJob(d, g, pipeline.DefaultParallelism(1+attempt%3),
			pipeline.Checkpoints("/job", pipeline.CheckpointFiles(files), pipeline.CheckpointInterval(time.Millisecond)))
		left := attempt % 5 // deliveries before the kill
		d.refuse = func(string) error {
			limit += step
			g.to(limit)
			if left--; left < 0 && attempt < 60 {
				if attempt%2 == 0 {
					return errors.New("the depot is closed")
				}
				p.Kill()
			}
			return nil
		}
		err := p.Run(t.Context())
		if err == nil {
			break
		}
		if kills++; !errors.Is(err, pipeline.ErrKilled) && !strings.Contains(err.Error(), "the depot is closed") {
			t.Fatal(err)
		}
	}
	if kills < 20 {
		t.Errorf("the job was killed %d times only", kills)
	}
	wantAllNumbers(t, d)
	if left := stagedFiles(t, files, "/job"); len(left) > 0 {
		t.Errorf("%d staged files are left, such as %s", len(left), left[0])
	}
}

// stagedFiles returns the staged files there are under a directory, but for those
// of its checkpoints.
func stagedFiles(t *testing.T, files vfs.FS, dir string) []string {
	t.Helper()
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var staged []string
	for _, name := range names {
		path := files.PathJoin(dir, name)
		if name == "shared" {
			continue
		}
		if info, err := files.Stat(path); err == nil && info.IsDir() {
			staged = append(staged, stagedFiles(t, files, path)...)
		} else if strings.Contains(name, ".staged") {
			staged = append(staged, path)
		}
	}
	return staged
}

// TestStagedInSavepoint starts another job from a savepoint whose staged files
// were not delivered to it: they are in the savepoint.
func TestStagedInSavepoint(t *testing.T) {
	files := vfs.NewMem()
	first := newDepot()
	g := newGate(500)
	p := depotJob(first, g, pipeline.DefaultParallelism(2),
		pipeline.Checkpoints("/job", pipeline.CheckpointFiles(files), pipeline.CheckpointInterval(time.Hour)))
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	if err := p.Savepoint(t.Context(), "half"); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if err := <-done; !errors.Is(err, pipeline.ErrKilled) {
		t.Fatal(err)
	}
	second := newDepot()
	run(t, depotJob(second, ungated(), pipeline.DefaultParallelism(3),
		pipeline.Checkpoints("/other", pipeline.CheckpointFiles(files), pipeline.StartFrom("/job/savepoints/half"))))
	wantAllNumbers(t, second)
}

// TestStagedMistakes names what a writer does wrong.
func TestStagedMistakes(t *testing.T) {
	for spoil, want := range map[string]string{
		"left open":     "is still open",
		"not mentioned": "prepared nothing",
	} {
		d := newDepot()
		d.spoil = spoil
		err := depotJob(d, ungated(), pipeline.Checkpoints("/job", pipeline.CheckpointFiles(vfs.NewMem()))).Run(t.Context())
		wantError(t, err, `"out"`, "prepare", want)
	}
	wantError(t, depotJob(newDepot(), ungated()).Run(t.Context()), "no staging")
}

// TestStagingAlone is the staging of tests that open a sink by themselves.
func TestStagingAlone(t *testing.T) {
	files := vfs.NewMem()
	s, err := pipeline.NewStaging(files, "/staged", "first")
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("rows")); err != nil || f.Size() != 4 {
		t.Errorf("wrote %d bytes: %v", f.Size(), err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := f.Write([]byte("more")); err == nil {
		t.Error("a closed file takes more")
	}
	again, err := pipeline.NewStaging(files, "/staged", "second")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := again.Create(); err != nil || other.Name() == f.Name() {
		t.Errorf("another process makes %q: %v", other.Name(), err)
	}
	r, err := again.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), again.Remove(f.Name())); err != nil {
		t.Error(err)
	}
	for _, name := range []string{f.Name(), "../staged/x", ""} {
		if _, err := again.Open(name); err == nil {
			t.Errorf("%q can be opened", name)
		}
	}
}
