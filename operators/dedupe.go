package operators

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// Dedupe lets the first record of each id through and drops those that repeat
// it within the horizon.
//
//	unique := operators.Dedupe(hits, "dedupe", Hit.EventID, 24*time.Hour)
//
// A record is a duplicate if a record with the same id was let through whose
// event time is no further away than the horizon, before or after. A duplicate
// does not prolong that, so an id that keeps coming is let through once every
// horizon. Of records that are not late, the event times and the order of
// arrival decide which are duplicates, and not how fast they are read, how they
// are batched, or when watermarks come. [DuplicatesTo] keeps the duplicates.
//
// An id is forgotten once the watermark has passed its record by the horizon,
// when nothing but late records could still repeat it. [AllowedLateness] keeps
// ids for longer by that much, so that records as late as that are told apart
// as surely. A later record is compared with what is still remembered, and
// otherwise let through, since to drop it might be to lose it: what becomes of
// it is for the windows behind to decide.
//
// Every id within the horizon is kept in keyed state, behind Bloom filters that
// spare new ids the look-up. No record is dropped because of the filters.
// [Approximate] does without the state; [ExpectedRate] sizes the filters.
//
// The stream must have watermarks, or nothing could be forgotten. Records are
// sent to subtasks by id, so the output is no longer in the order of the input,
// except among records of one id.
//
// Metrics: duplicates counts the records dropped, late those let through that
// were later than allowed. bloom_hits counts the records whose id a filter
// claimed to know, false_positives those of them whose id was new. ids is the
// number of ids remembered, bloom_bytes the size of the filters, and
// false_positives_per_billion, where [Approximate], how many of a billion new
// records are at present taken for duplicates.
func Dedupe[T any, ID comparable](
	in pipeline.Stream[T], name string, id func(T) ID, horizon time.Duration, opts ...pipeline.OperatorOption,
) pipeline.Stream[T] {
	cfg := dedupeConfig{horizon: horizon.Milliseconds(), loose: looseRate, record: reflect.TypeFor[T]()}
	var lateness latenessConfig
	opts = settle(opts, &cfg, &lateness)
	opts = append(opts, pipeline.NeedsEventTime(), pipeline.Mistake(checkHorizon(horizon)))
	cfg.lateness = lateness.allowed.Milliseconds()
	byID := pipeline.KeyBy(in, id)
	if cfg.approximate > 0 {
		return pipeline.Process(byID, name, func() *approximateDedupe[T, ID] {
			return &approximateDedupe[T, ID]{dedupe: dedupe[T, ID]{cfg: cfg}}
		}, opts...)
	}
	return pipeline.Process(byID, name, func() *exactDedupe[T, ID] {
		return &exactDedupe[T, ID]{dedupe: dedupe[T, ID]{cfg: cfg}}
	}, opts...)
}

func checkHorizon(d time.Duration) error {
	switch {
	case d < 0:
		return fmt.Errorf("the horizon is negative: %v", d)
	case d%time.Millisecond != 0:
		return fmt.Errorf("the horizon is not a whole number of milliseconds: %v", d)
	}
	return nil
}

// looseRate is the false-positive rate of filters that state stands behind: a
// wrong hit costs a look-up, a stricter filter costs every record.
const looseRate = 0.01

// dedupeConfig is what Dedupe's own settings set; times are in milliseconds.
type dedupeConfig struct {
	horizon, lateness int64
	loose             float64 // the false-positive rate of filters that state stands behind
	approximate       float64 // that of filters alone; 0: exact
	perSecond         float64 // 0: not known
	record            reflect.Type
	duplicates        any // a Tag of record
}

// shape says what ids are remembered for: with another horizon, those that are
// there would be forgotten at the wrong time, or never.
func (c *dedupeConfig) shape() string {
	text := fmt.Sprintf("ids within %v", time.Duration(c.horizon)*time.Millisecond)
	if c.lateness > 0 {
		text += fmt.Sprintf(" with allowed lateness %v", time.Duration(c.lateness)*time.Millisecond)
	}
	if c.approximate > 0 {
		text += ", by Bloom filters alone"
	}
	return text
}

