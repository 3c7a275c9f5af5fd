package reference

import (
	"maps"
	"slices"
)

// whole computes the outputs of a graph in which nothing is late: operator
// after operator, each over all of its input at once. It returns nil when one
// becomes too large to be worth the time.
func whole(p *plan) map[stream][]timed {
	all := map[stream][]timed{}
	for _, n := range p.nodes {
		var in [][]timed
		for _, s := range n.in {
			in = append(in, all[s])
		}
		main, side := n.whole(in)
		if len(main) > limit {
			return nil
		}
		all[stream{n.id, false}], all[stream{n.id, true}] = main, side
	}
	return all
}

func (n *node) whole(in [][]timed) (main, side []timed) {
	switch n.kind {
	case opSource:
		return slices.Concat(n.splits...), nil
	case opSink:
		return in[0], nil
	case opUnion, opMap, opDeal:
		for _, t := range slices.Concat(in...) {
			main = append(main, timed{n.mapped(t.rec), t.Time})
		}
	case opCopy:
		for _, t := range in[0] {
			for range n.par {
				main = append(main, timed{n.mapped(t.rec), t.Time})
			}
		}
	case opFilter:
		for _, t := range in[0] {
			if n.kept(t.rec) {
				main = append(main, t)
			}
		}
	case opFlatMap:
		for _, t := range in[0] {
			for _, c := range n.copies(t.rec) {
				main = append(main, timed{c, t.Time})
			}
		}
	case opDelay:
		for _, t := range in[0] {
			main = append(main, timed{t.rec, t.Time + n.span})
		}
	case opDivide:
		for _, t := range in[0] {
			if n.aside(t.rec) {
				side = append(side, t)
			} else {
				main = append(main, t)
			}
		}
	case opCancel:
		return n.wholeCancel(in[0]), nil
	case opDedupe:
		// Duplicates are equal in all and so is their time: whichever comes first
		// is let through.
		seen := map[rec]bool{}
		for _, t := range in[0] {
			r := n.stamped(t)
			if seen[r] {
				side = append(side, timed{r, t.Time})
			} else {
				main = append(main, timed{r, t.Time})
			}
			seen[r] = true
		}
	case opJoin:
		for _, l := range in[0] {
			for _, r := range in[1] {
				if p, ok := n.pair(l, r); ok && n.key(l.rec) == n.key(r.rec) {
					main = append(main, p)
				}
			}
		}
	default:
		return n.wholeWindows(in[0]), nil
	}
	return main, side
}

func (n *node) wholeCancel(in []timed) (out []timed) {
	for _, t := range in {
		cancelled := n.aside(t.rec)
		for _, c := range in {
			if n.aside(c.rec) && n.key(c.rec) == n.key(t.rec) && t.Time <= c.Time && c.Time <= t.Time+n.span {
				cancelled = true
			}
		}
		if !cancelled {
			out = append(out, timed{n.mapped(t.rec), t.Time + n.span})
		}
	}
	return out
}

// wholeWindows groups all records by key and window.
func (n *node) wholeWindows(in []timed) (out []timed) {
	type group struct {
		key int
		span
	}
	groups := map[group][]rec{}
	add := func(t timed, of []span) {
		for _, s := range of {
			g := group{n.key(t.rec), s}
			groups[g] = append(groups[g], t.rec)
		}
	}
	switch {
	case n.kind == opBuckets:
		for _, t := range in {
			add(t, windowSpec{kind: winTumbling, size: n.span}.spans(t.Time))
		}
	case n.kind == opRollup:
		for _, t := range in {
			add(t, windowSpec{kind: winTumbling, size: n.win.size}.spans(t.Time))
			add(t, windowSpec{kind: winTumbling, size: n.win.step}.spans(t.Time))
		}
	case n.win.kind == winSession:
		for t, s := range n.wholeSessions(in) {
			add(t.timed, []span{s})
		}
	default:
		for _, t := range in {
			add(t, n.win.spans(t.Time))
		}
	}
	for g, records := range groups {
		pane, s := "on time #0", n.summarize(records)
		if n.lateness == 0 {
			pane += " final"
		}
		if n.kind == opBuckets {
			pane, s = "bucket", summed(records)
		}
		out = append(out, timed{resultRec(g.key, g.start, g.end, s, pane), g.end - 1})
	}
	return out
}

// numbered tells equal records apart.
type numbered struct {
	timed
	i int
}

// wholeSessions returns the session of each record: it sorts the records of a
// key by time, and cuts where the gap is exceeded.
func (n *node) wholeSessions(in []timed) map[numbered]span {
	byKey := map[int][]numbered{}
	for i, t := range in {
		k := n.key(t.rec)
		byKey[k] = append(byKey[k], numbered{t, i})
	}
	sessions := map[numbered]span{}
	for all := range maps.Values(byKey) {
		slices.SortFunc(all, func(a, b numbered) int { return int(a.Time - b.Time) })
		for from := 0; from < len(all); {
			to := from + 1
			for to < len(all) && all[to].Time-all[to-1].Time <= n.win.size {
				to++
			}
			for _, t := range all[from:to] {
				sessions[t] = span{all[from].Time, all[to-1].Time + n.win.size + 1}
			}
			from = to
		}
	}
	return sessions
}
