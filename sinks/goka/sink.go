package goka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	lovoo "github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/kafkaoutage"
	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes a group table. It is made by [Table].
type Sink[T any] struct {
	cfg   Config
	codec lovoo.Codec
	entry func(v T) (key string, value any)
}

// Table returns a sink that writes one entry of a group table for each record:
// entry returns its key and value, and codec encodes the value, as the view's
// codec decodes it. A nil value takes the key out of the table, as does one that
// the codec encodes as nil. The sink's subtasks call both at once.
//
// Mistakes of the config, and a topic that is missing or not compacted, stop the
// start of the job.
func Table[T any](cfg Config, codec lovoo.Codec, entry func(v T) (key string, value any)) *Sink[T] {
	return &Sink[T]{cfg: cfg.withDefaults(), codec: codec, entry: entry}
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(ctx context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := s.cfg.check(); err != nil {
		return nil, err
	}
	if s.codec == nil || s.entry == nil {
		return nil, errors.New("invalid table: codec or entry is nil")
	}
	t, err := s.cfg.prepare(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer[T]{
		sink: s, env: env, table: t,
		records:    env.Metrics.Counter("records"),
		tombstones: env.Metrics.Counter("tombstones"),
		bytes:      env.Metrics.Counter("bytes_written"),
	}
	w.client, err = s.cfg.newClient(
		kgo.DefaultProduceTopic(t.topic), kgo.ProducerBatchMaxBytes(int32(t.maxMessage)),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int { return w.partition })),
		kgo.MaxBufferedBytes(bufferBytes), kgo.WithHooks(kafkaoutage.New(env.Logger)),
	)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// bufferBytes is how much a subtask holds that is not written yet, more than the
// largest record.
const bufferBytes = 32 << 20

// partitionOf is goka's choice: FNV-1a, and Sarama's way with negative hashes.
var partitionOf = kgo.SaramaCompatHasher(func(key []byte) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(key) // never fails
	return h.Sum32()
})

// writer writes from one subtask. The client produces behind it, and what it
// could not write shows at the next call.
//
// Writing a key again is harmless, so there is nothing to commit: the engine
// flushes before a checkpoint, and that is enough.
type writer[T any] struct {
	sink   *Sink[T]
	env    *pipeline.SinkEnv
	table  *table
	client *kgo.Client
	failed atomic.Pointer[error] // the first failure

	records, tombstones, bytes *pipeline.Counter
}

// Write implements [pipeline.Writer].
func (w *writer[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		if err := w.failure(ctx); err != nil {
			return err
		}
		r, err := w.encode(v)
		if err == nil {
			w.client.Produce(ctx, r, w.produced)
			continue
		}
		if pipeline.IsFatal(err) {
			return err
		}
		w.env.Reject(pipeline.DeadLetter{Error: err.Error(), Time: b.Times[i], Record: show.Value(v)})
	}
	return nil
}

// recordOverhead is what a record of a batch of its own takes beyond key and
// value, at most: 61 bytes for the batch, and lengths.
const recordOverhead = 80

func (w *writer[T]) encode(v T) (_ *kgo.Record, err error) {
	defer pipeline.CatchPanic(&err)
	key, value := w.sink.entry(v)
	r := &kgo.Record{Key: []byte(key)}
	if value != nil {
		if r.Value, err = w.sink.codec.Encode(value); err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
	}
	// Here and not when the brokers refuse: they refuse a whole batch.
	if size := len(r.Key) + len(r.Value) + recordOverhead; size > w.table.maxMessage {
		return nil, fmt.Errorf("record of %d bytes is larger than max.message.bytes of topic %q allows, which is %d", size, w.table.topic, w.table.maxMessage)
	}
	return r, nil
}

// partition chooses a record's partition. The client calls it.
func (w *writer[T]) partition(r *kgo.Record, n int) int {
	if n != int(w.table.partitions) {
		w.fail(fmt.Errorf("it had %d partitions when the job started and has %d now: most keys have another place among them, so the table must be written anew", w.table.partitions, n))
		return -1
	}
	return partitionOf(r.Key, n)
}

// produced hears what became of a record. The client calls it.
func (w *writer[T]) produced(r *kgo.Record, err error) {
	if err != nil {
		w.fail(explain(err))
		return
	}
	w.records.Add(1)
	w.bytes.Add(int64(len(r.Key) + len(r.Value)))
	if r.Value == nil {
		w.tombstones.Add(1)
	}
}

func (w *writer[T]) fail(err error) {
	err = fmt.Errorf("topic %q: %w", w.table.topic, err)
	w.failed.CompareAndSwap(nil, &err)
}

func (w *writer[T]) failure(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Flush implements [pipeline.Flusher].
func (w *writer[T]) Flush(ctx context.Context) error {
	if err := w.client.Flush(ctx); err != nil {
		return err
	}
	return w.failure(ctx)
}

// closeTimeout is how long Close waits for brokers. A job that ends in order has
// flushed before.
const closeTimeout = 5 * time.Second

// Close writes what a job that failed has left, as far as the brokers take it.
func (w *writer[T]) Close() error {
	defer w.client.Close()
	if w.failed.Load() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := w.Flush(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}
