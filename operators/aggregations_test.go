package operators

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sample is a record for aggregations: an item, which repeats, and a number.
type sample struct {
	item string
	x    float64
	seq  int
}

func (s sample) Item() string { return s.item }
func (s sample) X() float64   { return s.x }
func (s sample) Seq() int     { return s.seq }
func (s sample) ID() uint64   { return uint64(s.seq) }

// samples makes n records whose items follow a Zipf distribution.
func samples(r *rand.Rand, n int) []sample {
	zipf := rand.NewZipf(r, 1.1, 1, 5000)
	all := make([]sample, n)
	for i := range all {
		all[i] = sample{fmt.Sprint("item-", zipf.Uint64()), math.Exp(r.NormFloat64() * 3), i}
	}
	return all
}

// fold adds records one by one.
func fold[T, A, R any](agg Aggregation[T, A, R], records []T) A {
	acc := agg.empty()
	for _, v := range records {
		agg.Add(&acc, v)
	}
	return acc
}

// scattered adds records in order to accumulators that it then merges by pairs
// at random, until one is left.
func scattered[T, A, R any](r *rand.Rand, agg Aggregation[T, A, R], records []T) A {
	accs := []A{agg.empty()}
	for len(records) > 0 {
		n := min(len(records), 1+r.IntN(len(records)/2+1))
		accs = append(accs, fold(agg, records[:n]))
		records = records[n:]
		if r.IntN(4) == 0 {
			accs = append(accs, agg.empty())
		}
	}
	for len(accs) > 1 {
		i := r.IntN(len(accs) - 1)
		agg.Merge(&accs[i], &accs[i+1])
		accs = slices.Delete(accs, i+1, i+2)
	}
	return accs[0]
}

// checkAggregation holds an aggregation to the contract, and its results to
// what check says of them; check gets the records that a result is of.
func checkAggregation[T, A, R any](t *testing.T, agg Aggregation[T, A, R], records []T, check func(got R, of []T) error) {
	t.Helper()
	if err := agg.check(true); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		for _, n := range []int{1, 2, 3, 100, len(records)} {
			n = min(n, len(records))
			one := fold(agg, records[:n])
			if err := check(agg.Result(&one), records[:n]); err != nil {
				t.Fatalf("%d records in one pass: %v", n, err)
			}
			many := scattered(r, agg, records[:n])
			if err := check(agg.Result(&many), records[:n]); err != nil {
				t.Fatalf("seed %d, %d records merged: %v", seed, n, err)
			}
		}
	}
	checkOwnership(t, agg, records)
}

// checkOwnership checks that accumulators and results share nothing.
func checkOwnership[T, A, R any](t *testing.T, agg Aggregation[T, A, R], records []T) {
	t.Helper()
	third := len(records) / 3
	front, middle, back := records[:third], records[third:2*third], records[2*third:]
	same := func(what string, got, want R) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
	}

	// The same other goes into two accumulators, which then go separate ways.
	other, untouched := fold(agg, middle), fold(agg, middle)
	a, b := fold(agg, front), fold(agg, front)
	agg.Merge(&a, &other)
	agg.Merge(&b, &other)
	same("other after two merges", agg.Result(&other), agg.Result(&untouched))
	same("second merge of one other", agg.Result(&b), agg.Result(&a))
	before := agg.Result(&b)
	for _, v := range back {
		agg.Add(&a, v)
		agg.Add(&other, v)
		agg.Add(&untouched, v)
	}
	same("an accumulator after records for another it was merged from", agg.Result(&b), before)
	same("other after records of its own", agg.Result(&other), agg.Result(&untouched))

	// An empty one, merged into or from.
	empty := agg.empty()
	agg.Merge(&b, &empty)
	same("after merging an empty one", agg.Result(&b), before)
	agg.Merge(&empty, &b)
	same("an empty one after merging", agg.Result(&empty), before)
	for _, v := range back {
		agg.Add(&empty, v)
	}
	same("the accumulator an empty one was merged from", agg.Result(&b), before)

	// Results on the way.
	quiet, asked := fold(agg, front), fold(agg, front)
	early := agg.Result(&asked)
	same("a result asked for again", agg.Result(&asked), early)
	shown := fmt.Sprint(early)
	for _, v := range middle {
		agg.Add(&quiet, v)
		agg.Add(&asked, v)
	}
	if now := fmt.Sprint(early); now != shown {
		t.Fatalf("a result changed with the records after it: from %s to %s", shown, now)
	}
	same("after a result in between", agg.Result(&asked), agg.Result(&quiet))
}

