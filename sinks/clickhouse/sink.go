package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes values of type T to a table. It is made by [Structs] and [Columns].
type Sink[T any] struct {
	cfg     Config
	columns []Column[T]
	invalid error

	// What tests replace.
	look  func(ctx context.Context, o *clickhouse.Options, name string) (*target, error)
	dial  func(o *clickhouse.Options) server
	pause func(ctx context.Context, d time.Duration) error
}

// Structs returns a sink that writes structs: each exported field to the column that
// its ch tag names, or that is called exactly like it. A field with ch:"-" is left
// out, fields of embedded structs are like the struct's own, and pointers that are
// nil are NULL. Columns that no field is for get their defaults.
func Structs[T any](cfg Config) *Sink[T] {
	fields, err := fieldsOf(reflect.TypeFor[T]())
	return newSink(cfg, structColumns[T](fields), err)
}

// Columns returns a sink that writes columns, each of which knows its value of a row:
// what [Structs] does, without reflection, and for values of any type.
//
//	clickhouse.Columns(cfg,
//		clickhouse.Value("at", func(h *Hit) time.Time { return h.At }),
//		clickhouse.Value("page", func(h *Hit) string { return h.Page }))
//
// Several subtasks call the functions at once. A row for which one panics is rejected.
func Columns[T any](cfg Config, columns ...Column[T]) *Sink[T] {
	var err error
	seen := map[string]bool{}
	for _, c := range columns {
		if seen[c.name] {
			err = errors.Join(err, fmt.Errorf("invalid sink: column %q is there twice", c.name))
		}
		seen[c.name] = true
	}
	if len(columns) == 0 {
		err = errors.New("invalid sink: it has no columns")
	}
	return newSink(cfg, columns, err)
}

