package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/shopspring/decimal"

	"github.com/millrace/millrace/pipeline"
)

var (
	quiet       = slog.New(slog.DiscardHandler)
	testContext = &column.ServerContext{VersionMajor: 26, VersionMinor: 5, Timezone: time.UTC}
)

// fakeTable is a table that remembers tokens as the server does, for writers without
// one.
type fakeTable struct {
	table
	mu       sync.Mutex
	rows     [][]any           // guarded by mu
	seen     map[string]string // the rows that came with each token; guarded by mu
	order    []string          // of the tokens, of which the table remembers window; guarded by mu
	attempts []string          // the tokens of all that came; guarded by mu
	// What goes wrong, nil for nothing: with an insert before and after the table has
	// it, and with a row.
	before, after func(n int) error
	refuse        func(row []any) error
}

func newFakeTable(columns ...tableColumn) *fakeTable {
	return &fakeTable{
		table: table{database: "d", name: "t", engine: "MergeTree", columns: columns, window: 100_000},
		seen:  map[string]string{},
	}
}

// attach has a sink write to the fake.
func attach[T any](f *fakeTable, s *Sink[T]) *Sink[T] {
	s.look = func(context.Context, *clickhouse.Options, string) (*target, error) {
		return &target{&f.table, testContext, map[string]bool{"deduplicate_insert": true}}, nil
	}
	s.dial = func(*clickhouse.Options) server { return fakeServer{f} }
	s.pause = func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }
	return s
}

type fakeServer struct{ *fakeTable } // shares the table with others

func (s fakeServer) close() {}

func (s fakeServer) insert(ctx context.Context, in insertion, b *block) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, in.token)
	n := len(s.attempts)
	if s.before != nil {
		if err := s.before(n); err != nil {
			return err
		}
	}
	o, err := b.open(testContext)
	if err != nil {
		return fmt.Errorf("the block can't be read: %w", err)
	}
	var rows [][]any
	for i := range b.rows {
		var row []any
		for _, c := range o.values {
			row = append(row, c.Row(i, false))
		}
		if s.refuse != nil {
			if err := s.refuse(row); err != nil {
				return err
			}
		}
		rows = append(rows, row)
	}
	if err := s.store(in.token, rows); err != nil {
		return err
	}
	if s.after != nil {
		return s.after(n)
	}
	return nil
}

// store is called with the lock held.
func (s fakeServer) store(token string, rows [][]any) error {
	text := fmt.Sprint(rows)
	if had, again := s.seen[token]; again && token != "" {
		if had != text {
			return &exception{chproto.ErrLogicalError, "token " + token + " comes with other rows"}
		}
		return nil
	}
	s.seen[token] = text
	if s.order = append(s.order, token); len(s.order) > s.window {
		delete(s.seen, s.order[0])
		s.order = s.order[1:]
	}
	s.rows = append(s.rows, rows...)
	return nil
}

// all returns the first column, in order of arrival.
func (f *fakeTable) all() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []uint64
	for _, r := range f.rows {
		all = append(all, r[0].(uint64))
	}
	return all
}

type hit struct {
	ID   uint64    `ch:"id"`
	Page string    `ch:"page"`
	Kind string    `ch:"kind"`
	At   time.Time `ch:"at"`
}

func hitColumns() []tableColumn {
	return []tableColumn{{"id", "UInt64", ""}, {"page", "LowCardinality(String)", ""}, {"kind", "Enum8('view' = 1, 'click' = 2)", ""}, {"at", "DateTime64(3)", ""}}
}

func newHit(i int) hit {
	return hit{uint64(i), fmt.Sprint("/page/", i%7), []string{"view", "click"}[i%2], time.UnixMilli(1_700_000_000_000 + int64(i)).UTC()}
}

func hitOf(row []any) hit {
	return hit{row[0].(uint64), row[1].(string), row[2].(string), row[3].(time.Time).UTC()}
}

func newConfig() Config {
	return Config{URL: "clickhouse://127.0.0.1:1/d", Table: "d.t"}
}

// opened is one subtask of a sink, as the engine has it.
type subtask[T any] struct {
	pipeline.Writer[T]
	t        *testing.T
	staging  *pipeline.Staging
	rejected []pipeline.DeadLetter
}

// open opens a subtask in the staging directory of a job.
func open[T any](t *testing.T, s *Sink[T], fs vfs.FS, run string) (*subtask[T], error) {
	t.Helper()
	env := testEnv(t, fs, run)
	sub := &subtask[T]{t: t, staging: env.Staging}
	env.Reject = func(l pipeline.DeadLetter) { sub.rejected = append(sub.rejected, l) }
	var err error
	if sub.Writer, err = s.Open(t.Context(), env); err == nil {
		t.Cleanup(func() { _ = sub.Writer.(pipeline.Closer).Close() })
	}
	return sub, err
}

func testEnv(t *testing.T, fs vfs.FS, run string) *pipeline.SinkEnv {
	t.Helper()
	staging, err := pipeline.NewStaging(fs, "/staged", run)
	if err != nil {
		t.Fatal(err)
	}
	return &pipeline.SinkEnv{
		Operator: "out", Parallelism: 1, Checkpoints: true, Run: run, Staging: staging, Logger: quiet, Metrics: &pipeline.Metrics{},
	}
}

func mustOpen[T any](t *testing.T, s *Sink[T], fs vfs.FS, run string) *subtask[T] {
	t.Helper()
	sub, err := open(t, s, fs, run)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func (s *subtask[T]) write(values ...T) {
	s.t.Helper()
	times := make([]int64, len(values))
	for i := range times {
		times[i] = int64(1000 + i)
	}
	if err := s.Write(s.t.Context(), &pipeline.Records[T]{Values: values, Times: times}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subtask[T]) flush() {
	s.t.Helper()
	if err := s.Writer.(pipeline.Flusher).Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subtask[T]) prepare() []byte {
	s.t.Helper()
	p, err := s.Writer.(pipeline.Committer).Prepare(s.t.Context(), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *subtask[T]) commit(p []byte) error {
	return s.Writer.(pipeline.Committer).Commit(s.t.Context(), p)
}

func wantIDs(t *testing.T, f *fakeTable, want []uint64) {
	t.Helper()
	got := f.all()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the table has %d rows, want %d: %v, want %v", len(got), len(want), brief(got), brief(want))
	}
}

func brief(ids []uint64) string {
	if len(ids) > 20 {
		return fmt.Sprint(ids[:20], "…")
	}
	return fmt.Sprint(ids)
}

func upTo(n int) []uint64 {
	var all []uint64
	for i := range n {
		all = append(all, uint64(i))
	}
	return all
}

func hits(from, to int) []hit {
	var all []hit
	for i := from; i < to; i++ {
		all = append(all, newHit(i))
	}
	return all
}

var errCut = errors.New("connection reset by peer")

// without returns numbers up to n but some.
func without(n int, but ...uint64) []uint64 {
	return slices.DeleteFunc(upTo(n), func(i uint64) bool { return slices.Contains(but, i) })
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
}

func decimalOf(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func readAll(t *testing.T, files vfs.FS, name string) []byte {
	t.Helper()
	f, err := files.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was read
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeAll(t *testing.T, files vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(slices.Clone(content)) // it may be overwritten
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// contextWithCause returns a context, and what ends it with a cause.
func contextWithCause(t *testing.T, cause error) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	return ctx, func() { cancel(cause) }
}
