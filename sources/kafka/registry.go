package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/millrace/millrace/pipeline"
)

// Registered reads topics whose values are in the wire format of Confluent's
// schema registry: a byte 0, the id of a schema in four bytes, and the payload.
// A Protobuf payload begins with message indexes. Ids in headers are not read.
//
// The registry is asked for a schema when its first record comes. open then makes
// the decoder of that schema, for all subtasks: it and the decoder are called by
// several at once. ctx ends with the job, and is for open to ask the registry for
// the schemas that this one refers to. As with [Decode], the payload lies in the
// memory of a fetch, and what is kept must be a copy.
//
// Rejected are records that are not in the wire format, tombstones, records whose
// schema the registry does not know, or open returns an error for, and what the
// decoder rejects. What was refused is asked for again after a minute.
//
// A registry that can't be reached, or says that it is overloaded or not ready,
// is waited for, for ever, with a line in the log every 30 seconds: its records
// are good. Meanwhile the subtask that waits reads nothing. An answer that leaves
// it open whether registry or record is at fault is asked for again for a while,
// which is [RegisteredSource.Patience]. One that refuses the credentials stops the
// job. All of that holds for what open returns of the registry's errors, too.
func Registered[T any](cfg Config, client *sr.Client, open func(ctx context.Context, id int, schema sr.Schema) (func(payload []byte) (T, error), error)) *RegisteredSource[T] {
	if open == nil {
		return registered[T](cfg, client, nil)
	}
	return registered(cfg, client, func(ctx context.Context, id int, schema sr.Schema) (decoder[T], error) {
		decode, err := open(ctx, id, schema)
		if err != nil {
			return nil, err
		}
		if decode == nil {
			return nil, errors.New("the decoder is nil")
		}
		return func(payload []byte, v *T) (err error) {
			*v, err = decode(payload)
			return err
		}, nil
	})
}

// RegisteredJSON reads topics whose values are JSON in the registry's wire format,
// decoded as by [JSON]. Everything [Registered] says holds here too. A schema that
// is not a JSON schema is rejected; values are not validated against it.
func RegisteredJSON[T any](cfg Config, client *sr.Client) *RegisteredSource[T] {
	return registered(cfg, client, func(_ context.Context, _ int, schema sr.Schema) (decoder[T], error) {
		if err := checkType(schema, sr.TypeJSON); err != nil {
			return nil, err
		}
		return func(payload []byte, v *T) error { return decodeJSON(payload, v) }, nil
	})
}

func checkType(schema sr.Schema, want sr.SchemaType) error {
	if schema.Type != want {
		return fmt.Errorf("it is of type %v, not %v", schema.Type, want)
	}
	return nil
}

// RegisteredSource is a [Source] whose decoder asks a schema registry. It is made
// by [Registered], [RegisteredJSON] and [RegisteredProtobuf].
type RegisteredSource[T any] struct {
	source  Source[T]
	schemas schemas[T]
}

func registered[T any](cfg Config, client *sr.Client, open opener[T]) *RegisteredSource[T] {
	return &RegisteredSource[T]{
		source:  Source[T]{cfg: cfg},
		schemas: schemas[T]{client: client, open: open, patience: 30 * time.Second, byID: map[int]*schema[T]{}},
	}
}

// Patience sets for how long the registry is asked for a schema again when its
// answer may mean that it is in trouble, or that the record's id is: an internal
// error (500), or a 404 that is not the registry's own but of a proxy before it.
// Then the record is rejected. Raise it where the registry takes longer to start.
// Default 30 s. It returns the source, and is for before the job starts.
func (s *RegisteredSource[T]) Patience(d time.Duration) *RegisteredSource[T] {
	s.schemas.patience = d
	return s
}

// Open implements [pipeline.Source].
func (s *RegisteredSource[T]) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	switch {
	case s.schemas.client == nil:
		return nil, errors.New("the schema registry's client is nil")
	case s.schemas.open == nil:
		return nil, errors.New("the decoder is nil")
	case s.schemas.patience < 0:
		return nil, fmt.Errorf("invalid config: Patience is negative: %v", s.schemas.patience)
	}
	d := &registeredDecoder[T]{schemas: &s.schemas, log: loggerOf(env), known: map[int]decoder[T]{}}
	source := s.source
	source.decode = d.decode
	inner, err := source.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	if o, ok := inner.(*ordered[T]); ok {
		return &registeredOrdered[T]{o, d}, nil
	}
	return &registeredReader[T]{inner.(*reader[T]), d}, nil
}

// OrderedBy says by which time Config.Ordered merges the partitions, as
// [Source.OrderedBy] does. It returns the source, and is for before the job starts.
func (s *RegisteredSource[T]) OrderedBy(time func(T) int64) *RegisteredSource[T] {
	s.source.by = time
	return s
}

