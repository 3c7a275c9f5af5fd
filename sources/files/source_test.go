package files_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/files"
)

type hit struct {
	Page string `json:"page"`
	N    int    `json:"n"`
	Tags []string
	Sub  *struct{ A string }
}

func (h hit) String() string {
	s := fmt.Sprint(h.Page, h.N, h.Tags)
	if h.Sub != nil {
		s += h.Sub.A
	}
	return s
}

func put(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(content string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(content))
	_ = z.Close()
	return b.String()
}

func zstded(content string) string {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(z.EncodeAll([]byte(content), nil))
}

// result is what a job makes of files.
type result[T any] struct {
	values []T
	dead   []pipeline.DeadLetter
	stats  map[string]int64
	err    error
}

func read[T any](t testing.TB, src pipeline.Source[T], opts ...pipeline.Option) result[T] {
	t.Helper()
	p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(1)}, opts...)...)
	out := memory.Collect(pipeline.From(p, "files", src), "out")
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	r := result[T]{stats: map[string]int64{}}
	r.err = p.Run(t.Context())
	r.values, r.dead = out.Values(), dead.Values()
	for _, s := range p.Stats() {
		if s.Operator != "files" {
			continue
		}
		for name, n := range s.Counters {
			r.stats[name] += n
		}
		for name, n := range s.Gauges {
			r.stats[name] += n
		}
	}
	return r
}

// letters renders dead letters shortly.
func letters(dead []pipeline.DeadLetter) string {
	var all []string
	for _, d := range dead {
		raw := string(d.Raw)
		if len(raw) > 40 {
			raw = fmt.Sprintf("%s... (%d)", raw[:8], len(raw))
		}
		all = append(all, fmt.Sprintf("%s:%d %q %s", filepath.Base(d.Split), d.Offset, raw, d.Error))
	}
	return strings.Join(all, "\n")
}