func newSink[T any](cfg Config, columns []Column[T], invalid error) *Sink[T] {
	return &Sink[T]{cfg: cfg.withDefaults(), columns: columns, invalid: invalid, look: look, dial: newServer, pause: pauseFor}
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(ctx context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := errors.Join(s.invalid, s.cfg.check()); err != nil {
		return nil, err
	}
	o, err := s.cfg.options()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	t, err := s.lookFor(ctx, o)
	if err != nil {
		return nil, err
	}
	p, err := match(s.columns, &s.cfg, t.table, t.context)
	if err == nil && s.cfg.Delivery == ExactlyOnce {
		err = t.table.wantOneMemory(o.Addr)
	}
	if err != nil {
		return nil, err
	}
	rows, err := newRows(s.columns, p.types, s.cfg.RowBytes, t.context)
	if err != nil {
		return nil, err
	}
	w := &writer[T]{
		cfg: &s.cfg, env: env, plan: p, table: t.table, gathered: rows, pool: newPool(s.cfg.Inserts, func() server { return s.dial(o) }),
		records: env.Metrics.Counter("records"), bytes: env.Metrics.Counter("bytes_written"), rejected: env.Metrics.Counter("rejected"),
	}
	w.deliverer = &deliverer{
		timeout: s.cfg.InsertTimeout, context: t.context, table: t.table.String(), log: env.Logger, pause: s.pause,
		stats: stats{env.Metrics.Counter("blocks"), env.Metrics.Counter("retries")},
	}
	w.known = t.known
	if s.cfg.Delivery == AtLeastOnce {
		return newAtLeastOnce(w), nil
	}
	return openExactlyOnce(w)
}

// lookFor looks at the table, again and again while there is no server.
func (s *Sink[T]) lookFor(ctx context.Context, o *clickhouse.Options) (*target, error) {
	for {
		t, err := s.look(ctx, o, s.cfg.Table)
		if err == nil || judge(err) != passing || isAboutTLS(err) {
			if e := exceptionOf(err); e != nil || isAboutTLS(err) {
				return nil, connecting(o, err)
			}
			return t, err
		}
		if s.pause(ctx, firstPause*4) != nil || ctx.Err() != nil {
			return nil, fmt.Errorf("no answer within %v: %w", s.cfg.StartTimeout, connecting(o, err))
		}
	}
}

// settingsFor returns the settings of inserts. What is not said here, the server's
// profile or the table may say otherwise.
func settingsFor(cfg *Config, selects bool, known map[string]bool) map[string]string {
	if cfg.Delivery == AtLeastOnce {
		if cfg.AsyncInsert {
			return map[string]string{"async_insert": "1", "wait_for_async_insert": "1"}
		}
		return map[string]string{"async_insert": "0"}
	}
	settings := map[string]string{"async_insert": "0", "insert_deduplicate": "1"}
	for name, value := range map[string]string{
		"deduplicate_insert":        "enable",
		"deduplicate_insert_select": "force_enable",
		// A block that the table has may still have to go to its views, when the server
		// was killed in between: they have windows of their own.
		"deduplicate_blocks_in_dependent_materialized_views": "1",
	} {
		if known[name] {
			settings[name] = value
		}
	}
	if selects { // one block in, one block out
		maps.Copy(settings, map[string]string{
			"max_insert_threads": "1", "max_threads": "1",
			"min_insert_block_size_rows": fmt.Sprint(2 * maxBlockRows), "min_insert_block_size_bytes": "0",
		})
	}
	return settings
}

// writer is what both kinds of delivery have in common.
type writer[T any] struct {
	*deliverer
	cfg      *Config
	env      *pipeline.SinkEnv
	plan     *plan
	table    *table
	known    map[string]bool // settings that the server has
	gathered *rows[T]
	pool     *pool
	letters  []letter // of rows that the server has refused, until they can be rejected

	records, bytes, rejected *pipeline.Counter
}

// add adds a record to the block, or rejects it, and says whether the block is full.
func (w *writer[T]) add(row *T, time int64) (full bool, err error) {
	err = w.gathered.add(row, time)
	switch {
	case pipeline.IsFatal(err):
		return false, err
	case err != nil:
		w.reject(letter{time, show.Value(*row), err.Error()})
	default:
		w.records.Add(1)
	}
	return w.gathered.len() >= w.cfg.BlockRows || w.gathered.bytes >= w.cfg.BlockBytes, nil
}

func (w *writer[T]) reject(l letter) {
	w.rejected.Add(1)
	w.env.Reject(pipeline.DeadLetter{Time: l.Time, Record: l.Record, Error: l.Error})
}

// rejectAll rejects what the server has refused. It is called from Write and Flush
// only, since Reject may be.
func (w *writer[T]) rejectAll() {
	for _, l := range w.letters {
		w.reject(l)
	}
	w.letters = nil
}

// untold returns an error if there are letters left at the end: nobody was told of
// these rows, and a job that ends so must not look as if all were well.
func (w *writer[T]) untold() error {
	if len(w.letters) == 0 {
		return nil
	}
	kept := "they are in no checkpoint, as the job takes none"
	if w.env.Checkpoints {
		kept = "they are kept with the last checkpoint, and go to the dead-letter output when the job is started again"
	}
	return fmt.Errorf("table %s: the server has refused %d rows at the end of the job, and %s; the first is %s: %s",
		w.table, len(w.letters), kept, w.letters[0].Record, w.letters[0].Error)
}

// pool has the connections of a subtask.
type pool struct {
	free chan server
	all  []server
}

func newPool(n int, dial func() server) *pool {
	p := &pool{free: make(chan server, n)}
	for range n {
		s := dial()
		p.all = append(p.all, s)
		p.free <- s
	}
	return p
}

// take waits for a connection.
func (p *pool) take(ctx context.Context) (server, error) {
	select {
	case s := <-p.free:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pool) give(s server) { p.free <- s }

// close closes the connections, which nobody uses any more.
func (p *pool) close() {
	for _, s := range p.all {
		s.close()
	}
}