// Ordered implements [pipeline.Ordered].
func (s *RegisteredSource[T]) Ordered() bool { return s.source.Ordered() }

// registeredReader is a reader whose decoder asks the registry.
type registeredReader[T any] struct {
	*reader[T]
	decoder *registeredDecoder[T]
}

// Read implements [pipeline.Reader].
func (r *registeredReader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	return r.decoder.read(ctx, r.reader, b)
}

// registeredOrdered is a type of its own since an ordered reader can't pause.
type registeredOrdered[T any] struct {
	*ordered[T]
	decoder *registeredDecoder[T]
}

// Read implements [pipeline.Reader].
func (r *registeredOrdered[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	return r.decoder.read(ctx, r.ordered, b)
}

// registeredDecoder may have to wait for the registry, for no longer than the job
// lives.
type registeredDecoder[T any] struct {
	schemas *schemas[T]
	log     *slog.Logger

	// Of the reading goroutine, which is the decoder's.
	known map[int]decoder[T]
	ctx   context.Context // of the Read under way; decoders are not handed one
	ended error           // what ended the decoding, not a record's fault
}

// read reads a batch by the reader that it decodes for. When decoding ends because
// the job does, or must, the batch is dropped with its position: its records were
// not read.
func (d *registeredDecoder[T]) read(ctx context.Context, reader pipeline.Reader[T], b *pipeline.SourceBatch[T]) error {
	if d.ended != nil {
		return d.ended // the reader is beyond what it has handed out
	}
	d.ctx = ctx
	err := reader.Read(ctx, b)
	if d.ended != nil {
		b.Reset()
		return d.ended
	}
	return err
}

// decode is the reader's decoder. What it returns once decoding has ended goes
// nowhere.
func (d *registeredDecoder[T]) decode(rec *kgo.Record, v *T) error {
	if d.ended != nil {
		return d.ended
	}
	if rec.Value == nil {
		return errors.New("tombstone: the record has no value")
	}
	id, payload, err := unframe(rec.Value)
	if err != nil {
		return err
	}
	decode := d.known[id]
	if decode == nil {
		if decode, err = d.learn(id); err != nil {
			return err
		}
	}
	return decode(payload, v)
}

// learn gets the decoder of a schema. Ids are never given to another one.
func (d *registeredDecoder[T]) learn(id int) (decoder[T], error) {
	s, err := d.schemas.get(d.ctx, d.log, id)
	switch {
	case err != nil:
		d.ended = err
		return nil, err
	case s.refused != nil:
		return nil, fmt.Errorf("schema %d: %w", id, s.refused)
	}
	d.known[id] = s.decode
	return s.decode, nil
}

// wireFormat is the registry's.
var wireFormat sr.ConfluentHeader

// unframe takes the schema's id off a value.
func unframe(value []byte) (id int, payload []byte, err error) {
	id, payload, err = wireFormat.DecodeID(value)
	switch {
	case err == nil && id <= math.MaxInt32:
		return id, payload, nil
	case err == nil:
		return 0, nil, fmt.Errorf("not in the registry's wire format: schema id %d is out of range", id)
	case len(value) > 0 && value[0] != 0:
		return 0, nil, fmt.Errorf("not in the registry's wire format: the first byte is %d, not 0", value[0])
	}
	return 0, nil, fmt.Errorf("not in the registry's wire format: %d bytes are too few for a schema id", len(value))
}

// decoder decodes a payload into v.
type decoder[T any] func(payload []byte, v *T) error

// opener makes the decoder of a schema.
type opener[T any] func(ctx context.Context, id int, s sr.Schema) (decoder[T], error)

// schemas are what the subtasks of a source have learnt from the registry. One of
// them asks for an id, the others wait for what it learns.
type schemas[T any] struct {
	client   *sr.Client
	open     opener[T]
	patience time.Duration

	mu   sync.Mutex
	byID map[int]*schema[T] // guarded by mu
}

// schema is what is known of an id. All but done is set before done is closed.
type schema[T any] struct {
	done    chan struct{}
	decode  decoder[T]
	refused error     // why its records are rejected
	until   time.Time // when to ask again after a refusal
	dropped bool      // the subtask that asked has ended, another one must ask
}

// get returns what is known of an id, and asks for it first where nothing is. An
// error is not the record's: the job ends, or must.
func (s *schemas[T]) get(ctx context.Context, log *slog.Logger, id int) (*schema[T], error) {
	for {
		e, first := s.entry(id)
		if first {
			return e, s.ask(ctx, log, id, e)
		}
		select {
		case <-e.done:
			if !e.dropped {
				return e, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

const (
	// refusalHolds is how long a refused id is not asked for again.
	refusalHolds = time.Minute
	// maxSchemas bounds what is remembered: bytes that are no frame may look like
	// one, and each be another id.
	maxSchemas = 10_000
)

// entry returns the entry of an id. The caller that is the first must ask.
func (s *schemas[T]) entry(id int) (e *schema[T], first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil && !e.stale(time.Now()) {
		return e, false
	}
	if len(s.byID) >= maxSchemas {
		s.forget()
	}
	e = &schema[T]{done: make(chan struct{})}
	s.byID[id] = e
	return e, true
}

// forget drops what was refused. s.mu is held.
func (s *schemas[T]) forget() {
	for id, e := range s.byID {
		if isClosed(e.done) && e.refused != nil {
			delete(s.byID, id)
		}
	}
}

// stale says whether what was learnt holds no longer.
func (e *schema[T]) stale(now time.Time) bool {
	return isClosed(e.done) && (e.dropped || (e.refused != nil && now.After(e.until)))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ask fills an entry.
func (s *schemas[T]) ask(ctx context.Context, log *slog.Logger, id int, e *schema[T]) error {
	defer close(e.done)
	q := inquiry{id: id, patience: s.patience, began: time.Now(), log: log}
	for {
		decode, found, err := s.tryOnce(ctx, id)
		if ctx.Err() != nil {
			e.dropped = true
			return ctx.Err()
		}
		switch q.judge(err, found) {
		case answered:
			e.decode = decode
			return nil
		case refused:
			e.refused, e.until = explain(err), time.Now().Add(refusalHolds)
			return nil
		case denied:
			e.dropped = true
			return fmt.Errorf("the schema registry refuses to let us read schema %d; see to the client's credentials and their rights: %w", id, explain(err))
		}
		if err := sleep(ctx, q.pause()); err != nil {
			e.dropped = true
			return err
		}
	}
}

// tryOnce asks for the schema and opens it. found says that the registry had it.
func (s *schemas[T]) tryOnce(ctx context.Context, id int) (decode decoder[T], found bool, err error) {
	got, err := s.client.SchemaByID(ctx, id)
	if err != nil {
		return nil, false, err
	}
	found = true
	defer pipeline.CatchPanic(&err)
	decode, err = s.open(ctx, id, got)
	return decode, found, err
}

// verdict is what an answer of the registry means.
type verdict int

const (
	answered verdict = iota
	refused          // its records are rejected
	denied           // the job stops
	unknown          // ask again, for it may be a moment behind
	away             // ask again, and say so
)

// inquiry is the asking for one id.
type inquiry struct {
	id       int
	patience time.Duration
	began    time.Time
	doubtful time.Time // since when nothing else came than what may be the record's fault; zero for never
	tries    int
	log      *slog.Logger
	seldom
}

// unknownTries is how often the registry must say that it does not know an id. A
// replica of it may be a moment behind the one that the writer has asked.
const unknownTries = 3

// judge decides about an answer. found says that the registry has the schema,
// and err is of what was done with it.
func (q *inquiry) judge(err error, found bool) verdict {
	q.tries++
	v := q.classify(err, found)
	switch {
	case v == away:
		q.warn(q.log, "no schema from the registry, waiting for it", "schema", q.id, "for", time.Since(q.began).Round(time.Millisecond), "error", explain(err))
	case v == answered && !q.logged.IsZero():
		q.log.Info("the schema registry answers again", "schema", q.id, "after", time.Since(q.began).Round(time.Millisecond))
	}
	return v
}

func (q *inquiry) classify(err error, found bool) verdict {
	since := q.doubtful
	q.doubtful = time.Time{}
	if err == nil {
		return answered
	}
	answer, ok := errors.AsType[*sr.ResponseError](err)
	if !ok {
		if _, unreachable := errors.AsType[*url.Error](err); found && !unreachable {
			return refused // by who opens it
		}
		return away
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return denied
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return away
	case http.StatusNotFound:
		if sr.IsNotFoundError(answer.ErrorCode) {
			return refusedOnce(q.tries >= unknownTries, unknown)
		}
	}
	if since.IsZero() {
		since = time.Now()
	}
	q.doubtful = since
	return refusedOnce(time.Since(since) >= q.patience, away)
}

// refusedOnce refuses when it is enough.
func refusedOnce(enough bool, or verdict) verdict {
	if enough {
		return refused
	}
	return or
}

// explain adds what the client leaves out of its error.
func explain(err error) error {
	if answer, ok := errors.AsType[*sr.ResponseError](err); ok {
		return fmt.Errorf("the registry answers %d: %w", answer.StatusCode, err)
	}
	return err
}

// The pauses between two tries double from the first to the longest.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
)

func (q *inquiry) pause() time.Duration {
	return min(firstPause<<min(q.tries-1, 10), longestPause)
}
