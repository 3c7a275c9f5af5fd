// Package memory is a source of values that are there already: for tests,
// examples, and small reference tables.
//
//	hits := pipeline.From(p, "hits", memory.From(values), pipeline.BoundedDisorder(Hit.Time, time.Minute))
//
// It is bounded: after the last value the job ends as if drained. Several
// slices are several splits, which is how a test brings records out of order
// between splits, or gives several subtasks something to read:
//
//	memory.From(morning, evening)
//	memory.From(values).Divide(4)
//
// A split's position is the index of its next value, so a job that restarts
// with the same values goes on where it was.
package memory
