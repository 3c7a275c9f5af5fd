package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// encoder gathers the values of one column in the form that they have in a block.
// Putting a value either adds it whole or returns an error and adds nothing; undo
// takes the last one back.
type encoder interface {
	undo()
	size() int
	// appendTo appends the column's data to b, as it follows its name and type.
	appendTo(b []byte) []byte
	reset()
}

var errNull = errors.New("NULL for a column that is not Nullable")

// fixed is a column of values of one width: numbers, times, UUIDs.
type fixed struct {
	width int
	buf   []byte
}

func (f *fixed) undo()                    { f.buf = f.buf[:len(f.buf)-f.width] }
func (f *fixed) size() int                { return len(f.buf) }
func (f *fixed) appendTo(b []byte) []byte { return append(b, f.buf...) }
func (f *fixed) reset()                   { f.buf = f.buf[:0] }

func (f *fixed) put(v uint64) {
	switch f.width {
	case 1:
		f.buf = append(f.buf, byte(v))
	case 2:
		f.buf = binary.LittleEndian.AppendUint16(f.buf, uint16(v))
	case 4:
		f.buf = binary.LittleEndian.AppendUint32(f.buf, uint32(v))
	default:
		f.buf = binary.LittleEndian.AppendUint64(f.buf, v)
	}
}

// putUUID swaps the bytes of each half, as the server has it.
func (f *fixed) putUUID(v *[16]byte) {
	f.buf = binary.LittleEndian.AppendUint64(f.buf, binary.BigEndian.Uint64(v[:8]))
	f.buf = binary.LittleEndian.AppendUint64(f.buf, binary.BigEndian.Uint64(v[8:]))
}

// texts is a String column.
type texts struct {
	buf  []byte
	last int // where the last value starts
}

func (t *texts) undo()                    { t.buf = t.buf[:t.last] }
func (t *texts) size() int                { return len(t.buf) }
func (t *texts) appendTo(b []byte) []byte { return append(b, t.buf...) }
func (t *texts) reset()                   { t.buf = t.buf[:0] }

func (t *texts) putString(s string) error {
	t.last = len(t.buf)
	t.buf = append(binary.AppendUvarint(t.buf, uint64(len(s))), s...)
	return nil
}

// fixedTexts is a FixedString column.
type fixedTexts struct{ fixed }

func (t *fixedTexts) putString(s string) error {
	if len(s) > t.width {
		return fmt.Errorf("%d bytes, FixedString(%d) takes less", len(s), t.width)
	}
	t.buf = append(t.buf, s...)
	for range t.width - len(s) {
		t.buf = append(t.buf, 0)
	}
	return nil
}

// enums is an Enum8 or Enum16 column, by names.
type enums struct {
	fixed
	typ    string
	values map[string]int16
}

func (e *enums) putString(s string) error {
	v, ok := e.values[s]
	if !ok {
		return fmt.Errorf("%q is none of %s", s, e.typ)
	}
	e.put(uint64(v))
	return nil
}

// dictionary is a LowCardinality(String) column: each distinct text once, and which
// of them each row has. The first is the empty one, which the server wants there.
type dictionary struct {
	numbers map[string]uint32
	words   texts
	rows    []uint32
	added   bool // whether the last row brought its word
	last    string
}

func newDictionary() *dictionary {
	d := &dictionary{}
	d.reset()
	return d
}

// undo takes the word back as well, or the rows that follow would be charged for one
// that was too large.
func (d *dictionary) undo() {
	d.rows = d.rows[:len(d.rows)-1]
	if d.added {
		delete(d.numbers, d.last)
		d.words.undo()
		d.added = false
	}
}

// size counts numbers of the largest width: it must not jump with a new word.
func (d *dictionary) size() int { return d.words.size() + 4*len(d.rows) }

func (d *dictionary) reset() {
	d.numbers, d.added = map[string]uint32{"": 0}, false
	d.words.reset()
	_ = d.words.putString("") // it can't fail
	d.rows = d.rows[:0]
}

func (d *dictionary) putString(s string) error {
	n, ok := d.numbers[s]
	if d.added = !ok; d.added {
		n = uint32(len(d.numbers))
		d.numbers[s], d.last = n, s
		_ = d.words.putString(s) // it can't fail
	}
	d.rows = append(d.rows, n)
	return nil
}

