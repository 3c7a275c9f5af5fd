package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/kafka"
)

// long is for what must happen, on a busy machine too.
const long = 30 * time.Second

// world is a broker and a client that writes to it.
type world struct {
	t      testing.TB
	broker *devkafka.Broker
	client *kgo.Client
}

func newWorld(t testing.TB, topics ...devkafka.Topic) *world {
	t.Helper()
	return newWorldWith(t, devkafka.Options{Topics: topics})
}

func newWorldWith(t testing.TB, o devkafka.Options) *world {
	t.Helper()
	b, err := devkafka.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	w := &world{t: t, broker: b}
	w.client = w.newClient(o.Client...)
	return w
}

func (w *world) newClient(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.broker.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.DisableClientMetrics(),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// quick makes a client react at once, to which tests need not wait.
func quick(opts ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.FetchMaxWait(10 * time.Millisecond), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }),
	}, opts...)
}

// config returns how to read topics of the world.
func (w *world) config(topics ...string) kafka.Config {
	return kafka.Config{Brokers: []string{w.broker.Addr()}, Topics: topics, Client: quick(), StartTimeout: long}
}

func bounded(c kafka.Config) kafka.Config {
	c.Bounded = true
	return c
}

func (w *world) produce(topic string, partition int32, values ...string) {
	w.t.Helper()
	for _, v := range values {
		w.write(&kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
}

func (w *world) write(records ...*kgo.Record) {
	w.t.Helper()
	if err := w.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// transaction writes values in a transaction of their own.
func (w *world) transaction(c *kgo.Client, end kgo.TransactionEndTry, topic string, partition int32, values ...string) {
	w.t.Helper()
	w.begin(c, topic, partition, values...)
	if err := c.EndTransaction(context.Background(), end); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) begin(c *kgo.Client, topic string, partition int32, values ...string) {
	w.t.Helper()
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	for _, v := range values {
		if err := c.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)}).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.settle(c)
}

// settle waits until the client knows where it has written. Within a topic's first
// transaction it may not yet when the brokers have acknowledged the records, and then
// aborts what it is to commit.
func (w *world) settle(c *kgo.Client) {
	w.t.Helper()
	if err := c.AbortBufferedRecords(w.t.Context()); err != nil { // there are none
		w.t.Fatal(err)
	}
}

// env is one subtask's.
func env(subtask, parallelism int) *pipeline.SourceEnv {
	return &pipeline.SourceEnv{
		Operator: "source", Subtask: subtask, Parallelism: parallelism, BatchSize: 10,
		Logger: slog.New(slog.DiscardHandler), Metrics: &pipeline.Metrics{},
	}
}

// reading is an open reader and what it has said.
type reading[T any] struct {
	t         testing.TB
	reader    pipeline.Reader[T]
	values    map[string][]T
	rejected  []pipeline.DeadLetter
	positions map[string][]byte
	splits    []string
	finished  []string
}

func open[T any](t testing.TB, src pipeline.Source[T], env *pipeline.SourceEnv) *reading[T] {
	t.Helper()
	reader, err := src.Open(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	r := &reading[T]{t: t, reader: reader, values: map[string][]T{}, positions: map[string][]byte{}}
	t.Cleanup(r.close)
	return r
}

func (r *reading[T]) close() {
	if err := r.reader.(pipeline.Closer).Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *reading[T]) count() int {
	n := len(r.rejected)
	for _, v := range r.values {
		n += len(v)
	}
	return n
}

// read reads one batch.
func (r *reading[T]) read(ctx context.Context) error {
	var b pipeline.SourceBatch[T]
	err := r.reader.Read(ctx, &b)
	added, _, finished := b.News()
	r.splits = append(r.splits, added...)
	r.finished = append(r.finished, finished...)
	r.values[b.Split] = append(r.values[b.Split], b.Values...)
	r.rejected = append(r.rejected, b.Rejected...)
	if b.Position != nil {
		r.positions[b.Split] = b.Position
	}
	return err
}

// until reads until the condition holds.
func (r *reading[T]) until(what string, holds func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	for !holds() {
		if err := r.read(ctx); err != nil {
			r.t.Fatalf("waiting for %s: %v; have %v", what, err, r.values)
		}
	}
}

func (r *reading[T]) records(n int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d records", n), func() bool { return r.count() >= n })
}

// placed reads until every announced split has a position.
func (r *reading[T]) placed(n int) {
	r.t.Helper()
	r.until("positions", func() bool { return len(r.positions) >= n })
}

// toEnd reads a bounded source.
func (r *reading[T]) toEnd() {
	r.t.Helper()
	if err := r.failure(); !errors.Is(err, pipeline.ErrEndOfInput) {
		r.t.Fatalf("got %v, want the end of input; have %v", err, r.values)
	}
}

// failure reads until there is an error, and returns it.
func (r *reading[T]) failure() error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	for {
		if err := r.read(ctx); err != nil {
			return err
		}
	}
}

// text reads values as strings.
func text(cfg kafka.Config) *kafka.Source[string] {
	return kafka.Decode(cfg, func(r *kgo.Record) (string, error) { return string(r.Value), nil })
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v\nwant %q in it", err, part)
		}
	}
}

// logBook keeps log lines.
type logBook struct {
	mu    sync.Mutex
	lines strings.Builder
	wrote chan struct{} // a notice after each line
}

func newLogBook() *logBook { return &logBook{wrote: make(chan struct{}, 1)} }

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.lines.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// await waits until the log says something.
func (l *logBook) await(t *testing.T, what string) {
	t.Helper()
	timeout := time.After(long)
	for !strings.Contains(l.String(), what) {
		select {
		case <-l.wrote:
		case <-timeout:
			t.Errorf("the log never said %q:\n%s", what, l)
			return
		}
	}
}
