package pipeline

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// MinWatermark is the watermark before anything is known: every record is
	// still to be expected.
	MinWatermark = math.MinInt64
	// MaxWatermark is the watermark at the end of input: nothing is to be
	// expected any more, and every window fires.
	MaxWatermark = math.MaxInt64
)

// WatermarkStrategy says how event time is read from records of type T and
// how it advances. It is passed to [From] as an option; its methods refine it.
//
//	pipeline.BoundedDisorder(Hit.Time, 10*time.Second).IdleAfter(time.Minute)
type WatermarkStrategy[T any] struct {
	set       bool
	timestamp func(T) int64
	generator func() WatermarkGenerator
	fromSplit bool
	idle      time.Duration
	drift     time.Duration
	advance   time.Duration
	first     int64
	last      int64
	err       error
}

// WatermarkGenerator makes the watermark of one split from its records, in
// the split's order. It is called on the source's goroutine.
type WatermarkGenerator interface {
	// Observe takes the event time of the next record.
	Observe(time int64)
	// Watermark returns the watermark after the records observed so far. The
	// engine asks before every record whose lateness depends on it. A value below
	// an earlier one is ignored: watermarks never go back.
	Watermark() int64
}

// BoundedDisorder takes event times from timestamp (in milliseconds) and
// allows a record to be up to delay older than the newest one of its split:
// the watermark is newest - delay - 1 ms. A nil timestamp keeps the times the
// source gave.
func BoundedDisorder[T any](timestamp func(T) int64, delay time.Duration) WatermarkStrategy[T] {
	s := CustomWatermarks(timestamp, func() WatermarkGenerator {
		return &boundedDisorder{newest: MinWatermark, delay: delay.Milliseconds()}
	})
	if delay < 0 {
		s.err = fmt.Errorf("disorder bound is negative: %v", delay)
	}
	return s
}

// Monotonic takes event times that never decrease within a split. It is
// BoundedDisorder with no disorder.
func Monotonic[T any](timestamp func(T) int64) WatermarkStrategy[T] {
	return BoundedDisorder(timestamp, 0)
}

// CustomWatermarks takes event times from timestamp, and watermarks from a
// generator made for every split.
func CustomWatermarks[T any](timestamp func(T) int64, generator func() WatermarkGenerator) WatermarkStrategy[T] {
	return WatermarkStrategy[T]{
		set: true, timestamp: timestamp, generator: generator,
		first: math.MinInt64, last: math.MaxInt64,
	}
}

// SourceWatermarks takes event times from timestamp, or those the source gave
// where timestamp is nil, and the watermarks that the source itself knows for
// each split.
func SourceWatermarks[T any](timestamp func(T) int64) WatermarkStrategy[T] {
	s := CustomWatermarks(timestamp, func() WatermarkGenerator { return &sourceWatermark{MinWatermark} })
	s.fromSplit = true
	return s
}

// IdleAfter takes a split out of the watermark when it has had no record for d
// of processing time, so that a quiet split does not hold time back. Set it
// where a split may stay quiet; records it then brings may be late. Default:
// never.
func (s WatermarkStrategy[T]) IdleAfter(d time.Duration) WatermarkStrategy[T] {
	if d <= 0 {
		s.err = errors.Join(s.err, fmt.Errorf("idle time-out is not positive: %v", d))
	}
	s.idle = d
	return s
}

// MaxDrift holds back a split whose event time is more than d ahead of the
// slowest split of the source, in any subtask. Set it when a job catches up
// over many splits: state and lateness then do not depend on which split reads
// faster. The reader must be a [Pauser]. A split that has no record yet is the
// slowest of all, so set [WatermarkStrategy.IdleAfter] too where a split may stay
// empty. Default: no bound.
func (s WatermarkStrategy[T]) MaxDrift(d time.Duration) WatermarkStrategy[T] {
	if d <= 0 {
		s.err = errors.Join(s.err, fmt.Errorf("maximum drift is not positive: %v", d))
	}
	s.drift = d
	return s
}

// AdvanceWhenIdle lets event time go on with the clock once every split of the
// source has been idle for d: the watermark then advances a millisecond per
// millisecond, so that the last windows close although traffic stopped.
// Records that come later with older times are late. It needs [IdleAfter] or a
// source that reports idle splits. Default: off, time waits.
func (s WatermarkStrategy[T]) AdvanceWhenIdle(d time.Duration) WatermarkStrategy[T] {
	if d <= 0 {
		s.err = errors.Join(s.err, fmt.Errorf("idle advance is not positive: %v", d))
	}
	s.advance = d
	return s
}

// Between rejects records whose event time is before first or after last (in
// milliseconds) to the dead-letter output. One record of the year 9999 would
// otherwise move the watermark there and make all others late. Default: every
// time is accepted.
func (s WatermarkStrategy[T]) Between(first, last int64) WatermarkStrategy[T] {
	if first > last {
		s.err = errors.Join(s.err, fmt.Errorf("event times from %d to %d: empty range", first, last))
	}
	s.first, s.last = first, last
	return s
}

func (s WatermarkStrategy[T]) applyTo(n *node) { n.strategy, n.eventTime = s, true }

func (s WatermarkStrategy[T]) check() error {
	if s.err != nil {
		return s.err
	}
	if s.set && s.generator == nil {
		return errors.New("the watermark generator is nil")
	}
	return nil
}

// boundedDisorder is the generator of BoundedDisorder.
type boundedDisorder struct {
	newest int64
	delay  int64
}

func (g *boundedDisorder) Observe(time int64) { g.newest = max(g.newest, time) }

// Watermark stops at MinWatermark instead of wrapping around.
func (g *boundedDisorder) Watermark() int64 {
	if g.newest < math.MinInt64+g.delay+1 {
		return MinWatermark
	}
	return g.newest - g.delay - 1
}

// sourceWatermark repeats what the source said; the source runner sets it.
type sourceWatermark struct{ watermark int64 }

func (g *sourceWatermark) Observe(int64)    {}
func (g *sourceWatermark) Watermark() int64 { return g.watermark }
