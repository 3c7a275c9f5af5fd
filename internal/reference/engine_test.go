package reference

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// builder makes a pipeline of a plan.
type builder struct {
	*plan
	p       *pipeline.Pipeline
	streams map[stream]pipeline.Stream[rec]
	results map[*node]*collector
	world   *pipelinetest.World
}

// build builds a plan whose results are collected, or, in a world that outlives
// the job, go to ledgers there.
func build(p *plan, world *pipelinetest.World, opts ...pipeline.Option) *builder {
	b := &builder{
		plan: p, streams: map[stream]pipeline.Stream[rec]{}, results: map[*node]*collector{}, world: world,
		p: pipeline.New(append([]pipeline.Option{
			pipeline.BatchSize(p.batch), pipeline.ChannelCapacity(p.capacity), pipeline.Linger(p.linger),
			pipeline.WatermarkInterval(p.interval), pipeline.MaxParallelism(p.maxParallelism),
			pipeline.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		}, opts...)...),
	}
	for _, n := range p.nodes {
		b.node(n)
	}
	return b
}

func (b *builder) node(n *node) {
	par := pipeline.Parallelism(n.par)
	in := make([]pipeline.Stream[rec], len(n.in))
	for i, s := range n.in {
		in[i] = b.streams[s]
	}
	var out pipeline.Stream[rec]
	switch n.kind {
	case opSource:
		strategy := pipeline.BoundedDisorder[rec](nil, ms(b.delay))
		if b.drift > 0 {
			strategy = strategy.MaxDrift(b.drift)
		}
		if n.memory {
			out = b.memory(n)
			break
		}
		out = pipeline.From(b.p, n.name(), watched(b, source{b.plan, n}), strategy, par)
	case opMap:
		out = operators.Map(in[0], n.name(), n.mapped, par)
	case opDeal:
		out = operators.Map(pipeline.Rebalance(in[0]), n.name(), n.mapped, par)
	case opCopy:
		out = operators.Map(pipeline.Broadcast(in[0]), n.name(), n.mapped, par)
	case opUnion:
		out = operators.Map(pipeline.Union(in[0], in[1:]...), n.name(), n.mapped, par)
	case opFilter:
		out = operators.Filter(in[0], n.name(), n.kept, par)
	case opFlatMap:
		out = operators.FlatMap(in[0], n.name(), func(r rec, emit func(rec)) {
			for _, c := range n.copies(r) {
				emit(c)
			}
		}, par)
	case opDelay:
		out = pipeline.Process(in[0], n.name(), pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, rec], r rec) error {
			c.EmitAt(r, c.Time()+n.span)
			return nil
		}), par)
	case opDivide:
		out = pipeline.Process(in[0], n.name(), func() *divider { return &divider{n: n} }, par)
		b.streams[stream{n.id, true}] = pipeline.SideOutput(out, sideTag)
	case opSink:
		if b.world != nil {
			pipeline.To(in[0], n.name(), pipelinetest.NewLedger[rec](b.world, n.name()), par)
			return
		}
		c := &collector{}
		b.results[n] = c
		pipeline.To(in[0], n.name(), c, par)
		return
	default:
		b.keyed(n, in)
		return
	}
	b.streams[stream{n.id, false}] = out
}

// watched lets the world know of records that are read, where there is one.
func watched[T any](b *builder, src pipeline.Source[T]) pipeline.Source[T] {
	if b.world == nil {
		return src
	}
	return pipelinetest.Watched(b.world, src)
}