// exactly compares with a naive result.
func exactly[T, R any](naive func([]T) R) func(R, []T) error {
	return func(got R, of []T) error {
		if want := naive(of); !reflect.DeepEqual(got, want) {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	}
}

func sampleValues(of []sample) []float64 {
	xs := make([]float64, len(of))
	for i, s := range of {
		xs[i] = s.x
	}
	return xs
}

func itemCounts(of []sample) map[string]int64 {
	counts := map[string]int64{}
	for _, s := range of {
		counts[s.item]++
	}
	return counts
}

func TestCount(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(1, 2)), 3000)
	checkAggregation(t, Count[sample](), records, exactly(func(of []sample) int64 { return int64(len(of)) }))
}

func TestSum(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(1, 2)), 3000)
	checkAggregation(t, Sum(sample.Seq), records, exactly(func(of []sample) int {
		return len(of) * (len(of) - 1) / 2
	}))
	// As many of each would lose all small ones without compensation.
	big := make([]float64, 0, 3000)
	for i := range 1000 {
		big = append(big, 1e16, 1+float64(i%2), -1e16)
	}
	sum := Sum(func(x float64) float64 { return x })
	checkAggregation(t, sum, big, exactly(func(of []float64) (want float64) {
		for i, x := range of {
			if i%3 == 1 {
				want += x
			}
		}
		switch len(of) % 3 {
		case 1:
			want += 1e16
		case 2:
			want += 1e16
		}
		return want
	}))
}

