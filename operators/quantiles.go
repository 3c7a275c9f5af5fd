package operators

import (
	"fmt"
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// DefaultAccuracy is the relative accuracy of [Quantiles].
const DefaultAccuracy = 0.01

// Quantiles estimates quantiles of what f returns for each record, each from 0
// (the smallest value) to 1 (the largest), with [DefaultAccuracy]. The result
// holds one value for each of qs, in the order of qs.
//
//	latency := operators.Quantiles(Request.Millis, 0.5, 0.95, 0.99)
//
// The quantile q of n values is the one of rank q·(n-1) when they are sorted
// and counted from 0, and one of the two neighbours where that is no whole
// number: a value that occurred, not one between two. A NaN among the values
// makes every quantile NaN; an infinity counts as the largest finite value
// there is room for.
func Quantiles[T any](f func(T) float64, qs ...float64) Aggregation[T, QuantileSketch, []float64] {
	return quantiles("Quantiles", DefaultAccuracy, f, qs)
}

// QuantilesWithin is [Quantiles] with another relative accuracy, between 0 and
// 1: with 0.01 the estimate of a quantile whose true value is 200 lies between
// 198 and 202. Memory grows with 1/accuracy and with the logarithm of the
// values' range, not with their number: about 8 KB where values span three
// orders of magnitude at 0.01, and less while there are few.
func QuantilesWithin[T any](accuracy float64, f func(T) float64, qs ...float64) Aggregation[T, QuantileSketch, []float64] {
	return quantiles("QuantilesWithin", accuracy, f, qs)
}

// QuantileSketch is the accumulator of [Quantiles]: a DDSketch (Masson, Rim
// and Lee: DDSketch, VLDB 2019). Merging sketches loses no accuracy.
type QuantileSketch struct {
	sketch *ddsketch.DDSketch
	nan    bool
}

func quantiles[T any](maker string, accuracy float64, f func(T) float64, qs []float64) Aggregation[T, QuantileSketch, []float64] {
	qs = slices.Clone(qs)
	first, err := ddsketch.NewDefaultDDSketch(accuracy)
	if err != nil {
		first, _ = ddsketch.NewDefaultDDSketch(DefaultAccuracy)
	}
	// All sketches share a mapping, which is never written to.
	indices, largest := first.IndexMapping, first.MaxIndexableValue()
	return Aggregation[T, QuantileSketch, []float64]{
		New: func() QuantileSketch {
			return QuantileSketch{sketch: ddsketch.NewDDSketchFromStoreProvider(indices, store.DefaultProvider)}
		},
		Add: func(acc *QuantileSketch, v T) {
			x := f(v)
			if x != x {
				acc.nan = true
				return
			}
			x = max(-largest, min(x, largest))
			if err := acc.sketch.Add(x); err != nil {
				panic(err) // what it refuses was taken care of
			}
		},
		Merge: func(acc, other *QuantileSketch) {
			acc.nan = acc.nan || other.nan
			if err := acc.sketch.MergeWith(other.sketch); err != nil {
				panic(err) // one aggregation makes sketches of one accuracy
			}
		},
		Result: func(acc *QuantileSketch) []float64 { return acc.at(qs) },
		Codec:  newQuantileCodec(indices, accuracy),
		Err:    quantileMistake(maker, accuracy, f == nil, qs),
	}
}

func quantileMistake(maker string, accuracy float64, missing bool, qs []float64) error {
	if missing {
		return nilFunc(maker, missing)
	}
	if !(accuracy > 0 && accuracy < 1) {
		return fmt.Errorf("%s: relative accuracy is %v, must be between 0 and 1", maker, accuracy)
	}
	if len(qs) == 0 {
		return fmt.Errorf("%s: no quantile is asked for", maker)
	}
	for _, q := range qs {
		if !(q >= 0 && q <= 1) {
			return fmt.Errorf("%s: quantile %v is not between 0 and 1", maker, q)
		}
	}
	return nil
}

// at returns the quantiles, all NaN where there is a NaN or nothing.
func (s *QuantileSketch) at(qs []float64) []float64 {
	values := make([]float64, len(qs))
	for i, q := range qs {
		values[i] = math.NaN()
		if v, err := s.sketch.GetValueAtQuantile(q); err == nil && !s.nan {
			values[i] = v
		}
	}
	return values
}
