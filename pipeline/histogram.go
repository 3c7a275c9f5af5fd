package pipeline

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Histogram counts durations by how long they are, for what happens now and then:
// a commit, a request, not a record. It is made by [Metrics.Histogram] and may be
// used from any goroutine.
type Histogram struct{ of prometheus.Histogram }

// durationBounds are the upper bounds of buckets, in seconds: a commit on the same
// machine takes milliseconds, and a checkpoint is given up after ten minutes.
var durationBounds = []float64{
	.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 150, 300, 600,
}

func newHistogram() *Histogram {
	return &Histogram{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "duration_seconds", // a registry sees it under another one, see labelled
		// The native form besides, for servers that ask for it: its buckets are finer.
		Buckets: durationBounds, NativeHistogramBucketFactor: 1.1,
	})}
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) { h.of.Observe(d.Seconds()) }

// HistogramStats is what a [Histogram] has counted.
type HistogramStats struct {
	// Count is the number of durations, and Sum what they add up to.
	Count int64
	Sum   time.Duration
	// Buckets say how many there were up to each of some bounds, which grow: each
	// also counts what the one before it does. Longer ones are in Count alone.
	Buckets []HistogramBucket
}

// HistogramBucket counts the durations up to a bound.
type HistogramBucket struct {
	UpTo  time.Duration
	Count int64
}

// Quantile returns a duration that the q-th part of all did not exceed, q being
// from 0 to 1: 0.99 is for the longest but one in a hundred. It is as exact as the
// buckets are; what is longer than all of them counts as the last bound. Without
// any durations it is 0.
func (s HistogramStats) Quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(s.Count)))
	for _, b := range s.Buckets {
		if b.Count >= rank && s.Count > 0 {
			return b.UpTo
		}
	}
	if n := len(s.Buckets); n > 0 && s.Count > 0 {
		return s.Buckets[n-1].UpTo
	}
	return 0
}

func (h *Histogram) stats() HistogramStats {
	var m dto.Metric
	if err := h.of.Write(&m); err != nil { // it never does
		return HistogramStats{}
	}
	s := HistogramStats{Count: int64(m.Histogram.GetSampleCount()), Sum: seconds(m.Histogram.GetSampleSum())}
	for _, b := range m.Histogram.GetBucket() {
		s.Buckets = append(s.Buckets, HistogramBucket{seconds(b.GetUpperBound()), int64(b.GetCumulativeCount())})
	}
	return s
}

// seconds rounds, since a bound of 0.0025 is to read 2.5ms.
func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }
