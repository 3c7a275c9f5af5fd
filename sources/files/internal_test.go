package files

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/millrace/millrace/pipeline"
)

func FuzzPosition(f *testing.F) {
	p := position{Version: 1, Offset: 10, Line: 3, Done: 11, identity: identity{Dev: 1, Ino: 2, Head: 10, Hash: hashOf([]byte("x"))}}
	p.Past = []identity{p.identity, {Ino: 7}}
	f.Add(p.append(nil))
	f.Add((&position{Version: 1}).append(nil))
	f.Add([]byte(`{"v":1,"head":3}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil {
			return
		}
		p.Past = slices.DeleteFunc(p.Past, func(identity) bool { return false })
		again, err := decodePosition(p.append(nil))
		if err != nil {
			t.Fatalf("%s became %+v, encoded as %s: %v", b, p, p.append(nil), err)
		}
		if len(p.Past) == 0 {
			p.Past, again.Past = nil, nil
		}
		if !reflect.DeepEqual(p, again) {
			t.Fatalf("%s became %+v, encoded as %s and decoded as %+v", b, p, p.append(nil), again)
		}
		p.begins(b)
	})
}

func TestPositionIsJSON(t *testing.T) {
	p := position{Version: 1, Offset: 4096, Line: 17, identity: identity{Dev: 66306, Ino: 131, Head: 2, Hash: hashOf([]byte("ab"))}}
	want, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.append(nil); string(got) != string(want) {
		t.Errorf("got %s, want what encoding/json makes of it: %s", got, want)
	}
}

// scanAll returns all records of content, read in pieces.
func scanAll(content string, f framing, limit int, pieces func(io.Reader) io.Reader) []record {
	s := newScanner(pieces(strings.NewReader(content)), f, limit, 0, 0)
	var all []record
	for {
		rec, err := s.next(true)
		if err == io.EOF {
			return all
		}
		if err != nil {
			panic(err)
		}
		rec.data = bytes.Clone(rec.data)
		all = append(all, rec)
	}
}

func whole(r io.Reader) io.Reader { return r }

// FuzzScanner compares lines with strings.Split, and checks that records cover
// the file without gaps however it is read.
func FuzzScanner(f *testing.F) {
	f.Add("a\nb\r\n\nc", false)
	f.Add("a,\"b\nc\",\"\"\"\"\n\"d", true)
	f.Add("\ufeffx\"\n\"\n\"", true)
	f.Fuzz(func(t *testing.T, content string, quotes bool) {
		framing := framing{quotes: quotes, comma: ','}
		records := scanAll(content, framing, 1<<20, whole)
		if slow := scanAll(content, framing, 1<<20, iotest.OneByteReader); !reflect.DeepEqual(records, slow) {
			t.Fatalf("%q read at once is %v, byte by byte %v", content, records, slow)
		}
		if slow := scanAll(content, framing, 1<<20, iotest.DataErrReader); !reflect.DeepEqual(records, slow) {
			t.Fatalf("%q read at once is %v, with an early EOF %v", content, records, slow)
		}
		at, line := int64(0), int64(1)
		for _, r := range records {
			if r.offset != at || r.line != line {
				t.Fatalf("%q: record %q at byte %d line %d, want %d and %d", content, r.data, r.offset, r.line, at, line)
			}
			line += int64(strings.Count(content[at:at+r.length], "\n")) + 1
			at += r.length + 1
		}
		if end := int64(len(content)); at != end && at != end+1 {
			t.Fatalf("%q: records end at %d of %d", content, at, end)
		}
		if quotes {
			return
		}
		var want []string
		for line := range strings.Lines(strings.TrimPrefix(content, "\ufeff")) {
			want = append(want, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		if strings.TrimPrefix(content, "\ufeff") == "" && content != "" {
			want = append(want, "")
		}
		var got []string
		for _, r := range records {
			got = append(got, string(r.data))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q: got lines %q, want %q", content, got, want)
		}
	})
}

// FuzzLimit checks that lines over the limit come out with their length, and
// the others as they are.
func FuzzLimit(f *testing.F) {
	f.Add("aaaaaaaaaaaaaaaaaaaa\nb\ncccccccccccccccccccc", 5)
	f.Fuzz(func(t *testing.T, content string, limit int) {
		limit = max(limit%100, 1)
		records := scanAll(content, framing{}, limit, iotest.OneByteReader)
		if fast := scanAll(content, framing{}, limit, whole); !reflect.DeepEqual(records, fast) {
			t.Fatalf("%q: at once %v, byte by byte %v", content, fast, records)
		}
		i := 0
		for line := range strings.Lines(content) {
			line = strings.TrimSuffix(line, "\n")
			r := records[i]
			i++
			if tooLong := errors.Is(r.err, errTooLong); tooLong != (len(line) > limit) || r.length != int64(len(line)) {
				t.Fatalf("%q: line %q is %+v at limit %d", content, line, r, limit)
			}
		}
	})
}

// FuzzCSV compares with encoding/csv, up to the first mistake.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "\"a\"\"b\",\n\"x\r\ny\",z\r\n", "a\"b\n", "\"a\"b\n", ",\n\n,,", "\"", "\"\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		if strings.HasPrefix(content, "\ufeff") {
			return // encoding/csv keeps the mark
		}
		if strings.Contains(strings.ReplaceAll(content, "\r\n", ""), "\r") {
			return // encoding/csv has rules of its own for a carriage return at the end of a file
		}
		std := csv.NewReader(strings.NewReader(content))
		std.FieldsPerRecord = -1
		for _, rec := range scanAll(content, framing{quotes: true, comma: ','}, 1<<20, whole) {
			if len(rec.data) == 0 && rec.err == nil {
				continue
			}
			got, err := splitCSV(rec.data, ',', 0)
			if rec.err != nil {
				err = rec.err
			}
			want, wantErr := std.Read()
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: record %q: got error %v, encoding/csv %v", content, rec.data, err, wantErr)
			}
			if err != nil {
				return // after a mistake both go on as they think best
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q: got %q, encoding/csv %q", content, got, want)
			}
		}
		if _, err := std.Read(); err != io.EOF {
			t.Fatalf("%q: encoding/csv has more: %v", content, err)
		}
	})
}

func FuzzTSV(f *testing.F) {
	f.Add("a\tb\t\t")
	f.Fuzz(func(t *testing.T, line string) {
		got, err := splitTSV([]byte(line), 3)
		if want := strings.Split(line, "\t"); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, error %v", line, got, err)
		}
	})
}

type event struct {
	ID    string            `json:"id"`
	Count int64             `json:"count"`
	Price float64           `json:"price"`
	Tags  []string          `json:"tags"`
	Attrs map[string]string `json:"attrs"`
	Inner struct {
		Name string `json:"name"`
		Ref  *event `json:"ref"`
	} `json:"inner"`
	Any any             `json:"any"`
	Raw json.RawMessage `json:"raw"`
}

// FuzzJSON feeds the decoder bytes of any kind: it may refuse them, and no
// more. What it takes, encoding/json takes as well.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"id":"a","count":1,"price":1.5,"tags":["x"],"attrs":{"k":"v"},"inner":{"name":"n","ref":{"id":"b"}},"any":[1,{"x":null}],"raw":{"z":1}}`))
	f.Add([]byte(`{"id":"\ud800`))
	f.Add([]byte("[[[[{\"id\":\"\\u00\x00"))
	decode := JSON[event]("").format.open(nil).decode
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		var e event
		err := decode(line, &e)
		if !bytes.Equal(line, before) {
			t.Fatalf("%q was changed to %q", before, line)
		}
		var std event
		if err == nil && json.Unmarshal(line, &std) != nil {
			t.Logf("%q: encoding/json refuses it", line) // it is stricter in places; no harm
		}
		text := fmt.Sprintf("%+v", e)
		for i := range line {
			line[i] = 0xaa
		}
		if again := fmt.Sprintf("%+v", e); again != text {
			t.Fatalf("%q: the value refers to the line: %s became %s", before, text, again)
		}
	})
}