// memory reads the splits with the source of package memory, which reads
// event times from values.
func (b *builder) memory(n *node) pipeline.Stream[rec] {
	strategy := pipeline.BoundedDisorder(func(t timed) int64 { return t.Time }, ms(b.delay))
	if b.drift > 0 {
		strategy = strategy.MaxDrift(b.drift)
	}
	all := pipeline.From(b.p, n.name(), watched(b, memory.From(n.splits...)), strategy, pipeline.Parallelism(n.par))
	return operators.Map(all, n.name()+" records", func(t timed) rec { return t.rec }, pipeline.Parallelism(n.par))
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

var sideTag = pipeline.NewTag[rec]("side")

// The types of keys.
type compound struct {
	A int16
	B string
}

func (b *builder) keyed(n *node, in []pipeline.Stream[rec]) {
	switch n.typ {
	case 0:
		keyed(b, n, in, func(k int) int { return k }, func(k int) int { return k })
	case 1:
		// A letter, as there are fewer than ten keys.
		keyed(b, n, in, func(k int) string { return string(rune('a' + k)) }, func(k string) int { return int(k[0] - 'a') })
	default:
		keyed(b, n, in, func(k int) compound { return compound{int16(-k), fmt.Sprint(k)} },
			func(k compound) int { return int(-k.A) })
	}
}

func keyed[K comparable](b *builder, n *node, in []pipeline.Stream[rec], to func(int) K, from func(K) int) {
	by := make([]pipeline.KeyedStream[K, rec], len(in))
	for i := range in {
		by[i] = pipeline.KeyBy(in[i], func(r rec) K { return to(n.key(r)) })
	}
	par := pipeline.Parallelism(n.par)
	out := stream{n.id, false}
	switch n.kind {
	case opBuckets:
		s := pipeline.Process(by[0], n.name(), func() *buckets[K] { return &buckets[K]{n: n, from: from} }, par)
		b.streams[out], b.streams[stream{n.id, true}] = s, pipeline.SideOutput(s, sideTag)
	case opCancel:
		b.streams[out] = pipeline.Process(by[0], n.name(), func() *canceller[K] { return &canceller[K]{n: n} }, par)
	case opJoin:
		b.streams[out] = pipeline.Connect(by[0], by[1], n.name(), func() *joiner[K] { return &joiner[K]{n: n} }, par)
	case opDedupe:
		b.dedupe(n, in[0])
	case opReduce:
		s := operators.Reduce(by[0], n.name(), n.assigner(), reduced, n.options()...)
		windowed(b, n, s, from, func(r rec) summary { return summaryOf(r) })
	default:
		aggregated(b, n, by[0], from)
	}
}

// dedupe lets through one of several equal records, or in the second family
// one in a while of each of a few ids.
func (b *builder) dedupe(n *node, in pipeline.Stream[rec]) {
	id := func(r rec) uint64 { return uint64(n.key(r)) }
	if !b.late {
		in = pipeline.Process(in, n.name()+" stamps", pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, rec], r rec) error {
			c.Emit(n.stamped(timed{r, c.Time()}))
			return nil
		}), pipeline.Parallelism(n.toPar))
		id = func(r rec) uint64 { return r.ID }
	}
	s := operators.Dedupe(in, n.name(), id, ms(n.span), pipeline.Parallelism(n.par),
		operators.AllowedLateness(ms(n.lateness)), operators.DuplicatesTo(sideTag))
	b.streams[stream{n.id, false}], b.streams[stream{n.id, true}] = s, pipeline.SideOutput(s, sideTag)
}

func (n *node) options() []pipeline.OperatorOption {
	opts := []pipeline.OperatorOption{pipeline.Parallelism(n.par), operators.LateTo(sideTag)}
	if n.lateness > 0 {
		opts = append(opts, operators.AllowedLateness(ms(n.lateness)))
	}
	if n.kind == opRollup {
		return opts
	}
	t := window.OnTime()
	if n.trigger.earlyCount > 0 {
		t = t.EarlyCount(n.trigger.earlyCount)
	}
	if n.trigger.lateCount > 0 {
		t = t.LateCount(n.trigger.lateCount)
	}
	if n.trigger.lateAtCleanup {
		t = t.LateAtCleanup()
	}
	if n.trigger.discarding {
		t = t.Discarding()
	}
	return append(opts, operators.Trigger(t))
}

func (n *node) assigner() window.Assigner {
	w := n.win
	switch w.kind {
	case winTumbling:
		return window.Tumbling(ms(w.size)).Offset(ms(w.offset))
	case winSliding:
		return window.Sliding(ms(w.size), ms(w.step)).Offset(ms(w.offset))
	case winCumulative:
		return window.Cumulative(ms(w.size), ms(w.step)).Offset(ms(w.offset))
	case winSession:
		return window.Session(ms(w.size))
	default:
		return window.Global()
	}
}