// jsonFiles writes files of every kind and returns their records.
func jsonFiles(t testing.TB, dir string) []hit {
	var all []hit
	content := func(n int) string {
		var b strings.Builder
		for i := range n {
			h := hit{Page: fmt.Sprintf("/file%d", n), N: i, Tags: []string{"a", fmt.Sprint("t", i)}, Sub: &struct{ A string }{fmt.Sprint("sub", i)}}
			all = append(all, h)
			fmt.Fprintf(&b, `{"page":%q,"n":%d,"tags":["a","t%d"],"sub":{"A":"sub%d"}}`+"\n", h.Page, i, i, i)
		}
		return b.String()
	}
	put(t, dir+"/a.jsonl", content(20))
	put(t, dir+"/b.jsonl", "")
	put(t, dir+"/c.jsonl", gzipped(content(17)))
	put(t, dir+"/d.jsonl", zstded(content(9)))
	put(t, dir+"/e.jsonl", strings.TrimSuffix(content(5), "\n"))
	put(t, dir+"/f.jsonl", "\ufeff"+strings.ReplaceAll(content(4), "\n", "\r\n\r\n")+"  \n")
	put(t, dir+"/g.jsonl", gzipped(content(3))+gzipped(content(2)))
	return all
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	want := jsonFiles(t, dir)
	for name, opts := range map[string][]files.Option{
		"default": nil, "one open": {files.MaxOpen(1)}, "two open": {files.MaxOpen(2)},
	} {
		t.Run("json/"+name, func(t *testing.T) {
			pipelinetest.TestSource(t, pipelinetest.SourceCase[hit]{
				New:  func(testing.TB) pipeline.Source[hit] { return files.JSON[hit](dir+"/*.jsonl", opts...) },
				Want: want,
			})
		})
	}
	t.Run("json/same source again", func(t *testing.T) {
		src := files.JSON[hit](dir + "/*.jsonl")
		pipelinetest.TestSource(t, pipelinetest.SourceCase[hit]{
			New: func(testing.TB) pipeline.Source[hit] { return src }, Want: want,
		})
	})
	t.Run("json/follow", func(t *testing.T) {
		dir := t.TempDir()
		want := jsonFiles(t, dir)
		if err := os.WriteFile(dir+"/e.jsonl", []byte("{}\n{}\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		want = slices.DeleteFunc(want, func(h hit) bool { return h.Page == "/file5" })
		want = append(want, hit{}, hit{})
		pipelinetest.TestSource(t, pipelinetest.SourceCase[hit]{
			New: func(testing.TB) pipeline.Source[hit] {
				return files.JSON[hit](dir+"/*.jsonl", files.Follow(), files.PollInterval(time.Millisecond))
			},
			Want: want, Endless: true,
		})
	})
	t.Run("lines", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/1", "one\ntwo\n\nthree")
		put(t, dir+"/2", "\xff\xfe\n\x00\n \n")
		pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
			New:  func(testing.TB) pipeline.Source[string] { return files.Lines(dir + "/*") },
			Want: []string{"one", "two", "three", "\xff\xfe", "\x00", " "},
		})
	})
	t.Run("decode", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/1", "1\n#2\nx\n3\n4\npanic\n5\nx\n")
		decode := func(line []byte) (int, error) {
			if line[0] == '#' {
				return 0, files.ErrSkip
			}
			if string(line) == "panic" {
				panic("no number at all")
			}
			n := 0
			_, err := fmt.Sscan(string(line), &n)
			return n, err
		}
		pipelinetest.TestSource(t, pipelinetest.SourceCase[int]{
			New:  func(testing.TB) pipeline.Source[int] { return files.Decode(dir+"/*", decode) },
			Want: []int{1, 3, 4, 5}, Rejected: 3,
		})
	})
	t.Run("csv", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/1", "a,b\n1,\"x\ny\"\n\n2,\"say \"\"hi\"\"\"\nbad\n3,\"\"\n4,z")
		put(t, dir+"/2", gzipped("b,a\r\n\"x\r\n\r\ny\",5\r\n,6\r\n"))
		put(t, dir+"/3", "a,b\n")
		put(t, dir+"/4", "")
		pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
			New: func(testing.TB) pipeline.Source[string] {
				return mapped[files.Row, string]{files.CSV(dir + "/*"), func(r files.Row) string { return r.Get("a") + ":" + r.Get("b") }}
			},
			Want: []string{"1:x\ny", "2:say \"hi\"", "3:", "4:z", "5:x\n\ny", "6:"}, Rejected: 1,
		})
	})
	t.Run("tsv", func(t *testing.T) {
		dir := t.TempDir()
		put(t, dir+"/1", "a\tb\n1\t\"x\n2\t\n\t\nbad\n")
		pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
			New: func(testing.TB) pipeline.Source[string] {
				return mapped[files.Row, string]{files.TSV(dir + "/*"), files.Row.String}
			},
			Want: []string{`a="1" b="\"x"`, `a="2" b=""`, `a="" b=""`}, Rejected: 1,
		})
	})
}

// mapped is a source around another.
type mapped[T, U any] struct {
	src pipeline.Source[T]
	f   func(T) U
}

func (m mapped[T, U]) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[U], error) {
	r, err := m.src.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	return &mappedReader[T, U]{m: m, r: r, Pauser: r.(pipeline.Pauser), Closer: r.(pipeline.Closer)}, nil
}

type mappedReader[T, U any] struct {
	m mapped[T, U]
	r pipeline.Reader[T]
	pipeline.Pauser
	pipeline.Closer
	b pipeline.SourceBatch[T]
}

func (r *mappedReader[T, U]) Read(ctx context.Context, b *pipeline.SourceBatch[U]) error {
	r.b.Reset()
	err := r.r.Read(ctx, &r.b)
	added, idle, finished := r.b.News()
	for _, s := range added {
		b.AddSplit(s)
	}
	for _, s := range idle {
		b.IdleSplit(s)
	}
	for _, s := range finished {
		b.FinishSplit(s)
	}
	for _, v := range r.b.Values {
		b.Values = append(b.Values, r.m.f(v))
	}
	b.Split, b.Position = r.b.Split, r.b.Position
	b.Rejected = append(b.Rejected, r.b.Rejected...)
	return err
}

