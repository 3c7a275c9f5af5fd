package reference

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// rec is the one record type of all graphs.
type rec struct {
	ID         uint64 // of a source record, or a fingerprint of what it was made of
	Key        int
	N, Sum     int64
	Start, End int64  // of the window it is a result of
	Pane       string // of the result
}

// timed is a record with its event time.
type timed struct {
	rec
	Time int64
}

func (t timed) String() string {
	return fmt.Sprintf("{id %016x key %d n %d sum %d [%d,%d) %s} @%d", t.ID, t.Key, t.N, t.Sum, t.Start, t.End, t.Pane, t.Time)
}

// mix is a hash of one number (SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// plan is a graph as plain data.
type plan struct {
	seed  uint64
	late  bool // of the second family
	nodes []*node
	sinks []*node

	batch, capacity, maxParallelism int
	linger, interval                time.Duration
	delay                           int64 // the disorder that watermarks allow
	drift                           time.Duration
}

type opKind int

const (
	opSource opKind = iota
	opMap
	opFilter
	opFlatMap
	opDelay   // gives records a later event time
	opDivide  // some records to a side output
	opUnion   // of its inputs
	opDeal    // rebalance, then a map
	opCopy    // broadcast, then a map
	opBuckets // keyed state and timers: counts by tumbling windows, by hand
	opCancel  // keyed state and timers: deletes timers
	opJoin    // connect of two keyed inputs
	opAggregate
	opReduce
	opRollup
	opDedupe
	opSink
)

var opNames = [...]string{"source", "map", "filter", "flatmap", "delay", "divide", "union", "deal", "copy",
	"buckets", "cancel", "join", "aggregate", "reduce", "rollup", "dedupe", "sink"}

func (k opKind) String() string { return opNames[k] }

// node is an operator.
type node struct {
	id   int
	kind opKind
	in   []stream
	par  int
	salt uint64 // makes its functions differ from those of others
	keys int    // how many keys its input is divided by
	typ  int    // which type those keys have
	span int64  // a time: of the delay, the bucket, the join

	win      windowSpec
	agg      aggKind
	lateness int64
	trigger  triggerSpec
	toPar    int // parallelism of the map behind a window

	splits [][]timed // of a source
	finish bool      // the reader finishes splits one by one
	memory bool      // the source is that of package memory

	// What the generator knows of the output.
	consumed [2]bool
	eternal  bool // carries the end of time, which only few operators can add to
	shuffled bool // crossed an exchange of several subtasks (second family)
	fired    bool // results of windows, in no certain order (second family)
	ragged   bool // late panes in bulk, whose lateness depends on watermarks sent
}

// stream is an output of a node: the main one, or its side output.
type stream struct {
	node int
	side bool
}

func (s stream) index() int {
	if s.side {
		return 1
	}
	return 0
}

type windowKind int

const (
	winTumbling windowKind = iota
	winSliding
	winCumulative
	winSession
	winGlobal
)

// windowSpec is a window assigner; size is the gap of sessions and the maximum
// of cumulative windows.
type windowSpec struct {
	kind               windowKind
	size, step, offset int64
}

type aggKind int

const (
	aggFingerprint aggKind = iota
	aggUnmergeable
	aggCombined
	aggTop
	aggCollect
)

type triggerSpec struct {
	earlyCount, lateCount int64
	lateAtCleanup         bool
	discarding            bool
}

func (n *node) hasSide() bool {
	switch n.kind {
	case opDivide, opBuckets, opAggregate, opReduce, opRollup, opDedupe:
		return true
	}
	return false
}

func (n *node) keyed() bool {
	switch n.kind {
	case opBuckets, opCancel, opJoin, opAggregate, opReduce, opRollup, opDedupe:
		return true
	}
	return false
}

func (n *node) windowed() bool {
	return n.kind == opAggregate || n.kind == opReduce || n.kind == opRollup
}

// name is the operator's name in the graph.
func (n *node) name() string { return fmt.Sprintf("%s-%d", n.kind, n.id) }

