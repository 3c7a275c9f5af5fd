package nexmark

import (
	"slices"

	"github.com/millrace/millrace/operators"
)

// most gathers the records with the largest value: all of them, where several have
// it, while operators.MaxBy keeps one.
func most[T any](of func(T) int64) operators.Aggregation[T, []T, []T] {
	add := func(acc *[]T, v T) {
		if len(*acc) > 0 {
			switch have, n := of((*acc)[0]), of(v); {
			case n < have:
				return
			case n > have:
				*acc = (*acc)[:0]
			}
		}
		*acc = append(*acc, v)
	}
	return operators.Aggregation[T, []T, []T]{
		Add: add,
		Merge: func(acc, other *[]T) {
			for _, v := range *other {
				add(acc, v)
			}
		},
		Result: func(acc *[]T) []T { return slices.Clone(*acc) },
	}
}