func TestBadRecords(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		name, content string
		want          string // values
		dead          string
	}{
		{"bad line", "{\"n\":1}\noops\n{\"n\":2}\n", "1 2",
			`f:2 "oops" byte 8: invalid character 'o' looking for beginning of value`},
		{"wrong type", `{"n":"one"}` + "\n" + `{"n":2}`, "2",
			`f:1 "{\"n\":\"one\"}" byte 0: json: cannot unmarshal string into Go struct field hit.n of type int`},
		{"cut off", `{"n":1}` + "\n" + `{"n":`, "1", ``},
		{"two on a line", `{"n":1}{"n":2}` + "\n{\"n\":3}\n", "3", ``},
		{"invalid UTF-8", "{\"page\":\"a\xffb\"}\n{\"n\":3}\n", "3",
			"f:1 \"{\\\"page\\\":\\\"a\\xffb\\\"}\" byte 0: invalid UTF-8 at byte 10 of the line"},
		{"over the limit", long + "\n{\"n\":1}\n", "1",
			`f:1 "xxxxxxxx... (100)" byte 0: line too long: 100 bytes, the limit is 50; its first 100 are kept`},
		{"over the limit, last", "{\"n\":1}\n" + long, "1",
			`f:2 "xxxxxxxx... (100)" byte 8: line too long: 100 bytes, the limit is 50; its first 100 are kept`},
		{"far over the limit", strings.Repeat("x", 1_000_000) + "\n{\"n\":1}\n" + strings.Repeat("y", 500_000), "1",
			"f:1 \"xxxxxxxx... (65536)\" byte 0: line too long: 1000000 bytes, the limit is 50; its first 65536 are kept\n" +
				`f:3 "yyyyyyyy... (65536)" byte 1000009: line too long: 500000 bytes, the limit is 50; its first 65536 are kept`},
		{"blank lines", "\n\r\n \t\n{\"n\":1}\n\n", "1", ""},
		{"null is a zero value, as in Go", "null\n", "0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := put(t, filepath.Join(t.TempDir(), "f"), c.content)
			r := read(t, files.JSON[hit](path, files.MaxLine(50)))
			if r.err != nil {
				t.Fatal(r.err)
			}
			var got []string
			for _, h := range r.values {
				got = append(got, fmt.Sprint(h.N))
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("got records %q, want %q", g, c.want)
			}
			if c.dead == "" && len(r.dead) > 0 != (c.name == "cut off" || c.name == "two on a line") {
				t.Errorf("got dead letters %s", letters(r.dead))
			}
			if g := letters(r.dead); c.dead != "" && g != c.dead {
				t.Errorf("got dead letters\n%s\nwant\n%s", g, c.dead)
			}
		})
	}
}

func TestTenMegabyteLines(t *testing.T) {
	big := strings.Repeat("é", 5<<20)
	path := put(t, filepath.Join(t.TempDir(), "f"), `{"page":"`+big+`"}`+"\n{\"n\":2}\n"+`{"page":"`+big+`"}`)
	r := read(t, files.JSON[hit](path))
	if r.err != nil || len(r.dead) > 0 || len(r.values) != 3 {
		t.Fatalf("got %d records, %d dead letters, error %v", len(r.values), len(r.dead), r.err)
	}
	if r.values[0].Page != big || r.values[2].Page != big || r.values[1].N != 2 {
		t.Error("records differ from what is in the file")
	}
}