// TestValuesOutliveTheLine decodes into every kind of field, and scribbles over
// the line.
func TestValuesOutliveTheLine(t *testing.T) {
	const content = `{"id":"plain","tags":["x","\u00e9scaped"],"attrs":{"key":"value"},"inner":{"name":"deep","ref":{"id":"ref"}},"any":["s",{"k":"v"}],"raw":{"z":"raw"}}`
	check := func(name string, decode func([]byte, *event) error) {
		t.Helper()
		line := []byte(content)
		var e event
		if err := decode(line, &e); err != nil {
			t.Fatal(err)
		}
		for i := range line {
			line[i] = 'X'
		}
		other := bytes.ReplaceAll([]byte(content), []byte("e"), []byte("E")) // through the decoder's own buffers, too
		for range 10 {
			var e event
			if err := decode(other, &e); err != nil {
				_ = err // "any" and the like are spelled differently now
			}
		}
		var want event
		if err := json.Unmarshal([]byte(content), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(e, want) {
			t.Errorf("%s: got %+v, want %+v", name, e, want)
		}
	}
	check("JSON", JSON[event]("").format.open(nil).decode)
	row, err := splitCSV([]byte("a"), ',', 1)
	if err != nil || row[0] != "a" {
		t.Fatal(row, err)
	}
	for name, split := range map[string]func([]byte) ([]string, error){
		"CSV": func(b []byte) ([]string, error) { return splitCSV(b, ',', 0) },
		"TSV": func(b []byte) ([]string, error) { return splitTSV(bytes.ReplaceAll(b, []byte(","), []byte("\t")), 0) },
	} {
		line := []byte(`abc,def`)
		fields, err := split(line)
		if err != nil {
			t.Fatal(err)
		}
		clear(line)
		if !slices.Equal(fields, []string{"abc", "def"}) {
			t.Errorf("%s: fields refer to the line: %q", name, fields)
		}
	}
}

// TestReadingDoesNotAllocate holds the path of a record to what its decoder
// allocates: nothing here.
func TestReadingDoesNotAllocate(t *testing.T) {
	src := Decode("", func(line []byte) (int, error) { return len(line), nil })
	r := newReader(src, &pipeline.SourceEnv{Parallelism: 1, BatchSize: 256})
	st := &stream{path: "test", src: &repeated{line: []byte("some line of text\n")}, closeSrc: func() {}}
	s := &split[int]{name: "test", st: st, headed: true, dec: src.format.open(&r.cfg)}
	s.sc = newScanner(st, r.framing, r.cfg.maxLine, 0, 0)
	var b pipeline.SourceBatch[int]
	if allocs := testing.AllocsPerRun(100, func() {
		b.Reset()
		if err := r.fill(s, &b); err != nil || len(b.Values) != 256 {
			t.Fatal(err, len(b.Values))
		}
	}); allocs >= 1 {
		t.Errorf("%v allocations for a batch of 256", allocs)
	}
}

// repeated is an endless file of one line.
type repeated struct {
	line []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.line[r.at:])
		n += c
		r.at = (r.at + c) % len(r.line)
	}
	return n, nil
}

