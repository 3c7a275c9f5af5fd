package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes values of type T to a table. It is made by [Structs] and [Encode].
type Sink[T any] struct {
	cfg     Config
	shape   shape
	deletes func(T) bool
	values  func() func(v T, row []any) ([]any, error) // for each subtask
	invalid error
}

// Structs returns a sink that writes structs: each exported field to the column that
// its db tag names, or that is called like it, as event_id is like EventID. A field
// with db:"-" is left out, fields of embedded structs are like the struct's own, and
// pointers that are nil are NULL. Columns that no field is for get their defaults.
func Structs[T any](cfg Config) *Sink[T] {
	s := &Sink[T]{cfg: cfg.withDefaults()}
	t := reflect.TypeFor[T]()
	fields, err := fieldsOf(t)
	s.invalid = err
	for _, f := range fields {
		s.shape.columns = append(s.shape.columns, f.column)
		s.shape.types = append(s.shape.types, f.typ)
		s.shape.origin = append(s.shape.origin, fmt.Sprintf("field %s of %v", f.name, t))
	}
	s.values = func() func(T, []any) ([]any, error) { return structValues[T](fields) }
	return s
}

func structValues[T any](fields []field) func(T, []any) ([]any, error) {
	return func(v T, row []any) ([]any, error) {
		r := reflect.ValueOf(&v).Elem()
		for i := range fields {
			row = append(row, r.FieldByIndex(fields[i].index).Interface())
		}
		return row, nil
	}
}

// Encode returns a sink that writes to columns what values appends to row, one for
// each column: whatever pgx can encode as the column's type, text that reads as it,
// and nil for NULL. It is called by several subtasks at once. A record for which it
// returns an error, or panics, goes to the dead-letter output.
func Encode[T any](cfg Config, columns []string, values func(v T, row []any) ([]any, error)) *Sink[T] {
	s := &Sink[T]{cfg: cfg.withDefaults(), shape: shape{columns: columns}}
	for range columns {
		s.shape.origin = append(s.shape.origin, "of Encode")
	}
	if len(columns) == 0 || values == nil {
		s.invalid = errNoValues
	}
	s.values = func() func(T, []any) ([]any, error) { return values }
	return s
}

// Deletes makes records delete the row of their key, for which the function says so,
// rather than to write one. The sink must have a Key. It returns the sink.
func (s *Sink[T]) Deletes(when func(v T) bool) *Sink[T] {
	s.deletes = when
	return s
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(ctx context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := errors.Join(s.invalid, s.cfg.check()); err != nil {
		return nil, err
	}
	if s.deletes != nil && len(s.cfg.Key) == 0 {
		return nil, errors.New("invalid config: Deletes needs a Key")
	}
	cc, err := s.cfg.connConfig()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, fmt.Errorf("the database did not answer within %v", s.cfg.StartTimeout))
	defer cancel()
	w := &writer[T]{sink: s, env: env, server: newServer(cc, env.Logger), values: s.values(), types: pgtype.NewMap()}
	if err := w.open(ctx); err != nil {
		w.server.drop()
		return nil, opening(ctx, err)
	}
	return w.asDelivered(ctx)
}