// TestRule31 lets a decoder panic and fail, and stops without a dead-letter
// output.
func TestRule31(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "f"), "a\npanic\nb\nerror\n")
	decode := func(line []byte) (string, error) {
		switch string(line) {
		case "panic":
			var m map[string]int
			maps.Copy(m, map[string]int{"x": 1})
		case "error":
			return "half", errors.New("no good")
		}
		return string(line), nil
	}
	r := read(t, files.Decode(path, decode))
	if r.err != nil || fmt.Sprint(r.values) != "[a b]" {
		t.Errorf("got %v, error %v", r.values, r.err)
	}
	if got, want := letters(r.dead), "f:2 \"panic\" byte 2: panic: assignment to entry in nil map\nf:4 \"error\" byte 10: no good"; got != want {
		t.Errorf("got dead letters\n%s\nwant\n%s", got, want)
	}

	p := pipeline.New(pipeline.DefaultParallelism(1))
	memory.Collect(pipeline.From(p, "files", files.Decode(path, decode)), "out")
	err := p.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nil map") {
		t.Errorf("without a dead-letter output: got error %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/sub/file", "x\n")
	put(t, dir+"/secret", "x\n")
	for _, c := range []struct {
		pattern string
		opts    []files.Option
		want    string
		is      error
	}{
		{dir + "/none", nil, fmt.Sprintf("read %q: file does not exist", dir+"/none"), fs.ErrNotExist},
		{dir + "/*.none", nil, fmt.Sprintf("read %q: no file matches the pattern", dir+"/*.none"), nil},
		{dir + "/[", nil, fmt.Sprintf("pattern %q: syntax error in pattern", dir+"/["), filepath.ErrBadPattern},
		{dir + "/sub", nil, fmt.Sprintf("read %q: is a directory", dir+"/sub"), nil},
		{dir + "/sub", []files.Option{files.Follow()}, fmt.Sprintf("read %q: is a directory", dir+"/sub"), nil},
		{dir + "/s*", []files.Option{files.MaxLine(0)}, "invalid option: MaxLine is 0, must be at least 1", nil},
		{dir + "/s*", []files.Option{files.MaxOpen(0)}, "invalid option: MaxOpen is 0, must be at least 1", nil},
		{dir + "/s*", []files.Option{files.PollInterval(0)}, "invalid option: PollInterval is not positive: 0s", nil},
		{dir + "/s*", []files.Option{files.Columns("a")}, "invalid option: Columns is for CSV and TSV", nil},
		{dir + "/s*", []files.Option{files.RequireColumns("a")}, "invalid option: RequireColumns is for CSV and TSV", nil},
		{dir + "/s*", []files.Option{files.Comma(';')}, "invalid option: Comma is for CSV", nil},
	} {
		r := read(t, files.Lines(c.pattern, c.opts...))
		if r.err == nil || !strings.HasSuffix(r.err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %s", c.pattern, r.err, c.want)
		}
		if c.is != nil && !errors.Is(r.err, c.is) {
			t.Errorf("%s: error %v is not %v", c.pattern, r.err, c.is)
		}
	}
	if os.Getuid() != 0 {
		if err := os.Chmod(dir+"/secret", 0); err != nil {
			t.Fatal(err)
		}
		if r := read(t, files.Lines(dir+"/s*")); !errors.Is(r.err, fs.ErrPermission) || !strings.Contains(r.err.Error(), "secret") {
			t.Errorf("unreadable file: got error %v", r.err)
		}
	}
}

func TestNameWithMetaCharacters(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "a[1]*.log"), "x\n")
	if r := read(t, files.Lines(path)); r.err != nil || len(r.values) != 1 {
		t.Errorf("got %q, error %v", r.values, r.err)
	}
}

func TestCorruptCompression(t *testing.T) {
	var lines strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&lines, "line %d %x\n", i, i*i*7919)
	}
	for name, content := range map[string]string{"gzip": gzipped(lines.String()), "zstd": zstded(lines.String())} {
		flipped := []byte(content)
		for i := range 16 {
			flipped[len(flipped)/2+i] ^= 0x55
		}
		for damage, content := range map[string]string{"cut": content[:len(content)/2], "flipped": string(flipped)} {
			path := put(t, filepath.Join(t.TempDir(), "f"), content)
			src := files.Lines(path)
			reader, err := src.Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: 256})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for err == nil {
				var b pipeline.SourceBatch[string]
				err = reader.Read(t.Context(), &b)
				for _, line := range b.Values {
					// What a flipped bit makes of gzip shows only at its end.
					if damage == "cut" && !strings.HasPrefix(line, fmt.Sprintf("line %d ", n)) {
						t.Fatalf("%s %s: record %d is %q", name, damage, n, line)
					}
					n++
				}
			}
			if errors.Is(err, pipeline.ErrEndOfInput) || !strings.Contains(err.Error(), fmt.Sprintf("read %q: %s, after ", path, name)) {
				t.Errorf("%s %s: got error %v, want one that names the file and how far it was read", name, damage, err)
			}
			if n < 10_000 {
				t.Errorf("%s %s: %d records came before the damage, want those that are whole", name, damage, n)
			}
			_ = reader.(pipeline.Closer).Close()
		}
	}
}

