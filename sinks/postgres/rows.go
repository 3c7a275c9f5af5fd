package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgtype"
)

// batch is rows in the binary format of COPY, one behind the other.
type batch struct {
	buf  []byte
	ends []int // where each row ends in buf
	// reject is told of a row that the server refuses.
	reject func(row int, why string)
}

func (b *batch) len() int { return len(b.ends) }

// start returns where row i starts.
func (b *batch) start(i int) int {
	if i == 0 {
		return 0
	}
	return b.ends[i-1]
}

var (
	copyHeader  = []byte("PGCOPY\n\377\r\n\000\000\000\000\000\000\000\000\000")
	copyTrailer = []byte{0xff, 0xff}
)

// reader returns what COPY reads for rows from to to.
func (b *batch) reader(from, to int) io.Reader {
	return io.MultiReader(bytes.NewReader(copyHeader), bytes.NewReader(b.buf[b.start(from):b.start(to)]), bytes.NewReader(copyTrailer))
}

// without takes out rows, which are in order.
func (b *batch) without(rows []refused) {
	var buf []byte
	var ends []int
	for i := range b.ends {
		if len(rows) > 0 && rows[0].row == i {
			rows = rows[1:]
			continue
		}
		buf = append(buf, b.buf[b.start(i):b.ends[i]]...)
		ends = append(ends, len(buf))
	}
	b.buf, b.ends = buf, ends
}

// refused is a row that the server refuses.
type refused struct {
	row int
	why string
}

// appendNull appends a column without value.
func appendNull(buf []byte) []byte { return append(buf, 0xff, 0xff, 0xff, 0xff) }

func appendInt64(buf []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(buf, 0, 0, 0, 8), uint64(n))
}

func appendBool(buf []byte, b bool) []byte {
	if b {
		return append(buf, 0, 0, 0, 1, 1)
	}
	return append(buf, 0, 0, 0, 1, 0)
}

// appendValue appends a column. What the client can't encode in the type's binary
// format it may be able to read from text.
func appendValue(m *pgtype.Map, buf []byte, c *column, v any) ([]byte, error) {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	out, err := m.Encode(c.oid, pgtype.BinaryFormatCode, v, buf)
	if s, ok := v.(string); ok && err != nil {
		out, err = appendParsed(m, buf, c, s)
	}
	if err != nil {
		return nil, fmt.Errorf("column %q: %w", c.name, err)
	}
	if out == nil {
		return appendNull(buf[:at]), nil
	}
	binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
	return out, nil
}

func appendParsed(m *pgtype.Map, buf []byte, c *column, s string) ([]byte, error) {
	t, ok := m.TypeForOID(c.oid)
	if !ok {
		return nil, fmt.Errorf("type %s is not known", c.typ)
	}
	v, err := t.Codec.DecodeValue(m, c.oid, pgtype.TextFormatCode, []byte(s))
	if err != nil {
		return nil, err
	}
	return m.Encode(c.oid, pgtype.BinaryFormatCode, v, buf)
}
