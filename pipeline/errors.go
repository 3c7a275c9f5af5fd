package pipeline

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/millrace/millrace/state"
)

// ErrEndOfInput is returned by [Reader.Read] when a bounded source has nothing
// more to give. The job then ends as if drained: windows fire and Run returns
// nil.
var ErrEndOfInput = errors.New("end of input")

// ErrInvalidGraph is matched (by errors.Is) by every mistake that [Pipeline.Validate] reports.
var ErrInvalidGraph = errors.New("invalid graph")

// errAborted ends a task because another one failed. It is never reported.
var errAborted = errors.New("aborted")

// OperatorError is a run-time failure: which operator, which of its subtasks,
// and, where there is one, the record in hand.
type OperatorError struct {
	Operator string
	Subtask  int
	// Record is the record in hand, rendered as text and cut to a readable
	// length; empty when the failure was not about a record.
	Record string
	Err    error
}

func (e *OperatorError) Error() string {
	if e.Record == "" {
		return fmt.Sprintf("operator %q subtask %d: %v", e.Operator, e.Subtask, e.Err)
	}
	return fmt.Sprintf("operator %q subtask %d: record %s: %v", e.Operator, e.Subtask, e.Record, e.Err)
}

// Unwrap returns the cause.
func (e *OperatorError) Unwrap() error { return e.Err }

// PanicError is a panic in user code, caught and made an error.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // where, as by runtime/debug.Stack
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value where that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// CatchPanic turns a panic into a *[PanicError] in *err. It is to be deferred,
// by a source around the decoder of a record for example.
func CatchPanic(err *error) {
	switch v := recover().(type) {
	case nil:
	case *state.StorageError: // a disk that failed: nobody's mistake, so the stack says nothing
		*err = v
	default:
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// Fatal marks an error that a user function returns so that it stops the job
// even where rejected records go to a dead-letter output.
func Fatal(err error) error { return &fatalError{err} }

type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// IsFatal says whether err was marked by [Fatal]. A sink that rejects records
// on an error of user code asks it first.
func IsFatal(err error) bool {
	var f *fatalError
	var s *state.StorageError
	return errors.As(err, &f) || errors.As(err, &s)
}

// mistake is an error of the graph at a line of the user's source.
type mistake struct {
	where string
	text  string
}

func (m *mistake) Error() string        { return m.where + ": " + m.text }
func (m *mistake) Is(target error) bool { return target == ErrInvalidGraph }

// render shows a value in an error or a dead letter.
func render(v any) (text string) {
	defer func() {
		if r := recover(); r != nil { // a user's String method may panic
			text = fmt.Sprintf("%T (unprintable: %v)", v, r)
		}
	}()
	return cut(fmt.Sprintf("%+v", v), 512)
}

// cut shortens s to at most n bytes and says so.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