func TestTruncatedWhileReading(t *testing.T) {
	var lines strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	path := put(t, filepath.Join(t.TempDir(), "f"), lines.String())
	reader, err := files.Lines(path).Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.(pipeline.Closer).Close() }()
	n := 0
	for err == nil {
		var b pipeline.SourceBatch[string]
		err = reader.Read(t.Context(), &b)
		n += len(b.Values)
		if err := os.Truncate(path, 5); err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 || n >= 100_000 {
		t.Errorf("got %d records of a file that was truncated after the first", n)
	}
	want := fmt.Sprintf("read %q: truncated while it was read: it had %d bytes at the start and ends after ", path, lines.Len())
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v, want %s...", err, want)
	}
}

// TestCompressedTruncatedBetweenParts: what is left of the file is whole by
// itself, so only its size tells.
func TestCompressedTruncatedBetweenParts(t *testing.T) {
	for name, part := range map[string]string{"gzip": gzipped("a\nb\n"), "zstd": zstded("a\nb\n")} {
		path := put(t, filepath.Join(t.TempDir(), "f"), part+part)
		reader, err := files.Lines(path).Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reader.(pipeline.Closer).Close() }()
		if err := os.Truncate(path, int64(len(part))); err != nil {
			t.Fatal(err)
		}
		var b pipeline.SourceBatch[string]
		err = reader.Read(t.Context(), &b)
		want := fmt.Sprintf("it had %d bytes at the start and ends after %d now", 2*len(part), len(part))
		if err == nil || !strings.Contains(err.Error(), want) || len(b.Values) != 2 {
			t.Errorf("%s: got %q, error %v, want %s", name, b.Values, err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/1", "a\nb\n")
	z := gzipped(strings.Repeat("line\n", 1000))
	put(t, dir+"/2", z)
	r := read(t, files.Lines(dir+"/*"), pipeline.DefaultParallelism(2))
	if r.err != nil {
		t.Fatal(r.err)
	}
	size := int64(4 + len(z))
	for name, want := range map[string]int64{"bytes_read": size, "bytes_total": size, "records": 1002, "files_done": 2} {
		if got := r.stats[name]; got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// TestRestart reads half of a file and goes on after it was renamed, and after
// it was replaced.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	old := put(t, dir+"/a.log", "one\ntwo\nthree\nfour\n")
	pattern := dir + "/*"
	open := func(positions map[string][]byte) *tail { return startTail(t, files.Lines(pattern), 2, positions) }
	first := open(nil)
	first.read(t)
	first.close()
	if got := first.took(); got != "one two" {
		t.Fatalf("got %q first", got)
	}
	rest := func(what, want string) {
		t.Helper()
		r := open(first.positions)
		r.toEnd(t)
		if got := r.took(); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	rest("same file", "three four")
	if err := os.Rename(old, dir+"/a.log.1"); err != nil {
		t.Fatal(err)
	}
	rest("renamed", "three four")
	put(t, dir+"/a.log", "new\nfile\nof\nfive\nlines\n")
	rest("renamed, and another in its place", "new file three four of five lines")
	if err := os.Remove(dir + "/a.log.1"); err != nil {
		t.Fatal(err)
	}
	rest("replaced", "new file of five lines")
	put(t, dir+"/a.log", "one\n")
	rest("shorter than before", "one")
}

// TestFinishedFileIsNotReadAgain restarts after the end.
func TestFinishedFileIsNotReadAgain(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/plain", "a\n")
	put(t, dir+"/packed", gzipped("b\n"))
	first := startTail(t, files.Lines(dir+"/*"), 10, nil)
	first.toEnd(t)
	again := startTail(t, files.Lines(dir+"/*"), 10, first.positions)
	again.toEnd(t)
	if got := again.took(); got != "" {
		t.Errorf("read %q again", got)
	}
	f, err := os.OpenFile(dir+"/plain", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "c")
	_ = f.Close()
	again = startTail(t, files.Lines(dir+"/*"), 10, first.positions)
	again.toEnd(t)
	if got := again.took(); got != "c" {
		t.Errorf("after appending: got %q, want %q", got, "c")
	}
}

// TestDrift reads more files than may be open, each of which runs into the
// drift bound, so that pauses and the limit meet.
func TestDrift(t *testing.T) {
	dir := t.TempDir()
	want := 0
	for f := range 9 {
		var b strings.Builder
		for i := range 500 {
			fmt.Fprintf(&b, "%d\n", f*1000+i)
			want++
		}
		content := b.String()
		if f%3 == 1 {
			content = gzipped(content)
		}
		put(t, fmt.Sprintf("%s/%d", dir, f), content)
	}
	for parallelism := 1; parallelism <= 3; parallelism++ {
		p := pipeline.New(pipeline.DefaultParallelism(parallelism), pipeline.BatchSize(16))
		decode := func(line []byte) (int64, error) {
			var n int64
			_, err := fmt.Sscan(string(line), &n)
			return n, err
		}
		src := pipeline.From(p, "numbers", files.Decode(dir+"/*", decode, files.MaxOpen(2)),
			pipeline.BoundedDisorder(func(n int64) int64 { return n }, 0).MaxDrift(100*time.Millisecond))
		out := memory.Collect(src, "out", pipeline.Parallelism(1))
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := out.Len(); got != want {
			t.Errorf("par=%d: got %d records, want %d", parallelism, got, want)
		}
	}
}

func TestCSV(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "f"), strings.Join([]string{
		`name,n`,          // 1
		`plain,1`,         // 2
		`"quo""ted",2`,    // 3
		`"two`,            // 4
		`lines",3`,        // 5
		`bare "quote",4`,  // 6
		`"closed" early,`, // 7
		`too,many,fields`, // 8
		`last,5`,          // 9
		`"never closed,6`, // 10
		`but,7`,           // 11
		``,
	}, "\n"))
	r := read(t, files.CSV(path))
	if r.err != nil {
		t.Fatal(r.err)
	}
	if got, want := fmt.Sprint(r.values), `[name="plain" n="1" name="quo\"ted" n="2" name="two\nlines" n="3" name="last" n="5" name="but" n="7"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want := `f:6 "bare \"quote\",4" byte 42: column 6: quote in a field that does not begin with one
f:7 "\"closed\" early," byte 57: column 9: text after a quoted field
f:8 "too,many,fields" byte 73: 3 fields, the header has 2
f:10 "\"never closed,6" byte 96: quoted field does not end`
	if got := letters(r.dead); got != want {
		t.Errorf("got dead letters\n%s\nwant\n%s", got, want)
	}
}

func TestCSVOptions(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "f"), "a;\"b;c\"\nd;e\n")
	r := read(t, files.CSV(path, files.Comma(';'), files.Columns("x", "y")))
	if got, want := fmt.Sprint(r.values, r.err), `[x="a" y="b;c" x="d" y="e"] <nil>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	row := r.values[0]
	if _, ok := row.Lookup("z"); ok || row.Get("z") != "" || row.Len() != 2 || row.At(1) != "b;c" || fmt.Sprint(row.Columns()) != "[x y]" {
		t.Errorf("row %v answers wrongly", row)
	}
	path = put(t, filepath.Join(t.TempDir(), "g"), "a,\"b\nc\n")
	if r := read(t, files.CSV(path)); r.err == nil || !strings.Contains(r.err.Error(), "g\": header in line 1: quoted field does not end") {
		t.Errorf("bad header: got error %v", r.err)
	}
}

func TestAccessLogFile(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "access.log"), `192.0.2.7 - ann [10/Oct/2025:13:55:36 -0700] "GET /a?b=1 HTTP/1.1" 200 2326 "https://example.org/" "Mozilla/5.0"
oops
192.0.2.8 - - [10/Oct/2025:13:55:37 -0700] "GET /b HTTP/1.1" 404 -
`)
	r := read(t, files.AccessLog(path))
	if r.err != nil || len(r.values) != 2 || len(r.dead) != 1 {
		t.Fatalf("got %+v", r)
	}
	if e := r.values[0]; e.EventTime() != 1760129736000 || e.User != "ann" || e.UserAgent != "Mozilla/5.0" {
		t.Errorf("got entry %+v", e)
	}
}

