package files

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-json"
)

// format says how a file is cut into records and how those are decoded.
type format[T any] struct {
	framing func(*config) framing
	// blank also passes over lines of nothing but white space.
	blank bool
	// open returns the decoding of one file.
	open func(*config) decoding[T]
	// refuse returns an error for options that are for other formats.
	refuse func(*config) error
}

type framing struct {
	quotes bool
	comma  byte
}

// decoding decodes the records of one file. header takes the first one where
// it describes the others, and is nil where none does. Neither function keeps
// its argument.
type decoding[T any] struct {
	header func([]byte) error
	decode func([]byte, *T) error
}

// ErrSkip is returned by a decoder for a line that is no record, a comment for
// example, or for a record that does not matter. It is passed over, and counted in the metric "skipped".
var ErrSkip = errors.New("skip this line")

// lines is the format of anything that has a record a line and no header.
func lines[T any](decode func([]byte, *T) error) format[T] {
	return format[T]{
		framing: func(*config) framing { return framing{} },
		open:    func(*config) decoding[T] { return decoding[T]{decode: decode} },
		refuse:  refuseColumns,
	}
}

// converted is a format whose records a function makes something else of.
func converted[A, T any](f format[A], convert func(A) (T, error)) format[T] {
	return format[T]{
		framing: f.framing, blank: f.blank, refuse: f.refuse,
		open: func(c *config) decoding[T] {
			d := f.open(c)
			var record, zero A // beside the function, or else each call would allocate it
			return decoding[T]{header: d.header, decode: func(line []byte, v *T) (err error) {
				record = zero
				if err = d.decode(line, &record); err == nil {
					*v, err = convert(record)
				}
				return err
			}}
		},
	}
}

func refuseColumns(c *config) error {
	switch {
	case c.columns != nil:
		return errors.New("invalid option: Columns is for CSV and TSV")
	case c.required != nil:
		return errors.New("invalid option: RequireColumns is for CSV and TSV")
	}
	return refuseComma(c)
}

func refuseComma(c *config) error {
	if c.comma != ',' {
		return errors.New("invalid option: Comma is for CSV")
	}
	return nil
}

// JSON reads files of JSON lines: a value a line, decoded into a T. Field names
// match as with encoding/json. Lines of white space are passed over. A line
// that is no JSON, does not fit T, or is not valid UTF-8 is rejected: Go's
// decoders would replace the bad bytes, which are then gone.
func JSON[T any](pattern string, opts ...Option) *Source[T] {
	f := lines(func(line []byte, v *T) error {
		if !utf8.Valid(line) {
			return errors.New("invalid UTF-8" + where(line))
		}
		// The decoder has its own copy of the line: values do not refer to it.
		return json.Unmarshal(line, v)
	})
	f.blank = true
	return newSource(pattern, f, opts)
}

// where says at which byte a line stops being UTF-8.
func where(line []byte) string {
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Sprintf(" at byte %d of the line", i)
		}
		i += n
	}
	return ""
}

// Lines reads files line by line, without the line ends. Empty lines are
// passed over. Bytes are taken as they are, valid UTF-8 or not.
func Lines(pattern string, opts ...Option) *Source[string] {
	return newSource(pattern, lines(func(line []byte, v *string) error {
		*v = string(line)
		return nil
	}), opts)
}

// Decode reads files line by line and decodes each with the given function.
//
// The line is valid during the call only: whatever the value keeps of it must
// be a copy. The function is called by several subtasks at once. What it
// rejects with an error, or a panic, goes to the dead-letter output as it
// stands in the file; for [ErrSkip] the line is passed over. Empty lines do
// not reach it.
func Decode[T any](pattern string, decode func(line []byte) (T, error), opts ...Option) *Source[T] {
	return newSource(pattern, lines(func(line []byte, v *T) (err error) {
		*v, err = decode(line)
		return err
	}), opts)
}

// isBlank says whether a line holds nothing to decode.
func (f *format[T]) isBlank(line []byte) bool {
	if len(line) == 0 {
		return true
	}
	return f.blank && line[0] <= ' ' && len(bytes.TrimSpace(line)) == 0
}
