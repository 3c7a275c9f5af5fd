package devclickhouse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/proto"
)

// The engine reads and writes blocks as protocol revision 0 has them: without block
// info, and without the flag behind each column's type that announces a custom
// serialization. Clients want both. The values are the same, but where one column
// ends and the next begins only a walk through them tells, so that is what a copier
// does, by the types: it decodes nothing, and knows every type that can be nested.

// block is the outline of a block.
type block struct{ columns, rows int }

// Limits beyond which a block is taken for garbage.
const (
	maxColumns = 100_000
	maxRows    = 1 << 30
	maxStep    = 1 << 20 // how much is read at once: a length may be garbage too
)

// copyBlock reads a block of revision from and appends it, as revision to has it, to
// the copier's output.
func (c *copier) copyBlock(from, to int) (block, error) {
	if proto.FeatureBlockInfo.In(from) {
		c.skipBlockInfo()
	}
	if proto.FeatureBlockInfo.In(to) {
		c.out = append(c.out, blockInfo...)
	}
	return c.copyRawBlock(from, to)
}

// blockInfo is that of every block which is not part of a two-level aggregation.
var blockInfo = []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}

func (c *copier) copyRawBlock(from, to int) (block, error) {
	columns, rows := c.uvarint(), c.uvarint()
	if c.err == nil && (columns > maxColumns || rows > maxRows) {
		return block{}, fmt.Errorf("a block of %d columns and %d rows", columns, rows)
	}
	for range columns {
		if c.err != nil {
			break
		}
		c.copyColumn(from, to, int(rows))
	}
	return block{int(columns), int(rows)}, c.err
}

func (c *copier) copyColumn(from, to, rows int) {
	name := c.string()
	text := c.string()
	if proto.FeatureCustomSerialization.In(from) && c.skipByte() != 0 {
		c.fail(fmt.Errorf("column %s: has a custom serialization", name))
	}
	if proto.FeatureCustomSerialization.In(to) {
		c.out = append(c.out, 0)
	}
	if rows == 0 || c.err != nil {
		return
	}
	col, err := parseColumn(text)
	if err != nil {
		c.fail(&exception{code: int(proto.ErrNotImplemented), message: fmt.Sprintf("column %s: %v", name, err), name: "NOT_IMPLEMENTED"})
		return
	}
	col.prefix(c)
	col.data(c, rows)
}

// header appends a block without rows.
func header(out []byte, revision int, columns []namedType) []byte {
	if proto.FeatureBlockInfo.In(revision) {
		out = append(out, blockInfo...)
	}
	out = binary.AppendUvarint(out, uint64(len(columns)))
	out = binary.AppendUvarint(out, 0)
	for _, col := range columns {
		out = appendString(out, col.name)
		out = appendString(out, col.typ)
		if proto.FeatureCustomSerialization.In(revision) {
			out = append(out, 0)
		}
	}
	return out
}

func appendString(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

// namedType is a column of a header.
type namedType struct{ name, typ string }

// copier copies what it reads to its output. After an error it reads zeros, so that a
// walk needs to look at the error only where it would go on for long.
type copier struct {
	r   blockReader
	out []byte
	err error
}

// blockReader is what blocks are read from: a [proto.Reader] or a sliceReader.
type blockReader interface {
	ReadByte() (byte, error)
	ReadFull(to []byte) error
	UVarInt() (uint64, error)
}

// sliceReader reads from memory, and knows whether there is more.
type sliceReader struct{ *bytes.Reader }

func newSliceReader(b []byte) sliceReader { return sliceReader{bytes.NewReader(b)} }

// ReadFull fills to.
func (s sliceReader) ReadFull(to []byte) error {
	_, err := io.ReadFull(s, to)
	return err
}

// UVarInt reads a number of variable length.
func (s sliceReader) UVarInt() (uint64, error) { return binary.ReadUvarint(s) }

func (c *copier) fail(err error) {
	if c.err == nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		c.err = err
	}
}

// bytes copies n bytes and returns them, until the next call of any method.
func (c *copier) bytes(n int) []byte {
	start := len(c.out)
	for n > 0 && c.err == nil {
		step := min(n, maxStep)
		at := len(c.out)
		c.out = append(c.out, make([]byte, step)...)
		if err := c.r.ReadFull(c.out[at:]); err != nil {
			c.fail(err)
		}
		n -= step
	}
	return c.out[start:]
}

func (c *copier) uvarint() uint64 {
	if c.err != nil {
		return 0
	}
	n, err := c.r.UVarInt()
	if err != nil {
		c.fail(err)
		return 0
	}
	c.out = binary.AppendUvarint(c.out, n)
	return n
}

func (c *copier) uint64() uint64 {
	b := c.bytes(8)
	if c.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// size copies a number that is how many of something follow.
func (c *copier) size(n uint64) int {
	if n > maxRows {
		c.fail(fmt.Errorf("a length of %d in a column", n))
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *copier) string() string { return string(c.bytes(c.size(c.uvarint()))) }

// skipByte reads a byte that is not copied.
func (c *copier) skipByte() byte {
	if c.err != nil {
		return 0
	}
	b, err := c.r.ReadByte()
	if err != nil {
		c.fail(err)
	}
	return b
}

// skipBlockInfo skips numbered fields up to number 0.
func (c *copier) skipBlockInfo() {
	kept := len(c.out)
	for c.err == nil {
		switch field := c.uvarint(); field {
		case 0:
			c.out = c.out[:kept]
			return
		case 1:
			c.bytes(1)
		case 2:
			c.bytes(4)
		default:
			c.fail(fmt.Errorf("field %d in a block's info", field))
		}
	}
}
