package reference

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// steps computes the outputs of a graph with late records: one split, no
// operator with two inputs. It hands each record through the whole graph, and
// after it the watermark that it makes.
func steps(p *plan) map[stream][]timed {
	s := &stepper{plan: p, out: map[stream][]timed{}, windows: map[*node][]*stepWindow{}, created: map[*node]int{}, passed: map[*node][]timed{}}
	newest := int64(math.MinInt64)
	s.watermark = math.MinInt64
	src := p.nodes[0]
	for _, t := range src.splits[0] {
		s.emit(stream{0, false}, t)
		if t.Time > newest {
			newest = t.Time
			s.advance(src, newest-p.delay-1)
		}
		s.watermark = newest - p.delay - 1
	}
	s.advance(src, math.MaxInt64)
	return s.out
}

// duplicate says whether a record's id has been let through not too far away,
// by a record that is still needed.
func (s *stepper) duplicate(n *node, t timed) bool {
	for _, o := range s.passed[n] {
		near := t.Time-o.Time <= n.span && o.Time-t.Time <= n.span
		if near && n.key(o.rec) == n.key(t.rec) && o.Time+n.span+n.lateness > s.watermark {
			return true
		}
	}
	s.passed[n] = append(s.passed[n], t)
	return false
}

type stepper struct {
	*plan
	out       map[stream][]timed
	windows   map[*node][]*stepWindow
	created   map[*node]int
	passed    map[*node][]timed // by a dedupe
	watermark int64             // of operators that the current one has not reached
}

// stepWindow is a live window of a key: a list of records.
type stepWindow struct {
	key         int
	span        span
	records     []rec // what the next pane holds
	fresh       int64 // how many of them no pane has held
	panes       int
	ended       bool
	born        int // counts the windows of an operator, for the identity of sessions
	granularity int64
}

// emit records an output and hands it to all readers.
func (s *stepper) emit(from stream, t timed) {
	s.out[from] = append(s.out[from], t)
	for _, n := range s.nodes {
		if len(n.in) > 0 && n.in[0] == from {
			s.record(n, t)
		}
	}
}

func (s *stepper) record(n *node, t timed) {
	main, side := stream{n.id, false}, stream{n.id, true}
	switch {
	case n.kind == opSink:
		s.out[main] = append(s.out[main], t)
	case n.kind == opBuckets && t.Time <= s.watermark:
		s.emit(side, t)
	case n.kind == opDedupe:
		s.emit(stream{n.id, s.duplicate(n, t)}, t)
	case n.kind == opBuckets || n.windowed():
		s.window(n, t)
	default:
		one, other := n.whole([][]timed{{t}})
		for _, r := range one {
			s.emit(main, r)
		}
		for _, r := range other {
			s.emit(side, r)
		}
	}
}

// advance moves the watermark of an operator and then of those behind it.
func (s *stepper) advance(n *node, watermark int64) {
	s.fire(n, watermark)
	for _, next := range s.nodes {
		if len(next.in) > 0 && next.in[0].node == n.id {
			s.advance(next, watermark)
		}
	}
}

// fire ends and cleans up the windows that a watermark completes, in order of
// time.
func (s *stepper) fire(n *node, watermark int64) {
	for {
		var next *stepWindow
		at := int64(math.MaxInt64)
		for _, w := range s.windows[n] {
			if due := w.due(n); due <= watermark && (next == nil || due < at) {
				next, at = w, due
			}
		}
		if next == nil {
			return
		}
		if !next.ended {
			next.ended = true
			if next.fresh > 0 || next.panes > 0 && !n.trigger.discarding {
				s.pane(n, next, "on time", n.lateness == 0)
			}
		}
		if cleanup(n, next.span) <= at {
			if next.fresh > 0 {
				s.pane(n, next, "late", true)
			}
			s.windows[n] = slices.DeleteFunc(s.windows[n], func(w *stepWindow) bool { return w == next })
		}
	}
}

func (w *stepWindow) due(n *node) int64 {
	if w.ended {
		return cleanup(n, w.span)
	}
	return w.span.end - 1
}

func cleanup(n *node, w span) int64 {
	if w.end-1 > math.MaxInt64-n.lateness {
		return math.MaxInt64
	}
	return w.end - 1 + n.lateness
}

func (s *stepper) pane(n *node, w *stepWindow, timing string, final bool) {
	pane := fmt.Sprintf("%s #%d", timing, w.panes)
	if final {
		pane += " final"
	}
	sum := n.summarize(w.records)
	if n.kind == opBuckets {
		pane, sum = "bucket", summed(w.records)
	}
	w.panes++
	w.fresh = 0
	if n.trigger.discarding {
		w.records = nil
	}
	s.emit(stream{n.id, false}, timed{resultRec(w.key, w.span.start, w.span.end, sum, pane), w.span.end - 1})
}

