package operators

import (
	"fmt"

	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"
)

// DefaultPrecision is the precision of [Distinct].
const DefaultPrecision = 14

// Distinct estimates how many different strings f returns, with
// [DefaultPrecision].
//
//	visitors := operators.Distinct(Hit.Visitor)
func Distinct[T any](f func(T) string) Aggregation[T, DistinctSketch, int64] {
	return hll("Distinct", DefaultPrecision, f == nil, func(v T) uint64 { return xxhash.Sum64String(f(v)) })
}

// HLL is [Distinct] with another precision p, from 4 to 18. The estimate's
// standard error is 1.04/√2^p, and an error of twice that must be expected now
// and then:
//
//	precision   standard error   memory, many values
//	       12            1.6 %                  4 KB
//	       14            0.8 %                 16 KB
//	       16            0.4 %                 64 KB
//
// Sets of up to 2^p/16 values are kept in a sparse form, a few bytes a value, and
// are counted almost exactly. A set of its own for each of many keys is
// therefore cheap as long as most are small.
//
// The estimate depends on the set alone, and not on the order of the records
// or on what was merged with what.
func HLL[T any](precision uint8, f func(T) string) Aggregation[T, DistinctSketch, int64] {
	return hll("HLL", precision, f == nil, func(v T) uint64 { return xxhash.Sum64String(f(v)) })
}

// HLLHash is [HLL] for values that are numbers, or were hashed already: f
// returns 64 bits that are equal for equal values only. They need not be
// random, so a numeric id will do.
func HLLHash[T any](precision uint8, f func(T) uint64) Aggregation[T, DistinctSketch, int64] {
	return hll("HLLHash", precision, f == nil, func(v T) uint64 { return mix(f(v)) })
}

// DistinctSketch is the accumulator of [Distinct]: a HyperLogLog sketch (with
// the sparse form of Heule, Nunkesser and Hall: HyperLogLog in Practice, 2013).
//
// A result may rearrange the sketch; the set it stands for, and every estimate
// to come, stay the same.
type DistinctSketch struct {
	sketch *hyperloglog.Sketch
	dense  bool
	adds   uint32
}

func hll[T any](maker string, precision uint8, missing bool, hash func(T) uint64) Aggregation[T, DistinctSketch, int64] {
	err := nilFunc(maker, missing)
	if _, invalid := hyperloglog.NewSketch(precision, true); err == nil && invalid != nil {
		err = fmt.Errorf("%s: precision is %d, must be between 4 and 18", maker, precision)
	}
	return Aggregation[T, DistinctSketch, int64]{
		New: func() DistinctSketch { return DistinctSketch{sketch: newSketch(precision, true)} },
		Add: func(acc *DistinctSketch, v T) { acc.add(hash(v), precision) },
		Merge: func(acc, other *DistinctSketch) {
			mergeSketch(acc.sketch, other.sketch)
			acc.dense = acc.dense || other.dense
		},
		Result: func(acc *DistinctSketch) int64 { return acc.estimate(precision) },
		Codec:  distinctCodec{precision},
		Err:    err,
	}
}

func (s *DistinctSketch) add(hash uint64, precision uint8) {
	s.sketch.InsertHash(hash)
	if s.dense {
		return
	}
	if s.adds++; s.adds%1024 == 0 {
		s.estimate(precision) // for its move to the dense form
	}
}

// estimate estimates the set's size, and moves a set that has grown to the
// dense form. Left to itself the sketch stays sparse several times as long, and
// then sorts thousands of values into a list again and again, at 360 ns a
// record instead of 20.
//
// The limit is on the set's size, never on the number of records or merges, so
// that the form and thereby the estimate follow from the set.
func (s *DistinctSketch) estimate(precision uint8) int64 {
	n := s.sketch.Estimate()
	if s.dense || n <= 1<<precision/16 {
		return int64(n)
	}
	dense := newSketch(precision, false)
	mergeSketch(dense, s.sketch)
	s.sketch, s.dense = dense, true
	return int64(dense.Estimate())
}

func newSketch(precision uint8, sparse bool) *hyperloglog.Sketch {
	s, _ := hyperloglog.NewSketch(precision, sparse) // a wrong precision was reported with the graph
	return s
}

func mergeSketch(to, from *hyperloglog.Sketch) {
	if err := to.Merge(from); err != nil {
		panic(err) // one aggregation makes sketches of one precision
	}
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, 2014), a bijection: every bit of its result
// depends on every bit of x.
func mix(x uint64) uint64 {
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}
