package files

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Row is a record of a CSV or TSV file. Rows of one file share its header.
// A Row may be kept; it refers to nothing that is reused.
type Row struct {
	header *header
	fields []string
}

type header struct {
	names []string
	index map[string]int
}

// newHeader takes the column names. One that is there twice is no error:
// exports have several columns without a name, for example.
func newHeader(names []string) *header {
	h := &header{names: names, index: make(map[string]int, len(names))}
	for i, name := range names {
		if _, ok := h.index[name]; !ok {
			h.index[name] = i
		}
	}
	return h
}

// Get returns the field in the named column, and "" when there is no such
// column: see Lookup. Of several columns of one name it returns the first; At
// has the others, and [RequireColumns] refuses a file that has them.
func (r Row) Get(name string) string {
	field, _ := r.Lookup(name)
	return field
}

// Lookup returns the field in the named column, and whether there is one.
func (r Row) Lookup(name string) (string, bool) {
	if r.header == nil {
		return "", false
	}
	i, ok := r.header.index[name]
	if !ok {
		return "", false
	}
	return r.fields[i], true
}

// At returns the i-th field, from 0.
func (r Row) At(i int) string { return r.fields[i] }

// Len returns the number of fields, which is that of the header.
func (r Row) Len() int { return len(r.fields) }

// Columns returns the column names. The slice is shared by all rows of the
// file and must not be changed.
func (r Row) Columns() []string {
	if r.header == nil {
		return nil
	}
	return r.header.names
}

// String renders the row for people.
func (r Row) String() string {
	var b strings.Builder
	for i, field := range r.fields {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s=%q", r.header.names[i], field)
	}
	return b.String()
}

// CSV reads files of comma-separated values as encoding/csv does: fields may
// be quoted, a quoted field may hold commas, line ends, and quotes written
// twice. The first record of each file names the columns, see [Columns].
//
// A record with more or fewer fields than columns, or a misplaced quote, is
// rejected. Where a quoted field does not end at all, the line it began on is
// rejected and the next line is read for itself; encoding/csv would take the
// rest of the file for one field.
func CSV(pattern string, opts ...Option) *Source[Row] { return newSource(pattern, csvRows(), opts) }

// DecodeCSV reads what [CSV] reads and makes a T of each row with the given
// function, which several subtasks call at once. A row for which it returns an
// error, or panics, is rejected like one that is no CSV: the dead letter has
// the file, the line, and the bytes as they stand there. For [ErrSkip] the row
// is passed over. What it rejects does not move the watermark.
func DecodeCSV[T any](pattern string, decode func(Row) (T, error), opts ...Option) *Source[T] {
	return newSource(pattern, converted(csvRows(), decode), opts)
}

func csvRows() format[Row] {
	return rows(
		func(c *config) framing { return framing{quotes: true, comma: byte(c.comma)} },
		func(c *config) func([]byte, int) ([]string, error) {
			comma := byte(c.comma)
			return func(line []byte, n int) ([]string, error) { return splitCSV(line, comma, n) }
		},
		func(*config) error { return nil },
	)
}

// TSV reads files of tab-separated values. Nothing is quoted or escaped: a
// field is what stands between two tabs, as in exports of logs and databases.
// The first line of each file names the columns, see [Columns]. A line with
// more or fewer fields is rejected.
func TSV(pattern string, opts ...Option) *Source[Row] { return newSource(pattern, tsvRows(), opts) }

// DecodeTSV reads what [TSV] reads and makes a T of each row with the given
// function, as [DecodeCSV] does.
func DecodeTSV[T any](pattern string, decode func(Row) (T, error), opts ...Option) *Source[T] {
	return newSource(pattern, converted(tsvRows(), decode), opts)
}

func tsvRows() format[Row] {
	return rows(
		func(*config) framing { return framing{} },
		func(*config) func([]byte, int) ([]string, error) { return splitTSV },
		refuseComma,
	)
}

// rows is the format of records of named fields. split gets the number of
// fields to expect, 0 when that is not known.
func rows(f func(*config) framing, split func(*config) func([]byte, int) ([]string, error), refuse func(*config) error) format[Row] {
	return format[Row]{
		framing: f,
		refuse:  refuse,
		open: func(c *config) decoding[Row] {
			split := split(c)
			var h *header
			d := decoding[Row]{decode: func(line []byte, row *Row) error {
				fields, err := split(line, len(h.names))
				if err != nil {
					return err
				}
				if len(fields) != len(h.names) {
					return fmt.Errorf("%d fields, the header has %d", len(fields), len(h.names))
				}
				*row = Row{h, fields}
				return nil
			}}
			if c.columns != nil {
				h = newHeader(c.columns)
				return d
			}
			d.header = func(line []byte) error {
				names, err := split(line, 0)
				if err != nil {
					return err
				}
				h = newHeader(names)
				return c.checkColumns(names)
			}
			return d
		},
	}
}

func splitTSV(line []byte, n int) ([]string, error) {
	text := string(line)
	fields := make([]string, 0, max(n, 1))
	for {
		i := strings.IndexByte(text, '\t')
		if i < 0 {
			return append(fields, text), nil
		}
		fields = append(fields, text[:i])
		text = text[i+1:]
	}
}

// splitCSV takes a record apart. All fields are parts of one string, but for
// those that quotes were taken out of.
func splitCSV(record []byte, comma byte, n int) ([]string, error) {
	fields := make([]string, 0, max(n, 1))
	if bytes.Contains(record, crlf) { // inside quotes: encoding/csv reads lines
		record = bytes.ReplaceAll(record, crlf, newline)
	}
	text := string(record)
	for at := 0; ; {
		rest := text[at:]
		if rest == "" || rest[0] != '"' {
			i := strings.IndexByte(rest, comma)
			field := rest
			if i >= 0 {
				field = rest[:i]
			}
			if q := strings.IndexByte(field, '"'); q >= 0 {
				return nil, fmt.Errorf("column %d: quote in a field that does not begin with one", column(text, at+q))
			}
			fields = append(fields, field)
			if i < 0 {
				return fields, nil
			}
			at += i + 1
			continue
		}
		field, length, err := quoted(rest)
		if err != nil {
			return nil, fmt.Errorf("column %d: %w", column(text, at+length), err)
		}
		fields = append(fields, field)
		at += length
		switch {
		case at == len(text):
			return fields, nil
		case text[at] != comma:
			return nil, fmt.Errorf("column %d: text after a quoted field", column(text, at))
		}
		at++
	}
}

var crlf = []byte("\r\n")

// quoted returns the field that text begins with, and its length with the
// quotes.
func quoted(text string) (string, int, error) {
	first := strings.IndexByte(text[1:], '"')
	if first < 0 {
		return "", len(text), errUnterminated
	}
	end := first + 1
	if end+1 == len(text) || text[end+1] != '"' { // nothing escaped
		return text[1:end], end + 1, nil
	}
	var b strings.Builder
	for at := 1; ; {
		i := strings.IndexByte(text[at:], '"')
		if i < 0 {
			return "", len(text), errUnterminated
		}
		b.WriteString(text[at : at+i])
		at += i + 1
		if at == len(text) || text[at] != '"' {
			return b.String(), at, nil
		}
		b.WriteByte('"')
		at++
	}
}

// column counts characters in the line at which a record goes wrong.
func column(text string, at int) int {
	return utf8.RuneCountInString(text[strings.LastIndexByte(text[:at], '\n')+1:at]) + 1
}