// window adds a record to each of its windows that takes it.
func (s *stepper) window(n *node, t timed) {
	refused := true
	if n.kind != opBuckets && n.win.kind == winSession {
		refused = !s.session(n, t)
	} else {
		for _, g := range n.grids() {
			for _, sp := range g.spans(t.Time) {
				if cleanup(n, sp) > s.watermark {
					refused = false
					s.add(n, s.find(n, n.key(t.rec), sp, g.size), t)
				}
			}
		}
	}
	if refused {
		s.emit(stream{n.id, true}, t)
	}
}

// grids returns the assigners of an operator: a rollup has two.
func (n *node) grids() []windowSpec {
	switch n.kind {
	case opBuckets:
		return []windowSpec{{kind: winTumbling, size: n.span}}
	case opRollup:
		return []windowSpec{{kind: winTumbling, size: n.win.size}, {kind: winTumbling, size: n.win.step}}
	}
	return []windowSpec{n.win}
}

func (s *stepper) find(n *node, key int, sp span, granularity int64) *stepWindow {
	for _, w := range s.windows[n] {
		if w.key == key && w.span == sp && w.granularity == granularity {
			return w
		}
	}
	s.created[n]++
	w := &stepWindow{key: key, span: sp, born: s.created[n], granularity: granularity}
	s.windows[n] = append(s.windows[n], w)
	return w
}

// add takes a record into a window, and gives the early or late pane it makes
// due.
func (s *stepper) add(n *node, w *stepWindow, t timed) {
	w.records = append(w.records, t.rec)
	w.fresh++
	late := w.span.end-1 <= s.watermark
	w.ended = w.ended || late
	count := max(n.trigger.lateCount, 1)
	if n.trigger.lateAtCleanup {
		count = math.MaxInt64
	}
	switch {
	case w.ended && w.fresh >= count:
		s.pane(n, w, "late", false)
	case !w.ended && n.trigger.earlyCount > 0 && w.fresh >= n.trigger.earlyCount:
		s.pane(n, w, "early", false)
	}
}

// session adds a record to the session it belongs to, merged of all that it
// touches, and says whether that one takes it.
func (s *stepper) session(n *node, t timed) bool {
	bounds := span{t.Time, t.Time + n.win.size + 1}
	var parts, others []*stepWindow
	for _, w := range s.windows[n] {
		if w.key == n.key(t.rec) && w.span.start < bounds.end && bounds.start < w.span.end {
			parts = append(parts, w)
		} else {
			others = append(others, w)
		}
	}
	merged := bounds
	for _, w := range parts {
		merged = span{min(merged.start, w.span.start), max(merged.end, w.span.end)}
	}
	if cleanup(n, merged) <= s.watermark {
		return false
	}
	if len(parts) == 1 && parts[0].span == merged {
		s.add(n, parts[0], t)
		return true
	}
	// The bounds are new, and so is the window; the oldest comes first.
	slices.SortFunc(parts, func(a, b *stepWindow) int { return cmp.Compare(a.born, b.born) })
	w := &stepWindow{key: n.key(t.rec), span: merged, granularity: n.win.size}
	inOrder := slices.SortedFunc(slices.Values(parts), func(a, b *stepWindow) int { return cmp.Compare(a.span.start, b.span.start) })
	for _, p := range inOrder {
		w.records = append(w.records, p.records...)
		w.fresh += p.fresh
	}
	var keep *stepWindow
	if len(parts) > 0 {
		keep = parts[0]
		w.born = keep.born
	} else {
		s.created[n]++
		w.born = s.created[n]
	}
	gone := []*stepWindow{}
	if keep != nil && keep.span != merged {
		gone = append(gone, keep)
	}
	for _, p := range inOrder {
		if p != keep {
			gone = append(gone, p)
		}
	}
	if keep != nil && keep.span == merged {
		w.panes, w.ended = keep.panes, keep.ended
	}
	s.windows[n] = append(others, w)
	for _, p := range gone {
		if p.panes > 0 && !n.trigger.discarding {
			timing := "early"
			if p.ended {
				timing = "late"
			}
			r := resultRec(p.key, p.span.start, p.span.end, summary{}, fmt.Sprintf("%s #%d final tombstone", timing, p.panes))
			s.emit(stream{n.id, false}, timed{r, p.span.end - 1})
		}
	}
	s.add(n, w, t)
	return true
}
