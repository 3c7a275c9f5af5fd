package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes values of type T to Redis. It is made by [Encode] and by the functions
// for one kind of key.
type Sink[T any] struct {
	cfg    Config
	encode func(v T, c *Commands) error
}

// Encode returns a sink that carries out the commands that encode adds to c, in their
// order. It is called by several subtasks at once. A record for which it returns an
// error, or panics, or whose commands don't fit to what their keys hold, goes to the
// dead-letter output, and none of its commands are carried out.
func Encode[T any](cfg Config, encode func(v T, c *Commands) error) *Sink[T] {
	return &Sink[T]{cfg.withDefaults(), encode}
}

// Strings returns a sink that sets keys to values, for as long as ttl says; 0 is for
// ever.
func Strings[T any](cfg Config, ttl time.Duration, of func(v T) (key string, value any)) *Sink[T] {
	return Encode(cfg, func(v T, c *Commands) error {
		key, value := of(v)
		c.Set(key, value, ttl)
		return nil
	})
}

// Hashes returns a sink that sets fields of hashes: name, value, name, value and so on.
func Hashes[T any](cfg Config, of func(v T) (key string, fields []any)) *Sink[T] {
	return Encode(cfg, func(v T, c *Commands) error {
		key, fields := of(v)
		c.HSet(key, fields...)
		return nil
	})
}

// SortedSets returns a sink that gives members of sorted sets their scores.
func SortedSets[T any](cfg Config, of func(v T) (key, member string, score float64)) *Sink[T] {
	return Encode(cfg, func(v T, c *Commands) error {
		key, member, score := of(v)
		c.ZAdd(key, member, score)
		return nil
	})
}

// HyperLogLogs returns a sink that adds elements to HyperLogLogs.
func HyperLogLogs[T any](cfg Config, of func(v T) (key, element string)) *Sink[T] {
	return Encode(cfg, func(v T, c *Commands) error {
		key, element := of(v)
		c.PFAdd(key, element)
		return nil
	})
}

// Streams returns a sink that appends entries to streams, which are cut to about the
// newest maxLen; 0 cuts nothing. With [AtLeastOnce] entries are there again after a
// failure.
func Streams[T any](cfg Config, maxLen int64, of func(v T) (key string, fields []any)) *Sink[T] {
	return Encode(cfg, func(v T, c *Commands) error {
		key, fields := of(v)
		c.XAdd(key, maxLen, fields...)
		return nil
	})
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(ctx context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := s.cfg.check(); err != nil {
		return nil, err
	}
	if s.encode == nil {
		return nil, errors.New("invalid sink: it has no encoder")
	}
	o, err := s.cfg.options()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, fmt.Errorf("Redis did not answer within %v", s.cfg.StartTimeout)) //nolint:staticcheck // a name
	defer cancel()
	m := env.Metrics
	w := &writer[T]{
		sink: s, env: env, server: newServer(o, env.Logger),
		records: m.Counter("records"), commands: m.Counter("commands"), rejected: m.Counter("rejected"),
	}
	out, err := w.open(ctx)
	if err != nil {
		return nil, errors.Join(opening(ctx, err), w.server.Close())
	}
	return out, nil
}

// opening says why a start has failed, if it was for waiting.
func opening(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (w *writer[T]) open(ctx context.Context) (pipeline.Writer[T], error) {
	err := w.server.do(ctx, func() error { return w.server.Ping(ctx).Err() })
	if err != nil {
		return nil, fmt.Errorf("connect to %q: %w", w.server.addrs, err)
	}
	if w.sink.cfg.Delivery == AtLeastOnce {
		return &atLeastOnce[T]{w}, nil
	}
	e, err := newExactlyOnce(ctx, w)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// writer is what both kinds of delivery have in common.
type writer[T any] struct {
	sink   *Sink[T]
	env    *pipeline.SinkEnv
	server *server
	closed bool

	encoding Commands
	batch    []command
	bytes    int       // of batch
	held     []held[T] // the records of batch, for letters

	records, commands, rejected *pipeline.Counter
}

type held[T any] struct {
	v    T
	time int64
}

// The server takes what it is sent into its memory, and cuts connections that send it
// too much; and the client keeps a batch until it was taken.
const (
	maxBatchBytes  = 8 << 20  // the batch is full then, whatever BatchCommands says
	maxRecordBytes = 64 << 20 // of one record
)

// add adds a record's commands to the batch, or rejects it.
func (w *writer[T]) add(v T, time int64) error {
	w.encoding.reset()
	err := w.encoded(v)
	if err == nil {
		err = w.encoding.err
	}
	if n := w.encoding.bytes(); err == nil && n > maxRecordBytes {
		err = fmt.Errorf("its commands have %d bytes, %d are the most", n, maxRecordBytes)
	}
	switch {
	case pipeline.IsFatal(err):
		return err
	case err != nil:
		w.reject(v, time, err.Error())
		return nil
	}
	w.bytes += w.encoding.bytes()
	for _, c := range w.encoding.list {
		c.record, c.time = len(w.held), time
		w.batch = append(w.batch, c)
	}
	w.held = append(w.held, held[T]{v, time})
	w.records.Add(1)
	w.commands.Add(int64(len(w.encoding.list)))
	return nil
}

func (w *writer[T]) encoded(v T) (err error) {
	defer pipeline.CatchPanic(&err)
	return w.sink.encode(v, &w.encoding)
}

func (w *writer[T]) reject(v T, time int64, why string) {
	w.rejected.Add(1)
	w.env.Reject(pipeline.DeadLetter{Time: time, Record: show.Value(v), Error: why})
}

// fresh begins a batch.
func (w *writer[T]) fresh() {
	clear(w.batch)
	clear(w.held)
	w.batch, w.held, w.bytes = w.batch[:0], w.held[:0], 0
}

// write adds records, and sends the batch when it is full.
func (w *writer[T]) write(ctx context.Context, b *pipeline.Records[T], send func(context.Context) error) error {
	for i, v := range b.Values {
		if err := w.add(v, b.Times[i]); err != nil {
			return err
		}
		if len(w.batch) >= w.sink.cfg.BatchCommands || w.bytes >= maxBatchBytes {
			if err := send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close implements [pipeline.Closer].
func (w *writer[T]) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	return w.server.Close()
}

// explained says what an error of the server means for the sink.
func explained(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "FENCED"):
		return fmt.Errorf("%w: another process writes in this sink's name by now, and nothing of what is not committed will be; if "+
			"that is another job, give the sinks of both a Config.ID of their own", errFenced)
	case strings.Contains(text, "NOSINK"):
		return errLost
	case strings.Contains(text, "CROSSSLOT"):
		return fmt.Errorf("in a cluster, the keys of a sink have to be together: set Config.HashTag, and have it in each key: %w", err)
	}
	return err
}

var (
	errFenced = errors.New("fenced")
	errLost   = errors.New("Redis has lost what the sink keeps there: it was started without what it had (see appendonly), has removed keys " + //nolint:staticcheck // a name
		"(see maxmemory-policy), or is another one; start the job again, which says how to go on")
)