func TestSumWrapsAndOverflows(t *testing.T) {
	narrow := Sum(func(x int8) int8 { return x })
	acc := fold(narrow, []int8{127, 1, -128, -128})
	if got := narrow.Result(&acc); got != int8(-128) {
		t.Errorf("int8: got %d, want -128", got)
	}
	unsigned := Sum(func(x uint8) uint8 { return x })
	bytes := fold(unsigned, []uint8{200, 100, 3})
	if got := unsigned.Result(&bytes); got != 47 {
		t.Errorf("uint8: got %d, want 47", got)
	}
	inf := math.Inf(1)
	floats := Sum(func(x float64) float64 { return x })
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{1, inf, 2}, inf},
		{[]float64{-inf, 5}, -inf},
		{[]float64{math.MaxFloat64, math.MaxFloat64, 1}, inf},
		{[]float64{inf, -inf}, math.NaN()},
		{[]float64{1, math.NaN(), 2}, math.NaN()},
		{nil, 0},
	} {
		acc := fold(floats, c.in)
		if got := floats.Result(&acc); cmp.Compare(got, c.want) != 0 {
			t.Errorf("sum of %v: got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestMean(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(3, 2)), 3000)
	checkAggregation(t, Mean(sample.X), records, func(got float64, of []sample) error {
		var sum float64
		for _, s := range of {
			sum += s.x
		}
		if want := sum / float64(len(of)); math.Abs(got-want) > 1e-12*want {
			return fmt.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
	mean := Mean(sample.Seq)
	acc := mean.empty()
	if got := mean.Result(&acc); got == got {
		t.Errorf("mean of nothing: got %v, want NaN", got)
	}
}

func TestMinMax(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(4, 2)), 2000)
	for i := range records {
		records[i].x -= 5 // zero is not the smallest
	}
	checkAggregation(t, Min(sample.X), records, exactly(func(of []sample) float64 { return slices.Min(sampleValues(of)) }))
	checkAggregation(t, Max(sample.X), records, exactly(func(of []sample) float64 { return slices.Max(sampleValues(of)) }))
	checkAggregation(t, Max(sample.Item), records, exactly(func(of []sample) (want string) {
		for _, s := range of {
			want = max(want, s.item)
		}
		return want
	}))
	low := Max(func(x float64) float64 { return x })
	acc := fold(low, []float64{-3, -2, -7})
	if got := low.Result(&acc); got != -2 {
		t.Errorf("all negative: got %v, want -2", got)
	}
	acc = fold(low, []float64{-3, math.NaN(), 7})
	if got := low.Result(&acc); got == got {
		t.Errorf("with a NaN: got %v, want NaN", got)
	}
}

func TestMinByMaxBy(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(5, 2)), 2000)
	first := func(less func(a, b sample) bool) func([]sample) sample {
		return func(of []sample) sample {
			best := of[0]
			for _, s := range of {
				if less(s, best) {
					best = s
				}
			}
			return best
		}
	}
	checkAggregation(t, MinBy(sample.X), records, exactly(first(func(a, b sample) bool { return a.x < b.x })))
	checkAggregation(t, MaxBy(sample.X), records, exactly(first(func(a, b sample) bool { return a.x > b.x })))
	// Many equals: the first to arrive.
	checkAggregation(t, MinBy(sample.Item), records, exactly(first(func(a, b sample) bool { return a.item < b.item })))
	checkAggregation(t, MaxBy(sample.Item), records, exactly(first(func(a, b sample) bool { return a.item > b.item })))
}

// within allows the error that HyperLogLog has at a precision: four standard
// errors, which a right sketch exceeds once in 16,000 tries.
func within[T any](precision uint8, distinct func([]T) int) func(int64, []T) error {
	return func(got int64, of []T) error {
		want := float64(distinct(of))
		allowed := 4 * 1.04 / math.Sqrt(float64(int(1)<<precision)) * want
		if math.Abs(float64(got)-want) > max(allowed, 1) {
			return fmt.Errorf("got %d, want %v within %.1f", got, want, allowed)
		}
		return nil
	}
}

func TestDistinct(t *testing.T) {
	n := 40_000
	if testing.Short() {
		n = 10_000
	}
	records := samples(rand.New(rand.NewPCG(6, 2)), n)
	items := func(of []sample) int { return len(itemCounts(of)) }
	ids := func(of []sample) int { return len(of) }
	checkAggregation(t, Distinct(sample.Item), records, within(DefaultPrecision, items))
	checkAggregation(t, HLL(10, sample.Item), records, within(10, items)) // dense soon, so all mixtures are merged
	checkAggregation(t, HLLHash(4, sample.ID), records, within(4, ids))
	checkAggregation(t, HLLHash(12, sample.ID), records, within(12, ids)) // sequential ids
	checkAggregation(t, HLLHash(18, sample.ID), records, within(18, ids))
}

// TestDistinctSmall checks that what fits the sparse form is counted almost
// exactly, result after result.
func TestDistinctSmall(t *testing.T) {
	agg := Distinct(func(i int) string { return fmt.Sprint("visitor ", i) })
	acc := agg.empty()
	for i := range 1000 {
		agg.Add(&acc, i)
		agg.Add(&acc, i/2)
		if got := agg.Result(&acc); got != int64(i+1) {
			t.Fatalf("got %d, want %d", got, i+1)
		}
	}
}

// TestDistinctDependsOnTheSetAlone compares estimates of equal sets that came
// about in different ways, around the sizes where the form changes.
func TestDistinctDependsOnTheSetAlone(t *testing.T) {
	agg := HLLHash(10, func(i uint64) uint64 { return i })
	r := rand.New(rand.NewPCG(15, 2))
	for _, n := range []int{30, 63, 64, 65, 100, 200, 300, 500, 2000} {
		var records []uint64
		for i := range n {
			for range 1 + r.IntN(20) {
				records = append(records, uint64(i))
			}
		}
		once := fold(agg, records)
		want := agg.Result(&once)
		for range 20 {
			r.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
			acc := scattered(r, agg, records)
			if r.IntN(2) == 0 {
				agg.Result(&acc)
			}
			if got := agg.Result(&acc); got != want {
				t.Fatalf("%d values: got %d, want %d", n, got, want)
			}
		}
	}
}

func TestQuantiles(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(7, 2)), 20_000)
	for i := range records {
		switch i % 10 {
		case 0:
			records[i].x = 0
		case 1, 2:
			records[i].x = -records[i].x
		}
	}
	qs := []float64{0.99, 0, 0.5, 0.1, 0.05, 1, 0.25}
	for _, accuracy := range []float64{0.1, DefaultAccuracy, 0.001} {
		checkAggregation(t, QuantilesWithin(accuracy, sample.X, qs...), records, func(got []float64, of []sample) error {
			xs := sampleValues(of)
			slices.Sort(xs)
			for i, q := range qs {
				rank := q * float64(len(xs)-1)
				low, high := xs[int(rank)], xs[int(math.Ceil(rank))]
				near := func(want float64) bool { return math.Abs(got[i]-want) <= accuracy*math.Abs(want)*(1+1e-9) }
				if !near(low) && !near(high) {
					return fmt.Errorf("accuracy %v: quantile %v of %d is %v, want %v or %v", accuracy, q, len(xs), got[i], low, high)
				}
			}
			return nil
		})
	}
}

