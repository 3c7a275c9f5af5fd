package reference

import (
	"cmp"
	"math"
	"slices"
)

// What the operators do to a record is the same for the engine and for the
// reference: it is not what is tested.

func (n *node) hash(r rec) uint64 { return mix(r.ID ^ n.salt) }

// key returns the key of a record at a keyed operator, below n.keys.
func (n *node) key(r rec) int { return (r.Key + int(n.salt%13)) % n.keys }

func (n *node) mapped(r rec) rec {
	r.ID = n.hash(r)
	r.Key = (r.Key*5 + 3 + int(n.salt%7)) % 12
	r.Sum = (r.Sum*3 + 7) % 1000
	return r
}

func (n *node) kept(r rec) bool { return n.hash(r)%4 != 0 }

func (n *node) aside(r rec) bool { return n.hash(r)%3 == 0 }

// copies returns up to two records for one.
func (n *node) copies(r rec) []rec {
	var all []rec
	for i := range n.hash(r) % 3 {
		c := r
		c.ID = n.hash(r) + i
		all = append(all, c)
	}
	return all
}

// stamped gives a record an ID that tells it from the same record at another
// time.
func (n *node) stamped(t timed) rec {
	t.ID = mix(mix(t.ID) + uint64(t.Time))
	return t.rec
}

// pair returns what a join makes of two records, if it joins them.
func (n *node) pair(l, r timed) (timed, bool) {
	if l.Time-r.Time > n.span || r.Time-l.Time > n.span {
		return timed{}, false
	}
	return timed{rec{ID: mix(n.hash(l.rec) + 2*mix(r.ID)), Key: l.Key, N: l.N + r.N, Sum: (l.Sum + r.Sum) % 1000}, max(l.Time, r.Time)}, true
}

// summary is the result of every aggregation.
type summary struct {
	N, Sum int64
	FP     uint64
}

// summed summarizes records whatever their order.
func summed(all []rec) (s summary) {
	for _, r := range all {
		s = summary{s.N + 1, s.Sum + r.Sum, s.FP + mix(r.ID)}
	}
	return s
}

// chained summarizes records in their order.
func chained(all []rec) (s summary) {
	for _, r := range all {
		s = summary{s.N + 1, s.Sum + r.Sum, mix(s.FP + r.ID)}
	}
	return s
}

// byRank orders records by Sum, highest first.
func byRank(a, b rec) int { return cmp.Or(cmp.Compare(b.Sum, a.Sum), cmp.Compare(a.ID, b.ID)) }

// reduced folds two records into one, in whatever order.
func reduced(a, b rec) rec {
	return rec{ID: a.ID + b.ID, Key: min(a.Key, b.Key), N: a.N + b.N, Sum: a.Sum + b.Sum,
		Start: min(a.Start, b.Start), End: max(a.End, b.End), Pane: max(a.Pane, b.Pane)}
}

// summaryOf turns a reduced record into a summary.
func summaryOf(r rec) summary { return summary{r.N, r.Sum, mix(r.ID) + uint64(r.Key)} }

// resultRec makes a record of a window's result.
func resultRec(key int, start, end int64, s summary, pane string) rec {
	id := s.FP
	for _, part := range []uint64{uint64(key), uint64(start), uint64(end), uint64(s.N)} {
		id = mix(id ^ part)
	}
	for _, c := range pane {
		id = mix(id ^ uint64(c))
	}
	return rec{ID: id, Key: key, N: s.N, Sum: s.Sum % 1000, Start: start, End: end, Pane: pane}
}

// floor returns the largest multiple of size, moved by offset, up to ts.
func floor(ts, size, offset int64) int64 {
	start := (ts-offset)/size*size + offset
	if start > ts {
		start -= size
	}
	return start
}

// span is a window of the reference.
type span struct{ start, end int64 }

// spans returns the windows of an event time, except those of sessions.
func (w windowSpec) spans(ts int64) []span {
	var all []span
	switch w.kind {
	case winTumbling:
		start := floor(ts, w.size, w.offset)
		all = append(all, span{start, start + w.size})
	case winSliding:
		for start := floor(ts, w.step, w.offset); start+w.size > ts; start -= w.step {
			all = append(all, span{start, start + w.size})
		}
		slices.Reverse(all)
	case winCumulative:
		start := floor(ts, w.size, w.offset)
		for end := start + w.step; end <= start+w.size; end += w.step {
			if ts < end {
				all = append(all, span{start, end})
			}
		}
	case winGlobal:
		all = append(all, span{math.MinInt64, math.MaxInt64})
	}
	return all
}

// summarize is the aggregation of a node over the records of a window.
func (n *node) summarize(all []rec) summary {
	switch {
	case n.kind == opReduce:
		if len(all) == 0 {
			return summaryOf(rec{})
		}
		r := all[0]
		for _, v := range all[1:] {
			r = reduced(r, v)
		}
		return summaryOf(r)
	case n.agg == aggCombined:
		s := summed(all)
		if len(all) == 0 {
			s.FP = mix(mix(0))
			return s
		}
		byID := func(a, b rec) int { return cmp.Compare(a.ID, b.ID) }
		s.FP = mix(slices.MinFunc(all, byID).ID ^ mix(slices.MaxFunc(all, byID).ID))
		return s
	case n.agg == aggTop:
		ranked := slices.SortedFunc(slices.Values(all), byRank)
		return chained(ranked[:min(3, len(ranked))])
	default:
		return summed(all)
	}
}