// opening says why a start has failed, if it was for waiting.
func opening(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// writer is what both kinds of delivery have in common.
type writer[T any] struct {
	sink   *Sink[T]
	env    *pipeline.SinkEnv
	server *server
	values func(v T, row []any) ([]any, error)
	types  *pgtype.Map

	table   *table
	columns []*column // as written
	into    destination
	loader  *loader
	aim     func(ctx context.Context) error // has the loader know where to, before it writes
	closed  bool

	row    []any
	batch  *batch
	held   []T     // the records of batch, for letters
	times  []int64 // theirs
	seq    int64
	staged bool // rows go with their number, time, and whether they delete

	records, bytes, rejected *pipeline.Counter
}

// open connects and looks at the table.
func (w *writer[T]) open(ctx context.Context) error {
	w.records, w.bytes, w.rejected = w.env.Metrics.Counter("records"), w.env.Metrics.Counter("bytes_written"), w.env.Metrics.Counter("rejected")
	cfg := &w.sink.cfg
	want := w.sink.shape
	want.table, want.key = cfg.Table, cfg.Key
	err := w.server.do(ctx, func(c *pgx.Conn) (err error) {
		if w.table, err = readTable(ctx, c, cfg.Table); err != nil {
			return err
		}
		if w.table != nil {
			if err := w.learnTypes(ctx, c); err != nil {
				return err
			}
		}
		w.columns, err = want.match(w.table, w.types)
		return err
	})
	if err != nil {
		return err
	}
	w.into = destination{Table: w.table.name, Columns: want.columns, Key: want.key, Deletes: w.sink.deletes != nil}
	w.fresh()
	return nil
}

// learnTypes asks for types that the client does not know: composite ones, and arrays
// of enums and the like.
func (w *writer[T]) learnTypes(ctx context.Context, c *pgx.Conn) error {
	for _, col := range w.table.columns {
		if _, known := w.types.TypeForOID(col.oid); known || !slices.Contains(w.sink.shape.columns, col.name) {
			continue
		}
		var name string
		if err := c.QueryRow(ctx, "SELECT format_type($1, NULL)", col.oid).Scan(&name); err != nil {
			return err
		}
		types, err := c.LoadTypes(ctx, []string{name})
		if err != nil {
			return fmt.Errorf("column %q: type %s: %w", col.name, name, err)
		}
		w.types.RegisterTypes(types)
	}
	return nil
}

func (w *writer[T]) asDelivered(ctx context.Context) (pipeline.Writer[T], error) {
	if w.sink.cfg.Delivery == AtLeastOnce {
		return w.atLeastOnce(), nil
	}
	return w.exactlyOnce(ctx)
}

// fresh begins a batch.
func (w *writer[T]) fresh() {
	clear(w.held)
	w.held, w.times = w.held[:0], w.times[:0]
	w.batch = &batch{reject: func(i int, why string) { w.reject(w.held[i], w.times[i], why) }}
}

func (w *writer[T]) reject(v T, time int64, why string) {
	w.rejected.Add(1)
	w.env.Reject(pipeline.DeadLetter{Time: time, Record: show.Value(v), Error: why})
}

// Write implements [pipeline.Writer].
func (w *writer[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		if err := w.add(v, b.Times[i]); err != nil {
			return err
		}
		if len(w.batch.buf) >= w.sink.cfg.BatchBytes {
			if err := w.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// add adds a record to the batch, or rejects it.
func (w *writer[T]) add(v T, time int64) error {
	before := len(w.batch.buf)
	buf, err := w.encode(w.batch.buf, v, time)
	switch {
	case pipeline.IsFatal(err):
		return err
	case err != nil:
		w.reject(v, time, err.Error())
		return nil
	}
	w.batch.buf = buf
	w.batch.ends = append(w.batch.ends, len(buf))
	w.held, w.times = append(w.held, v), append(w.times, time)
	w.records.Add(1)
	w.bytes.Add(int64(len(buf) - before))
	return nil
}

// encode appends a record as a row of COPY.
func (w *writer[T]) encode(buf []byte, v T, time int64) (_ []byte, err error) {
	defer pipeline.CatchPanic(&err)
	if w.row, err = w.values(v, w.row[:0]); err != nil {
		return nil, err
	}
	if len(w.row) != len(w.columns) {
		return nil, fmt.Errorf("%d values for %d columns", len(w.row), len(w.columns))
	}
	n := len(w.columns)
	if w.staged {
		n += extraColumns
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(n))
	for i, c := range w.columns {
		if buf, err = appendValue(w.types, buf, c, w.row[i]); err != nil {
			return nil, err
		}
	}
	if !w.staged {
		return buf, nil
	}
	deletes := w.sink.deletes != nil && w.sink.deletes(v) // it may panic, and the row then has no number
	w.seq++
	return appendBool(appendInt64(appendInt64(buf, w.seq), time), deletes), nil
}

// send loads the batch.
func (w *writer[T]) send(ctx context.Context) error {
	if w.batch.len() == 0 {
		return nil
	}
	if err := w.aim(ctx); err != nil {
		return err
	}
	if err := w.loader.load(ctx, w.batch); err != nil {
		return err
	}
	w.fresh()
	if w.loader.bytes >= w.sink.cfg.BufferBytes {
		return w.loader.commit(ctx, false)
	}
	return nil
}

// Close implements [pipeline.Closer].
func (w *writer[T]) Close() error {
	if !w.closed {
		w.closed = true
		w.server.drop()
	}
	return nil
}