func (d *dictionary) width() int {
	switch n := len(d.numbers); {
	case n <= math.MaxUint8:
		return 1
	case n <= math.MaxUint16:
		return 2
	}
	return 4
}

// Of LowCardinality in the Native format: the version of the keys, which is the
// state that comes before the data; and the flags that say that the dictionary comes
// with the block.
const (
	keysVersion     = 1
	dictionaryFlags = 1<<9 | 1<<10
)

func (d *dictionary) appendTo(b []byte) []byte {
	width := d.width()
	b = binary.LittleEndian.AppendUint64(b, keysVersion)
	b = binary.LittleEndian.AppendUint64(b, dictionaryFlags|uint64(width/2)) // 0, 1, 2: the width of numbers
	b = binary.LittleEndian.AppendUint64(b, uint64(len(d.numbers)))
	b = append(b, d.words.buf...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(d.rows)))
	keys := fixed{width: width, buf: b}
	for _, n := range d.rows {
		keys.put(uint64(n))
	}
	return keys.buf
}

// times is a column of points in time.
type times struct {
	fixed
	convert func(t time.Time) (uint64, error)
}

func (c *times) putTime(t time.Time) error {
	v, err := c.convert(t)
	if err == nil {
		c.put(v)
	}
	return err
}

// The zero time becomes the epoch, as with clickhouse-go: no column could hold it.
func dateTime(t time.Time) (uint64, error) {
	if t.IsZero() {
		return 0, nil
	}
	s := t.Unix()
	if s < 0 || s > math.MaxUint32 {
		return 0, fmt.Errorf("%v is out of DateTime's range, 1970 to 2106", t)
	}
	return uint64(s), nil
}

func date(t time.Time) (uint64, error) {
	if t.IsZero() {
		return 0, nil
	}
	day := daysOf(t)
	if day < 0 || day > math.MaxUint16 {
		return 0, fmt.Errorf("%v is out of Date's range, 1970 to 2149", t)
	}
	return uint64(day), nil
}

// daysOf numbers the day that a clock in the time's own zone shows.
func daysOf(t time.Time) int64 {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86400
}

// dateTime64 returns the conversion for a precision, within the years that the
// server keeps: 1900 to 2299, and 2262 with nanoseconds.
func dateTime64(precision int) func(t time.Time) (uint64, error) {
	perSecond := int64(math.Pow10(precision))
	from, to := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC).Unix()-1
	to = min(to, math.MaxInt64/perSecond-1)
	return func(t time.Time) (uint64, error) {
		if t.IsZero() {
			return 0, nil
		}
		s := t.Unix()
		if s < from || s > to {
			return 0, fmt.Errorf("%v is out of DateTime64(%d)'s range", t, precision)
		}
		return uint64(s*perSecond + int64(t.Nanosecond())/(int64(time.Second)/perSecond)), nil
	}
}

// addresses is an IPv4 or IPv6 column.
type addresses struct{ fixed }

func (c *addresses) putAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("the zero netip.Addr is no address")
	case c.width == 16:
		b := a.As16()
		c.buf = append(c.buf, b[:]...)
	case !a.Unmap().Is4():
		return fmt.Errorf("%v is no IPv4 address", a)
	default:
		b := a.Unmap().As4()
		c.put(uint64(binary.BigEndian.Uint32(b[:])))
	}
	return nil
}

// optional is a Nullable column: which rows are NULL, and values for all.
type optional struct {
	nulls []byte
	inner encoder
	zero  func() // puts a value where there is none
}

func (o *optional) undo() {
	o.nulls = o.nulls[:len(o.nulls)-1]
	o.inner.undo()
}
func (o *optional) size() int                { return len(o.nulls) + o.inner.size() }
func (o *optional) appendTo(b []byte) []byte { return o.inner.appendTo(append(b, o.nulls...)) }
func (o *optional) reset() {
	o.nulls = o.nulls[:0]
	o.inner.reset()
}

func (o *optional) putNull() {
	o.nulls = append(o.nulls, 1)
	o.zero()
}
