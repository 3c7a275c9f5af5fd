package files_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/files"
)

// tail is a reader of lines in the hands of a test.
type tail struct {
	reader    pipeline.Reader[string]
	metrics   *pipeline.Metrics
	lines     []string
	dead      []pipeline.DeadLetter
	positions map[string][]byte
	live      map[string]bool // splits
}

func startTail(t testing.TB, src *files.Source[string], batch int, positions map[string][]byte) *tail {
	t.Helper()
	f := &tail{metrics: &pipeline.Metrics{}, positions: map[string][]byte{}, live: map[string]bool{}}
	maps.Copy(f.positions, positions)
	var err error
	f.reader, err = src.Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: batch, Positions: positions, Metrics: f.metrics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

func (f *tail) readFor(ctx context.Context) error {
	var b pipeline.SourceBatch[string]
	err := f.reader.Read(ctx, &b)
	added, _, finished := b.News()
	for _, s := range added {
		f.live[s] = true
	}
	for _, s := range finished {
		delete(f.live, s)
	}
	f.lines = append(f.lines, b.Values...)
	f.dead = append(f.dead, b.Rejected...)
	if b.Position != nil {
		f.positions[b.Split] = b.Position
	}
	return err
}

// read reads until a batch brings lines.
func (f *tail) read(t testing.TB) {
	t.Helper()
	for n := len(f.lines); len(f.lines) == n; {
		if err := f.readFor(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *tail) toEnd(t testing.TB) {
	t.Helper()
	for {
		err := f.readFor(t.Context())
		if errors.Is(err, pipeline.ErrEndOfInput) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// settle reads for a while of fake time.
func (f *tail) settle(t testing.TB, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for {
		err := f.readFor(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// took returns the lines since the last call.
func (f *tail) took() string {
	defer func() { f.lines = nil }()
	return strings.Join(f.lines, " ")
}

// want reads for two seconds and compares.
func (f *tail) want(t testing.TB, step, want string) {
	t.Helper()
	f.settle(t, 2*time.Second)
	if got := f.took(); got != want {
		t.Errorf("%s: got %q, want %q", step, got, want)
	}
}

func (f *tail) close() { _ = f.reader.(pipeline.Closer).Close() } // perhaps for the second time

func (f *tail) splits() string { return fmt.Sprint(len(f.live)) }
