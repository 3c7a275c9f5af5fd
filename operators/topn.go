package operators

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// TopN gives, for each window of each key, the n records with the highest
// score, highest first.
//
//	slowest := operators.TopN(byService, "slowest", window.Tumbling(time.Minute), 10, Request.Seconds)
//
// It is [Aggregate] with [Top], and takes the same options. For a ranking in
// which no two records are equal, use Aggregate with [TopFunc]; to rank items
// by how often they occur, with [TopCounts] or [HeavyHitters].
func TopN[K comparable, T any](
	in pipeline.KeyedStream[K, T], name string, by window.Assigner,
	n int, score func(T) float64, opts ...pipeline.OperatorOption,
) pipeline.Stream[Result[K, []T]] {
	return Aggregate(in, name, by, Top(n, score), opts...)
}

// Top gathers the n records with the highest score, highest first. A NaN is
// lower than any number.
//
// Of records with equal scores those that arrived first are kept and come
// first. Where records come from several splits or through several subtasks,
// that order may differ from run to run; [TopFunc] can compare more than a
// score.
func Top[T any](n int, score func(T) float64) Aggregation[T, []T, []T] {
	return top("Top", n, score == nil, func(a, b T) int { return cmp.Compare(score(b), score(a)) })
}

// TopFunc gathers the n records that come first in the given order, as
// [slices.SortFunc] would put them. When the order tells any two records
// apart, the result depends on nothing else:
//
//	operators.TopFunc(10, func(a, b Request) int {
//		return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(a.ID, b.ID))
//	})
//
// Most records cost one comparison, those that enter the ranking some more and
// a copy of up to n records.
func TopFunc[T any](n int, order func(a, b T) int) Aggregation[T, []T, []T] {
	return top("TopFunc", n, order == nil, order)
}

// top makes the aggregation whose accumulator is the ranking so far, in order.
// A sorted slice rather than a heap keeps equals in the order they arrived.
func top[T any](maker string, n int, missing bool, order func(a, b T) int) Aggregation[T, []T, []T] {
	err := nilFunc(maker, missing)
	if err == nil {
		err = atLeastOne(maker, "n", n)
	}
	return Aggregation[T, []T, []T]{
		Add: func(acc *[]T, v T) { rank(acc, v, n, order) },
		Merge: func(acc, other *[]T) {
			for _, v := range *other {
				rank(acc, v, n, order)
			}
		},
		Result: copied[T],
		Err:    err,
	}
}

// rank inserts v behind all records that do not come after it.
func rank[T any](ranking *[]T, v T, n int, order func(a, b T) int) {
	r := *ranking
	if len(r) == n && order(r[n-1], v) <= 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(r, v, func(ranked, v T) int {
		if order(ranked, v) <= 0 {
			return -1
		}
		return 1
	})
	if len(r) == n {
		r = r[:n-1]
	}
	*ranking = slices.Insert(r, i, v)
}

// TopCounts counts how often f returns each item, and gives the n most
// frequent, most frequent first and equals by item.
//
//	pages := operators.Aggregate(bySite, "pages", window.Tumbling(time.Hour), operators.TopCounts(10, Hit.Page))
//
// Counts are exact, and every item is kept until the window is forgotten;
// [HeavyHitters] does with bounded memory.
func TopCounts[T any, I cmp.Ordered](n int, f func(T) I) Aggregation[T, map[I]int64, []ItemCount[I]] {
	err := nilFunc("TopCounts", f == nil)
	if err == nil {
		err = atLeastOne("TopCounts", "n", n)
	}
	return Aggregation[T, map[I]int64, []ItemCount[I]]{
		New: func() map[I]int64 { return map[I]int64{} },
		Add: func(acc *map[I]int64, v T) { (*acc)[f(v)]++ },
		Merge: func(acc, other *map[I]int64) {
			for item, count := range *other {
				(*acc)[item] += count
			}
		},
		Result: func(acc *map[I]int64) []ItemCount[I] { return mostFrequent(*acc, n) },
		Codec:  newCountsCodec[I](),
		Err:    err,
	}
}

// ItemCount is an item and how often it occurred.
type ItemCount[I cmp.Ordered] struct {
	Item  I
	Count int64
}

func mostFrequent[I cmp.Ordered](counts map[I]int64, n int) []ItemCount[I] {
	var first []ItemCount[I]
	for item, count := range counts {
		rank(&first, ItemCount[I]{item, count}, n, func(a, b ItemCount[I]) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Item, b.Item))
		})
	}
	return first
}
