package operators

import "cmp"

// Min is the smallest of what f returns for each record: of numbers or, in
// byte order, strings. A NaN among the values makes it NaN.
func Min[T any, V cmp.Ordered](f func(T) V) Aggregation[T, Extreme[V], V] {
	return extreme("Min", f, func(a, b V) V { return min(a, b) })
}

// Max is the largest of what f returns for each record: of numbers or, in byte
// order, strings. A NaN among the values makes it NaN.
func Max[T any, V cmp.Ordered](f func(T) V) Aggregation[T, Extreme[V], V] {
	return extreme("Max", f, func(a, b V) V { return max(a, b) })
}

// Extreme is the accumulator of [Min] and [Max].
type Extreme[V cmp.Ordered] struct {
	value V
	set   bool
}

func extreme[T any, V cmp.Ordered](maker string, f func(T) V, choose func(a, b V) V) Aggregation[T, Extreme[V], V] {
	take := func(acc *Extreme[V], v V) {
		if acc.set {
			v = choose(acc.value, v)
		}
		*acc = Extreme[V]{v, true}
	}
	return Aggregation[T, Extreme[V], V]{
		Add: func(acc *Extreme[V], v T) { take(acc, f(v)) },
		Merge: func(acc, other *Extreme[V]) {
			if other.set {
				take(acc, other.value)
			}
		},
		Result: func(acc *Extreme[V]) V { return acc.value },
		Codec:  newExtremeCodec[V](),
		Err:    nilFunc(maker, f == nil),
	}
}

// MinBy is the record for which f returns the smallest value: by event time,
// the first one.
//
//	landing := operators.MinBy(Hit.Time)
//
// Of records with equal values the one that arrived first is taken, so which
// one it is can depend on parallelism. A NaN is smaller than any number.
func MinBy[T any, V cmp.Ordered](f func(T) V) Aggregation[T, Chosen[T, V], T] {
	return chosen("MinBy", f, func(a, b V) bool { return cmp.Less(a, b) })
}

// MaxBy is the record for which f returns the largest value: by event time,
// the last one. Of equals the first to arrive is taken, as for [MinBy].
func MaxBy[T any, V cmp.Ordered](f func(T) V) Aggregation[T, Chosen[T, V], T] {
	return chosen("MaxBy", f, func(a, b V) bool { return cmp.Less(b, a) })
}

// Chosen is the accumulator of [MinBy] and [MaxBy].
type Chosen[T any, V cmp.Ordered] struct {
	record T
	value  V
	set    bool
}

func chosen[T any, V cmp.Ordered](maker string, f func(T) V, before func(a, b V) bool) Aggregation[T, Chosen[T, V], T] {
	return Aggregation[T, Chosen[T, V], T]{
		Add: func(acc *Chosen[T, V], v T) {
			if value := f(v); !acc.set || before(value, acc.value) {
				*acc = Chosen[T, V]{v, value, true}
			}
		},
		Merge: func(acc, other *Chosen[T, V]) {
			if other.set && (!acc.set || before(other.value, acc.value)) {
				*acc = *other
			}
		},
		Result: func(acc *Chosen[T, V]) T { return acc.record },
		Codec:  newChosenCodec[T, V](),
		Err:    nilFunc(maker, f == nil),
	}
}
