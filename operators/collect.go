package operators

// Collect gathers all records, in the order they arrived. That order follows
// each split, but may differ from run to run between splits and subtasks, and
// where sessions merge.
//
// Memory grows with the records of a window; [CollectN] bounds it.
func Collect[T any]() Aggregation[T, []T, []T] {
	return Aggregation[T, []T, []T]{
		Add:    func(acc *[]T, v T) { *acc = append(*acc, v) },
		Merge:  func(acc, other *[]T) { *acc = append(*acc, *other...) },
		Result: copied[T],
	}
}

// CollectN gathers the first n records that arrive, as a sample to look at.
// [MinBy] finds the first by event time, [TopFunc] the first n.
func CollectN[T any](n int) Aggregation[T, []T, []T] {
	return Aggregation[T, []T, []T]{
		Add: func(acc *[]T, v T) {
			if len(*acc) < n {
				*acc = append(*acc, v)
			}
		},
		Merge: func(acc, other *[]T) {
			room := min(n-len(*acc), len(*other))
			*acc = append(*acc, (*other)[:room]...)
		},
		Result: copied[T],
		Err:    atLeastOne("CollectN", "n", n),
	}
}

// copied returns a copy, since records that are yet to come are appended to
// the accumulator while somebody else reads the result.
func copied[T any](acc *[]T) []T { return append([]T(nil), *acc...) }
