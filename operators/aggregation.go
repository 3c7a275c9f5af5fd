package operators

import (
	"errors"

	"github.com/millrace/millrace/state"
)

// Aggregation says how records of type T become a result of type R by way of
// an accumulator of type A. Functions of this package make the usual ones; a
// literal makes any other:
//
//	longest := operators.Aggregation[Hit, time.Duration, time.Duration]{
//		Add:    func(acc *time.Duration, h Hit) { *acc = max(*acc, h.Took) },
//		Merge:  func(acc, other *time.Duration) { *acc = max(*acc, *other) },
//		Result: func(acc *time.Duration) time.Duration { return *acc },
//	}
//
// The functions are shared by all subtasks and must keep nothing between
// calls. An accumulator is touched by one goroutine at a time. It is state: what
// it refers to must belong to it alone.
type Aggregation[T, A, R any] struct {
	// New returns an empty accumulator, which no other accumulator shares memory
	// with. Nil: the zero value of A.
	New func() A

	// Add takes a record into an accumulator. Required.
	Add func(acc *A, v T)

	// Merge takes everything that other holds into acc. It must not change
	// other, nor let acc refer to memory of other: the same accumulator may be
	// merged into several, and go on taking records. Merging an empty accumulator
	// changes nothing.
	//
	// Sessions, which grow together, and Rollup need it. Sliding and cumulative
	// windows use it, where it is there, to add each record once instead of once
	// for every window.
	Merge func(acc *A, other *A)

	// Result makes a result of an accumulator. It must not change it, nor return
	// memory that later calls of Add or Merge would write to: a window may give
	// several results, and take records in between. Required.
	Result func(acc *A) R

	// Codec turns accumulators into bytes and back, where state is kept on disk
	// and in checkpoints. It is shared by all subtasks and must keep nothing
	// between calls. Nil: [state.CodecFor] A, which refuses a struct with fields
	// that are not exported.
	Codec state.Codec[A]

	// Err is a mistake in the arguments that made the aggregation. The verb
	// that uses it reports it as a mistake of the graph.
	Err error
}

// empty returns an empty accumulator.
func (a *Aggregation[T, A, R]) empty() (acc A) {
	if a.New != nil {
		acc = a.New()
	}
	return acc
}

// check reports what is missing for an operator that may have to merge.
func (a *Aggregation[T, A, R]) check(merges bool) error {
	if a.Err != nil {
		return a.Err
	}
	var errs []error
	if a.Add == nil {
		errs = append(errs, errors.New("the aggregation has no Add"))
	}
	if a.Result == nil {
		errs = append(errs, errors.New("the aggregation has no Result"))
	}
	if merges && a.Merge == nil {
		errs = append(errs, errors.New("the aggregation has no Merge, which sessions and rollups need"))
	}
	return errors.Join(errs...)
}