func (n *node) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s", n.name())
	for _, s := range n.in {
		fmt.Fprintf(&b, " <-%d", s.node)
		if s.side {
			b.WriteString("[side]")
		}
	}
	fmt.Fprintf(&b, " par %d", n.par)
	if n.keyed() {
		fmt.Fprintf(&b, " keys %d type %d", n.keys, n.typ)
	}
	if n.span != 0 {
		fmt.Fprintf(&b, " span %d", n.span)
	}
	if n.windowed() {
		fmt.Fprintf(&b, " window %+v agg %d lateness %d trigger %+v", n.win, n.agg, n.lateness, n.trigger)
	}
	for i, s := range n.splits {
		fmt.Fprintf(&b, " split %d: %d records", i, len(s))
	}
	return b.String()
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "batch %d capacity %d linger %v interval %v delay %d drift %v max parallelism %d\n",
		p.batch, p.capacity, p.linger, p.interval, p.delay, p.drift, p.maxParallelism)
	for _, n := range p.nodes {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

// draw makes the plan of a seed.
func draw(seed uint64, late bool) *plan {
	d := &drawer{rand.New(rand.NewPCG(seed, 20)), &plan{seed: seed, late: late}}
	d.settings()
	d.sources()
	for range 2 + d.IntN(8) {
		d.operator()
	}
	d.sinks()
	return d.plan
}

type drawer struct {
	*rand.Rand
	*plan
}

func (d *drawer) settings() {
	d.batch = pick(d, 1, 2, 3, 7, 16, 64, 512)
	d.capacity = 1 + d.IntN(4)
	d.maxParallelism = pick(d, 4, 7, 128)
	d.linger = pick(d, 0, 100*time.Microsecond, 5*time.Millisecond)
	d.interval = pick(d, 0, time.Millisecond, 50*time.Millisecond)
	d.delay = int64(d.IntN(200))
	if !d.late && d.IntN(4) == 0 {
		d.drift = time.Duration(1+d.IntN(500)) * time.Millisecond
	}
}

func pick[T any](d *drawer, from ...T) T { return from[d.IntN(len(from))] }

func (d *drawer) sources() {
	sources, splits := 1, 1
	if !d.late {
		sources = 1 + d.IntN(3)
	}
	total := 30 + d.IntN(270)
	for i := range sources {
		n := d.add(&node{kind: opSource, par: d.parallelism(), finish: d.IntN(2) == 0, memory: d.IntN(4) == 0})
		if d.late {
			n.par = 1
		} else {
			splits = 1 + d.IntN(4)
		}
		n.splits = make([][]timed, splits)
		for s := range n.splits {
			n.splits[s] = d.split(total/sources/splits, uint64(i*1000+s))
		}
	}
}

// split draws records whose time goes up on the whole. Their disorder keeps
// within the delay, except in the second family.
func (d *drawer) split(records int, salt uint64) []timed {
	now := int64(d.IntN(1000)) - 500
	pace := 1 + d.IntN(40)
	newest := int64(-1 << 60)
	var all []timed
	for i := range records {
		now += int64(d.IntN(pace + 1))
		if d.IntN(50) == 0 {
			now += int64(d.IntN(1500))
		}
		back := d.Int64N(d.delay + 1)
		if d.late && d.IntN(4) == 0 {
			back = d.Int64N(4*d.delay + 500)
		}
		ts := now - back
		if !d.late {
			ts = max(ts, newest-d.delay)
		}
		newest = max(newest, ts)
		r := rec{ID: mix(salt<<32 + uint64(i)), Key: d.IntN(12), N: 1, Sum: d.Int64N(100)}
		all = append(all, timed{r, ts})
	}
	return all
}

func (d *drawer) parallelism() int { return 1 + d.IntN(4) }

func (d *drawer) add(n *node) *node {
	n.id, n.salt = len(d.nodes), d.Uint64()
	d.nodes = append(d.nodes, n)
	return n
}

// operator adds a random operator behind random streams.
func (d *drawer) operator() {
	in, from := d.stream()
	kind := opKind(1 + d.IntN(int(opSink)-1))
	if !d.fits(kind, from) {
		kind = pick(d, opMap, opFilter)
	}
	n := &node{kind: kind, in: []stream{in}, keys: 1 + d.IntN(8), typ: d.IntN(3), span: 1 + d.Int64N(300)}
	switch kind {
	case opUnion, opJoin:
		for range 1 + d.IntN(2) {
			other, node := d.stream()
			if !node.eternal && (kind == opUnion || len(n.in) < 2) {
				n.in = append(n.in, other)
			}
		}
		if kind == opJoin && len(n.in) < 2 {
			n.in = append(n.in, in)
		}
	case opAggregate, opReduce, opRollup:
		d.window(n, from)
	case opDedupe:
		n.lateness = pick(d, 0, d.Int64N(400))
	}
	d.place(n, from)
	d.add(n)
}

// stream picks an output to read from, rather a new one.
func (d *drawer) stream() (stream, *node) {
	from := d.nodes[d.IntN(len(d.nodes))]
	if d.IntN(2) == 0 {
		from = d.nodes[len(d.nodes)-1-d.IntN(min(3, len(d.nodes)))]
	}
	s := stream{from.id, from.hasSide() && d.IntN(4) == 0}
	return s, from
}

// fits says whether an operator of that kind can follow a node.
func (d *drawer) fits(kind opKind, from *node) bool {
	n := &node{kind: kind}
	switch {
	case from.eternal:
		return kind == opMap || kind == opFilter || kind == opFlatMap || kind == opDivide
	case !d.late:
		return true
	case from.ragged || from.shuffled:
		return !n.keyed() && kind != opUnion && kind != opDeal && kind != opCopy && kind != opDelay
	}
	if kind == opDedupe && from.fired { // which of several results it lets through depends on their order
		return false
	}
	return kind != opUnion && kind != opJoin && kind != opDeal && kind != opCopy && kind != opCancel
}

// place chooses parallelism, and notes what that does to the output. In the
// second family records cross one exchange of several subtasks at most, behind
// which their order and lateness can't be told.
func (d *drawer) place(n, from *node) {
	n.par, n.toPar = d.parallelism(), d.parallelism()
	n.eternal = n.eternal || from.eternal
	n.fired = n.fired || from.fired || n.keyed()
	n.ragged = n.ragged || from.ragged
	if !d.late {
		return
	}
	if from.shuffled {
		n.par = from.par
	} else if !n.keyed() {
		n.par = 1
	}
	n.toPar = n.par
	n.shuffled = from.shuffled || n.par > 1
}

func (d *drawer) window(n, from *node) {
	w := &n.win
	w.kind = windowKind(d.IntN(5))
	w.size = 20 + d.Int64N(600)
	w.step = w.size
	switch {
	case n.kind == opRollup:
		w.kind = winTumbling
		w.step = w.size * (2 + d.Int64N(3)) // the coarser of its two sizes
	case w.kind == winTumbling:
		w.offset = d.Int64N(100) - 50
	case w.kind == winSliding:
		w.step = max(1, w.size*(1+d.Int64N(7))/7)
		w.offset = d.Int64N(100) - 50
	case w.kind == winCumulative:
		w.step = 20 + d.Int64N(100)
		w.size = w.step * (1 + d.Int64N(5))
	case w.kind == winSession:
		w.size = 1 + d.Int64N(60)
	}
	n.eternal = w.kind == winGlobal
	n.agg = aggKind(d.IntN(5))
	if n.agg == aggUnmergeable && (w.kind == winSession || n.kind == opRollup) {
		n.agg = aggFingerprint
	}
	if d.IntN(2) == 0 {
		n.lateness = d.Int64N(400)
	}
	if n.kind == opRollup {
		return
	}
	n.trigger.discarding = d.IntN(3) == 0
	switch d.IntN(4) {
	case 0:
		n.trigger.lateCount = 1 + d.Int64N(4)
	case 1:
		n.trigger.lateAtCleanup = true
	case 2:
		if d.late && !from.fired {
			n.trigger.earlyCount = 1 + d.Int64N(5)
		}
	}
	n.ragged = n.lateness > 0 && (n.trigger.lateAtCleanup || n.trigger.lateCount > 1)
}

// sinks ends every stream that nobody reads, and some others.
func (d *drawer) sinks() {
	for _, n := range d.nodes {
		for _, s := range n.in {
			d.nodes[s.node].consumed[s.index()] = true
		}
	}
	for _, n := range d.nodes {
		if n.hasSide() {
			d.sink(n, stream{n.id, true})
		}
		if !n.consumed[0] || d.IntN(4) == 0 {
			d.sink(n, stream{n.id, false})
		}
	}
}

func (d *drawer) sink(_ *node, s stream) {
	n := d.add(&node{kind: opSink, in: []stream{s}, par: d.parallelism()})
	d.plan.sinks = append(d.plan.sinks, n)
}
