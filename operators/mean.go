package operators

// Mean is the arithmetic mean of what f returns for each record, summed as
// [Sum] does. A NaN among the values makes it NaN.
//
//	took := operators.Mean(func(r Request) float64 { return r.Took.Seconds() })
func Mean[T any, N Number](f func(T) N) Aggregation[T, Average, float64] {
	return Aggregation[T, Average, float64]{
		Add: func(acc *Average, v T) {
			acc.total.add(float64(f(v)))
			acc.count++
		},
		Merge: func(acc, other *Average) {
			acc.total.merge(&other.total)
			acc.count += other.count
		},
		Result: func(acc *Average) float64 { return acc.total.value() / float64(acc.count) },
		Codec:  averageCodec{newTotalCodec[float64]()},
		Err:    nilFunc("Mean", f == nil),
	}
}

// Average is the accumulator of [Mean]: a sum and a count, since means
// themselves cannot be merged.
type Average struct {
	total Total[float64]
	count int64
}