// aggregated chooses the aggregation, which fixes the type of the accumulator.
func aggregated[K comparable](b *builder, n *node, in pipeline.KeyedStream[K, rec], from func(K) int) {
	switch n.agg {
	case aggFingerprint, aggUnmergeable:
		agg := operators.Aggregation[rec, summary, summary]{
			Add: func(acc *summary, r rec) {
				*acc = summary{acc.N + 1, acc.Sum + r.Sum, acc.FP + mix(r.ID)}
			},
			Merge: func(acc, o *summary) {
				*acc = summary{acc.N + o.N, acc.Sum + o.Sum, acc.FP + o.FP}
			},
			Result: func(acc *summary) summary { return *acc },
		}
		if n.agg == aggUnmergeable {
			agg.Merge = nil
		}
		with(b, n, in, from, agg)
	case aggCombined:
		id := func(r rec) uint64 { return r.ID }
		with(b, n, in, from, operators.Combine4(operators.Count[rec](), operators.Sum(func(r rec) int64 { return r.Sum }),
			operators.Min(id), operators.Max(id),
			func(n, sum int64, lo, hi uint64) summary { return summary{n, sum, mix(lo ^ mix(hi))} }))
	case aggTop:
		with(b, n, in, from, mapResult(operators.TopFunc(3, byRank), chained))
	case aggCollect:
		with(b, n, in, from, mapResult(operators.Collect[rec](), summed))
	}
}

// mapResult changes an aggregation's result.
func mapResult[A any](a operators.Aggregation[rec, A, []rec], f func([]rec) summary) operators.Aggregation[rec, A, summary] {
	return operators.Aggregation[rec, A, summary]{
		New: a.New, Add: a.Add, Merge: a.Merge,
		Result: func(acc *A) summary { return f(a.Result(acc)) },
	}
}

func with[K comparable, A any](b *builder, n *node, in pipeline.KeyedStream[K, rec], from func(K) int, agg operators.Aggregation[rec, A, summary]) {
	var s pipeline.Stream[operators.Result[K, summary]]
	if n.kind == opRollup {
		s = operators.Rollup(in, n.name(), []time.Duration{ms(n.win.size), ms(n.win.step)}, agg, n.options()...)
	} else {
		s = operators.Aggregate(in, n.name(), n.assigner(), agg, n.options()...)
	}
	windowed(b, n, s, from, func(s summary) summary { return s })
}

// windowed turns results into records again.
func windowed[K comparable, R any](b *builder, n *node, s pipeline.Stream[operators.Result[K, R]], from func(K) int, f func(R) summary) {
	b.streams[stream{n.id, true}] = pipeline.SideOutput(s, sideTag)
	b.streams[stream{n.id, false}] = operators.Map(s, n.name()+" records", func(r operators.Result[K, R]) rec {
		v := summary{}
		if !r.Pane.Tombstone {
			v = f(r.Value)
		}
		return resultRec(from(r.Key), r.Window.Start, r.Window.End, v, r.Pane.String())
	}, pipeline.Parallelism(n.toPar))
}

// divider sends some records to its side output.
type divider struct {
	n    *node
	side *pipeline.SideEmitter[rec]
}

func (d *divider) Open(c *pipeline.Context[pipeline.NoKey, rec]) error {
	d.side = pipeline.Side(c, sideTag)
	return nil
}

func (d *divider) Process(c *pipeline.Context[pipeline.NoKey, rec], r rec) error {
	if d.n.aside(r) {
		d.side.Emit(r, c.Time())
		return nil
	}
	c.Emit(r)
	return nil
}

// buckets counts by tumbling windows, with state and timers of its own.
type buckets[K comparable] struct {
	n      *node
	from   func(K) int
	counts *state.Map[K, int64, summary]
	ends   *pipeline.Timers[K]
	late   *pipeline.SideEmitter[rec]
}

