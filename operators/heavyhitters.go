package operators

import (
	"cmp"
	"slices"
)

// HeavyHitters finds the k items that f returns most often, in memory that
// does not grow with the number of different items.
//
//	pages := operators.HeavyHitters(20, Hit.Page)
//
// It keeps 10·k counters. With n records, no count is below the truth, none is
// above it by more than its MaxError, and no MaxError is above n/(10·k): so
// every item that makes up more than a 10·k-th of the records is counted, and
// the counts tell two items apart whose shares differ by as much. Where there
// are no more than 10·k different items, counts are exact. Merging keeps these
// bounds. Items whose counts are close may change places with the order of the
// records; [TopCounts] counts exactly, and pays for every item.
func HeavyHitters[T any](k int, f func(T) string) Aggregation[T, HitterSketch, []Hitter] {
	size := countersPerHitter * max(k, 1)
	err := nilFunc("HeavyHitters", f == nil)
	if err == nil {
		err = atLeastOne("HeavyHitters", "k", k)
	}
	return Aggregation[T, HitterSketch, []Hitter]{
		Add:    func(acc *HitterSketch, v T) { acc.add(f(v), size) },
		Merge:  func(acc, other *HitterSketch) { acc.merge(other, size) },
		Result: func(acc *HitterSketch) []Hitter { return acc.top(k) },
		Codec:  hitterCodec{size},
		Err:    err,
	}
}

const countersPerHitter = 10

// Hitter is an item and how often it occurred: at least Count-MaxError and at
// most Count times.
type Hitter struct {
	Item            string
	Count, MaxError int64
}

// HitterSketch is the accumulator of [HeavyHitters]: a Space-Saving summary
// (Metwally, Agrawal and El Abbadi: Efficient Computation of Frequent and Top-k
// Elements in Data Streams, 2005).
//
// While there is room every item has its counter. After that a new item takes
// over the lowest counter, with its count as the error. An item without a
// counter has occurred at most as often as the lowest counter says; and since
// the counters together count each record once, the lowest of m is at most
// n/m.
type HitterSketch struct {
	counters []Hitter       // a heap, the lowest count first
	index    map[string]int // where an item's counter is
}

func (s *HitterSketch) add(item string, size int) {
	i, known := s.index[item]
	switch {
	case known:
		s.counters[i].Count++
	case len(s.counters) < size:
		s.insert(Hitter{Item: item, Count: 1})
		return
	default:
		lowest := &s.counters[0]
		delete(s.index, lowest.Item)
		s.index[item] = 0
		*lowest = Hitter{Item: item, Count: lowest.Count + 1, MaxError: lowest.Count}
	}
	s.down(i)
}

// insert adds a counter for a new item.
func (s *HitterSketch) insert(h Hitter) {
	if s.index == nil {
		s.index = make(map[string]int)
	}
	i := len(s.counters)
	s.counters = append(s.counters, h)
	s.index[h.Item] = i
	for i > 0 && s.counters[i].Count < s.counters[(i-1)/2].Count {
		s.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

// down restores the heap below a counter that has grown.
func (s *HitterSketch) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(s.counters) {
			return
		}
		if right := child + 1; right < len(s.counters) && s.counters[right].Count < s.counters[child].Count {
			child = right
		}
		if s.counters[i].Count <= s.counters[child].Count {
			return
		}
		s.swap(i, child)
		i = child
	}
}

func (s *HitterSketch) swap(i, j int) {
	s.counters[i], s.counters[j] = s.counters[j], s.counters[i]
	s.index[s.counters[i].Item] = i
	s.index[s.counters[j].Item] = j
}

// unseen is how often an item without a counter may have occurred.
func (s *HitterSketch) unseen(size int) int64 {
	if len(s.counters) < size {
		return 0
	}
	return s.counters[0].Count
}

// merge adds up the two summaries' counters, where an item that one of them
// does not count may have occurred as often there as its lowest counter says,
// and keeps the highest.
//
// The bound holds after it (Agarwal et al.: Mergeable Summaries, 2012; in this
// form Cafaro, Pulimeno and Tempesta: A Parallel Space Saving Algorithm for
// Frequent Items, 2016). Take the lowest count off every counter of a summary:
// what is left sums to at most n minus size times that lowest count. Adding two
// summaries adds what is left, the k highest of which sum to no more than all.
// So the counts that are kept, which have both lowest counts on top again, sum
// to no more than the records of both, as they do in a summary that was never
// merged, and the lowest of them is no more than the size-th part.
func (s *HitterSketch) merge(other *HitterSketch, size int) {
	here, there := s.unseen(size), other.unseen(size)
	all := make([]Hitter, 0, len(s.counters)+len(other.counters))
	for _, h := range s.counters {
		if i, ok := other.index[h.Item]; ok {
			h.Count, h.MaxError = h.Count+other.counters[i].Count, h.MaxError+other.counters[i].MaxError
		} else {
			h.Count, h.MaxError = h.Count+there, h.MaxError+there
		}
		all = append(all, h)
	}
	for _, h := range other.counters {
		if _, ok := s.index[h.Item]; !ok {
			h.Count, h.MaxError = h.Count+here, h.MaxError+here
			all = append(all, h)
		}
	}
	sortHitters(all)
	s.counters = s.counters[:0]
	clear(s.index)
	for _, h := range all[:min(size, len(all))] {
		s.insert(h)
	}
}

func (s *HitterSketch) top(k int) []Hitter {
	all := slices.Clone(s.counters)
	sortHitters(all)
	return slices.Clip(all[:min(k, len(all))])
}

// sortHitters puts the highest count first, and among equals the most certain.
func sortHitters(all []Hitter) {
	slices.SortFunc(all, func(a, b Hitter) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.MaxError, b.MaxError), cmp.Compare(a.Item, b.Item))
	})
}
