// Package jsonlines encodes values as JSON, one a line.
package jsonlines

import (
	"bytes"

	"github.com/goccy/go-json"
)

// Encoder appends lines to its buffer. The characters < > & stay as they are:
// nothing here ends in a web page. It is for one goroutine.
type Encoder struct {
	buf bytes.Buffer
	enc *json.Encoder
}

// NewEncoder returns an encoder with an empty buffer.
func NewEncoder() *Encoder {
	e := &Encoder{}
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}

// Append returns b with the value and a line end appended, and b as it was
// when the value can't be encoded. Pass a pointer, which costs no allocation.
func (e *Encoder) Append(b []byte, v any) ([]byte, error) {
	e.buf.Reset()
	if err := e.enc.Encode(v); err != nil {
		return b, err
	}
	return append(b, e.buf.Bytes()...), nil
}
