package state

import "fmt"

// DefaultMaxParallelism is the number of key groups a job has unless it says
// otherwise. It bounds the parallelism a job can ever be restored at.
const DefaultMaxParallelism = 128

// KeyGroup returns the key group of a key with the given hash.
func KeyGroup(hash uint64, maxParallelism int) int {
	return int(hash % uint64(maxParallelism))
}

// Range is a contiguous run of key groups, First to Last inclusive. A Range
// with Last < First is empty.
type Range struct{ First, Last int }

// RangeOf returns the key groups that a subtask owns at the given
// parallelism. Over all subtasks the ranges cover every group exactly once,
// and their sizes differ by at most one.
func RangeOf(subtask, parallelism, maxParallelism int) Range {
	return Range{
		First: (subtask*maxParallelism + parallelism - 1) / parallelism,
		Last:  ((subtask+1)*maxParallelism - 1) / parallelism,
	}
}

// SubtaskOf returns the subtask that owns a key group: the inverse of
// [RangeOf].
func SubtaskOf(group, parallelism, maxParallelism int) int {
	return group * parallelism / maxParallelism
}

// Contains says whether the range holds group.
func (r Range) Contains(group int) bool { return r.First <= group && group <= r.Last }

// Len returns the number of groups in the range.
func (r Range) Len() int { return max(0, r.Last-r.First+1) }

// String returns the range as [first,last].
func (r Range) String() string { return fmt.Sprintf("[%d,%d]", r.First, r.Last) }
