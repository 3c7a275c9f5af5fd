package pipeline

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Registerer makes the job's figures visible to Prometheus, from its start to the
// end of Run: those of [Pipeline.Stats] and [Pipeline.CheckpointStats], under names
// that begin with millrace_, with the labels job ([Name]), operator, subtask and
// split. They are read when somebody asks, so records cost nothing more. Give it
// prometheus.DefaultRegisterer, or a registry of your own; to add labels, wrap it
// with prometheus.WrapRegistererWith. Jobs of different names may share one; a
// second job of the same name fails at its start. Default: nobody is shown them.
func Registerer(r prometheus.Registerer) Option {
	return func(c *config) { c.registerer, c.registererSet = r, true }
}

// namespace begins the names of all metrics.
const namespace = "millrace_"

// exporter shows a job's figures, as two collectors. That of the engine's own is
// registered before anything is opened, so that a job of the same name is refused
// before it has touched anything. Which figures operators have is known only when
// they are open, and a collector has to say at once which it will have.
type exporter struct {
	job    *job
	to     prometheus.Registerer // nil: nobody
	engine *engineCollector
	own    *ownCollector // nil until all operators are open
}

// register refuses a job of a name that is there already.
func (e *exporter) register(j *job) error {
	e.job, e.to = j, j.cfg.registerer
	if e.to == nil {
		return nil
	}
	e.engine = newEngineCollector(j)
	err := e.to.Register(e.engine)
	if err == nil {
		return nil
	}
	e.engine = nil
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return fmt.Errorf("register metrics: a job named %q runs with this registerer already: give each its own name (pipeline.Name): %w", j.cfg.name, err)
	}
	return fmt.Errorf("register metrics of job %q: %w", j.cfg.name, err)
}

// opened shows everything, once all operators are open. A name that others have
// taken is no reason to end the job.
func (e *exporter) opened() {
	if e.to == nil {
		return
	}
	e.engine.ready.Store(true)
	own := newOwnCollector(e.job)
	if err := e.to.Register(own); err != nil {
		own.log.Warn("figures of operators, sources and sinks are not shown to Prometheus", "err", err)
		return
	}
	e.own = own
}

// unregister is for the job's end, however far it came.
func (e *exporter) unregister() {
	if e.engine != nil {
		e.to.Unregister(e.engine)
	}
	if e.own != nil {
		e.to.Unregister(e.own)
	}
}

// Labels, in the order of their values.
var (
	subtaskLabels = []string{"operator", "subtask"}
	splitLabels   = []string{"operator", "subtask", "split"}
)

// metric is one of the engine's: from says what it is for a job, a subtask or a
// split, and false where there is nothing to say.
type metric[S any] struct {
	name, help string
	kind       prometheus.ValueType
	from       func(S) (float64, bool)
	desc       *prometheus.Desc
}

func always[S any](of func(S) float64) func(S) (float64, bool) {
	return func(s S) (float64, bool) { return of(s), true }
}

var (
	subtaskMetrics = []metric[*OperatorStats]{
		{name: "records_in_total", help: "Records taken in.", kind: prometheus.CounterValue,
			from: always(func(s *OperatorStats) float64 { return float64(s.In) })},
		{name: "records_out_total", help: "Records emitted by the main output.", kind: prometheus.CounterValue,
			from: always(func(s *OperatorStats) float64 { return float64(s.Out) })},
		{name: "records_rejected_total", help: "Records sent to the dead-letter output.", kind: prometheus.CounterValue,
			from: always(func(s *OperatorStats) float64 { return float64(s.Rejected) })},
		{name: "watermark_seconds", help: "Event time, in seconds since the epoch; absent before the first watermark and after the end of input.",
			kind: prometheus.GaugeValue, from: func(s *OperatorStats) (float64, bool) { return eventSeconds(s.Watermark) }},
		{name: "watermark_lag_seconds", help: "How far event time is behind the clock; absent where there is no watermark.",
			kind: prometheus.GaugeValue, from: func(s *OperatorStats) (float64, bool) { return lagSeconds(s.Watermark) }},
	}
	splitMetrics = []metric[*SplitStats]{
		{name: "split_watermark_seconds", help: "Event time of a split, in seconds since the epoch; absent before its first watermark.",
			kind: prometheus.GaugeValue, from: func(s *SplitStats) (float64, bool) { return eventSeconds(s.Watermark) }},
		{name: "split_idle", help: "1 while event time does not wait for the split, else 0.", kind: prometheus.GaugeValue,
			from: always(func(s *SplitStats) float64 { return map[bool]float64{true: 1}[s.Idle] })},
	}
	jobMetrics = []metric[*job]{
		{name: "state_memory_bytes", help: "Keyed state in memory, by estimate, of all operators together.", kind: prometheus.GaugeValue,
			from: func(j *job) (float64, bool) {
				if j.storage == nil {
					return 0, false
				}
				return float64(j.storage.Used()), true
			}},
		{name: "state_memory_limit_bytes", help: "How much keyed state may be in memory; absent where there is no limit.", kind: prometheus.GaugeValue,
			from: func(j *job) (float64, bool) {
				return float64(j.cfg.checkpoints.stateMemory), j.storage != nil && !j.storage.InMemory()
			}},
	}
	checkpointMetrics = []metric[*CheckpointStats]{
		{name: "checkpoints_completed_total", help: "Checkpoints that are complete.", kind: prometheus.CounterValue,
			from: always(func(s *CheckpointStats) float64 { return float64(s.Completed) })},
		{name: "checkpoints_failed_total", help: "Checkpoints that failed or were given up.", kind: prometheus.CounterValue,
			from: always(func(s *CheckpointStats) float64 { return float64(s.Failed) })},
		{name: "checkpoint_last_id", help: "Number of the last complete checkpoint; absent before the first of this run.", kind: prometheus.GaugeValue,
			from: func(s *CheckpointStats) (float64, bool) { return float64(s.LastID), s.Completed > 0 }},
		{name: "checkpoint_last_duration_seconds", help: "Time from the last complete checkpoint's barriers to its commit.", kind: prometheus.GaugeValue,
			from: func(s *CheckpointStats) (float64, bool) { return s.LastDuration.Seconds(), s.Completed > 0 }},
		{name: "checkpoint_last_size_bytes", help: "Size of the files of the last complete checkpoint, shared ones included.", kind: prometheus.GaugeValue,
			from: func(s *CheckpointStats) (float64, bool) { return float64(s.LastSize), s.Completed > 0 }},
	}
)