func TestRequireColumns(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		header string
		opts   []files.Option
		want   string // empty for none
	}{
		{"a\tb\tc", nil, ""},
		{"x\tb\ta\tx", nil, ""},
		{"", nil, ""},
		{"a\tc", nil, `f": header in line 1: no column "b"`},
		{"a\tb\ta", nil, `f": header in line 1: column "a" is there twice`},
		{"1\t2", []files.Option{files.Columns("a", "b")}, ""},
		{"1\t2", []files.Option{files.Columns("a", "c")}, `invalid option: Columns: no column "b"`},
	} {
		path := put(t, filepath.Join(dir, "f"), c.header)
		r := read(t, files.TSV(path, append(c.opts, files.RequireColumns("a", "b"))...))
		if c.want == "" && r.err != nil || c.want != "" && (r.err == nil || !strings.HasSuffix(r.err.Error(), c.want)) {
			t.Errorf("header %q: got error %v, want %q", c.header, r.err, c.want)
		}
	}
}

// TestRejectedByConversion: what the function rejects is a dead letter like
// what the format does, and moves no watermark.
func TestRejectedByConversion(t *testing.T) {
	number := func(s string) (int, error) {
		switch s {
		case "skip":
			return 0, files.ErrSkip
		case "panic":
			panic("ouch")
		}
		return strconv.Atoi(s)
	}
	column := func(r files.Row) (int, error) { return number(r.Get("n")) }
	host := func(e files.AccessLogEntry) (int, error) { return number(e.Host) }
	const rest = ` - - [10/Oct/2025:13:55:36 -0700] "GET / HTTP/1.1" 200 5`
	for _, c := range []struct {
		format string
		source func(string) *files.Source[int]
		lines  []string
		line   int64 // of what can't be converted
	}{
		{"csv", func(p string) *files.Source[int] { return files.DecodeCSV(p, column) },
			[]string{"n,x", "1,\"two\nlines\"", "\"ten\",x", "skip,x", "panic,x", "2,x"}, 4},
		{"tsv", func(p string) *files.Source[int] { return files.DecodeTSV(p, column) },
			[]string{"n\tx", "1\tx", "ten\tx", "skip\tx", "panic\tx", "2\tx"}, 3},
		{"access log", func(p string) *files.Source[int] { return files.DecodeAccessLog(p, host) },
			[]string{"", "1" + rest, "ten" + rest, "skip" + rest, "panic" + rest, "2" + rest}, 3},
	} {
		path := put(t, filepath.Join(t.TempDir(), "f"), strings.Join(c.lines, "\n"))
		r := read(t, c.source(path))
		if r.err != nil || fmt.Sprint(r.values) != "[1 2]" || r.stats["skipped"] != 1 || len(r.dead) != 2 {
			t.Errorf("%s: got %v, dead letters\n%s\n%v, error %v", c.format, r.values, letters(r.dead), r.stats, r.err)
			continue
		}
		for i, want := range []struct {
			line      int64
			raw, text string
		}{{c.line, c.lines[2], "invalid syntax"}, {c.line + 2, c.lines[4], "ouch"}} {
			d := r.dead[i]
			if d.Split != path || d.Offset != want.line || string(d.Raw) != want.raw || !strings.Contains(d.Error, want.text) {
				t.Errorf("%s: got dead letter %+v, want line %d, %q, %s", c.format, d, want.line, want.raw, want.text)
			}
		}
	}
}

