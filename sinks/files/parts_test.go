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
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/files"
)

func TestRule18_JSONParts(t *testing.T) {
	for _, rollAt := range []int64{0, 40} {
		t.Run(fmt.Sprintf("rollAt=%d", rollAt), func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkCase[reading]{
				New: func(t testing.TB) (pipeline.Sink[reading], func() []reading) {
					dir := filepath.Join(t.TempDir(), "new", "folder")
					return files.JSONParts[reading](dir, files.RollAt(rollAt)), func() []reading {
						var all []reading
						for _, line := range contents(t, filepath.Join(dir, "part-*.jsonl")) {
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
			})
		})
	}
}

// row has a column that not every value fits: a decimal of 13 bytes.
type row struct {
	Amount []byte   `parquet:"amount,decimal(8:29)"`
	N      int64    `parquet:"n"`
	Tags   []string `parquet:"tags,list"`
}

func TestRule18_Parquet(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []files.Option
	}{
		{"defaults", nil},
		{"small", []files.Option{files.RowGroup(1), files.RollAt(2000), files.Compress(&parquet.Snappy)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkCase[row]{
				New: func(t testing.TB) (pipeline.Sink[row], func() []row) {
					dir := t.TempDir()
					return files.Parquet[row](dir, c.opts...), func() []row { return rowsIn(t, dir) }
				},
				Value: func(i int) row {
					return row{Amount: fmt.Appendf(nil, "%013d", i), N: int64(i), Tags: []string{"a", fmt.Sprint(i)}}
				},
				Bad: func() row { return row{Amount: []byte("short")} },
			})
		})
	}
}

func rowsIn(t testing.TB, dir string) []row {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	for _, path := range paths {
		rows, err := parquet.ReadFile[row](path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, rows...)
	}
	return all
}

func TestParquetRefusesTypes(t *testing.T) {
	env := &pipeline.SinkEnv{Operator: "out", Parallelism: 1}
	type odd struct{ C chan int }
	if _, err := files.Parquet[odd](t.TempDir()).Open(t.Context(), env); err == nil || !strings.Contains(err.Error(), "odd") {
		t.Errorf("a channel as a column: got error %v, want one that names the type", err)
	}
	type garbled struct {
		Inner []struct {
			ID *string `parquet:"id,uuid"`
		}
	}
	if _, err := files.Parquet[garbled](t.TempDir()).Open(t.Context(), env); err == nil || !strings.Contains(err.Error(), "field ID") {
		t.Errorf("a string as a UUID: got error %v, want one that names the field", err)
	}
	if _, err := files.Parquet[int](t.TempDir()).Open(t.Context(), env); err == nil || !strings.Contains(err.Error(), "not a struct") {
		t.Errorf("a number as a row: got error %v", err)
	}
	if _, err := files.Parquet[struct{}](t.TempDir()).Open(t.Context(), env); err == nil {
		t.Error("a row without columns was accepted")
	}
}

// start opens a sink of part files as subtask 0 of 1, and closes it with the
// test.
func start[T any](t *testing.T, sink pipeline.Sink[T], env pipeline.SinkEnv) (pipeline.Writer[T], error) {
	t.Helper()
	env.Parallelism, env.Checkpoints = 1, true
	if env.Operator == "" {
		env.Operator = "out"
	}
	w, err := sink.Open(t.Context(), &env)
	if err == nil {
		t.Cleanup(func() { _ = w.(pipeline.Closer).Close() })
	}
	return w, err
}

