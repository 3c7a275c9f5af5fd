package pipeline

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Metrics are the named figures of one subtask of an operator. Figures are
// made once, while opening, and then updated without a lock; reading them is
// safe from any goroutine. The zero value is ready, for a test that opens a
// source or sink by itself.
//
// [Pipeline.Stats] has them under their names, and [Registerer] shows them to
// Prometheus. A good name is lower case, with underscores, and says the unit where
// there is one: bytes_read, queue_length.
type Metrics struct {
	mu         sync.Mutex
	counters   map[string]*Counter      // guarded by mu, as are the others
	gauges     map[string]*Gauge        //
	histograms map[string]*Histogram    //
	splits     map[string]*splitFigures //
}

// Counter only grows.
type Counter struct{ atomic.Int64 }

// Gauge goes up and down.
type Gauge struct{ atomic.Int64 }

func newMetrics() *Metrics { return &Metrics{} }

// Counter returns the counter of that name, made at the first call.
func (m *Metrics) Counter(name string) *Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.counters, name, func() *Counter { return new(Counter) })
}

// Gauge returns the gauge of that name, made at the first call.
func (m *Metrics) Gauge(name string) *Gauge {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.gauges, name, func() *Gauge { return new(Gauge) })
}

// Histogram returns the histogram of that name, made at the first call.
func (m *Metrics) Histogram(name string) *Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.histograms, name, newHistogram)
}

// SplitGauge returns the gauge of that name of one of a source's splits, made at
// the first call. It is shown while the split is not finished: a reader that says
// [SourceBatch.FinishSplit] need not do more, and one that stops reading a split
// without a word calls DropSplit. It may be called before the split is announced,
// and while the job runs.
func (m *Metrics) SplitGauge(name, split string) *Gauge {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.split(split).gauges, name, func() *Gauge { return new(Gauge) })
}

// DropSplit forgets the gauges of a split. Those that were made before are of no
// effect any more.
func (m *Metrics) DropSplit(split string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.splits[split]; s != nil {
		s.gauges = nil
	}
}

func figure[F any](all *map[string]*F, name string, anew func() *F) *F {
	f := (*all)[name]
	if f == nil {
		f = anew()
		if *all == nil {
			*all = map[string]*F{}
		}
		(*all)[name] = f
	}
	return f
}

// splitFigures are those of one split. The task that owns the split publishes
// its time; the reader may have made gauges before that, since it is ahead.
type splitFigures struct {
	watermark atomic.Int64
	status    atomic.Int32
	gauges    map[string]*Gauge // guarded by Metrics.mu
}

const (
	splitUnheard int32 = iota // the task does not know of it yet
	splitActive
	splitIdle
	splitFinished
)

// split returns the figures of a split. The caller holds mu.
func (m *Metrics) split(name string) *splitFigures {
	return figure(&m.splits, name, func() *splitFigures {
		s := new(splitFigures)
		s.watermark.Store(MinWatermark)
		return s
	})
}

// splitOf is split for the task, once a split.
func (m *Metrics) splitOf(name string) *splitFigures {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.split(name)
}

// commitDuration is the engine's histogram of a sink's commits, by whichever way.
const commitDuration = "commit_duration"

// metricsOf returns the figures of a node's first subtask.
func (j *job) metricsOf(n *node) *Metrics {
	for _, in := range j.instances {
		if in.node == n {
			return in.metrics
		}
	}
	return newMetrics()
}

// OperatorStats is what is known of one subtask of an operator.
type OperatorStats struct {
	Operator string
	Subtask  int
	// In and Out count records; Out counts those of the main output.
	In, Out int64
	// Rejected counts records sent to the dead-letter output.
	Rejected int64
	// Watermark is the subtask's event time in milliseconds, [MinWatermark]
	// before the first.
	Watermark int64
	// Counters and Gauges are the operator's own figures by name. An operator
	// with state has the gauges state_entries, what it remembers, and timers, those
	// of them that are in memory; both are as of the last watermark.
	Counters, Gauges map[string]int64
	// Histograms are the operator's own, by name. A sink that is a [Committer], or
	// whose [CommitPoint] decides for the job, has commit_duration.
	Histograms map[string]HistogramStats
	// Splits are those that a source's subtask reads or has finished, by name.
	Splits []SplitStats
}

// SplitStats is what is known of a split of a source.
type SplitStats struct {
	Name string
	// Watermark is the split's own event time in milliseconds, [MinWatermark]
	// before the first. That of the subtask is the lowest of its splits.
	Watermark int64
	// Idle says that time does not wait for the split at present.
	Idle bool
	// Finished says that it has ended, or was taken away.
	Finished bool
	// Gauges are the reader's own figures of the split, by name. A finished split
	// has none.
	Gauges map[string]int64
}

// Stats returns the figures of every subtask, in the order of the graph; nil
// before Run. It is safe from any goroutine, during the job and after it.
func (p *Pipeline) Stats() []OperatorStats {
	j := p.running()
	if j == nil {
		return nil
	}
	var all []OperatorStats
	for _, in := range j.instances {
		all = append(all, in.stats())
	}
	return all
}

func (in *instance) stats() OperatorStats {
	s := OperatorStats{
		Operator: in.node.name, Subtask: in.task.subtask,
		In: in.in.Load(), Rejected: in.rejected.Load(), Watermark: in.watermark.Load(),
		Counters: map[string]int64{}, Gauges: map[string]int64{}, Histograms: map[string]HistogramStats{},
	}
	if in.main != nil {
		s.Out = in.main.emitted()
	}
	in.metrics.read(&s)
	return s
}

func (m *Metrics) read(s *OperatorStats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, c := range m.counters {
		s.Counters[name] = c.Load()
	}
	for name, g := range m.gauges {
		s.Gauges[name] = g.Load()
	}
	for name, h := range m.histograms {
		s.Histograms[name] = h.stats()
	}
	for name, split := range m.splits {
		if split.status.Load() != splitUnheard || len(split.gauges) > 0 {
			s.Splits = append(s.Splits, split.stats(name))
		}
	}
	slices.SortFunc(s.Splits, func(a, b SplitStats) int { return strings.Compare(a.Name, b.Name) })
}

// stats is called with Metrics.mu held.
func (f *splitFigures) stats(name string) SplitStats {
	status := f.status.Load()
	s := SplitStats{
		Name: name, Watermark: f.watermark.Load(), Gauges: map[string]int64{},
		Idle: status == splitIdle, Finished: status == splitFinished,
	}
	if !s.Finished {
		for name, g := range f.gauges {
			s.Gauges[name] = g.Load()
		}
	}
	return s
}

// allHistograms returns the histograms by name, as they are.
func (m *Metrics) allHistograms() map[string]*Histogram {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.histograms)
}
