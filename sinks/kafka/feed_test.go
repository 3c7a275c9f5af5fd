package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
)

// long is for what must happen, on a busy machine too.
const long = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// feed is a source of numbers, as many as the test allows.
type feed struct {
	mu    sync.Mutex
	limit int
	ended bool
	news  chan struct{}
	gave  int // by the reader there is
}

func newFeed(limit int) *feed { return &feed{limit: limit, news: make(chan struct{})} }

// ended gives that many and no more.
func ended(limit int) *feed {
	f := newFeed(limit)
	f.ended = true
	return f
}

func (f *feed) allow(limit int) { f.change(func() { f.limit = limit }) }
func (f *feed) end()            { f.change(func() { f.ended = true }) }

func (f *feed) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.news)
	f.news = make(chan struct{})
}

func (f *feed) given() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gave
}

func (f *feed) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int], error) {
	if !env.Mine(0) { // there is one split
		return noFeed{}, nil
	}
	r := &feedReader{feed: f, batch: env.BatchSize}
	if at, ok := env.Positions["feed"]; ok {
		n, err := strconv.Atoi(string(at))
		r.at = n
		return r, err
	}
	return r, nil
}

type noFeed struct{}

func (noFeed) Read(context.Context, *pipeline.SourceBatch[int]) error { return pipeline.ErrEndOfInput }

type feedReader struct {
	*feed
	batch, at int
	announced bool
}

func (r *feedReader) Read(ctx context.Context, b *pipeline.SourceBatch[int]) error {
	if !r.announced {
		r.announced = true
		b.AddSplit("feed")
		return nil
	}
	for {
		r.mu.Lock()
		limit, ended, news := r.limit, r.ended, r.news
		r.mu.Unlock()
		if r.at < limit {
			r.fill(b, limit)
			return nil
		}
		if ended {
			return pipeline.ErrEndOfInput
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *feedReader) fill(b *pipeline.SourceBatch[int], limit int) {
	b.Split = "feed"
	for ; r.at < limit && len(b.Values) < r.batch; r.at++ {
		b.Values = append(b.Values, r.at)
	}
	b.Position = strconv.AppendInt(nil, int64(r.at), 10)
	r.mu.Lock()
	r.gave = r.at
	r.mu.Unlock()
}

// feedJob writes the numbers of a feed to topic out.
func feedJob(f *feed, cfg kafka.Config, opts ...pipeline.Option) *pipeline.Pipeline {
	p, _ := feedJobWith(f, cfg, encodeNumber, opts...)
	return p
}

func encodeNumber(n int, r *kgo.Record) error {
	r.Key, r.Value = []byte("n"), strconv.AppendInt(nil, int64(n), 10)
	return nil
}

func feedJobWith(f *feed, cfg kafka.Config, encode func(int, *kgo.Record) error, opts ...pipeline.Option) (*pipeline.Pipeline, *kafka.Producer) {
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name("feeding"), pipeline.DefaultParallelism(1), pipeline.BatchSize(16), pipeline.Logger(quiet),
	}, opts...)...)
	out := kafka.NewProducer(cfg)
	pipeline.To(pipeline.From(p, "feed", f), "out", kafka.Encode(out, "out", encode))
	return p, out
}

// asked takes checkpoints where the test asks for them.
func asked(dir string, more ...pipeline.CheckpointOption) pipeline.Option {
	return pipeline.Checkpoints(dir, append([]pipeline.CheckpointOption{pipeline.CheckpointInterval(0)}, more...)...)
}

func outWorld(t testing.TB) *world { return newWorld(t, devkafka.Topic{Name: "out", Partitions: 3}) }

// numbers is what feedJob has written after n.
func numbers(n int) []string {
	all := []string{}
	for i := range n {
		all = append(all, "n="+strconv.Itoa(i))
	}
	slices.Sort(all)
	return all
}

func (w *world) wantNumbers(n int) {
	w.t.Helper()
	if got := w.read("out"); !slices.Equal(got, numbers(n)) {
		w.t.Errorf("%d records, want the numbers below %d; got %q", len(got), n, got)
	}
}

// run is a job that runs.
type run struct {
	*pipeline.Pipeline
	t     testing.TB
	ended chan error
}

func start(t testing.TB, p *pipeline.Pipeline) *run {
	r := &run{p, t, make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.ended <- p.Run(ctx) }()
	t.Cleanup(cancel)
	return r
}

// checkpoint takes one, once the job runs.
func (r *run) checkpoint() error {
	r.t.Helper()
	var err error
	await(r.t, "a checkpoint", func() bool {
		if len(r.ended) > 0 {
			return true
		}
		err = r.Checkpoint(r.t.Context())
		return !errors.Is(err, pipeline.ErrNoCheckpoints)
	})
	return err
}

// complete takes a checkpoint, which has to succeed.
func (r *run) complete() {
	r.t.Helper()
	if err := r.checkpoint(); err != nil {
		r.t.Fatal(err)
	}
}

// out waits until the sink has had that many records.
func (r *run) out(n int) {
	r.t.Helper()
	await(r.t, "records at the sink", func() bool { return counterOf(r.Pipeline, "records") >= int64(n) })
}

func counterOf(p *pipeline.Pipeline, name string) (n int64) {
	for _, s := range p.Stats() {
		if s.Operator == "out" {
			n += s.Counters[name]
		}
	}
	return n
}

func (r *run) wait() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(long):
		r.t.Fatal("the job does not end")
		return nil
	}
}

func (r *run) kill() {
	r.t.Helper()
	r.Kill()
	if err := r.wait(); !errors.Is(err, pipeline.ErrKilled) {
		r.t.Fatal(err)
	}
}

func mustRun(t testing.TB, p *pipeline.Pipeline) {
	t.Helper()
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// await polls for a condition.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v\nwant %q in it", err, part)
		}
	}
}
