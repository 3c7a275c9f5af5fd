package devclickhouse

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// column copies a column of one type. The prefixes of all parts of a column come
// before the data of any.
type column interface {
	prefix(c *copier)
	data(c *copier, rows int)
}

// fixedColumn is one whose values have all this size.
type fixedColumn int

func (fixedColumn) prefix(*copier) {}

func (f fixedColumn) data(c *copier, rows int) { c.bytes(rows * int(f)) }

// stringColumn has the length before each value.
type stringColumn struct{}

func (stringColumn) prefix(*copier) {}

func (stringColumn) data(c *copier, rows int) {
	for range rows {
		c.bytes(c.size(c.uvarint()))
		if c.err != nil {
			return
		}
	}
}

// nullableColumn has a byte for each value, whether it is null, and then all values.
type nullableColumn struct{ elem column }

func (n nullableColumn) prefix(c *copier) { n.elem.prefix(c) }

func (n nullableColumn) data(c *copier, rows int) {
	c.bytes(rows)
	n.elem.data(c, rows)
}

// arrayColumn has the end of each array, and then all elements. A map is an array of
// pairs.
type arrayColumn struct{ elem column }

func (a arrayColumn) prefix(c *copier) { a.elem.prefix(c) }

func (a arrayColumn) data(c *copier, rows int) {
	ends := c.bytes(8 * rows)
	if rows == 0 || c.err != nil {
		return
	}
	a.elem.data(c, c.size(binary.LittleEndian.Uint64(ends[len(ends)-8:])))
}

// tupleColumn has one element's column after the other. Without elements it has a
// byte a row.
type tupleColumn []column

func (t tupleColumn) prefix(c *copier) {
	for _, elem := range t {
		elem.prefix(c)
	}
}

func (t tupleColumn) data(c *copier, rows int) {
	if len(t) == 0 {
		c.bytes(rows)
	}
	for _, elem := range t {
		elem.data(c, rows)
	}
}

// dictionaryColumn is LowCardinality: a dictionary, and an index into it for each
// row. Where the values are nullable, the dictionary's are not: its first one stands
// for NULL.
type dictionaryColumn struct{ dictionary column }

func lowCardinalityColumn(elem column) column {
	if nullable, ok := elem.(nullableColumn); ok {
		elem = nullable.elem
	}
	return dictionaryColumn{elem}
}

func (dictionaryColumn) prefix(c *copier) { c.uint64() } // a version

// Bits of what comes before an index.
const (
	indexWidth        = 0xff // log2 of the bytes of an index
	globalDictionary  = 1 << 8
	hasOwnDictionary  = 1 << 9
	maxIndexWidthLog2 = 3
)

func (d dictionaryColumn) data(c *copier, rows int) {
	for rows > 0 && c.err == nil {
		kind := c.uint64()
		if c.err == nil && (kind&globalDictionary != 0 || kind&indexWidth > maxIndexWidthLog2) {
			c.fail(fmt.Errorf("a LowCardinality column of kind %#x", kind))
		}
		if kind&hasOwnDictionary != 0 {
			d.dictionary.data(c, c.size(c.uint64()))
		}
		n := c.size(c.uint64())
		if n == 0 || n > rows {
			c.fail(fmt.Errorf("a LowCardinality column of %d values, want %d", n, rows))
		}
		c.bytes(n << (kind & indexWidth))
		rows -= n
	}
}

// variantColumn has a byte for each row, which of its types it is of, and then each
// type's column.
type variantColumn struct{ elems []column }

// null is the byte of a row that is of no type.
const null = 0xff

func (v *variantColumn) prefix(c *copier) {
	if mode := c.uint64(); mode != 0 {
		c.fail(fmt.Errorf("a Variant column of mode %d", mode))
	}
	for _, elem := range v.elems {
		elem.prefix(c)
	}
}

func (v *variantColumn) data(c *copier, rows int) { v.rows(c, rows, null) }

