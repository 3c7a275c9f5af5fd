package operators

// Number is what can be added up.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr |
		~float32 | ~float64
}

// Sum adds up what f returns for each record, in f's own type: integers wrap
// around where they overflow, so let f convert where the type is narrow.
//
//	revenue := operators.Sum(func(o Order) int64 { return o.Cents })
//
// Floating-point sums carry their rounding error along and add it at the end,
// so a sum of millions is right to the last digits and does not depend visibly
// on the order of the records, which parallelism and merging change. A NaN
// makes the sum NaN.
func Sum[T any, N Number](f func(T) N) Aggregation[T, Total[N], N] {
	return Aggregation[T, Total[N], N]{
		Add:    func(acc *Total[N], v T) { acc.add(f(v)) },
		Merge:  func(acc, other *Total[N]) { acc.merge(other) },
		Result: func(acc *Total[N]) N { return acc.value() },
		Codec:  newTotalCodec[N](),
		Err:    nilFunc("Sum", f == nil),
	}
}

// Total is the accumulator of [Sum]: a sum and the part of it that rounding
// took away (Neumaier: Rundungsfehleranalyse einiger Verfahren zur Summation
// endlicher Summen, 1974). For integers that part stays 0, even where the sum
// wraps around, and keeping it costs a fraction of a nanosecond.
type Total[N Number] struct{ sum, lost N }

func (t *Total[N]) add(x N) {
	sum := t.sum + x
	if abs(t.sum) >= abs(x) {
		t.lost += (t.sum - sum) + x
	} else {
		t.lost += (x - sum) + t.sum
	}
	t.sum = sum
}

func (t *Total[N]) merge(other *Total[N]) {
	t.add(other.sum)
	t.lost += other.lost
}

// value returns the sum. Once the sum is infinite or NaN the difference that
// lost was made of is not a number either, and must not spoil it.
func (t *Total[N]) value() N {
	if t.lost-t.lost != 0 {
		return t.sum
	}
	return t.sum + t.lost
}

func abs[N Number](x N) N {
	if x < 0 {
		return -x
	}
	return x
}
