package files

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/millrace/millrace/pipeline"
)

// Parquet returns a sink that writes part files in the Parquet format to the
// folder dir. T is a struct, and its fields are the columns, as the tags of
// github.com/parquet-go/parquet-go say:
//
//	type View struct {
//		Page  string    `parquet:"page,dict"`
//		Count int64     `parquet:"count"`
//		At    time.Time `parquet:"at,timestamp(millisecond)"`
//	}
//
// A value that the schema can't hold is rejected.
//
// A Parquet file can be read only once its footer is there, so each checkpoint
// ends one: with a short interval the files are many and small, which slows
// down whoever reads them and compresses badly. Take checkpoints as far apart
// as readers can wait, or merge the files later.
func Parquet[T any](dir string, opts ...Option) *Parts[T] {
	return newParts(dir, ".parquet", openColumns[T], opts)
}

// columns is the Parquet format.
type columns[T any] struct {
	env      *pipeline.SinkEnv
	dir      string
	out      io.Writer
	w        *parquet.GenericWriter[T]
	trial    *parquet.GenericBuffer[T]
	rowGroup int64
	flushed  int64 // size after the last row group
	rows     int64 // of the file
}

func openColumns[T any](s *Parts[T], env *pipeline.SinkEnv, out io.Writer) (f format[T], err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("columns of %v: %w", reflect.TypeFor[T](), err)
		}
	}()
	defer pipeline.CatchPanic(&err) // the library's way to refuse a type
	if reflect.TypeFor[T]().Kind() != reflect.Struct {
		return nil, errors.New("not a struct")
	}
	c := &columns[T]{env: env, dir: s.dir, out: out, rowGroup: s.cfg.rowGroup}
	if c.rowGroup == 0 {
		c.rowGroup = defaultRowGroup
	}
	if err := checkColumns(reflect.TypeFor[T](), map[reflect.Type]bool{}); err != nil {
		return nil, err
	}
	options := []parquet.WriterOption{parquet.Compression(&parquet.Zstd)}
	if s.cfg.codec != nil {
		options[0] = parquet.Compression(s.cfg.codec)
	}
	c.w = parquet.NewGenericWriter[T](out, options...)
	c.trial = parquet.NewGenericBuffer[T]()
	if len(c.w.Schema().Columns()) == 0 {
		return nil, errors.New("no exported fields")
	}
	return c, nil
}

// checkColumns refuses what the library takes and writes wrong: of a string that
// is tagged as a UUID it writes, as of v0.32, the address of the text.
func checkColumns(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return checkColumns(t.Elem(), seen)
	case reflect.Struct:
	default:
		return nil
	}
	for f := range t.Fields() {
		if strings.Contains(string(f.Tag), ",uuid") && holdsString(f.Type) {
			return fmt.Errorf("field %s: a string can't be written as a UUID: use [16]byte, or leave out the tag", f.Name)
		}
		if err := checkColumns(f.Type, seen); err != nil {
			return err
		}
	}
	return nil
}

func holdsString(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsString(t.Elem())
	}
	return false
}

func (c *columns[T]) size() int64 { return c.w.Size() }

func (c *columns[T]) write(b *pipeline.Records[T]) error {
	for rest := b.Values; len(rest) > 0; {
		good, err := c.good(rest)
		if good > 0 {
			if err := c.append(rest[:good]); err != nil {
				return err
			}
		}
		if err != nil {
			reject(c.env, c.dir, b, len(b.Values)-len(rest)+good, err)
			good++
		}
		rest = rest[good:]
	}
	return nil
}

// good returns how many values can be encoded before one that can't, and why
// that can't. The library panics at such a value, and a writer in which it did
// has half a row; so values go through a buffer first. That makes writing a
// sixth slower (108 to 125 ns a record of four columns with zstd), where taking
// each apart into a row of its own makes it five times slower.
func (c *columns[T]) good(values []T) (int, error) {
	if c.try(values) == nil {
		return len(values), nil
	}
	for i := range values {
		if err := c.try(values[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(values), nil
}

func (c *columns[T]) try(values []T) (err error) {
	defer func() {
		if err != nil {
			c.trial = parquet.NewGenericBuffer[T]()
		} else {
			c.trial.Reset()
		}
	}()
	defer pipeline.CatchPanic(&err)
	_, err = c.trial.Write(values)
	return err
}

func (c *columns[T]) append(values []T) (err error) {
	defer pipeline.CatchPanic(&err)
	if _, err := c.w.Write(values); err != nil {
		return err
	}
	c.rows += int64(len(values))
	if c.w.Size()-c.flushed < c.rowGroup {
		return nil
	}
	err = c.w.Flush()
	c.flushed = c.w.Size()
	return err
}

func (c *columns[T]) end() (err error) {
	if c.rows == 0 {
		return nil
	}
	defer pipeline.CatchPanic(&err)
	err = c.w.Close()
	c.w.Reset(c.out)
	c.rows, c.flushed = 0, 0
	return err
}
