package files

import (
	"bytes"
	"errors"
	"io"
)

// errWait says that the source of a scanner has no more for now.
var errWait = errors.New("no complete record yet")

// record is one record as it stands in the file, without its line end. Its
// data is valid until the next call of the scanner.
type record struct {
	data   []byte
	offset int64 // of its first byte, decompressed
	line   int64 // of its first line, from 1
	length int64 // of the whole record, more than len(data) when it was cut
	err    error // why it can't be decoded, whatever it says
}

var (
	errTooLong      = errors.New("line too long")
	errUnterminated = errors.New("quoted field does not end")
)

const (
	bufferSize = 128 << 10
	keepOfLong = 64 << 10 // the bytes of a line over the limit that are kept
)

// scanner cuts a stream into records: lines, or with quotes set lines joined
// where a quoted CSV field holds the line end. It knows where the next record
// starts, so that reading can go on there after a restart.
type scanner struct {
	src    io.Reader
	quotes bool
	comma  byte // between fields, where there are quotes
	max    int  // bytes in a record

	buf     []byte
	r, w    int   // buf[r:w] is unread
	seen    int   // bytes of buf[r:w] that hold no record's end
	quote   quote // after buf[r:r+seen]
	readErr error // of src, once it has one

	offset int64 // of the next record, decompressed
	line   int64 // before the next record

	// A line over the limit is thrown away as it is read; its first bytes stay.
	skipping bool
	kept     []byte
	skipped  int64
}

func newScanner(src io.Reader, f framing, limit int, offset, line int64) *scanner {
	return &scanner{
		src: src, quotes: f.quotes, comma: f.comma, max: limit,
		offset: offset, line: line, buf: make([]byte, bufferSize),
	}
}

// next returns the next record. At the end of the stream it returns io.EOF
// when final is set, after a last record without line end, and otherwise
// errWait: the stream may grow, see more.
func (s *scanner) next(final bool) (record, error) {
	for {
		if end := s.end(); end >= 0 {
			return s.take(end, 1), nil
		}
		if s.skipping || s.w-s.r > s.max {
			if rec, ok := s.cutLong(); ok {
				return rec, nil
			}
		}
		switch {
		case s.readErr == nil:
			s.fill()
		case s.readErr != io.EOF:
			return record{}, s.readErr
		case !final:
			return record{}, errWait
		case s.w == s.r && !s.skipping:
			return record{}, io.EOF
		default:
			return s.last(), nil
		}
	}
}

// more lets a stream be read on that has ended before.
func (s *scanner) more() {
	if s.readErr == io.EOF {
		s.readErr = nil
	}
}

// end returns the index of the line end that ends the next record, from r; -1
// when it has not been read yet.
func (s *scanner) end() int {
	for {
		i := bytes.IndexByte(s.buf[s.r+s.seen:s.w], '\n')
		if i < 0 {
			if s.quotes {
				s.scanQuotes(s.buf[s.r+s.seen : s.w])
			}
			s.seen = s.w - s.r
			return -1
		}
		if !s.quotes || s.skipping {
			return s.seen + i
		}
		s.scanQuotes(s.buf[s.r+s.seen : s.r+s.seen+i])
		if s.quote != insideQuotes {
			return s.seen + i
		}
		s.seen += i + 1
	}
}

// take returns the first n unread bytes as a record, and passes the line end.
func (s *scanner) take(n, lineEnd int) record {
	data := s.buf[s.r : s.r+n]
	rec := record{data: data, offset: s.offset, line: s.line + 1, length: int64(n)}
	lines := int64(1)
	if s.skipping {
		rec = s.endLong(data)
		lines = 1
	} else {
		if s.quotes {
			lines += int64(bytes.Count(data, newline))
		}
		rec.data = trim(data, s.offset)
		if n > s.max {
			rec.data, rec.err = data[:min(n, keepOfLong)], errTooLong
		}
	}
	s.pass(n+lineEnd, rec.length+int64(lineEnd), lines)
	return rec
}

var (
	newline = []byte{'\n'}
	bom     = []byte("\ufeff")
)

// trim takes off a carriage return before the line end, and the mark that
// some programs put at the start of a file.
func trim(data []byte, offset int64) []byte {
	if n := len(data); n > 0 && data[n-1] == '\r' {
		data = data[:n-1]
	}
	if offset == 0 {
		data = bytes.TrimPrefix(data, bom)
	}
	return data
}

// pass goes on behind a record: n bytes of the buffer, length bytes of the
// stream.
func (s *scanner) pass(n int, length, lines int64) {
	s.r += n
	s.offset += length
	s.line += lines
	s.seen, s.quote = 0, fieldStart
}