func (b *buckets[K]) Open(c *pipeline.Context[K, rec]) error {
	b.counts = state.NewMap[int64, summary](c.State(), "counts")
	b.ends = c.Timers("ends")
	b.late = pipeline.Side(c, sideTag)
	return nil
}

func (b *buckets[K]) Process(c *pipeline.Context[K, rec], r rec) error {
	if c.Time() <= c.Watermark() {
		b.late.Emit(r, c.Time())
		return nil
	}
	start := floor(c.Time(), b.n.span, 0)
	acc, _ := b.counts.Get(start)
	b.counts.Put(start, summary{acc.N + 1, acc.Sum + r.Sum, acc.FP + mix(r.ID)})
	b.ends.Set(start + b.n.span - 1)
	return nil
}

func (b *buckets[K]) OnTimer(c *pipeline.Context[K, rec], t pipeline.Timer) error {
	end := t.Time + 1
	start := end - b.n.span
	acc, ok := b.counts.Get(start)
	if !ok {
		return pipeline.Fatal(fmt.Errorf("timer at %d, and no bucket", t.Time))
	}
	b.counts.Delete(start)
	c.Emit(resultRec(b.from(c.Key()), start, end, acc, "bucket"))
	return nil
}

// canceller lets a record out a while later, unless another that cancels comes
// in between.
type canceller[K comparable] struct {
	n       *node
	waiting *state.List[K, timed]
	cancels *state.List[K, int64]
	due     *pipeline.Timers[K]
	forget  *pipeline.Timers[K]
}

func (o *canceller[K]) Open(c *pipeline.Context[K, rec]) error {
	o.waiting = state.NewList[timed](c.State(), "waiting")
	o.cancels = state.NewList[int64](c.State(), "cancels")
	o.due, o.forget = c.Timers("due"), c.Timers("forget")
	return nil
}

func (o *canceller[K]) Process(c *pipeline.Context[K, rec], r rec) error {
	now, span := c.Time(), o.n.span
	if o.n.aside(r) {
		o.cancels.Append(now)
		o.forget.Set(now)
		o.waiting.Set(slices.DeleteFunc(o.waiting.Get(), func(w timed) bool {
			gone := w.Time <= now && now <= w.Time+span
			if gone {
				o.due.Delete(w.Time + span)
			}
			return gone
		}))
		return nil
	}
	for _, at := range o.cancels.Get() {
		if now <= at && at <= now+span {
			return nil
		}
	}
	o.waiting.Append(timed{r, now})
	o.due.Set(now + span)
	return nil
}

func (o *canceller[K]) OnTimer(c *pipeline.Context[K, rec], t pipeline.Timer) error {
	if t.Namespace == "forget" {
		o.cancels.Set(slices.DeleteFunc(o.cancels.Get(), func(at int64) bool { return at <= t.Time }))
		return nil
	}
	found := false
	o.waiting.Set(slices.DeleteFunc(o.waiting.Get(), func(w timed) bool {
		due := w.Time+o.n.span == t.Time
		if due {
			found = true
			c.Emit(o.n.mapped(w.rec))
		}
		return due
	}))
	if !found {
		return pipeline.Fatal(fmt.Errorf("timer at %d was deleted, and fires", t.Time))
	}
	return nil
}

// joiner pairs records of two inputs that are close in time.
type joiner[K comparable] struct {
	n           *node
	left, right *state.List[K, timed]
	forget      *pipeline.Timers[K]
}

func (j *joiner[K]) Open(c *pipeline.Context[K, rec]) error {
	j.left = state.NewList[timed](c.State(), "left")
	j.right = state.NewList[timed](c.State(), "right")
	j.forget = c.Timers("forget")
	return nil
}

func (j *joiner[K]) ProcessLeft(c *pipeline.Context[K, rec], l rec) error {
	me := timed{l, c.Time()}
	for _, r := range j.right.Get() {
		j.pair(c, me, r)
	}
	j.left.Append(me)
	j.forget.Set(c.Time() + j.n.span)
	return nil
}

func (j *joiner[K]) ProcessRight(c *pipeline.Context[K, rec], r rec) error {
	me := timed{r, c.Time()}
	for _, l := range j.left.Get() {
		j.pair(c, l, me)
	}
	j.right.Append(me)
	j.forget.Set(c.Time() + j.n.span)
	return nil
}

