package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes values of type T to a topic.
type Sink[T any] struct {
	p      *Producer
	topic  string
	encode func(v T, r *kgo.Record) error
	cut    func(r *kgo.Record, limit int) // makes a record fit that is too large; nil: it is rejected
}

// Encode writes to a topic with an encoder of the program's own, which fills in a
// record's Key, Value (nil is a tombstone) and Headers. Timestamp is the event
// time where there is one that brokers take, else the time of writing, and may be
// set as well; so may Topic, to one that another sink of the producer writes to,
// and Partition, where the Partitioner minds it.
//
// What the encoder sets belongs to the record from then on. It is called by
// several subtasks at once. What it rejects with an error, or a panic, goes to the
// dead-letter output, and so does a record that is larger than the topic takes.
func Encode[T any](p *Producer, topic string, encode func(v T, r *kgo.Record) error) *Sink[T] {
	p.topics = append(p.topics, topic)
	return &Sink[T]{p: p, topic: topic, encode: encode}
}

// JSON writes values as JSON, with keys from a function; nil for records without
// keys.
func JSON[T any](p *Producer, topic string, key func(T) string) *Sink[T] {
	return Encode(p, topic, func(v T, r *kgo.Record) (err error) {
		if key != nil {
			r.Key = []byte(key(v))
		}
		r.Value, err = json.Marshal(v)
		return err
	})
}

// CommitPoint implements the interface that package pipeline asks sinks for.
func (s *Sink[T]) CommitPoint() pipeline.CommitPoint {
	if s.p == nil || s.p.txn == nil {
		return nil
	}
	return s.p.txn
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(ctx context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if s.encode == nil {
		return nil, errors.New("invalid sink: it has no encoder")
	}
	if err := s.p.open(ctx, env.Logger); err != nil {
		return nil, err
	}
	m := env.Metrics
	w := &writer[T]{sink: s, env: env, p: s.p, limits: s.p.limits, figures: figures{m.Counter("records"), m.Counter("bytes_written"), m.Counter("rejected")}}
	if s.p.txn == nil {
		return newAtLeastOnce(w), nil
	}
	return &exactlyOnce[T]{writer: w, txn: s.p.txn}, nil
}

// writer is what both kinds have in common.
type writer[T any] struct {
	sink    *Sink[T]
	env     *pipeline.SinkEnv
	p       *Producer
	limits  map[string]int
	figures figures
	closed  bool
}

// record makes a record of a value, nil if it was rejected.
func (w *writer[T]) record(v T, time int64) (*kgo.Record, error) {
	r := &kgo.Record{Topic: w.sink.topic, Timestamp: timestamp(time)}
	err := w.encode(v, r)
	if err == nil {
		err = w.tooLarge(r)
	}
	switch {
	case err == nil:
	case pipeline.IsFatal(err):
		return nil, err
	default:
		w.figures.rejected.Add(1)
		w.env.Reject(pipeline.DeadLetter{
			Time: time, Key: r.Key, Raw: r.Value, Record: show.Value(v), Error: err.Error(),
		})
		return nil, nil
	}
	w.figures.records.Add(1)
	w.figures.bytes.Add(int64(len(r.Key) + len(r.Value)))
	return r, nil
}

func (w *writer[T]) encode(v T, r *kgo.Record) (err error) {
	defer pipeline.CatchPanic(&err)
	return w.sink.encode(v, r)
}

func (w *writer[T]) tooLarge(r *kgo.Record) error {
	limit, known := w.limits[r.Topic]
	if !known {
		return fmt.Errorf("topic %q is none that a sink of the producer writes to", r.Topic)
	}
	if size(r) > limit && w.sink.cut != nil {
		w.sink.cut(r, limit)
	}
	if n := size(r); n > limit {
		return fmt.Errorf("topic %q: the record takes %d bytes, the topic takes %d (max.message.bytes)", r.Topic, n, limit)
	}
	return nil
}

// size is what a record takes, at most, uncompressed.
func size(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + overhead
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 10
	}
	return n
}

// timestamp returns the time to give a record. Brokers refuse times that are far
// in the future, an hour by default.
func timestamp(ms int64) time.Time {
	t := time.UnixMilli(ms)
	if ms <= 0 || time.Until(t) > 30*time.Minute {
		return time.Time{} // the client fills in now
	}
	return t
}

// Close implements [pipeline.Closer].
func (w *writer[T]) Close() error {
	if !w.closed {
		w.closed = true
		w.p.release()
	}
	return nil
}

// atLeastOnce produces records as they come.
type atLeastOnce[T any] struct {
	*writer[T]
	sent *sent // since the last Sync
}

func newAtLeastOnce[T any](w *writer[T]) *atLeastOnce[T] {
	return &atLeastOnce[T]{writer: w, sent: newSent(w.p, 1)}
}

// Write implements [pipeline.Writer].
func (w *atLeastOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		r, err := w.record(v, b.Times[i])
		if err != nil {
			return err
		}
		if r != nil {
			w.sent.produce(ctx, r)
		}
	}
	return w.p.failure()
}

// Flush implements [pipeline.Flusher]. What was produced goes out after the linger by
// itself; to wait for the brokers here would cut batches short, and stop the subtask for
// a round trip whenever its input runs dry.
func (w *atLeastOnce[T]) Flush(context.Context) error { return w.p.failure() }

// Sync implements [pipeline.Syncer].
func (w *atLeastOnce[T]) Sync() (wait func(context.Context) error) {
	before := w.sent
	w.sent = newSent(w.p, 2)
	before.next = w.sent
	before.done()
	return before.wait
}

// sent are the records that a writer has produced between two calls of Sync.
type sent struct {
	p    *Producer
	open atomic.Int64  // records without an answer, and what else is to come before all are there
	all  chan struct{} // closed when these records, and those before them, are with the brokers
	next *sent         // written by Sync, before it calls done
	told func(*kgo.Record, error)
}

// newSent begins with so many things to come: the next Sync, and what was sent before.
func newSent(p *Producer, open int64) *sent {
	s := &sent{p: p, all: make(chan struct{})}
	s.open.Store(open)
	s.told = func(r *kgo.Record, err error) {
		p.produced(r, err)
		s.done()
	}
	return s
}

func (s *sent) produce(ctx context.Context, r *kgo.Record) {
	s.open.Add(1)
	s.p.client.Produce(ctx, r, s.told)
}

func (s *sent) done() {
	if s.open.Add(-1) > 0 {
		return
	}
	close(s.all)
	if s.next != nil {
		s.next.done()
	}
}

// wait returns when the brokers have all that was sent up to here.
func (s *sent) wait(ctx context.Context) error {
	select {
	case <-s.all:
		return s.p.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements [pipeline.Closer]. A job that ends has synced before; one that
// failed may have something left, which is written if the brokers are there.
func (w *atLeastOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := w.p.flush(ctx)
	if errors.Is(err, context.Canceled) { // by a job that is over for another reason
		err = nil
	}
	return errors.Join(err, w.writer.Close())
}