// rows copies the types' numbers, none of which stands for no type, and the columns.
func (v *variantColumn) rows(c *copier, rows, none int) {
	counts := make([]int, len(v.elems))
	for _, which := range c.bytes(rows) {
		if int(which) == none {
			continue
		}
		if int(which) >= len(counts) {
			c.fail(fmt.Errorf("type %d in a Variant column of %d types", which, len(counts)))
			return
		}
		counts[which]++
	}
	for i, elem := range v.elems {
		elem.data(c, counts[i])
	}
}

// dynamicColumn is a variant whose prefix names the types. A flat one counts them in
// the order of the prefix, and a row that is of none has their number.
type dynamicColumn struct {
	variantColumn
	flat bool
}

// Versions of the prefix of Dynamic and of JSON. The second knows no bound on the
// types and paths, the flat one has a column for each of them.
const (
	dynamicV1, dynamicV2, dynamicFlat  = 1, 2, 3
	jsonV1, jsonText, jsonV2, jsonFlat = 0, 1, 2, 3
	sharedVariant                      = "SharedVariant" // of types beyond the bound: values as text
	maxDynamicTypes                    = 254
	maxDynamicPaths                    = 1 << 20
)

func (d *dynamicColumn) prefix(c *copier) {
	version := c.uint64()
	switch version {
	case dynamicV1:
		c.uvarint() // how many types there may be
	case dynamicV2, dynamicFlat:
	default:
		c.fail(fmt.Errorf("a Dynamic column of version %d", version))
	}
	n := c.uvarint()
	if n > maxDynamicTypes {
		c.fail(fmt.Errorf("a Dynamic column of %d types", n))
		return
	}
	var names []string
	for range n {
		names = append(names, c.string())
	}
	d.flat = version == dynamicFlat
	if !d.flat {
		names = append(names, sharedVariant)
		slices.Sort(names) // as the bytes count them
	}
	d.elems = nil
	for _, name := range names {
		d.addType(c, name)
	}
	d.elemPrefixes(c)
}

func (d *dynamicColumn) elemPrefixes(c *copier) {
	if !d.flat {
		d.variantColumn.prefix(c)
		return
	}
	for _, elem := range d.elems {
		elem.prefix(c)
	}
}

func (d *dynamicColumn) addType(c *copier, name string) {
	if name == sharedVariant && !d.flat {
		d.elems = append(d.elems, stringColumn{})
		return
	}
	elem, err := parseColumn(name)
	if err != nil {
		c.fail(err)
		return
	}
	d.elems = append(d.elems, elem)
}

func (d *dynamicColumn) data(c *copier, rows int) {
	if d.flat {
		d.rows(c, rows, len(d.elems))
		return
	}
	d.rows(c, rows, null)
}

// jsonColumn is either text, or a column for each path that has a type, one for each
// path that has none but is frequent, and the rest as pairs of path and value. A flat
// one has no rest.
type jsonColumn struct {
	typed   []column
	version uint64
	dynamic []*dynamicColumn
}

// rest is the column of infrequent paths.
var rest = arrayColumn{tupleColumn{stringColumn{}, stringColumn{}}}

func (j *jsonColumn) prefix(c *copier) {
	j.dynamic = nil
	j.version = c.uint64()
	switch j.version {
	case jsonText:
		return
	case jsonV1:
		c.uvarint() // how many paths there may be
	case jsonV2, jsonFlat:
	default:
		c.fail(fmt.Errorf("a JSON column of version %d", j.version))
	}
	n := c.uvarint()
	if n > maxDynamicPaths {
		c.fail(fmt.Errorf("a JSON column of %d paths", n))
	}
	for range n {
		c.string()
		if c.err != nil {
			return
		}
		j.dynamic = append(j.dynamic, &dynamicColumn{})
	}
	for _, elem := range j.typed {
		elem.prefix(c)
	}
	for _, elem := range j.dynamic {
		elem.prefix(c)
	}
}

func (j *jsonColumn) data(c *copier, rows int) {
	if j.version == jsonText {
		stringColumn{}.data(c, rows)
		return
	}
	for _, elem := range j.typed {
		elem.data(c, rows)
	}
	for _, elem := range j.dynamic {
		elem.data(c, rows)
	}
	if j.version != jsonFlat {
		rest.data(c, rows)
	}
}