// keep returns how long an id is remembered.
func (c *dedupeConfig) keep() int64 { return addSat(c.horizon, c.lateness) }

// Approximate makes [Dedupe] remember ids in Bloom filters alone, at one or two
// bytes an id: for so many ids that keeping each is out of the question, and
// where losing some records does not matter. At most the given part of the new
// records is wrongly taken for duplicates and dropped: 1e-4 is one in ten
// thousand. Every duplicate is found; but time is remembered by quarters of the
// horizon, so that an id that comes again after up to one and a quarter of the
// horizon may be dropped as well. Default: exact.
func Approximate(falsePositiveRate float64) pipeline.OperatorOption {
	return newSetting("Approximate", func(c *dedupeConfig) error {
		if !(falsePositiveRate > 0 && falsePositiveRate < 1) {
			return fmt.Errorf("the false-positive rate is %v, must be between 0 and 1", falsePositiveRate)
		}
		c.approximate = falsePositiveRate
		return nil
	})
}

// ExpectedRate tells [Dedupe] how many new ids to expect in a second of event
// time, over all subtasks, so that its filters have the right size from the
// start. With more, further filters are added, which costs time; with fewer,
// memory is wasted. Default: filters start small and learn from those before
// them.
func ExpectedRate(idsPerSecond float64) pipeline.OperatorOption {
	return newSetting("ExpectedRate", func(c *dedupeConfig) error {
		if !(idsPerSecond > 0) || math.IsInf(idsPerSecond, 0) {
			return fmt.Errorf("%v ids a second, must be above 0", idsPerSecond)
		}
		c.perSecond = idsPerSecond
		return nil
	})
}

// DuplicatesTo writes the records that [Dedupe] drops to the side output tag,
// with their event times; read it with [pipeline.SideOutput]. The tag carries
// the type of the operator's input. Default: they are counted and gone.
func DuplicatesTo[T any](tag pipeline.Tag[T]) pipeline.OperatorOption {
	return newSetting("DuplicatesTo", func(c *dedupeConfig) error {
		if typ := reflect.TypeFor[T](); typ != c.record {
			return fmt.Errorf("the tag %q carries %v, the records are %v", tag.Name(), typ, c.record)
		}
		if tag.Name() == "" {
			return errors.New("the tag has no name")
		}
		c.duplicates = tag
		return nil
	})
}

// dedupe is what both modes share: the ways in and out, the filters, and the
// metrics.
type dedupe[T any, ID comparable] struct {
	cfg  dedupeConfig
	plan bloomPlan

	judge      func(time, watermark int64) bool // says whether the record entered is a duplicate
	kept       kept[T]
	duplicates *pipeline.SideEmitter[T] // nil: nowhere
	blooms     *state.Group[ID, generations]
	swept      int64 // the watermark at which all groups were last looked through

	dropped, late *pipeline.Counter
	ids, bytes    *pipeline.Gauge
}

// open makes filters for generations of the given length, in milliseconds, and
// false-positive rate.
func (d *dedupe[T, ID]) open(c *pipeline.Context[ID, T], rate float64, length int64) {
	groups := float64(c.Parallelism() * c.State().Owned().Len())
	expected := d.cfg.perSecond * float64(length) / 1000 / groups
	keep := d.cfg.keep()
	d.plan = bloomPlan{
		rate: rate, keep: keep, step: max(keep/steps, 1),
		expected: int(min(expected, maxFirstFilter)),
	}
	d.blooms = state.NewGroup[generations](c.State(), "blooms", state.Shape(d.cfg.shape()))
	d.swept = pipeline.MinWatermark
	if tag, ok := d.cfg.duplicates.(pipeline.Tag[T]); ok {
		d.duplicates = pipeline.Side(c, tag)
	}
	m := c.Metrics()
	d.dropped, d.late = m.Counter("duplicates"), m.Counter("late")
	d.ids, d.bytes = m.Gauge("ids"), m.Gauge("bloom_bytes")
}

func (d *dedupe[T, ID]) Process(c *pipeline.Context[ID, T], in T) error {
	if d.repeats(c, in, c.Time()) {
		return nil
	}
	c.Emit(in)
	return nil
}