const (
	checkpointDurationName = namespace + "checkpoint_duration_seconds"
	checkpointDurationHelp = "Time from a complete checkpoint's barriers to its commit."
)

func eventSeconds(ms int64) (float64, bool) {
	return float64(ms) / 1000, ms != MinWatermark && ms != MaxWatermark
}

func lagSeconds(ms int64) (float64, bool) {
	at, ok := eventSeconds(ms)
	return float64(time.Now().UnixMilli())/1000 - at, ok
}

// engineCollector shows what the engine knows.
type engineCollector struct {
	job         *job
	ready       atomic.Bool // the job is open
	subtasks    []metric[*OperatorStats]
	splits      []metric[*SplitStats]
	jobs        []metric[*job]
	checkpoints []metric[*CheckpointStats]
	durations   *prometheus.Desc // of checkpoints
}

func newEngineCollector(j *job) *engineCollector {
	label := jobLabel(j)
	return &engineCollector{
		job:      j,
		subtasks: described(subtaskMetrics, subtaskLabels, label), splits: described(splitMetrics, splitLabels, label),
		jobs: described(jobMetrics, nil, label), checkpoints: described(checkpointMetrics, nil, label),
		durations: prometheus.NewDesc(checkpointDurationName, checkpointDurationHelp, nil, label),
	}
}

func jobLabel(j *job) prometheus.Labels { return prometheus.Labels{"job": labelValue(j.cfg.name)} }

