package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	sinkfiles "github.com/millrace/millrace/sinks/files"
)

func TestCount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.txt": "the quick brown fox\njumps over the lazy dog\n",
		"b.txt": "The end\n\n",
		"c.txt": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	patterns := []string{filepath.Join(dir, "*.txt"), filepath.Join(dir, "b.txt")} // b counts twice
	if err := count(context.Background(), patterns, &out); err != nil {
		t.Fatal(err)
	}
	const want = `      4 the
      2 end
      1 brown
      1 dog
      1 fox
      1 jumps
      1 lazy
      1 over
      1 quick
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestCountErrors(t *testing.T) {
	for want, patterns := range map[string][]string{
		"no file given": nil,
		"none.txt":      {filepath.Join(t.TempDir(), "none.txt")},
	} {
		err := count(context.Background(), patterns, new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestThreeWays: a job that is killed and started again, and one that is stopped
// and goes on at another parallelism, counts what an undisturbed one counts.
func TestThreeWays(t *testing.T) {
	pattern := someText(t, 5, 40_000)
	want, err := counts(t, pattern, t.TempDir(), nil)
	if err != nil || len(want) < 100 {
		t.Fatalf("%d words, %v", len(want), err)
	}
	t.Run("killed", func(t *testing.T) {
		out, opts := t.TempDir(), pipeline.Checkpoints(t.TempDir(), pipeline.CheckpointInterval(5*time.Millisecond))
		r := rand.New(rand.NewPCG(1, 2))
		for kills := 0; ; kills++ {
			got, err := counts(t, pattern, out, func(p *pipeline.Pipeline, over <-chan struct{}) {
				if read(p, r.Int64N(20_000*int64(kills+1)), over) {
					p.Kill()
				}
			}, opts, pipeline.DefaultParallelism([]int{2, 1, 8, 3}[kills%4]))
			if errors.Is(err, pipeline.ErrKilled) {
				continue
			}
			t.Logf("%d kills", kills)
			if err != nil || kills == 0 || !slices.Equal(got, want) {
				t.Errorf("after %d kills: %d words, want %d, %v", kills, len(got), len(want), err)
			}
			return
		}
	})
	t.Run("rescaled", func(t *testing.T) {
		out, dir := t.TempDir(), t.TempDir()
		for i, parallelism := range []int{1, 8, 3} {
			stop := func(p *pipeline.Pipeline, over <-chan struct{}) {
				if i < 2 && read(p, 20_000, over) {
					if err := p.StopWithSavepoint(t.Context(), fmt.Sprint("stop", i)); err != nil {
						t.Error(err)
					}
				}
			}
			got, err := counts(t, pattern, out, stop, pipeline.Checkpoints(dir), pipeline.DefaultParallelism(parallelism))
			if err != nil || i == 2 && !slices.Equal(got, want) {
				t.Errorf("%d words, want %d, %v", len(got), len(want), err)
			}
			if i < 2 && len(got) > 0 {
				t.Errorf("parallelism %d: it had come to its end before it was stopped", parallelism)
			}
		}
	})
}

// counts runs the job with its results in a folder, and returns them in order.
// disturb is called beside the job, until it is over.
func counts(t *testing.T, pattern, out string, disturb func(p *pipeline.Pipeline, over <-chan struct{}), opts ...pipeline.Option) ([]string, error) {
	t.Helper()
	p, words := job([]string{pattern}, append(opts, pipeline.BatchSize(64))...)
	path := filepath.Join(out, "counts.jsonl")
	pipeline.To(words, "out", sinkfiles.JSON[wordCount](path), pipeline.Parallelism(1))
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if disturb != nil {
			disturb(p, over)
		}
	}()
	err := p.Run(t.Context())
	close(over)
	<-done
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	return slices.Sorted(strings.Lines(string(text))), err
}

// read says whether the job has read n lines in this start, once it has or is
// over.
func read(p *pipeline.Pipeline, n int64, over <-chan struct{}) bool {
	poll := time.NewTicker(100 * time.Microsecond)
	defer poll.Stop()
	for {
		var lines int64
		for _, s := range p.Stats() {
			if strings.HasPrefix(s.Operator, "lines") {
				lines += s.In
			}
		}
		if lines >= n && lines > 0 {
			return true
		}
		select {
		case <-poll.C:
		case <-over:
			return false
		}
	}
}

// someText writes files of made-up lines, and returns a pattern for them.
func someText(t *testing.T, files, lines int) string {
	t.Helper()
	dir, r := t.TempDir(), rand.New(rand.NewPCG(3, 4))
	for i := range files {
		var b strings.Builder
		for range lines {
			fmt.Fprintf(&b, "w%d w%d\n", r.IntN(200), r.IntN(20_000))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".txt")), []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "*.txt")
}
