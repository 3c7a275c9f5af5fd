package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/checkpoint"
)

// TestCommands runs command lines on a store. DIR stands for its directory;
// what differs from run to run is replaced.
func TestCommands(t *testing.T) {
	datadriven.Walk(t, "testdata/store", func(t *testing.T, path string) {
		root := t.TempDir()
		dir := filepath.Join(root, "store")
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "store":
				makeStore(t, dir)
				return ""
			case "flip":
				flip(t, dir, strings.TrimSpace(d.Input))
				return ""
			case "remove":
				removeFile(t, dir, strings.TrimSpace(d.Input))
				return ""
			case "write":
				name, text, _ := strings.Cut(d.Input, "\n")
				write(t, filepath.Join(root, name), text+"\n")
				return ""
			case "millrace":
				return transcript(t.Context(), root, d.Input)
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

func transcript(ctx context.Context, root, line string) string {
	args := strings.Fields(strings.ReplaceAll(line, "DIR", root))
	var stdout, stderr strings.Builder
	code := run(ctx, args, &stdout, &stderr)
	text := stdout.String()
	if stderr.Len() > 0 {
		text += "stderr: " + stderr.String()
	}
	text += fmt.Sprintf("exit code %d\n", code)
	return anonymous(strings.ReplaceAll(text, root, "DIR"))
}

var (
	runNames  = regexp.MustCompile(`\d{8}T\d{6}[0-9a-f]{8}`)
	programs  = regexp.MustCompile(`millrace (\(devel\)|v[^", ]+)`)
	checksums = regexp.MustCompile(`\b[0-9a-f]{16}\b`)
)

func anonymous(text string) string {
	text = runNames.ReplaceAllString(text, "RUN")
	text = checksums.ReplaceAllString(text, "SUM")
	return strings.ReplaceAll(programs.ReplaceAllString(text, "VERSION"), "\n\n", "\n.\n")
}

// makeStore makes a store with two checkpoints and a savepoint.
func makeStore(t *testing.T, dir string) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := checkpoint.Open(vfs.Default, dir, checkpoint.Options{Job: "visits", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	first := takeCheckpoint(t, s, 41, nil)
	m := takeCheckpoint(t, s, 42, first)
	if _, err := s.Export(m, "before-upgrade"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func takeCheckpoint(t *testing.T, s *checkpoint.Store, id int64, before *checkpoint.Manifest) *checkpoint.Manifest {
	p, err1 := s.Begin(id)
	local := filepath.Join(s.WorkDir(), fmt.Sprintf("%06d.sst", id))
	write(t, local, strings.Repeat("sorted", 1000))
	sst, err2 := p.Share(local, filepath.Base(local))
	current, err3 := p.Private("CURRENT", []byte("MANIFEST-000001\n"))
	files := []checkpoint.File{sst, current}
	if before != nil {
		f, err := p.Reuse(before.Files()[0])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	at := time.Date(2024, 5, 17, 12, 0, int(id), 0, time.UTC).UnixMilli()
	m := &checkpoint.Manifest{Created: at, MaxParallelism: 128, Finished: before != nil, Operators: []checkpoint.Operator{
		{Name: "events", Kind: "source", Parallelism: 1, Subtasks: []checkpoint.Subtask{{Watermark: at - 1, Splits: []checkpoint.Split{
			{Name: "a.log", Position: []byte(`{"offset":17}`), Watermark: at - 1, Idle: true},
			{Name: "b.log", Position: []byte{0, 1, 2}, Watermark: math.MaxInt64, Finished: true},
		}}}},
		{Name: "uv", Kind: "operator", Parallelism: 2, KeyType: "string",
			States: []checkpoint.State{{Name: "count", Kind: "value", Type: "int64", Versions: []uint32{1, 2}}},
			Subtasks: []checkpoint.Subtask{
				{End: 64, Watermark: math.MinInt64, Keyed: &checkpoint.Snapshot{Format: "pebble", Files: files, Entries: 1000, Bytes: 6000}},
				{Index: 1, First: 64, End: 128, Watermark: at - 1},
			}},
		{Name: "out", Kind: "sink", Parallelism: 1, Subtasks: []checkpoint.Subtask{
			{Watermark: math.MaxInt64, Prepared: []checkpoint.Prepared{{Checkpoint: id, Data: []byte("part-0")}}}}},
	}}
	if err := errors.Join(err1, err2, err3, p.Commit(m)); err != nil {
		t.Fatal(err)
	}
	return m
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// only returns the one file that the pattern matches.
func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is %v, %v", pattern, found, err)
	}
	return found[0]
}

func flip(t *testing.T, dir, pattern string) {
	path := only(t, dir, pattern)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	write(t, path, string(b))
}

func removeFile(t *testing.T, dir, pattern string) {
	if err := os.Remove(only(t, dir, pattern)); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyInterrupted(t *testing.T) {
	dir := t.TempDir()
	makeStore(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	if code := run(ctx, []string{"checkpoint", "verify", dir}, &stdout, &stderr); code != exitProblem {
		t.Errorf("exit code %d", code)
	}
	if got := stderr.String(); !strings.Contains(got, "not finished after ") {
		t.Errorf("got %q", got)
	}
}

func TestProgressLine(t *testing.T) {
	var out strings.Builder
	now := time.Unix(1000, 0)
	p := &progress{w: &out, verb: "verified", now: func() time.Time { return now }, terminal: true, started: now, shown: now}
	p.update(1<<20, 100<<20)
	now = now.Add(2 * time.Second)
	p.update(20<<20, 100<<20)
	p.update(21<<20, 100<<20)
	if got, want := strings.TrimRight(out.String(), " "), "\rverified 20.0 MiB of 100.0 MiB, 20 %, 10.0 MiB/s, 8s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.stop()
	if !strings.HasSuffix(out.String(), "\r") {
		t.Error("the line stays")
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB",
		5 << 30: "5.0 GiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
