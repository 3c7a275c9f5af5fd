package operators

import (
	"errors"

	"github.com/millrace/millrace/state"
)

// Combine2 runs two aggregations over the same records in one pass and makes
// one result of theirs.
//
//	type Row struct{ Views, Visitors int64 }
//
//	row := operators.Combine2(operators.Count[Hit](), operators.Distinct(Hit.Visitor),
//		func(views, visitors int64) Row { return Row{views, visitors} })
//
// It can be merged if both can.
func Combine2[T, A1, R1, A2, R2, R any](
	a Aggregation[T, A1, R1], b Aggregation[T, A2, R2], combine func(R1, R2) R,
) Aggregation[T, Tuple2[A1, A2], R] {
	type acc = Tuple2[A1, A2]
	c := Aggregation[T, acc, R]{
		New: func() acc { return acc{a.empty(), b.empty()} },
		Add: func(acc *acc, v T) {
			a.Add(&acc.a, v)
			b.Add(&acc.b, v)
		},
		Result: func(acc *acc) R { return combine(a.Result(&acc.a), b.Result(&acc.b)) },
		Codec:  combined2(&a, &b),
		Err:    errors.Join(a.check(false), b.check(false), nilFunc("Combine2", combine == nil)),
	}
	if a.Merge != nil && b.Merge != nil {
		c.Merge = func(acc, other *acc) {
			a.Merge(&acc.a, &other.a)
			b.Merge(&acc.b, &other.b)
		}
	}
	return c
}

// Combine3 is [Combine2] for three aggregations.
func Combine3[T, A1, R1, A2, R2, A3, R3, R any](
	a Aggregation[T, A1, R1], b Aggregation[T, A2, R2], c Aggregation[T, A3, R3], combine func(R1, R2, R3) R,
) Aggregation[T, Tuple3[A1, A2, A3], R] {
	type acc = Tuple3[A1, A2, A3]
	all := Aggregation[T, acc, R]{
		New: func() acc { return acc{a.empty(), b.empty(), c.empty()} },
		Add: func(acc *acc, v T) {
			a.Add(&acc.a, v)
			b.Add(&acc.b, v)
			c.Add(&acc.c, v)
		},
		Result: func(acc *acc) R { return combine(a.Result(&acc.a), b.Result(&acc.b), c.Result(&acc.c)) },
		Codec:  combined3(&a, &b, &c),
		Err:    errors.Join(a.check(false), b.check(false), c.check(false), nilFunc("Combine3", combine == nil)),
	}
	if a.Merge != nil && b.Merge != nil && c.Merge != nil {
		all.Merge = func(acc, other *acc) {
			a.Merge(&acc.a, &other.a)
			b.Merge(&acc.b, &other.b)
			c.Merge(&acc.c, &other.c)
		}
	}
	return all
}

// Combine4 is [Combine2] for four aggregations. More are combined by combining
// combinations.
func Combine4[T, A1, R1, A2, R2, A3, R3, A4, R4, R any](
	a Aggregation[T, A1, R1], b Aggregation[T, A2, R2], c Aggregation[T, A3, R3], d Aggregation[T, A4, R4],
	combine func(R1, R2, R3, R4) R,
) Aggregation[T, Tuple4[A1, A2, A3, A4], R] {
	type acc = Tuple4[A1, A2, A3, A4]
	all := Aggregation[T, acc, R]{
		New: func() acc { return acc{a.empty(), b.empty(), c.empty(), d.empty()} },
		Add: func(acc *acc, v T) {
			a.Add(&acc.a, v)
			b.Add(&acc.b, v)
			c.Add(&acc.c, v)
			d.Add(&acc.d, v)
		},
		Result: func(acc *acc) R {
			return combine(a.Result(&acc.a), b.Result(&acc.b), c.Result(&acc.c), d.Result(&acc.d))
		},
		Codec: combined4(&a, &b, &c, &d),
		Err:   errors.Join(a.check(false), b.check(false), c.check(false), d.check(false), nilFunc("Combine4", combine == nil)),
	}
	if a.Merge != nil && b.Merge != nil && c.Merge != nil && d.Merge != nil {
		all.Merge = func(acc, other *acc) {
			a.Merge(&acc.a, &other.a)
			b.Merge(&acc.b, &other.b)
			c.Merge(&acc.c, &other.c)
			d.Merge(&acc.d, &other.d)
		}
	}
	return all
}

func combined2[T, A1, R1, A2, R2 any](a *Aggregation[T, A1, R1], b *Aggregation[T, A2, R2]) state.Codec[Tuple2[A1, A2]] {
	ca, errA := codecOf(a)
	cb, errB := codecOf(b)
	return orRefused[Tuple2[A1, A2]](tuple2Codec[A1, A2]{ca, cb}, errors.Join(errA, errB))
}

func combined3[T, A1, R1, A2, R2, A3, R3 any](
	a *Aggregation[T, A1, R1], b *Aggregation[T, A2, R2], c *Aggregation[T, A3, R3],
) state.Codec[Tuple3[A1, A2, A3]] {
	ca, errA := codecOf(a)
	cb, errB := codecOf(b)
	cc, errC := codecOf(c)
	return orRefused[Tuple3[A1, A2, A3]](tuple3Codec[A1, A2, A3]{ca, cb, cc}, errors.Join(errA, errB, errC))
}

func combined4[T, A1, R1, A2, R2, A3, R3, A4, R4 any](
	a *Aggregation[T, A1, R1], b *Aggregation[T, A2, R2], c *Aggregation[T, A3, R3], d *Aggregation[T, A4, R4],
) state.Codec[Tuple4[A1, A2, A3, A4]] {
	ca, errA := codecOf(a)
	cb, errB := codecOf(b)
	cc, errC := codecOf(c)
	cd, errD := codecOf(d)
	return orRefused[Tuple4[A1, A2, A3, A4]](tuple4Codec[A1, A2, A3, A4]{ca, cb, cc, cd}, errors.Join(errA, errB, errC, errD))
}

// Tuple2 is the accumulator of [Combine2].
type Tuple2[A, B any] struct {
	a A
	b B
}

// Tuple3 is the accumulator of [Combine3].
type Tuple3[A, B, C any] struct {
	a A
	b B
	c C
}

// Tuple4 is the accumulator of [Combine4].
type Tuple4[A, B, C, D any] struct {
	a A
	b B
	c C
	d D
}
