package clickhouse

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// block is rows in the server's Native format, encoded once: what is staged, and
// sent as often as it takes.
type block struct {
	rows    int
	columns []rawColumn
	times   []int64 // of the rows, for dead letters
}

type rawColumn struct {
	name, typ string
	data      []byte
}

func (b *block) bytes() int {
	n := 0
	for _, c := range b.columns {
		n += len(c.data)
	}
	return n
}

// native returns the block as HTTP takes it, in pieces.
func (b *block) native() [][]byte {
	head := binary.AppendUvarint(nil, uint64(len(b.columns)))
	head = binary.AppendUvarint(head, uint64(b.rows))
	pieces := make([][]byte, 0, 2*len(b.columns))
	for _, c := range b.columns {
		head = appendText(appendText(head, c.name), c.typ)
		pieces = append(pieces, head, c.data)
		head = nil
	}
	return pieces
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A staged block is a head and the columns' data, one behind the other, in
// compressed pieces of the server's own format, which has checksums. See
// docs/format/clickhouse.md.
const (
	pieceBytes   = 1 << 20
	maxHeadBytes = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packer writes blocks to staged files.
type packer struct {
	compressor *compress.Writer
	buf        []byte
}

func newPacker() *packer { return &packer{compressor: compress.NewWriter(0, compress.LZ4)} }

func (p *packer) write(w io.Writer, b *block) error {
	head := binary.AppendUvarint(nil, uint64(b.rows))
	head = binary.AppendUvarint(head, uint64(len(b.columns)))
	for _, c := range b.columns {
		head = appendText(appendText(head, c.name), c.typ)
		head = binary.AppendUvarint(head, uint64(len(c.data)))
	}
	last := int64(0)
	for _, t := range b.times {
		head = binary.AppendVarint(head, t-last)
		last = t
	}
	frame := binary.LittleEndian.AppendUint32(nil, uint32(len(head)))
	frame = binary.LittleEndian.AppendUint32(frame, crc32.Checksum(head, castagnoli))
	if _, err := w.Write(append(frame, head...)); err != nil {
		return err
	}
	p.buf = p.buf[:0]
	for _, c := range b.columns {
		if err := p.add(w, c.data); err != nil {
			return err
		}
	}
	return p.flush(w)
}

func (p *packer) add(w io.Writer, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), pieceBytes-len(p.buf))
		p.buf = append(p.buf, data[:n]...)
		data = data[n:]
		if len(p.buf) == pieceBytes {
			if err := p.flush(w); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *packer) flush(w io.Writer) error {
	if len(p.buf) == 0 {
		return nil
	}
	if err := p.compressor.Compress(p.buf); err != nil {
		return err
	}
	p.buf = p.buf[:0]
	_, err := w.Write(p.compressor.Data)
	return err
}

// unpacker reads blocks from staged files.
type unpacker struct{ r *bufio.Reader }

var errDamaged = errors.New("damaged")

// next returns the next block, or io.EOF behind the last.
func (u unpacker) next() (*block, error) {
	var frame [8]byte
	if _, err := io.ReadFull(u.r, frame[:]); err != nil {
		return nil, err // io.EOF where there is nothing more
	}
	n := binary.LittleEndian.Uint32(frame[:])
	if n > maxHeadBytes {
		return nil, fmt.Errorf("%w: a head of %d bytes", errDamaged, n)
	}
	head, err := io.ReadAll(io.LimitReader(u.r, int64(n)))
	if err != nil {
		return nil, err
	}
	if len(head) != int(n) || crc32.Checksum(head, castagnoli) != binary.LittleEndian.Uint32(frame[4:]) {
		return nil, fmt.Errorf("%w: the head of a block has another checksum", errDamaged)
	}
	b, sizes, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	return b, u.data(b, sizes)
}

// data reads the columns. The reader of pieces takes no byte behind the last one.
func (u unpacker) data(b *block, sizes []int) error {
	pieces := compress.NewReader(u.r)
	for i := range b.columns {
		data, err := io.ReadAll(io.LimitReader(pieces, int64(sizes[i]))) // sizes are not to be trusted with memory
		if err != nil || len(data) != sizes[i] {
			return fmt.Errorf("%w: column %q: %d of %d bytes: %v", errDamaged, b.columns[i].name, len(data), sizes[i], err)
		}
		b.columns[i].data = data
	}
	return nil
}

// parseHead returns a block without its data, and the sizes of that.
func parseHead(head []byte) (*block, []int, error) {
	h := headReader{b: head}
	b := &block{rows: h.number(maxBlockRows)}
	columns := h.number(len(head))
	var sizes []int
	for range columns {
		b.columns = append(b.columns, rawColumn{name: h.text(), typ: h.text()})
		sizes = append(sizes, h.number(maxBlockBytes+maxRowBytes))
	}
	last := int64(0)
	for range b.rows {
		if h.failed {
			break
		}
		last += h.signed()
		b.times = append(b.times, last)
	}
	if h.failed || len(h.b) > 0 || columns == 0 || b.rows == 0 {
		return nil, nil, fmt.Errorf("%w: the head of a block makes no sense", errDamaged)
	}
	return b, sizes, nil
}

// headReader reads the parts of a head; once it has failed, all are zero.
type headReader struct {
	b      []byte
	failed bool
}

func (h *headReader) number(limit int) int {
	v, n := binary.Uvarint(h.b)
	if n <= 0 || v > uint64(limit) {
		h.fail()
		return 0
	}
	h.b = h.b[n:]
	return int(v)
}

func (h *headReader) signed() int64 {
	v, n := binary.Varint(h.b)
	if n <= 0 {
		h.fail()
		return 0
	}
	h.b = h.b[n:]
	return v
}

func (h *headReader) text() string {
	n := h.number(len(h.b))
	if h.failed || n > len(h.b) {
		h.fail()
		return ""
	}
	s := string(h.b[:n])
	h.b = h.b[n:]
	return s
}

func (h *headReader) fail() { h.failed, h.b = true, nil }

// opened is a block whose rows can be looked at, and cut by position.
type opened struct {
	*block
	server *column.ServerContext
	values []column.Interface
}

func (b *block) open(server *column.ServerContext) (_ *opened, err error) {
	defer pipeline.CatchPanic(&err)
	o := &opened{block: b, server: server}
	for _, c := range b.columns {
		values, err := column.Type(c.typ).Column(c.name, server)
		if err != nil {
			return nil, err
		}
		r := chproto.NewReader(bytes.NewReader(c.data))
		if prefix, ok := values.(column.CustomSerialization); ok {
			if err := prefix.ReadStatePrefix(r); err != nil {
				return nil, fmt.Errorf("column %q: %w", c.name, err)
			}
		}
		if err := values.Decode(r, b.rows); err != nil {
			return nil, fmt.Errorf("column %q: %w", c.name, err)
		}
		o.values = append(o.values, values)
	}
	return o, nil
}

// slice returns the rows from from to to as a block of their own, the same bytes each
// time.
func (o *opened) slice(from, to int) (_ *block, err error) {
	defer pipeline.CatchPanic(&err)
	b := &block{rows: to - from, times: slices.Clone(o.times[from:to])}
	for i, c := range o.columns {
		g := general{}
		if g.column, err = column.Type(c.typ).Column(c.name, o.server); err != nil {
			return nil, err
		}
		for row := from; row < to; row++ {
			if err := g.column.AppendRow(o.values[i].Row(row, false)); err != nil {
				return nil, fmt.Errorf("column %q: %w", c.name, err)
			}
		}
		data, err := g.encode(nil)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", c.name, err)
		}
		b.columns = append(b.columns, rawColumn{c.name, c.typ, data})
	}
	return b, nil
}

// show renders a row for a dead letter.
func (o *opened) show(row int) string {
	var s strings.Builder
	s.WriteByte('{')
	for i, c := range o.columns {
		if i > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(c.name + ":" + showColumn(o.values[i], row))
	}
	return show.Value(s.String() + "}")
}

// showColumn renders what has an inside as JSON, since that looks through pointers.
func showColumn(c column.Interface, row int) string {
	v := c.Row(row, false)
	switch v := v.(type) {
	case []byte:
		return show.Value(string(v))
	case nil:
		return "NULL"
	case fmt.Stringer:
		return show.Value(v)
	}
	if kind := reflect.TypeOf(v).Kind(); kind >= reflect.Array && kind != reflect.String {
		if text, err := json.Marshal(c.Row(row, true)); err == nil {
			return show.Value(string(text))
		}
	}
	return show.Value(v)
}
