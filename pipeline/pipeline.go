package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/state"
)

// Pipeline is a job: a graph that is built with the functions of this package
// and of package operators, and then run once.
//
// Building is for one goroutine. Mistakes do not stop it; they are collected
// with the line they were made on and reported together by Validate and Run.
type Pipeline struct {
	cfg      config
	nodes    []*node
	mistakes []*mistake
	dead     *node // the dead-letter stream, when somebody asked for it

	commitPoint CommitPoint // of a sink, or nil
	commitSink  *node       // the first that has it

	mu  sync.Mutex
	job *job // the running job; guarded by mu
	ran bool // guarded by mu
}

// config is what options set. defaults fills it, check validates it.
type config struct {
	name              string
	parallelism       int
	maxParallelism    int
	batchSize         int
	linger            time.Duration
	channelCapacity   int
	watermarkInterval time.Duration
	stopTimeout       time.Duration
	logger            *slog.Logger
	registerer        prometheus.Registerer
	registererSet     bool
	checkpoints       checkpointConfig
}

// coresParallelism stands for the number of cores, within the key groups.
const coresParallelism = math.MinInt

func defaults() config {
	return config{
		name:              "job",
		parallelism:       coresParallelism,
		maxParallelism:    state.DefaultMaxParallelism,
		batchSize:         512,
		linger:            5 * time.Millisecond,
		channelCapacity:   4,
		watermarkInterval: 50 * time.Millisecond,
		stopTimeout:       30 * time.Second,
		logger:            slog.Default(),
		checkpoints:       checkpointDefaults(),
	}
}

// New returns an empty pipeline.
func New(opts ...Option) *Pipeline {
	p := &Pipeline{cfg: defaults()}
	for _, o := range opts {
		o(&p.cfg)
	}
	if p.cfg.parallelism == coresParallelism {
		p.cfg.parallelism = min(runtime.GOMAXPROCS(0), max(p.cfg.maxParallelism, 1))
	}
	p.check()
	return p
}

// Option sets something of the whole job.
type Option func(*config)

// Name names the job in logs and metrics. Default "job".
func Name(name string) Option { return func(c *config) { c.name = name } }

// DefaultParallelism sets the number of subtasks of every operator that does
// not set its own with [Parallelism]. Raise it to use more cores for one job.
// Default: the number of cores, or [MaxParallelism] where that is less.
func DefaultParallelism(n int) Option { return func(c *config) { c.parallelism = n } }

// MaxParallelism sets the number of key groups, the highest parallelism the
// job can ever be restored at. It is fixed for the life of a job's state.
// Default 128.
func MaxParallelism(n int) Option { return func(c *config) { c.maxParallelism = n } }

// BatchSize sets how many records travel together at most. Lower it when
// records are large, so that fewer are in flight. Default 512, at which what a
// batch costs as a whole is small beside what its records cost.
func BatchSize(n int) Option { return func(c *config) { c.batchSize = n } }

// Linger sets how long a record may wait for its batch to fill at a busy
// operator; when an operator's input runs dry, batches leave at once. Default
// 5 ms.
func Linger(d time.Duration) Option { return func(c *config) { c.linger = d } }

// ChannelCapacity sets how many batches wait between two subtasks before the
// sender is held back. Default 4.
func ChannelCapacity(n int) Option { return func(c *config) { c.channelCapacity = n } }

// WatermarkInterval sets how often a busy source emits its watermark; a source
// whose input runs dry emits it at once, and one that meets a late record
// emits it just before that record. Default 50 ms.
func WatermarkInterval(d time.Duration) Option { return func(c *config) { c.watermarkInterval = d } }

// StopTimeout sets how long Run waits, after its context is cancelled, for
// records in flight to reach their sinks. Default 30 s.
func StopTimeout(d time.Duration) Option { return func(c *config) { c.stopTimeout = d } }

// Logger sets where the job logs. Default slog.Default().
func Logger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// check reports options out of range as mistakes of the line that called New.
func (p *Pipeline) check() {
	c := &p.cfg
	for _, v := range []struct {
		name string
		n    int
	}{
		{"DefaultParallelism", c.parallelism}, {"MaxParallelism", c.maxParallelism},
		{"BatchSize", c.batchSize}, {"ChannelCapacity", c.channelCapacity},
	} {
		if v.n < 1 {
			p.mistake(callSite(), "%s is %d, must be at least 1", v.name, v.n)
		}
	}
	if c.maxParallelism > maxMaxParallelism {
		p.mistake(callSite(), "MaxParallelism is %d, must be at most %d", c.maxParallelism, maxMaxParallelism)
	}
	for _, v := range []struct {
		name string
		d    time.Duration
	}{{"Linger", c.linger}, {"WatermarkInterval", c.watermarkInterval}, {"StopTimeout", c.stopTimeout}} {
		if v.d < 0 {
			p.mistake(callSite(), "%s is negative: %v", v.name, v.d)
		}
	}
	for _, wrong := range c.checkpoints.check() {
		p.mistake(callSite(), "%s", wrong)
	}
	if c.logger == nil {
		p.mistake(callSite(), "Logger is nil")
		c.logger = slog.Default()
	}
	if c.registererSet && isNil(c.registerer) {
		p.mistake(callSite(), "Registerer is nil")
		c.registerer = nil
	}
}

// maxMaxParallelism keeps key groups within two bytes.
const maxMaxParallelism = 1 << 15

func (p *Pipeline) mistake(where, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // several, joined
	p.mistakes = append(p.mistakes, &mistake{where, text})
}

// Validate reports every mistake in the graph, each with the user's file and
// line, joined into one error that matches [ErrInvalidGraph]; nil when there
// is none.
func (p *Pipeline) Validate() error {
	var errs []error
	for _, m := range p.mistakes {
		errs = append(errs, m)
	}
	for _, m := range p.inspect() {
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}

// ErrAlreadyRun is returned by the second Run of a pipeline: operators and
// sinks are made for one run, so build the graph anew.
var ErrAlreadyRun = errors.New("pipeline was run already")

// Run runs the job until its bounded inputs end, until Drain has finished it,
// until ctx is cancelled, or until it fails.
//
// It returns nil when the input ended or was drained, every window having
// fired, and nil as well when ctx was cancelled and the job stopped cleanly:
// records in flight have reached their sinks, no further window fired. Use
// ctx.Err to tell the two apart. A failure is returned as an *[OperatorError].
func (p *Pipeline) Run(ctx context.Context) error {
	if err := p.Validate(); err != nil {
		return err
	}
	j, err := p.start(ctx)
	if err != nil {
		return err
	}
	return j.wait(ctx)
}

func (p *Pipeline) start(ctx context.Context) (*job, error) {
	p.mu.Lock()
	again := p.ran
	p.ran = true
	p.mu.Unlock()
	if again {
		return nil, ErrAlreadyRun
	}
	j, err := newJob(ctx, p)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.job = j // before the first record, from which Drain may be called
	p.mu.Unlock()
	j.start()
	return j, nil
}

// Drain makes a running job finish as though its sources had ended: they stop
// reading, every window fires, sinks are flushed, and Run returns nil. It
// returns at once, is safe to call from any goroutine, and does nothing when
// the job is not running, which it is once all operators are open.
func (p *Pipeline) Drain() {
	if j := p.running(); j != nil {
		j.drain()
	}
}

func (p *Pipeline) running() *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.job
}