// folderWith makes a folder with a file for an example.
func folderWith(name, content string) (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

func ExampleJSON() {
	dir, remove := folderWith("hits.jsonl", `{"page":"/","n":1}
not json
{"page":"/about","n":2}
`)
	defer remove()

	type Hit struct {
		Page string `json:"page"`
		N    int    `json:"n"`
	}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "hits", files.JSON[Hit](filepath.Join(dir, "*.jsonl")))
	out := memory.Collect(hits, "out")
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	for _, d := range dead.Values() {
		fmt.Printf("line %d: %q\n", d.Offset, d.Raw)
	}
	// Output:
	// [{/ 1} {/about 2}]
	// line 2: "not json"
}

func ExampleCSV() {
	dir, remove := folderWith("users.csv", "id,name\n1,\"Lovelace, Ada\"\n")
	defer remove()

	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := memory.Collect(pipeline.From(p, "users", files.CSV(filepath.Join(dir, "users.csv"))), "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	for _, row := range out.Values() {
		fmt.Println(row.Get("id"), row.Get("name"))
	}
	// Output: 1 Lovelace, Ada
}

func ExampleDecode() {
	dir, remove := folderWith("sizes", "# width height\n3 4\n")
	defer remove()

	type size struct{ w, h int }
	sizes := files.Decode(filepath.Join(dir, "sizes"), func(line []byte) (s size, err error) {
		if line[0] == '#' {
			return s, files.ErrSkip
		}
		_, err = fmt.Sscan(string(line), &s.w, &s.h)
		return s, err
	})
	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := memory.Collect(pipeline.From(p, "sizes", sizes), "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	// Output: [{3 4}]
}

func ExampleDecodeCSV() {
	dir, remove := folderWith("sizes.csv", "width,height\n3,4\n5,\n")
	defer remove()

	area := func(r files.Row) (int, error) {
		w, err := strconv.Atoi(r.Get("width"))
		if err != nil {
			return 0, err
		}
		h, err := strconv.Atoi(r.Get("height"))
		return w * h, err
	}
	areas := files.DecodeCSV(filepath.Join(dir, "*.csv"), area, files.RequireColumns("width", "height"))

	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := memory.Collect(pipeline.From(p, "areas", areas), "out")
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	for _, d := range dead.Values() {
		fmt.Printf("%s line %d: %q\n", filepath.Base(d.Split), d.Offset, d.Raw)
	}
	// Output:
	// [12]
	// sizes.csv line 3: "5,"
}

func ExampleDecodeTSV() {
	dir, remove := folderWith("users.tsv", "id\tname\n1\tAda\n2\t\n")
	defer remove()

	names := files.DecodeTSV(filepath.Join(dir, "users.tsv"), func(r files.Row) (string, error) {
		if r.Get("name") == "" {
			return "", files.ErrSkip
		}
		return r.Get("name"), nil
	})
	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := memory.Collect(pipeline.From(p, "names", names), "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	// Output: [Ada]
}

func ExampleDecodeAccessLog() {
	dir, remove := folderWith("access.log", `192.0.2.7 - - [10/Oct/2025:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326
192.0.2.8 - - [10/Oct/9999:13:55:36 -0700] "GET /b HTTP/1.1" 200 17
`)
	defer remove()

	type view struct {
		page string
		time int64
	}
	views := files.DecodeAccessLog(filepath.Join(dir, "access.log"), func(e files.AccessLogEntry) (view, error) {
		if e.Time > time.Now().UnixMilli() {
			return view{}, errors.New("from the future")
		}
		return view{e.URL, e.Time}, nil
	})
	p := pipeline.New(pipeline.DefaultParallelism(1))
	timed := pipeline.From(p, "views", views, pipeline.BoundedDisorder(func(v view) int64 { return v.time }, time.Minute))
	out := memory.Collect(timed, "out")
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	for _, d := range dead.Values() {
		fmt.Printf("line %d: %s\n", d.Offset, d.Error)
	}
	// Output:
	// [{/a 1760129736000}]
	// line 2: byte 70: from the future
}