// labelValue makes a name of any bytes, that of a file perhaps, one that Prometheus
// takes.
func labelValue(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func described[S any](all []metric[S], labels []string, job prometheus.Labels) []metric[S] {
	all = slices.Clone(all)
	for i := range all {
		all[i].desc = prometheus.NewDesc(namespace+all[i].name, all[i].help, labels, job)
	}
	return all
}

func (c *engineCollector) Describe(to chan<- *prometheus.Desc) {
	describe(to, c.subtasks)
	describe(to, c.splits)
	describe(to, c.jobs)
	describe(to, c.checkpoints)
	to <- c.durations
}

func describe[S any](to chan<- *prometheus.Desc, all []metric[S]) {
	for _, m := range all {
		to <- m.desc
	}
}

func (c *engineCollector) Collect(to chan<- prometheus.Metric) {
	if !c.ready.Load() {
		return
	}
	collect(to, c.jobs, c.job)
	if points := c.job.checkpoints; points != nil {
		stats := points.metrics.read()
		collect(to, c.checkpoints, &stats)
		to <- labelled{points.metrics.durations, c.durations, prometheus.MakeLabelPairs(c.durations, nil)}
	}
	for _, in := range c.job.instances {
		if in.node.kind == kindUnion {
			continue // its name may be that of an operator
		}
		s := in.stats()
		labels := labelsOf(&s)
		collect(to, c.subtasks, &s, labels...)
		for i := range s.Splits {
			if split := &s.Splits[i]; !split.Finished {
				collect(to, c.splits, split, append(labels, labelValue(split.Name))...)
			}
		}
	}
}

func labelsOf(s *OperatorStats) []string {
	return []string{labelValue(s.Operator), fmt.Sprint(s.Subtask)}
}

func collect[S any](to chan<- prometheus.Metric, all []metric[S], of S, labels ...string) {
	for _, m := range all {
		if v, ok := m.from(of); ok {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
		}
	}
}

// labelled is a histogram under the name and with the labels that it is shown.
type labelled struct {
	of     *Histogram
	desc   *prometheus.Desc
	labels []*dto.LabelPair
}

func (l labelled) Desc() *prometheus.Desc { return l.desc }

func (l labelled) Write(m *dto.Metric) error {
	err := l.of.of.Write(m)
	m.Label = l.labels
	return err
}

// ownCollector shows the figures that operators, sources and sinks have made.
type ownCollector struct {
	job     *job
	log     *slog.Logger
	promise []*prometheus.Desc // what Describe says, of what there was at the start

	mu    sync.Mutex
	descs map[figureName]*prometheus.Desc // nil for one that is left out; guarded by mu
	taken map[string]bool                 // names; guarded by mu
}

// figureName is what operators call a figure.
type figureName struct {
	kind figureKind
	name string
}

type figureKind int

const (
	counterFigure figureKind = iota
	gaugeFigure
	histogramFigure
	splitFigure
)

func newOwnCollector(j *job) *ownCollector {
	c := &ownCollector{
		job: j, log: j.cfg.logger.With("job", j.cfg.name),
		descs: map[figureName]*prometheus.Desc{}, taken: map[string]bool{checkpointDurationName: true},
	}
	take(c.taken, subtaskMetrics)
	take(c.taken, splitMetrics)
	take(c.taken, jobMetrics)
	take(c.taken, checkpointMetrics)
	// By kind and name, so that it does not depend on chance which of two that
	// would be called the same is left out.
	for _, f := range c.figures() {
		if d := c.desc(f); d != nil {
			c.promise = append(c.promise, d)
		}
	}
	if len(c.promise) == 0 { // a collector without any is another kind, which can't be unregistered
		c.promise = append(c.promise, prometheus.NewDesc(namespace+"own_figures", "Never there.", nil, jobLabel(j)))
	}
	return c
}

func take[S any](taken map[string]bool, all []metric[S]) {
	for _, m := range all {
		taken[namespace+m.name] = true
	}
}

// figures returns all there are.
func (c *ownCollector) figures() []figureName {
	all := map[figureName]bool{}
	for _, in := range c.job.instances {
		s := in.stats()
		addNames(all, counterFigure, s.Counters)
		addNames(all, gaugeFigure, s.Gauges)
		addNames(all, histogramFigure, s.Histograms)
		for _, split := range s.Splits {
			addNames(all, splitFigure, split.Gauges)
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b figureName) int {
		if a.kind != b.kind {
			return int(a.kind - b.kind)
		}
		return strings.Compare(a.name, b.name)
	})
}

func addNames[F any](all map[figureName]bool, kind figureKind, figures map[string]F) {
	for name := range figures {
		all[figureName{kind, name}] = true
	}
}

// desc returns how a figure is shown, nil if it can't be, because its name is
// taken.
func (c *ownCollector) desc(f figureName) *prometheus.Desc {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, known := c.descs[f]
	if known {
		return d
	}
	if name := f.shown(); c.taken[name] {
		c.log.Warn("a figure is not shown to Prometheus, since the name is taken: give it another", "figure", f.name, "shown", name)
	} else {
		c.taken[name] = true
		d = f.desc(name, c.job)
	}
	c.descs[f] = d
	return d
}

// shown is the name that Prometheus is given.
func (f figureName) shown() string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, f.name)
	switch f.kind {
	case counterFigure:
		return namespace + strings.TrimSuffix(name, "_total") + "_total"
	case histogramFigure:
		return namespace + strings.TrimSuffix(name, "_seconds") + "_seconds"
	case splitFigure:
		return namespace + "split_" + name
	}
	return namespace + name
}

// The help of a name must be the same in all jobs of a process.
func (f figureName) desc(name string, j *job) *prometheus.Desc {
	help, labels := "A gauge of an operator, source or sink.", subtaskLabels
	switch f.kind {
	case counterFigure:
		help = "A counter of an operator, source or sink."
	case histogramFigure:
		help = "Durations in an operator, source or sink."
	case splitFigure:
		help, labels = "A gauge of a source's split.", splitLabels
	}
	return prometheus.NewDesc(name, help, labels, jobLabel(j))
}

func (c *ownCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.promise {
		to <- d
	}
}

func (c *ownCollector) Collect(to chan<- prometheus.Metric) {
	for _, in := range c.job.instances {
		if in.node.kind == kindUnion {
			continue
		}
		s := in.stats()
		labels := labelsOf(&s)
		c.values(to, counterFigure, s.Counters, labels)
		c.values(to, gaugeFigure, s.Gauges, labels)
		for _, split := range s.Splits {
			c.values(to, splitFigure, split.Gauges, append(labels, labelValue(split.Name)))
		}
		for name, h := range in.metrics.allHistograms() {
			if d := c.desc(figureName{histogramFigure, name}); d != nil {
				to <- labelled{h, d, prometheus.MakeLabelPairs(d, labels)}
			}
		}
	}
}

func (c *ownCollector) values(to chan<- prometheus.Metric, kind figureKind, figures map[string]int64, labels []string) {
	shown := prometheus.GaugeValue
	if kind == counterFigure {
		shown = prometheus.CounterValue
	}
	for name, v := range figures {
		if d := c.desc(figureName{kind, name}); d != nil {
			to <- prometheus.MustNewConstMetric(d, shown, float64(v), labels...)
		}
	}
}