func TestQuantilesOfOddNumbers(t *testing.T) {
	agg := Quantiles(func(x float64) float64 { return x }, 0, 1)
	acc := fold(agg, []float64{math.Inf(1), 3, math.Inf(-1)})
	if got := agg.Result(&acc); got[0] > -1e300 || got[1] < 1e300 || math.IsInf(got[0], 0) || math.IsInf(got[1], 0) {
		t.Errorf("of infinities: got %v, want huge and finite", got)
	}
	nan := fold(agg, []float64{math.NaN()})
	agg.Merge(&acc, &nan)
	if got := agg.Result(&acc); got[0] == got[0] || got[1] == got[1] {
		t.Errorf("with a NaN: got %v, want NaN", got)
	}
	empty := agg.empty()
	if got := agg.Result(&empty); got[0] == got[0] {
		t.Errorf("of nothing: got %v, want NaN", got)
	}
}

func TestHeavyHitters(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(8, 2)), 30_000)
	for _, k := range []int{1, 5, 50} {
		checkAggregation(t, HeavyHitters(k, sample.Item), records, func(got []Hitter, of []sample) error {
			return checkHitters(got, of, k)
		})
	}
}

// checkHitters checks the documented bounds.
func checkHitters(got []Hitter, of []sample, k int) error {
	counts, bound := itemCounts(of), int64(len(of)/(countersPerHitter*k))
	if len(got) != min(k, len(counts)) {
		return fmt.Errorf("got %d hitters, want %d of %d items", len(got), k, len(counts))
	}
	for _, h := range got {
		truth := counts[h.Item]
		if truth > h.Count || truth < h.Count-h.MaxError || h.MaxError > bound {
			return fmt.Errorf("k=%d: %+v, truth %d, error bound %d", k, h, truth, bound)
		}
	}
	if !slices.IsSortedFunc(got, func(a, b Hitter) int { return cmp.Compare(b.Count, a.Count) }) {
		return fmt.Errorf("not in order: %v", got)
	}
	// An item that is missing cannot be more frequent than the last by more
	// than the bound.
	reported := map[string]bool{}
	for _, h := range got {
		reported[h.Item] = true
	}
	for item, count := range counts {
		if !reported[item] && count > got[len(got)-1].Count {
			return fmt.Errorf("k=%d: %s is missing with %d, the last has %+v", k, item, count, got[len(got)-1])
		}
	}
	if len(counts) <= countersPerHitter*k {
		for _, h := range got {
			if h.MaxError != 0 {
				return fmt.Errorf("k=%d: %d items fit, yet %+v", k, len(counts), h)
			}
		}
	}
	return nil
}

// TestHitterHeap checks the structure itself under random use.
func TestHitterHeap(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	const size = 8
	accs := []*HitterSketch{{}, {}, {}}
	for range 20_000 {
		s := accs[r.IntN(len(accs))]
		if r.IntN(50) == 0 {
			s.merge(accs[r.IntN(len(accs))], size)
			if r.IntN(3) == 0 {
				*s = HitterSketch{}
			}
		} else {
			s.add(fmt.Sprint(r.IntN(30)), size)
		}
		if len(s.index) != len(s.counters) || len(s.counters) > size {
			t.Fatalf("%d counters, %d in the index", len(s.counters), len(s.index))
		}
		for i, h := range s.counters {
			if s.index[h.Item] != i || i > 0 && s.counters[(i-1)/2].Count > h.Count {
				t.Fatalf("out of order at %d: %+v", i, s.counters)
			}
		}
	}
}

func TestCollect(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(10, 2)), 500)
	checkAggregation(t, Collect[sample](), records, exactly(func(of []sample) []sample { return of }))
	checkAggregation(t, CollectN[sample](7), records, exactly(func(of []sample) []sample { return of[:min(7, len(of))] }))
}

