package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/millrace/millrace/pipeline"
)

// scrape returns what a registry shows of names that begin with prefix, a line for
// each value, sorted.
func scrape(t *testing.T, r prometheus.Gatherer, prefix string) []string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		for _, m := range f.Metric {
			if strings.HasPrefix(f.GetName(), prefix) {
				lines = append(lines, line(f, m))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func line(f *dto.MetricFamily, m *dto.Metric) string {
	var labels []string
	for _, l := range m.Label {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
	if f.GetType() == dto.MetricType_HISTOGRAM {
		v = float64(m.GetHistogram().GetSampleCount())
	}
	return fmt.Sprintf("%s %s{%s} %v", f.GetType(), f.GetName(), strings.Join(labels, " "), v)
}

// noting is an operator with figures of its own, whose names ask for trouble.
type noting struct{}

func (noting) Open(c *pipeline.Context[pipeline.NoKey, event]) error {
	m := c.Metrics()
	m.Counter("notes").Add(3)
	m.Gauge("ink-level").Store(8)
	m.Gauge("ink_level").Store(9)
	m.Counter("records_in").Add(1000)
	m.Histogram("writing").Observe(time.Second)
	return nil
}

func (noting) Process(c *pipeline.Context[pipeline.NoKey, event], e event) error {
	c.Emit(e)
	return nil
}

// notedJob is one that has figures of every kind.
func notedJob(name string, d dictation, more ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name(name), pipeline.DefaultParallelism(1), pipeline.Logger(quiet),
	}, more...)...)
	in := pipeline.From(p, "events", d, pipeline.Monotonic(eventTime))
	noted := pipeline.Process(in, "noted", func() noting { return noting{} })
	collect(count(noted), "out")
	collect(pipeline.DeadLetters(p), "dead letters") // which the engine has a part of, too
	return p
}

func TestPrometheusShowsTheJob(t *testing.T) {
	d, log := make(dictation), &logged{}
	r := prometheus.NewPedanticRegistry()
	p := notedJob("notes", d, pipeline.Registerer(r), checkpointsOn(vfs.NewMem()), pipeline.Logger(slog.New(slog.NewTextHandler(log, nil))))
	end := inBackground(t, p, d)
	d.record("a", 5000)
	d.record("b", 7000)
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) { b.IdleSplit("b") }
	d.record("c", 9000)
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) { b.FinishSplit("c") }
	eventually(t, "all is counted", func() bool {
		return strings.Contains(strings.Join(scrape(t, r, "millrace_records_in"), "\n"), "operator=count subtask=0} 3") && splits(p)["c"].Finished
	})
	if err := p.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"millrace_records_in": {
			"COUNTER millrace_records_in_total{job=notes operator=count subtask=0} 3",
			"COUNTER millrace_records_in_total{job=notes operator=dead letters subtask=0} 0",
			"COUNTER millrace_records_in_total{job=notes operator=events subtask=0} 3",
			"COUNTER millrace_records_in_total{job=notes operator=noted subtask=0} 3",
			"COUNTER millrace_records_in_total{job=notes operator=out subtask=0} 0",
		},
		"millrace_records_rejected": {
			"COUNTER millrace_records_rejected_total{job=notes operator=count subtask=0} 0",
			"COUNTER millrace_records_rejected_total{job=notes operator=dead letters subtask=0} 0",
			"COUNTER millrace_records_rejected_total{job=notes operator=events subtask=0} 0",
			"COUNTER millrace_records_rejected_total{job=notes operator=noted subtask=0} 0",
			"COUNTER millrace_records_rejected_total{job=notes operator=out subtask=0} 0",
		},
		"millrace_watermark_seconds": {
			"GAUGE millrace_watermark_seconds{job=notes operator=count subtask=0} 4.999",
			"GAUGE millrace_watermark_seconds{job=notes operator=dead letters subtask=0} 4.999",
			"GAUGE millrace_watermark_seconds{job=notes operator=events subtask=0} 4.999",
			"GAUGE millrace_watermark_seconds{job=notes operator=noted subtask=0} 4.999",
			"GAUGE millrace_watermark_seconds{job=notes operator=out subtask=0} 4.999",
		},
		"millrace_split_": {
			"GAUGE millrace_split_idle{job=notes operator=events split=a subtask=0} 0",
			"GAUGE millrace_split_idle{job=notes operator=events split=b subtask=0} 1",
			"GAUGE millrace_split_watermark_seconds{job=notes operator=events split=a subtask=0} 4.999",
			"GAUGE millrace_split_watermark_seconds{job=notes operator=events split=b subtask=0} 6.999",
		},
		"millrace_notes":             {"COUNTER millrace_notes_total{job=notes operator=noted subtask=0} 3"},
		"millrace_ink":               {"GAUGE millrace_ink_level{job=notes operator=noted subtask=0} 8"},
		"millrace_writing":           {"HISTOGRAM millrace_writing_seconds{job=notes operator=noted subtask=0} 1"},
		"millrace_checkpoints":       {"COUNTER millrace_checkpoints_completed_total{job=notes} 1", "COUNTER millrace_checkpoints_failed_total{job=notes} 0"},
		"millrace_checkpoint_last_i": {"GAUGE millrace_checkpoint_last_id{job=notes} 1"},
		"millrace_checkpoint_dur":    {"HISTOGRAM millrace_checkpoint_duration_seconds{job=notes} 1"},
		"millrace_state_memory_l":    {fmt.Sprintf("GAUGE millrace_state_memory_limit_bytes{job=notes} %v", float64(256<<20))},
	} {
		if got := scrape(t, r, prefix); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", prefix, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for _, prefix := range []string{
		"millrace_watermark_lag_seconds", "millrace_state_memory_bytes", "millrace_state_entries", "millrace_timers", "millrace_checkpoint_last_duration_seconds", "millrace_checkpoint_last_size_bytes",
	} {
		if got := scrape(t, r, prefix); len(got) == 0 || strings.HasSuffix(got[0], "} 0") {
			t.Errorf("%s: %v", prefix, got)
		}
	}
	for _, name := range []string{"shown=millrace_ink_level", "shown=millrace_records_in_total"} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("the log does not say that a figure is left out, %s:\n%s", name, log)
		}
	}
	end()
	if got := scrape(t, r, "millrace_"); len(got) > 0 {
		t.Errorf("after the job: %v", got)
	}
}

