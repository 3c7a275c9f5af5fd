package files_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/files"
	"github.com/millrace/millrace/sources/memory"
)

type reading struct {
	Sensor string  `json:"sensor"`
	Value  float64 `json:"value"`
}

// contents returns the lines of all files that match, by name.
func contents(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func TestJSON(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[reading]{
		New: func(t testing.TB) (pipeline.Sink[reading], func() []reading) {
			dir := filepath.Join(t.TempDir(), "new", "folder")
			return files.JSON[reading](filepath.Join(dir, "out.jsonl")), func() []reading {
				var all []reading
				for _, line := range contents(t, filepath.Join(dir, "out*.jsonl")) {
					var r reading
					if err := json.Unmarshal([]byte(line), &r); err != nil {
						t.Fatalf("line %q: %v", line, err)
					}
					all = append(all, r)
				}
				return all
			}
		},
		Value: func(i int) reading { return reading{"<a&b>", float64(i)} },
		Bad:   func() reading { return reading{"broken", math.Inf(1)} },
		Early: true,
	})
}

func TestEncode(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[int]{
		New: func(t testing.TB) (pipeline.Sink[int], func() []int) {
			dir := t.TempDir()
			encode := func(b []byte, v int) ([]byte, error) {
				b = fmt.Append(b, v)
				switch v {
				case -1:
					panic("half a line is in the buffer")
				case -2:
					return b, errors.New("half a line is in the buffer")
				}
				return append(b, '\n'), nil
			}
			return files.Encode(filepath.Join(dir, "out"), encode), func() []int {
				var all []int
				for _, line := range contents(t, filepath.Join(dir, "out*")) {
					var v int
					if _, err := fmt.Sscan(line, &v); err != nil {
						t.Fatalf("line %q: %v", line, err)
					}
					all = append(all, v)
				}
				return all
			}
		},
		Value: func(i int) int { return i },
		Bad:   func() int { return -1 },
		Early: true,
	})
}

func open(t *testing.T, sink *files.Sink[string], parallelism int) (pipeline.Writer[string], error) {
	t.Helper()
	return sink.Open(t.Context(), &pipeline.SinkEnv{Parallelism: parallelism})
}

func write(t *testing.T, sink *files.Sink[string], lines ...string) {
	t.Helper()
	w, err := open(t, sink, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), &pipeline.Records[string]{Values: lines, Times: make([]int64, len(lines))}); err != nil {
		t.Fatal(err)
	}
	if err := w.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestExistingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	write(t, files.Lines(path), "one")
	if _, err := open(t, files.Lines(path), 1); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("existing file: got error %v, want one that names it", err)
	}
	write(t, files.Lines(path, files.Append()), "two")
	if got := strings.Join(contents(t, path), " "); got != "one two" {
		t.Errorf("appended: %q, want %q", got, "one two")
	}
	write(t, files.Lines(path, files.Overwrite()), "three")
	if got := strings.Join(contents(t, path), " "); got != "three" {
		t.Errorf("overwritten: %q, want %q", got, "three")
	}
	if _, err := open(t, files.Lines(path, files.Append(), files.Overwrite()), 1); err == nil {
		t.Error("Append and Overwrite together were accepted")
	}
}

func TestAppendAfterTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("whole\nto"), 0o666); err != nil {
		t.Fatal(err)
	}
	write(t, files.Lines(path, files.Append()), "next")
	if got := strings.Join(contents(t, path), "|"); got != "whole|to|next" {
		t.Errorf("got %q, want the torn line ended", got)
	}
}

func TestDirectoryAndBadFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := open(t, files.Lines(dir), 1); err == nil || err.Error() != fmt.Sprintf("write %q: is a directory", dir) {
		t.Errorf("directory: got error %v", err)
	}
	write(t, files.Lines(filepath.Join(dir, "file")), "x")
	if _, err := open(t, files.Lines(filepath.Join(dir, "file", "out")), 1); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("file in place of a folder: got error %v", err)
	}
}

func TestPartsOfAnEarlierRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	for i := range 4 {
		if err := os.WriteFile(files.PartPath(path, i, 4), []byte("old\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(files.PartPath(path, 0, 4)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files.PartPath(path, 1, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, files.Lines(path), 2); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "out-00002.jsonl") {
		t.Errorf("got error %v, want one that names out-00002.jsonl", err)
	}
	w, err := open(t, files.Lines(path, files.Overwrite()), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, filepath.Join(filepath.Dir(path), "out-*")); len(got) != 0 {
		t.Errorf("parts of the earlier run are left: %q", got)
	}
}

// TestFullDisk writes to a device that is always full. The error must come
// whenever the buffer is written: during the job, at a flush, or at Close.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	sink := files.Lines("/dev/full", files.Append())
	wanted := func(when string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), `write "/dev/full": `) {
			t.Errorf("%s: got error %v, want that /dev/full is full", when, err)
		}
	}
	line := &pipeline.Records[string]{Values: []string{strings.Repeat("x", 1000)}, Times: []int64{0}}

	w, err := open(t, sink, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err = w.Write(t.Context(), line); err != nil {
			break
		}
	}
	wanted("Write", err)
	wanted("Close after Write failed", w.(pipeline.Closer).Close())

	if w, err = open(t, sink, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), line); err != nil {
		t.Fatal(err)
	}
	wanted("Flush", w.(pipeline.Flusher).Flush(t.Context()))
	wanted("Flush again", w.(pipeline.Flusher).Flush(t.Context()))
	wanted("Close", w.(pipeline.Closer).Close())

	p := pipeline.New(pipeline.DefaultParallelism(1))
	pipeline.To(pipeline.From(p, "in", memory.From([]string{"a"})), "out", sink)
	wanted("job", p.Run(t.Context()))
}

func BenchmarkJSON(b *testing.B) {
	w, err := files.JSON[reading](filepath.Join(b.TempDir(), "out")).Open(b.Context(), &pipeline.SinkEnv{Parallelism: 1})
	if err != nil {
		b.Fatal(err)
	}
	batch := &pipeline.Records[reading]{Values: make([]reading, 256), Times: make([]int64, 256)}
	for i := range batch.Values {
		batch.Values[i] = reading{"sensor in the attic", float64(i)}
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(batch.Values) {
		if err := w.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.(pipeline.Closer).Close(); err != nil {
		b.Fatal(err)
	}
}

func ExampleJSON() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "readings.jsonl")

	p := pipeline.New(pipeline.DefaultParallelism(1))
	readings := pipeline.From(p, "readings", memory.From([]reading{{"attic", 31.5}, {"cellar", 12}}))
	pipeline.To(readings, "file", files.JSON[reading](path))
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	fmt.Print(string(written))
	// Output:
	// {"sensor":"attic","value":31.5}
	// {"sensor":"cellar","value":12}
}
