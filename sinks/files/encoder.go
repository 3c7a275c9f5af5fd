package files

import (
	"fmt"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// appender appends a record to b.
type appender[T any] func(b []byte, v *T) ([]byte, error)

// encoder gathers records in buf, each whole, and rejects those it can't encode.
type encoder[T any] struct {
	env    *pipeline.SinkEnv
	append appender[T]
	buf    []byte
	next   int // the value of the batch being encoded
}

// bufferSize is when the buffer is written although more records follow.
const bufferSize = 256 << 10

// gather takes the records of b, and calls full whenever the buffer is.
func (e *encoder[T]) gather(b *pipeline.Records[T], path string, full func() error) error {
	for e.next = 0; e.next < len(b.Values); {
		if err := e.some(b); err != nil {
			reject(e.env, path, b, e.next, err)
			e.next++
		}
		if len(e.buf) >= bufferSize {
			if err := full(); err != nil {
				return err
			}
		}
	}
	return nil
}

// some encodes values until the buffer is full or one can't be encoded.
func (e *encoder[T]) some(b *pipeline.Records[T]) (err error) {
	before := len(e.buf)
	defer func() {
		if err != nil {
			e.buf = e.buf[:before]
		}
	}()
	defer pipeline.CatchPanic(&err)
	for e.next < len(b.Values) && len(e.buf) < bufferSize {
		before = len(e.buf)
		buf, err := e.append(e.buf, &b.Values[e.next])
		if err != nil {
			return err
		}
		e.buf = buf
		e.next++
	}
	return nil
}

// reject hands record i of b to the dead letters.
func reject[T any](env *pipeline.SinkEnv, path string, b *pipeline.Records[T], i int, err error) {
	env.Reject(pipeline.DeadLetter{
		Error: fmt.Sprintf("encode for %q: %v", path, err), Time: b.Times[i], Record: show.Value(b.Values[i]),
	})
}