// logged keeps log lines.
type logged struct {
	mu    sync.Mutex
	lines bytes.Buffer // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func TestJobsShareARegistry(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	one, two := make(dictation), make(dictation)
	endOne := inBackground(t, notedJob("one", one, pipeline.Registerer(r)), one)
	endTwo := inBackground(t, notedJob("two", two, pipeline.Registerer(r)), two)
	one.record("not text: \xff", 1)
	eventually(t, "both are shown", func() bool {
		return len(scrape(t, r, "millrace_notes")) == 2 && len(scrape(t, r, "millrace_split_idle")) == 1
	})

	fs := vfs.NewMem()
	err := notedJob("one", make(dictation), pipeline.Registerer(r), checkpointsOn(fs)).Run(t.Context())
	wantError(t, err, `a job named "one" runs with this registerer already`, "pipeline.Name")
	if _, err := fs.Stat("/job"); err == nil {
		t.Error("the second job of a name had opened its directory before it was refused")
	}
	endTwo()
	if got := scrape(t, r, "millrace_notes"); len(got) != 1 || !strings.Contains(got[0], "job=one") {
		t.Errorf("the first job is not shown as it was: %v", got)
	}
	endOne()

	again := make(dictation)
	end := inBackground(t, notedJob("one", again, pipeline.Registerer(r)), again)
	eventually(t, "it is shown", func() bool { return len(scrape(t, r, "millrace_notes")) == 1 })
	end()
}

// closedSource does not open.
type closedSource struct{}

func (closedSource) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return nil, errors.New("closed today")
}

func TestPrometheusForgetsAJobThatDidNotStart(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	for range 2 {
		p := pipeline.New(pipeline.Registerer(r))
		collect(pipeline.From(p, "events", closedSource{}), "out")
		wantError(t, p.Run(t.Context()), "closed today")
	}
}

func TestNilRegisterer(t *testing.T) {
	var registry *prometheus.Registry
	for _, r := range []prometheus.Registerer{nil, registry} {
		p := pipeline.New(pipeline.Registerer(r))
		collect(from(p, events(1, 1)), "out")
		wantError(t, p.Validate(), "Registerer is nil", "prometheus_test.go:")
	}
}

// Anybody may ask at any time, and figures may be made late.
func TestScrapingWhileTheJobRuns(t *testing.T) {
	r := prometheus.NewRegistry()
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := r.Gather(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 3 {
		d := make(dictation)
		end := inBackground(t, notedJob("asked", d, pipeline.Registerer(r), checkpointsOn(vfs.NewMem())), d)
		for i := range int64(50) {
			d.lag(fmt.Sprint(i%3), i)
			d.record(fmt.Sprint(i%3), i)
		}
		end()
	}
	close(done)
	asking.Wait()
}