func (d *dedupe[T, ID]) ProcessBatch(c *pipeline.Context[ID, T], b *pipeline.Batch[ID, T]) error {
	d.kept.begin(len(b.Values), b.Cursor)
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		c.Enter(b.Keys[i], b.Hashes[i], b.Times[i])
		if !d.repeats(c, b.Values[i], b.Times[i]) {
			d.kept.add(b.Values[i], b.Times[i])
		}
	}
	emitKept(c, &d.kept)
	return nil
}

// repeats judges a record, and takes it out if it is a duplicate.
func (d *dedupe[T, ID]) repeats(c *pipeline.Context[ID, T], v T, time int64) bool {
	if d.judge(time, c.Watermark()) {
		d.dropped.Add(1)
		if d.duplicates != nil {
			d.duplicates.Emit(v, time)
		}
		return true
	}
	if addSat(time, d.cfg.lateness) <= c.Watermark() {
		d.late.Add(1)
	}
	return false
}

// needed says whether an id of this event time can still be repeated. It does
// not ask whether the id is still there, which depends on when watermarks come.
func (d *dedupe[T, ID]) needed(time, watermark int64) bool {
	return addSat(time, d.plan.keep) > watermark
}

// maxFirstFilter bounds what a generous [ExpectedRate] over a long horizon
// allocates for a key group at the first record, in ids. Further filters follow
// when they are needed.
const maxFirstFilter = 1 << 22

// steps is how many times ids are forgotten while one is remembered: state is
// larger than need be by one part in so many, and goes away in small portions.
const steps = 64

// sweep forgets what has expired in every group, once every step of event
// time, and calls see for each group before. Groups that get no records would
// keep their filters otherwise.
func (d *dedupe[T, ID]) sweep(watermark int64, see func(*generations)) {
	if d.swept != pipeline.MinWatermark && distance(watermark, d.swept) < uint64(d.plan.step) {
		return
	}
	d.swept = watermark
	total := 0
	d.blooms.Each(func(_ int, g *generations) {
		see(g)
		g.forget(watermark, &d.plan)
		total += g.bytes()
	})
	d.bytes.Store(int64(total))
}

// exactDedupe keeps every id in keyed state.
//
// An id is in the state for as long as any of its times has not reached its
// expiry, and until then a timer for that expiry is set, and a filter that
// holds the id is live. So an id that no filter knows has no entry and no
// timer: both are written without a look.
type exactDedupe[T any, ID comparable] struct {
	dedupe[T, ID]
	seen   *state.Value[ID, int64] // the event time of the last record let through
	before *state.List[ID, int64]  // and of those before it that are still needed
	expiry *pipeline.Timers[ID]

	hits, falsePositives *pipeline.Counter
}

func (d *exactDedupe[T, ID]) Open(c *pipeline.Context[ID, T]) error {
	d.open(c, d.cfg.loose, d.cfg.keep())
	d.judge = d.duplicate
	d.seen = state.NewValue[int64](c.State(), "seen")
	d.before = state.NewList[int64](c.State(), "before")
	d.expiry = c.Timers("expiry")
	d.hits, d.falsePositives = c.Metrics().Counter("bloom_hits"), c.Metrics().Counter("false_positives")
	return nil
}

// duplicate judges a record, and remembers it if it is none.
func (d *exactDedupe[T, ID]) duplicate(time, watermark int64) bool {
	filters, p := d.blooms.Upsert(), newProbe(d.blooms.Hash())
	filters.forget(watermark, &d.plan)
	if !filters.has(p, math.MinInt64, math.MaxInt64) {
		d.remember(filters, p, time, watermark)
		return false
	}
	d.hits.Add(1)
	seen := d.seen.Ptr()
	if seen == nil {
		d.falsePositives.Add(1)
		d.remember(filters, p, time, watermark)
		return false
	}
	if d.repeated(*seen, time, watermark) {
		return true
	}
	for _, earlier := range d.before.Get() {
		if d.repeated(earlier, time, watermark) {
			return true
		}
	}
	d.rememberAnother(filters, p, *seen, time, watermark)
	return false
}

