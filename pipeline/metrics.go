package pipeline

import (
	"sync"
	"sync/atomic"
)

// Metrics are the named figures of one subtask of an operator. Figures are
// made once, while opening, and then updated without a lock; reading them is
// safe from any goroutine. The zero value is ready, for a test that opens a
// source or sink by itself.
type Metrics struct {
	mu       sync.Mutex
	counters map[string]*Counter
	gauges   map[string]*Gauge
}

// Counter only grows.
type Counter struct{ atomic.Int64 }

// Gauge goes up and down.
type Gauge struct{ atomic.Int64 }

func newMetrics() *Metrics {
	return &Metrics{counters: map[string]*Counter{}, gauges: map[string]*Gauge{}}
}

// Counter returns the counter of that name, made at the first call.
func (m *Metrics) Counter(name string) *Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.counters, name)
}

// Gauge returns the gauge of that name, made at the first call.
func (m *Metrics) Gauge(name string) *Gauge {
	m.mu.Lock()
	defer m.mu.Unlock()
	return figure(&m.gauges, name)
}

func figure[F any](all *map[string]*F, name string) *F {
	f := (*all)[name]
	if f == nil {
		f = new(F)
		if *all == nil {
			*all = map[string]*F{}
		}
		(*all)[name] = f
	}
	return f
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
		Counters: map[string]int64{}, Gauges: map[string]int64{},
	}
	if in.main != nil {
		s.Out = in.main.emitted()
	}
	in.metrics.mu.Lock()
	defer in.metrics.mu.Unlock()
	for name, c := range in.metrics.counters {
		s.Counters[name] = c.Load()
	}
	for name, g := range in.metrics.gauges {
		s.Gauges[name] = g.Load()
	}
	return s
}