// prepare writes lines and prepares them.
func prepare(t *testing.T, w pipeline.Writer[string], checkpoint int64, lines ...string) []byte {
	t.Helper()
	if err := w.Write(t.Context(), &pipeline.Records[string]{Values: lines, Times: make([]int64, len(lines))}); err != nil {
		t.Fatal(err)
	}
	b, err := w.(pipeline.Committer).Prepare(t.Context(), checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func commit(w pipeline.Writer[string], prepared []byte) error {
	return w.(pipeline.Committer).Commit(context.Background(), prepared)
}

// job writes lines as a whole job, with its checkpoint.
func job(t *testing.T, sink pipeline.Sink[string], run string, lines ...string) {
	t.Helper()
	w, err := start(t, sink, pipeline.SinkEnv{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(w, prepare(t, w, 1, lines...)); err != nil {
		t.Fatal(err)
	}
	if err := w.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".millrace") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestPartNames(t *testing.T) {
	dir := t.TempDir()
	w, err := start(t, files.EncodeParts(dir, ".csv", func(b []byte, v string) ([]byte, error) { return append(b, v...), nil }, files.RollAt(3)), pipeline.SinkEnv{Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, w, 7, "abc")
	second := prepare(t, w, 8, "d") // rolled only at the end of a checkpoint
	if got, want := folder(t, dir), []string{".part-00000-r1-000.tmp", ".part-00000-r1-001.tmp"}; !slices.Equal(got, want) {
		t.Errorf("prepared: files %q, want %q", got, want)
	}
	want := `{"version":1,"checkpoint":8,"parts":[{"temp":".part-00000-r1-001.tmp","name":"part-00000-00000008-000.csv","size":1}]}`
	if string(second) != want {
		t.Errorf("prepared bytes\n%s, want\n%s", second, want)
	}
	if err := commit(w, second); err != nil {
		t.Fatal(err)
	}
	if got, want := folder(t, dir), []string{".part-00000-r1-000.tmp", "part-00000-00000008-000.csv"}; !slices.Equal(got, want) {
		t.Errorf("committed: files %q, want %q", got, want)
	}
}

func TestPartsOfAnEarlierJob(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"README", ".part-1.tmp", "part-1.txt", ".part-00000-r-1-000.tmp"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	job(t, files.LineParts(dir), "r1", "one")
	if _, err := start(t, files.LineParts(dir), pipeline.SinkEnv{Run: "r2"}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "part-00000-00000001-000.txt") {
		t.Errorf("existing part: got error %v, want one that names it", err)
	}
	job(t, files.LineParts(dir, files.Append()), "r3", "two") // checkpoint 1 again
	if got := contents(t, filepath.Join(dir, "part-0*")); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("appended: %q", got)
	}
	job(t, files.LineParts(dir, files.Overwrite()), "r4", "three")
	if got := contents(t, filepath.Join(dir, "part-0*")); !slices.Equal(got, []string{"three"}) {
		t.Errorf("overwritten: %q", got)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a file that is not the sink's is gone: %v", err)
		}
	}
}

func TestFolderOfAnotherSink(t *testing.T) {
	dir := t.TempDir()
	w, err := start(t, files.LineParts(dir), pipeline.SinkEnv{Operator: "first", Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, files.LineParts(dir, files.Append()), pipeline.SinkEnv{Operator: "second", Run: "r1"}); err == nil || !strings.Contains(err.Error(), `sink "first" writes there`) {
		t.Errorf("two sinks at once: got error %v", err)
	}
	prepared := prepare(t, w, 1, "x")
	if err := w.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	// What first has prepared is not for others to remove.
	if _, err := start(t, files.LineParts(dir), pipeline.SinkEnv{Operator: "second", Run: "r2"}); err == nil || !strings.Contains(err.Error(), `that of sink "first"`) {
		t.Errorf("one after the other: got error %v", err)
	}
	if w, err = start(t, files.LineParts(dir), pipeline.SinkEnv{Operator: "first", Run: "r3", Prepared: [][]byte{nil, prepared}}); err != nil {
		t.Fatal(err)
	}
	if err := commit(w, prepared); err != nil {
		t.Fatal(err)
	}
}

func TestTakenOver(t *testing.T) {
	for name, sink := range map[string]pipeline.Sink[string]{
		"parts": files.LineParts(t.TempDir()), "growing": files.Lines(filepath.Join(t.TempDir(), "out")),
	} {
		first, err := start(t, sink, pipeline.SinkEnv{Run: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		prepared := prepare(t, first, 1, "a")
		second, err := start(t, sink, pipeline.SinkEnv{Run: "r2", Prepared: [][]byte{prepared}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.(pipeline.Committer).Prepare(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "taken over") {
			t.Errorf("%s: prepare of the earlier start: got error %v", name, err)
		}
		if err := commit(first, prepared); err == nil {
			t.Errorf("%s: the earlier start still commits", name)
		}
		if err := commit(second, prepared); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissingResults(t *testing.T) {
	dir := t.TempDir()
	w, err := start(t, files.LineParts(dir), pipeline.SinkEnv{Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	prepared := prepare(t, w, 1, "abc")
	temp, final := filepath.Join(dir, ".part-00000-r1-000.tmp"), filepath.Join(dir, "part-00000-00000001-000.txt")
	wanted := func(when string, parts ...string) {
		t.Helper()
		err := commit(w, prepared)
		for _, part := range parts {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got error %v, want one with %q", when, err, part)
			}
		}
	}
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	change(os.Truncate(temp, 2))
	wanted("torn", temp, "has 2 bytes, the checkpoint has 4")
	change(os.WriteFile(final, []byte("abc\n"), 0o666))
	wanted("a file in the way", temp, final, "exists")
	change(os.Remove(temp))
	wanted("committed") // of the right size
	change(os.Truncate(final, 3))
	wanted("committed and torn", final, "has 3 bytes, the checkpoint has 4")
	change(os.Remove(final))
	wanted("gone", temp, final, "results are missing")
	if err := commit(w, []byte(`{"version":2}`)); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a later version: got error %v", err)
	}
	if err := commit(w, []byte(`{"version":1,"parts":[{"temp":"../x","name":"part-00000-00000001-000.txt"}]}`)); err == nil {
		t.Error("a path that leads out of the folder was accepted")
	}
}

// TestOlderCheckpoint starts from a checkpoint that later ones have overtaken.
func TestOlderCheckpoint(t *testing.T) {
	dir := t.TempDir()
	w, err := start(t, files.LineParts(dir), pipeline.SinkEnv{Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	first := prepare(t, w, 1, "a")
	for _, p := range [][]byte{first, prepare(t, w, 2, "b")} {
		if err := commit(w, p); err != nil {
			t.Fatal(err)
		}
	}
	_, err = start(t, files.LineParts(dir), pipeline.SinkEnv{Run: "r2", Prepared: [][]byte{first}})
	if err == nil || !strings.Contains(err.Error(), "part-00000-00000002-000.txt") || !strings.Contains(err.Error(), "after checkpoint 1") {
		t.Errorf("got error %v, want one that names the later part", err)
	}
}

func TestOptionsThatDoNothing(t *testing.T) {
	for _, sink := range []pipeline.Sink[string]{
		files.Lines("out", files.RollAt(1)), files.LineParts("out", files.RowGroup(1)), files.LineParts("out", files.RollAt(-1)),
		files.LineParts("out", files.Append(), files.Overwrite()),
		files.EncodeParts("out", "csv", func(b []byte, v string) ([]byte, error) { return b, nil }),
	} {
		if _, err := start(t, sink, pipeline.SinkEnv{}); err == nil || !strings.HasPrefix(err.Error(), "invalid") {
			t.Errorf("got error %v, want an invalid option or extension", err)
		}
	}
}

func ExampleParquet() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	type view struct {
		Page  string `parquet:"page,dict"`
		Count int64  `parquet:"count"`
	}
	// In a job: pipeline.To(views, "views", files.Parquet[view](dir))
	w, err := files.Parquet[view](dir).Open(context.Background(), &pipeline.SinkEnv{Operator: "views", Parallelism: 1})
	if err != nil {
		panic(err)
	}
	_ = w.Write(context.Background(), &pipeline.Records[view]{Values: []view{{"/", 3}, {"/about", 1}}, Times: []int64{0, 0}})
	prepared, err := w.(pipeline.Committer).Prepare(context.Background(), 1)
	if err != nil {
		panic(err)
	}
	if err := w.(pipeline.Committer).Commit(context.Background(), prepared); err != nil {
		panic(err)
	}
	views, err := parquet.ReadFile[view](filepath.Join(dir, "part-00000-00000001-000.parquet"))
	fmt.Println(views, err)
	// Output:
	// [{/ 3} {/about 1}] <nil>
}

func BenchmarkParquet(b *testing.B) {
	type event struct {
		Page    string  `parquet:"page,dict"`
		Visitor string  `parquet:"visitor"`
		At      int64   `parquet:"at,delta"`
		Seconds float64 `parquet:"seconds"`
	}
	batch := &pipeline.Records[event]{Values: make([]event, 512), Times: make([]int64, 512)}
	for i := range batch.Values {
		batch.Values[i] = event{fmt.Sprintf("/page/%d", i%40), fmt.Sprintf("visitor-%d", i*7919), int64(1e12 + i*37), float64(i) / 7}
	}
	for name, opts := range map[string][]files.Option{"zstd": nil, "snappy": {files.Compress(&parquet.Snappy)}} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			w, err := files.Parquet[event](dir, opts...).Open(b.Context(), &pipeline.SinkEnv{Operator: "out", Parallelism: 1})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(batch.Values) {
				for i := range batch.Values {
					batch.Values[i].At += 40000
					batch.Values[i].Seconds += 0.37
				}
				if err := w.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			prepared, err := w.(pipeline.Committer).Prepare(b.Context(), 1)
			if err != nil {
				b.Fatal(err)
			}
			var p struct{ Parts []struct{ Size int64 } }
			if err := json.Unmarshal(prepared, &p); err != nil {
				b.Fatal(err)
			}
			var size int64
			for _, f := range p.Parts {
				size += f.Size
			}
			b.ReportMetric(float64(size)/float64(b.N), "B/record")
			if err := w.(pipeline.Closer).Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