func (j *joiner[K]) pair(c *pipeline.Context[K, rec], l, r timed) {
	if p, ok := j.n.pair(l, r); ok {
		c.EmitAt(p.rec, p.Time)
	}
}

func (j *joiner[K]) OnTimer(_ *pipeline.Context[K, rec], t pipeline.Timer) error {
	over := func(r timed) bool { return r.Time+j.n.span <= t.Time }
	j.left.Set(slices.DeleteFunc(j.left.Get(), over))
	j.right.Set(slices.DeleteFunc(j.right.Get(), over))
	return nil
}

// source reads the splits of a plan in a random order, in batches of random
// lengths.
type source struct {
	plan *plan
	n    *node
}

func (s source) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[rec], error) {
	r := &reader{
		rand: rand.New(rand.NewPCG(s.n.salt, uint64(env.Subtask))), batch: env.BatchSize,
		left: map[string][]timed{}, length: map[string]int{}, paused: map[string]bool{}, changed: make(chan struct{}, 1),
		// With a drift bound, a split that has ended must say so: others wait for it.
		finish: s.n.finish || s.plan.drift > 0,
	}
	for i, records := range s.n.splits {
		if env.Mine(i) {
			name := fmt.Sprint(i)
			if at, ok := env.Positions[name]; ok {
				done, err := strconv.Atoi(string(at))
				if err != nil {
					return nil, err
				}
				records = records[done:]
			}
			r.names = append(r.names, name)
			r.left[name] = records
			r.length[name] = len(s.n.splits[i])
		}
	}
	return r, nil
}

type reader struct {
	rand      *rand.Rand
	batch     int
	names     []string // of the splits that are not at their end
	left      map[string][]timed
	length    map[string]int // of the splits
	finish    bool
	announced bool

	mu      sync.Mutex
	paused  map[string]bool // guarded by mu
	changed chan struct{}
}

func (r *reader) Pause(split string)  { r.set(split, true) }
func (r *reader) Resume(split string) { r.set(split, false) }

func (r *reader) set(split string, paused bool) {
	r.mu.Lock()
	r.paused[split] = paused
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *reader) Read(ctx context.Context, b *pipeline.SourceBatch[rec]) error {
	if !r.announced {
		r.announced = true
		for _, name := range r.names {
			b.AddSplit(name)
		}
		if r.rand.IntN(2) == 0 {
			return nil
		}
	}
	if len(r.names) == 0 {
		return pipeline.ErrEndOfInput
	}
	name, err := r.choose(ctx)
	if err != nil {
		return err
	}
	all := r.left[name]
	n := min(1+r.rand.IntN(r.batch), len(all))
	b.Split = name
	for _, t := range all[:n] {
		b.Values = append(b.Values, t.rec)
		b.Times = append(b.Times, t.Time)
	}
	r.left[name] = all[n:]
	b.Position = strconv.AppendInt(nil, int64(r.length[name]-len(r.left[name])), 10)
	if n < len(all) {
		return nil
	}
	r.names = slices.DeleteFunc(r.names, func(s string) bool { return s == name })
	if r.finish {
		b.FinishSplit(name)
	}
	if len(r.names) == 0 && r.rand.IntN(2) == 0 {
		return pipeline.ErrEndOfInput
	}
	return nil
}

func (r *reader) choose(ctx context.Context) (string, error) {
	for {
		r.mu.Lock()
		for _, i := range r.rand.Perm(len(r.names)) {
			if !r.paused[r.names[i]] {
				r.mu.Unlock()
				return r.names[i], nil
			}
		}
		r.mu.Unlock()
		select {
		case <-r.changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// collector is a sink that keeps everything.
type collector struct {
	mu  sync.Mutex
	all []timed
}

func (c *collector) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[rec], error) {
	return c, nil
}

func (c *collector) Write(_ context.Context, b *pipeline.Records[rec]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b.Values {
		c.all = append(c.all, timed{b.Values[i], b.Times[i]})
	}
	return nil
}