// benchmarkFormat measures a reader over an endless stream from memory: cutting
// and decoding, without the disk and without the engine.
func benchmarkFormat[T any](b *testing.B, src *Source[T], line string) {
	env := &pipeline.SourceEnv{Parallelism: 1, BatchSize: 256, Metrics: &pipeline.Metrics{}}
	r := newReader(src, env)
	st := &stream{path: "bench", src: &repeated{line: []byte(line)}, closeSrc: func() {}}
	s := &split[T]{name: "bench", st: st}
	s.sc = newScanner(st, r.framing, r.cfg.maxLine, 0, 0)
	s.dec = r.format.open(&r.cfg)
	s.headed = s.dec.header == nil
	if !s.headed {
		if err := s.dec.header([]byte(benchHeader)); err != nil {
			b.Fatal(err)
		}
		s.headed = true
	}
	var batch pipeline.SourceBatch[T]
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	n := 0
	for b.Loop() {
		if len(batch.Values) == n {
			batch.Reset()
			if err := r.fill(s, &batch); err != nil || len(batch.Rejected) > 0 {
				b.Fatal(err, batch.Rejected)
			}
			r.place(s, &batch, s.position())
			n = 0
		}
		n++
	}
}

const benchHeader = "time\tuser\turl\treferer\tagent\tstatus\tbytes"