// last returns what is left before the end of the stream.
func (s *scanner) last() record {
	if s.quotes && s.quote == insideQuotes {
		if rec, ok := s.firstLine(); ok {
			return rec
		}
		rec := s.take(s.w-s.r, 0)
		rec.err = errUnterminated
		return rec
	}
	return s.take(s.w-s.r, 0)
}

// firstLine gives up on a record whose quotes do not end: its first line alone
// is bad, and the lines after it are read for themselves.
func (s *scanner) firstLine() (record, bool) {
	i := bytes.IndexByte(s.buf[s.r:s.w], '\n')
	if i < 0 {
		return record{}, false
	}
	rec := record{data: trim(s.buf[s.r:s.r+i], s.offset), offset: s.offset, line: s.line + 1, length: int64(i), err: errUnterminated}
	s.pass(i+1, int64(i)+1, 1)
	return rec, true
}

// cutLong deals with a record over the limit whose end has not been read. It
// returns a record only where quotes are to blame.
func (s *scanner) cutLong() (record, bool) {
	if !s.skipping {
		if s.quotes {
			if rec, ok := s.firstLine(); ok {
				return rec, true
			}
		}
		s.skipping = true
	}
	s.keep(s.buf[s.r:s.w])
	s.r, s.w, s.seen = 0, 0, 0
	return record{}, false
}

// keep takes the next piece of a skipped record.
func (s *scanner) keep(p []byte) {
	s.kept = append(s.kept, p[:min(len(p), keepOfLong-len(s.kept))]...)
	s.skipped += int64(len(p))
}

// endLong returns the record that has been skipped so far, of which tail is
// the end.
func (s *scanner) endLong(tail []byte) record {
	s.keep(tail)
	rec := record{data: s.kept, offset: s.offset, line: s.line + 1, length: s.skipped, err: errTooLong}
	s.skipping, s.kept, s.skipped = false, nil, 0
	return rec
}

// fill reads once. It makes room first: by moving the unread bytes down, or by
// a larger buffer where they fill it.
func (s *scanner) fill() {
	switch {
	case s.r == s.w:
		s.r, s.w = 0, 0
		if len(s.buf) > 4*bufferSize { // it held a very long line
			s.buf = make([]byte, bufferSize)
		}
	case s.w == len(s.buf) && s.r > 0:
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	if s.w == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	// A reader may return nothing without an error; only so often, so that a
	// broken one does not spin for ever.
	for range 100 {
		n, err := s.src.Read(s.buf[s.w:])
		s.w += n
		s.readErr = err
		if n > 0 || err != nil {
			return
		}
	}
	s.readErr = io.ErrNoProgress
}

// quote is where in a CSV record a scan stands.
type quote uint8

const (
	fieldStart   quote = iota
	bareField          // inside a field without quotes
	insideQuotes       // a line end belongs to the field
	afterQuote         // behind a quote inside quotes: it ends them, or escapes another
	badField           // a quote where none may be; the record ends with its line
)

// scanQuotes returns the state behind p, which ends before a line end or where
// reading has got to.
func (s *scanner) scanQuotes(p []byte) {
	if len(p) == 0 {
		return
	}
	if q := s.quote; (q == fieldStart || q == bareField) && bytes.IndexByte(p, '"') < 0 {
		s.quote = bareField
		if p[len(p)-1] == s.comma {
			s.quote = fieldStart
		}
		return
	}
	for _, c := range p {
		s.quote = s.quote.step(c, s.comma)
	}
}

func (q quote) step(c, comma byte) quote {
	switch q {
	case insideQuotes:
		if c == '"' {
			return afterQuote
		}
		return insideQuotes
	case badField:
		return badField
	case afterQuote:
		switch c {
		case '"':
			return insideQuotes
		case comma:
			return fieldStart
		}
		return badField
	}
	switch {
	case c == comma:
		return fieldStart
	case c != '"':
		return bareField
	case q == fieldStart:
		return insideQuotes
	}
	return badField
}

// jump goes on at another place of the stream, forwards where it is
// compressed.
func (s *scanner) jump(st *stream, offset, line int64) error {
	unread := min(st.offset-offset, int64(s.w-s.r))
	switch {
	case st.compressed != "" && unread >= 0: // it is in the buffer
		s.r = s.w - int(unread)
	case st.compressed != "":
		s.r, s.w = 0, 0
		if err := st.skip(offset - st.offset); err != nil {
			return err
		}
	default:
		s.r, s.w = 0, 0
		if err := st.skip(offset); err != nil {
			return err
		}
	}
	s.readErr = nil
	s.offset, s.line = offset, line
	s.seen, s.quote = 0, fieldStart
	s.skipping, s.kept, s.skipped = false, nil, 0
	return nil
}