// repeated says whether a record at time is a duplicate of the one at seen.
func (d *exactDedupe[T, ID]) repeated(seen, time, watermark int64) bool {
	return distance(max(seen, time), min(seen, time)) <= uint64(d.cfg.horizon) && d.needed(seen, watermark)
}

// remember stores an id that has no entry.
func (d *exactDedupe[T, ID]) remember(filters *generations, p probe, time, watermark int64) {
	if !d.needed(time, watermark) {
		return
	}
	d.seen.Set(time)
	d.expiry.SetNew(d.plan.expiry(time))
	filters.add(filters.newest(time, watermark, &d.plan), p, &d.plan)
}

// rememberAnother stores one more time of an id.
func (d *exactDedupe[T, ID]) rememberAnother(filters *generations, p probe, seen, time, watermark int64) {
	if !d.needed(time, watermark) {
		return
	}
	at, isNew := d.plan.expiry(time), d.plan.expiry(seen) != d.plan.expiry(time)
	for _, earlier := range d.before.Get() {
		isNew = isNew && d.plan.expiry(earlier) != at
	}
	if isNew {
		d.expiry.SetNew(at)
	}
	d.before.Append(seen)
	d.seen.Set(time)
	filters.add(filters.newest(time, watermark, &d.plan), p, &d.plan)
}

// OnTimer forgets the times of an id that have expired. Others may be left,
// with timers of their own.
func (d *exactDedupe[T, ID]) OnTimer(c *pipeline.Context[ID, T], _ pipeline.Timer) error {
	seen := d.seen.Ptr()
	if seen == nil { // an earlier timer, of the same leap of the watermark
		return nil
	}
	var left []int64
	for _, time := range d.before.Get() {
		if d.plan.expiry(time) > c.Watermark() {
			left = append(left, time)
		}
	}
	switch {
	case d.plan.expiry(*seen) > c.Watermark():
	case len(left) > 0:
		*seen, left = left[len(left)-1], left[:len(left)-1]
	default:
		d.seen.Clear()
	}
	d.before.Set(left)
	return nil
}

func (d *exactDedupe[T, ID]) OnWatermark(_ *pipeline.Context[ID, T], watermark int64) error {
	d.ids.Store(int64(d.seen.Len()))
	d.sweep(watermark, func(*generations) {})
	return nil
}

// quarters is the number of generations that make up a horizon in approximate
// mode.
const quarters = 4

// approximateDedupe remembers ids by generation only.
type approximateDedupe[T any, ID comparable] struct {
	dedupe[T, ID]
	quarter window.Cursor
	wrong   *pipeline.Gauge
}

func (d *approximateDedupe[T, ID]) Open(c *pipeline.Context[ID, T]) error {
	length := max((d.cfg.horizon+quarters-1)/quarters, 1)
	// A record looks into the generations of a horizon on both sides and its own.
	d.open(c, d.cfg.approximate/(2*quarters+1), length)
	d.judge = d.duplicate
	d.quarter = window.NewCursor(window.Tumbling(time.Duration(length) * time.Millisecond).Window)
	d.wrong = c.Metrics().Gauge("false_positives_per_billion")
	return nil
}

func (d *approximateDedupe[T, ID]) duplicate(time, watermark int64) bool {
	filters, p := d.blooms.Upsert(), newProbe(d.blooms.Hash())
	filters.forget(watermark, &d.plan)
	if filters.has(p, subSat(time, d.cfg.horizon), addSat(time, d.cfg.horizon)) {
		return true
	}
	if own := d.quarter.At(time); d.plan.expiry(own.MaxTimestamp()) > watermark {
		filters.add(filters.of(own.Start, own.MaxTimestamp()), p, &d.plan)
	}
	return false
}

func (d *approximateDedupe[T, ID]) OnWatermark(_ *pipeline.Context[ID, T], watermark int64) error {
	groups, wrong := 0, 0.0
	d.sweep(watermark, func(g *generations) {
		groups++
		wrong += g.falsePositives(d.cfg.horizon)
	})
	if groups > 0 { // there was a sweep
		d.wrong.Store(int64(wrong / float64(groups) * 1e9))
		ids := 0
		d.blooms.Each(func(_ int, g *generations) { ids += g.ids() })
		d.ids.Store(int64(ids))
	}
	return nil
}