func BenchmarkFormats(b *testing.B) {
	const (
		log  = `192.0.2.7 - - [10/Oct/2025:13:55:36 -0700] "GET /articles/2025/10/stream-processing?utm_source=news HTTP/1.1" 200 23260 "https://example.org/articles/" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"` + "\n"
		tsv  = "2025-10-10T13:55:36Z\tu-8f14e45f\thttps://example.org/articles/2025/10/stream-processing?utm_source=news\thttps://example.org/articles/\tMozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\t200\t23260\n"
		line = `{"event_id":"0190f7a2-7b1c-7e52-9c3d-5f2b6a9e1c04","tracking_id":"trk-000123","type":"page_view","time":1760129736000,"user":"u-8f14e45fceea167a","session":"s-45c48cce2e2d7fbd","url":"https://example.org/articles/2025/10/stream-processing?utm_source=news","referrer":"https://example.org/articles/","agent":"Mozilla/5.0 (X11; Linux x86_64)","screen":"1920x1080","country":"DE"}` + "\n"
	)
	type full struct {
		EventID    string `json:"event_id"`
		TrackingID string `json:"tracking_id"`
		Type       string `json:"type"`
		Time       int64  `json:"time"`
		User       string `json:"user"`
		Session    string `json:"session"`
		URL        string `json:"url"`
		Referrer   string `json:"referrer"`
		Agent      string `json:"agent"`
		Screen     string `json:"screen"`
		Country    string `json:"country"`
	}
	type some struct {
		TrackingID string `json:"tracking_id"`
		Time       int64  `json:"time"`
	}
	b.Run("format=nothing", func(b *testing.B) {
		benchmarkFormat(b, Decode("", func([]byte) (struct{}, error) { return struct{}{}, nil }), line)
	})
	b.Run("format=lines", func(b *testing.B) { benchmarkFormat(b, Lines(""), line) })
	b.Run("format=json/fields=11", func(b *testing.B) { benchmarkFormat(b, JSON[full](""), line) })
	b.Run("format=json/fields=2", func(b *testing.B) { benchmarkFormat(b, JSON[some](""), line) })
	b.Run("format=stdjson/fields=11", func(b *testing.B) {
		benchmarkFormat(b, Decode("", func(line []byte) (f full, err error) {
			err = json.Unmarshal(line, &f)
			return f, err
		}), line)
	})
	b.Run("format=tsv", func(b *testing.B) { benchmarkFormat(b, TSV(""), tsv) })
	b.Run("format=tsv/decoded", func(b *testing.B) {
		benchmarkFormat(b, DecodeTSV("", func(r Row) (string, error) { return r.Get("url"), nil }), tsv)
	})
	b.Run("format=csv", func(b *testing.B) {
		benchmarkFormat(b, CSV("", Columns(strings.Split(benchHeader, "\t")...)), strings.ReplaceAll(tsv, "\t", ","))
	})
	b.Run("format=accesslog", func(b *testing.B) { benchmarkFormat(b, AccessLog(""), log) })
}