func TestTop(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(11, 2)), 2000)
	for i := range records {
		records[i].x = math.Floor(records[i].x) // ties
		if i%100 == 0 {
			records[i].x = math.NaN()
		}
	}
	for _, n := range []int{1, 10, 5000} {
		naive := func(order func(a, b sample) int) func([]sample) string {
			return func(of []sample) string {
				all := slices.Clone(of)
				slices.SortStableFunc(all, order)
				return fmt.Sprint(all[:min(n, len(all))])
			}
		}
		byScore := func(a, b sample) int { return cmp.Compare(b.x, a.x) }
		inFull := func(a, b sample) int { return cmp.Or(cmp.Compare(a.item, b.item), cmp.Compare(b.seq, a.seq)) }
		// As text, since NaN equals nothing.
		checkAggregation(t, asText(Top(n, sample.X)), records, exactly(naive(byScore)))
		checkAggregation(t, asText(TopFunc(n, inFull)), records, exactly(naive(inFull)))
	}
}

func asText[T, A, R any](a Aggregation[T, A, R]) Aggregation[T, A, string] {
	return Aggregation[T, A, string]{
		New: a.New, Add: a.Add, Merge: a.Merge, Err: a.Err,
		Result: func(acc *A) string { return fmt.Sprint(a.Result(acc)) },
	}
}

func TestTopCounts(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(12, 2)), 5000)
	checkAggregation(t, TopCounts(10, sample.Item), records, exactly(func(of []sample) []ItemCount[string] {
		var all []ItemCount[string]
		for item, n := range itemCounts(of) {
			all = append(all, ItemCount[string]{item, n})
		}
		slices.SortFunc(all, func(a, b ItemCount[string]) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Item, b.Item))
		})
		return all[:min(10, len(all))]
	}))
}

func TestCombine(t *testing.T) {
	records := samples(rand.New(rand.NewPCG(13, 2)), 2000)
	count, sum, collect, highest := Count[sample](), Sum(sample.Seq), CollectN[sample](3), Max(sample.X)
	two := Combine2(count, collect, func(n int64, first []sample) string { return fmt.Sprint(n, first) })
	checkAggregation(t, two, records, exactly(func(of []sample) string {
		return fmt.Sprint(len(of), of[:min(3, len(of))])
	}))
	three := Combine3(count, sum, collect, func(n int64, sum int, first []sample) string { return fmt.Sprint(n, sum, first) })
	checkAggregation(t, three, records, exactly(func(of []sample) string {
		return fmt.Sprint(len(of), len(of)*(len(of)-1)/2, of[:min(3, len(of))])
	}))
	four := Combine4(count, sum, collect, highest, func(n int64, sum int, first []sample, high float64) string {
		return fmt.Sprint(n, sum, first, high)
	})
	checkAggregation(t, four, records, exactly(func(of []sample) string {
		return fmt.Sprint(len(of), len(of)*(len(of)-1)/2, of[:min(3, len(of))], slices.Max(sampleValues(of)))
	}))
	topOfCombined := Combine2(four, Distinct(sample.Item), func(a string, n int64) string { return a })
	if err := topOfCombined.check(true); err != nil {
		t.Error(err)
	}
}

func TestCombineKeepsMistakesAndWhatCannotMerge(t *testing.T) {
	count := Count[sample]()
	unmergeable := Aggregation[sample, int, int]{Add: func(*int, sample) {}, Result: func(*int) int { return 0 }}
	if Combine2(count, unmergeable, func(int64, int) int { return 0 }).Merge != nil ||
		Combine3(unmergeable, count, count, func(int, int64, int64) int { return 0 }).Merge != nil ||
		Combine4(count, count, unmergeable, count, func(int64, int64, int, int64) int { return 0 }).Merge != nil {
		t.Error("a combination with a part that cannot be merged has a Merge")
	}
	wrong := Combine2(CollectN[sample](0), Top(0, sample.X), func(a, b []sample) int { return 0 })
	for _, want := range []string{"CollectN: n is 0", "Top: n is 0"} {
		if wrong.Err == nil || !strings.Contains(wrong.Err.Error(), want) {
			t.Errorf("got %v, want %q in it", wrong.Err, want)
		}
	}
}

func TestMistakesOfAggregations(t *testing.T) {
	x := func(float64) float64 { return 0 }
	s := func(float64) string { return "" }
	for want, err := range map[string]error{
		"Sum: the function is nil":                                            Sum[float64, int](nil).Err,
		"Mean: the function is nil":                                           Mean[float64, int](nil).Err,
		"Min: the function is nil":                                            Min[float64, int](nil).Err,
		"MaxBy: the function is nil":                                          MaxBy[float64, int](nil).Err,
		"Distinct: the function is nil":                                       Distinct[float64](nil).Err,
		"HLL: precision is 3, must be between 4 and 18":                       HLL(3, s).Err,
		"HLL: precision is 19, must be between 4 and 18":                      HLL(19, s).Err,
		"HLLHash: the function is nil":                                        HLLHash[float64](14, nil).Err,
		"Quantiles: the function is nil":                                      Quantiles[float64](nil, 0.5).Err,
		"Quantiles: no quantile is asked for":                                 Quantiles(x).Err,
		"Quantiles: quantile 99 is not between 0 and 1":                       Quantiles(x, 0.5, 99).Err,
		"Quantiles: quantile NaN is not between 0 and 1":                      Quantiles(x, math.NaN()).Err,
		"QuantilesWithin: relative accuracy is 1, must be between 0 and 1":    QuantilesWithin(1, x, 0.5).Err,
		"QuantilesWithin: relative accuracy is -0.1, must be between 0 and 1": QuantilesWithin(-0.1, x, 0.5).Err,
		"HeavyHitters: k is 0, must be at least 1":                            HeavyHitters(0, s).Err,
		"HeavyHitters: the function is nil":                                   HeavyHitters[float64](1, nil).Err,
		"CollectN: n is 0, must be at least 1":                                CollectN[float64](0).Err,
		"Top: n is -1, must be at least 1":                                    Top(-1, x).Err,
		"TopFunc: the function is nil":                                        TopFunc[float64](1, nil).Err,
		"TopCounts: n is 0, must be at least 1":                               TopCounts(0, s).Err,
		"Combine2: the function is nil":                                       Combine2[float64, int64, int64, int64, int64, int](Count[float64](), Count[float64](), nil).Err,
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := Sum[float64, int](nil).Err; !errors.Is(err, errNilFunc) {
		t.Error(err)
	}
}

func BenchmarkAggregations(b *testing.B) {
	records := samples(rand.New(rand.NewPCG(14, 2)), 100_000)
	b.Run("count", func(b *testing.B) { benchAdd(b, Count[sample](), records) })
	b.Run("sum=int", func(b *testing.B) { benchAdd(b, Sum(sample.Seq), records) })
	b.Run("sum=float", func(b *testing.B) { benchAdd(b, Sum(sample.X), records) })
	b.Run("mean", func(b *testing.B) { benchAdd(b, Mean(sample.X), records) })
	b.Run("max", func(b *testing.B) { benchAdd(b, Max(sample.X), records) })
	b.Run("distinct=strings", func(b *testing.B) { benchAdd(b, Distinct(sample.Item), records) })
	for _, n := range []int{100, 1000, 2000, 3000} {
		b.Run(fmt.Sprintf("distinct=strings/set=%d", n), func(b *testing.B) {
			benchAdd(b, Distinct(func(s sample) string { return records[s.seq%n].item + records[s.seq%n+7].item }), records)
		})
	}
	b.Run("distinct=hashes", func(b *testing.B) { benchAdd(b, HLLHash(14, sample.ID), records) })
	b.Run("quantiles", func(b *testing.B) { benchAdd(b, Quantiles(sample.X, 0.5), records) })
	b.Run("heavyhitters/k=10", func(b *testing.B) { benchAdd(b, HeavyHitters(10, sample.Item), records) })
	b.Run("top/n=10", func(b *testing.B) { benchAdd(b, Top(10, sample.X), records) })
	b.Run("top/n=1000", func(b *testing.B) { benchAdd(b, Top(1000, sample.X), records) })
	b.Run("topcounts", func(b *testing.B) { benchAdd(b, TopCounts(10, sample.Item), records) })
	b.Run("combine4", func(b *testing.B) {
		benchAdd(b, Combine4(Count[sample](), Sum(sample.Seq), Sum(sample.X), Max(sample.X),
			func(a int64, b int, c, d float64) float64 { return d }), records)
	})
}

func benchAdd[A, R any](b *testing.B, agg Aggregation[sample, A, R], records []sample) {
	b.ReportAllocs()
	acc := agg.empty()
	i := 0
	for b.Loop() {
		agg.Add(&acc, records[i])
		if i++; i == len(records) {
			i = 0
		}
	}
}
