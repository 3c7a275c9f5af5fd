//go:build integration

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/postgres"
)

var quiet = slog.New(slog.DiscardHandler)

// database is one of a test's own.
type database struct {
	t   testing.TB
	url string
	*pgx.Conn
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	return connect(t, realserver.SharedPostgres(t).NewDatabase(t))
}

func connect(t testing.TB, url string) *database {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return &database{t, url, c}
}

func (d *database) exec(statements string) {
	d.t.Helper()
	if _, err := d.Exec(d.t.Context(), statements); err != nil {
		d.t.Fatal(err)
	}
}

// rows returns what a query returns, a string for each row.
func (d *database) rows(query string) []string {
	d.t.Helper()
	rows, err := d.Query(d.t.Context(), query)
	if err != nil {
		d.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		values, err := r.Values()
		return strings.TrimSuffix(fmt.Sprintln(values...), "\n"), err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (d *database) want(query string, want ...string) {
	d.t.Helper()
	if got := d.rows(query); strings.Join(got, "; ") != strings.Join(want, "; ") {
		d.t.Errorf("%s\ngot  %q\nwant %q", query, got, want)
	}
}

type item struct {
	N int64
	S string
}

func itemOf(i int) item { return item{int64(i), fmt.Sprint("item ", i)} }

// TestIntegrationConformance runs the suite that all sinks pass.
func TestIntegrationConformance(t *testing.T) {
	d := newDatabase(t)
	for _, c := range []struct {
		name string
		cfg  postgres.Config
	}{
		{"exactly once", postgres.Config{}},
		{"exactly once, in small pieces", postgres.Config{BatchBytes: 100, BufferBytes: 1000}},
		{"exactly once, by key", postgres.Config{Key: []string{"n"}}},
		{"at least once", postgres.Config{Delivery: postgres.AtLeastOnce}},
		{"at least once, by key", postgres.Config{Delivery: postgres.AtLeastOnce, Key: []string{"n"}, BatchBytes: 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkCase[item]{
				New: func(t testing.TB) (pipeline.Sink[item], func() []item) {
					cfg := c.cfg
					cfg.URL, cfg.Table = d.url, realserver.UniqueName("items")
					d.exec("CREATE TABLE " + cfg.Table + " (n bigint PRIMARY KEY, s varchar(20) NOT NULL)")
					return postgres.Structs[item](cfg), func() []item {
						rows, err := d.Query(context.Background(), "SELECT n, s FROM "+cfg.Table+" ORDER BY n")
						if err != nil {
							t.Fatal(err)
						}
						all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[item])
						if err != nil {
							t.Fatal(err)
						}
						return all
					}
				},
				Value: itemOf,
				Bad:   func() item { return item{-1, strings.Repeat("too long ", 10)} },
			})
		})
	}
}

// one is a sink with one subtask, without a job around it.
type one[T any] struct {
	t       testing.TB
	w       pipeline.Writer[T]
	letters []pipeline.DeadLetter
}

func open[T any](t testing.TB, sink pipeline.Sink[T], env pipeline.SinkEnv) (*one[T], error) {
	t.Helper()
	o := &one[T]{t: t}
	env.Operator, env.Parallelism, env.Logger, env.Metrics = "sink", 1, quiet, &pipeline.Metrics{}
	env.Reject = func(d pipeline.DeadLetter) { o.letters = append(o.letters, d) }
	var err error
	if o.w, err = sink.Open(t.Context(), &env); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = o.w.(pipeline.Closer).Close() })
	return o, nil
}

func mustOpen[T any](t testing.TB, sink pipeline.Sink[T], env pipeline.SinkEnv) *one[T] {
	t.Helper()
	o, err := open(t, sink, env)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *one[T]) write(values ...T) {
	o.t.Helper()
	b := &pipeline.Records[T]{Values: values}
	for i := range values {
		b.Times = append(b.Times, int64(1000+i))
	}
	if err := errors.Join(o.w.Write(o.t.Context(), b), o.w.(pipeline.Flusher).Flush(o.t.Context())); err != nil {
		o.t.Fatal(err)
	}
}

func (o *one[T]) prepare(checkpoint int64) []byte {
	o.t.Helper()
	p, err := o.w.(pipeline.Committer).Prepare(o.t.Context(), checkpoint)
	if err != nil {
		o.t.Fatal(err)
	}
	return p
}

func (o *one[T]) commit(prepared []byte) {
	o.t.Helper()
	if err := o.w.(pipeline.Committer).Commit(o.t.Context(), prepared); err != nil {
		o.t.Fatal(err)
	}
}

func (o *one[T]) wantLetters(parts ...string) {
	o.t.Helper()
	if len(o.letters) != len(parts) {
		o.t.Errorf("got %d dead letters, want %d: %+v", len(o.letters), len(parts), o.letters)
		return
	}
	for i, part := range parts {
		if d := o.letters[i]; !strings.Contains(d.Record+": "+d.Error, part) {
			o.t.Errorf("dead letter %d is %+v, want %q in it", i, d, part)
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

// TestIntegrationRejected has the server refuse rows: by their own values before the
// checkpoint, by other rows as they are moved.
func TestIntegrationRejected(t *testing.T) {
	type row struct {
		N     int64
		Small int64
		Name  *string
		Group int64
	}
	name := "x"
	d := newDatabase(t)
	d.exec(`CREATE TABLE groups (id int PRIMARY KEY); INSERT INTO groups VALUES (1), (2);
		CREATE TABLE t (id bigserial PRIMARY KEY, n bigint UNIQUE CHECK (n < 100), small int2, name text NOT NULL,
			"group" int REFERENCES groups DEFERRABLE INITIALLY DEFERRED)`)
	for _, delivery := range []postgres.Delivery{postgres.ExactlyOnce, postgres.AtLeastOnce} {
		d.exec("TRUNCATE t")
		o := mustOpen(t, postgres.Structs[row](postgres.Config{URL: d.url, Table: "t", Delivery: delivery}), pipeline.SinkEnv{Run: "a"})
		o.write(row{1, 1, &name, 1}, row{2, 1 << 40, &name, 1}, row{3, 1, nil, 1}, row{100, 1, &name, 1}, row{4, 1, &name, 2})
		o.wantLetters("small", "Name:<nil>", "check constraint")
		if d := o.letters[1]; d.Time != 1002 || !strings.Contains(d.Error, "23502") {
			t.Errorf("got %+v", d)
		}
		o.letters = nil
		o.write(row{1, 2, &name, 1}, row{5, 1, &name, 3}, row{6, 1, &name, 1})
		if delivery == postgres.ExactlyOnce {
			p := o.prepare(1)
			o.commit(p)
			o.wantLetters()
			o.write() // after the commit, part of the next checkpoint
			o.wantLetters("23505", "23503")
			if o.letters[0].Time != 1000 || !strings.Contains(o.letters[0].Record, `"small": 2`) {
				t.Errorf("got %+v", o.letters[0])
			}
			d.want("SELECT count(*) FROM millrace.rejected", "2")
			o.commit(p) // again is harmless
			o.commit(o.prepare(2))
			d.want("SELECT count(*) FROM millrace.rejected", "0")
		} else {
			o.wantLetters("23505", "23503")
		}
		d.want("SELECT n FROM t ORDER BY n", "1", "4", "6")
	}
}

// TestIntegrationLettersSurvive has a job killed between the commit that finds rows to
// be refused and the checkpoint that has them as dead letters.
func TestIntegrationLettersSurvive(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint PRIMARY KEY, s text)")
	sink := func() *postgres.Sink[item] { return postgres.Structs[item](postgres.Config{URL: d.url, Table: "t"}) }
	a := mustOpen(t, sink(), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(itemOf(1), itemOf(1), itemOf(2))
	first := a.prepare(1)
	a.commit(first)
	if err := a.w.(pipeline.Closer).Close(); err == nil {
		t.Error("a job ends, with a row that nobody hears of")
	} else {
		wantError(t, err, `"millrace"."rejected"`)
	}
	b := mustOpen(t, sink(), pipeline.SinkEnv{Run: "b", Checkpoints: true, Prepared: [][]byte{first}})
	b.commit(first)
	b.write()
	b.wantLetters("23505")
	b.prepare(2) // which another part of the job does not complete
	c := mustOpen(t, sink(), pipeline.SinkEnv{Run: "c", Checkpoints: true, Prepared: [][]byte{first}})
	c.commit(first)
	c.write()
	c.wantLetters("23505")
	second := c.prepare(2)
	e := mustOpen(t, sink(), pipeline.SinkEnv{Run: "e", Checkpoints: true, Prepared: [][]byte{second}})
	e.commit(second)
	e.write(itemOf(3))
	e.wantLetters()
	d.want("SELECT count(*) FROM millrace.rejected", "0")
	e.commit(e.prepare(3))
	d.want("SELECT n FROM t ORDER BY n", "1", "2", "3")
}

// TestIntegrationKey has the last row of a key win, and deletes.
func TestIntegrationKey(t *testing.T) {
	d := newDatabase(t)
	for _, delivery := range []postgres.Delivery{postgres.ExactlyOnce, postgres.AtLeastOnce} {
		d.exec(`DROP TABLE IF EXISTS t; CREATE TABLE t (a int, "B" text NOT NULL, n bigint NOT NULL CHECK (n > 0), at timestamptz DEFAULT '2020-01-01 00:00+00', UNIQUE ("B", a));
			INSERT INTO t VALUES (9, 'there', 1)`)
		type row struct {
			A int
			B string `db:"B"`
			N int64
		}
		sink := postgres.Structs[row](postgres.Config{URL: d.url, Table: "t", Key: []string{"a", "B"}, Delivery: delivery}).Deletes(func(r row) bool { return r.N == 0 })
		o := mustOpen(t, sink, pipeline.SinkEnv{Run: "a"})
		o.write(row{1, "x", 1}, row{1, "x", 2}, row{1, "y", 3}, row{9, "there", 0}, row{1, "x", -5}, row{2, "x", 7})
		o.write(row{1, "y", 0}, row{1, "y", 4}, row{2, "x", 0}, row{3, "x", 0})
		if _, ok := o.w.(pipeline.Committer); ok {
			o.commit(o.prepare(1))
		}
		d.want(`SELECT a, "B", n FROM t ORDER BY 1, 2`, "1 x 2", "1 y 4")
		o.wantLetters("check constraint")
		if _, ok := o.w.(pipeline.Committer); ok {
			o.write(row{1, "x", 0})
			o.commit(o.prepare(2))
			d.want(`SELECT a, "B", n FROM t ORDER BY 1, 2`, "1 y 4")
		}
	}
}

// TestIntegrationTypes writes what columns may be made of.
func TestIntegrationTypes(t *testing.T) {
	d := newDatabase(t)
	d.exec(`CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100); CREATE DOMAIN half AS percent CHECK (VALUE <= 50);
		CREATE TABLE t (b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, num numeric(10,2), txt text, bin bytea, ts timestamptz, day date,
			id uuid, js jsonb, tags text[], ip inet, m mood, moods mood[], p half, dur interval, maybe int)`)
	columns := []string{"b", "i2", "i4", "i8", "f4", "f8", "num", "txt", "bin", "ts", "day", "id", "js", "tags", "ip", "m", "moods", "p", "dur", "maybe"}
	at := time.Date(2024, 2, 29, 12, 30, 0, 0, time.UTC)
	for _, key := range []bool{false, true} {
		cfg := postgres.Config{URL: d.url, Table: "t", Delivery: postgres.AtLeastOnce}
		if key {
			d.exec("TRUNCATE t; CREATE UNIQUE INDEX ON t (i8)")
			cfg.Delivery, cfg.Key = postgres.ExactlyOnce, []string{"i8"}
		}
		sink := postgres.Encode(cfg, columns, func(v int, row []any) ([]any, error) {
			if v < 0 {
				return nil, errors.New("negative")
			}
			return append(row, true, 2, int32(3), v, float32(1.5), 2.5, "12.34", "text", []byte{0, 1}, at, at, "6b2f0a3e-7e0c-4a55-9d3e-0242ac120002",
				map[string]any{"k": 1}, []string{"a", "b"}, "10.0.0.1", "happy", []string{"sad"}, v, time.Minute, nil), nil
		})
		o := mustOpen(t, sink, pipeline.SinkEnv{Run: "a"})
		o.write(40, 60, -1)
		if key {
			o.commit(o.prepare(1))
		}
		o.wantLetters("negative", "half_check")
		d.want(`SELECT concat_ws('|', b, i2, i4, i8, f4, f8, num, txt, bin, ts AT TIME ZONE 'UTC', day, id, js, tags, ip, m, moods, p, dur, maybe) FROM t`,
			`t|2|3|40|1.5|2.5|12.34|text|\x0001|2024-02-29 12:30:00|2024-02-29|6b2f0a3e-7e0c-4a55-9d3e-0242ac120002|{"k": 1}|{a,b}|10.0.0.1|happy|{sad}|40|00:01:00`)
	}
}

// TestIntegrationMismatch starts with tables that do not fit.
func TestIntegrationMismatch(t *testing.T) {
	type row struct {
		ID    int64
		When  time.Time
		Value float64
		Tags  []string
	}
	d := newDatabase(t)
	start := func(cfg postgres.Config) error {
		cfg.URL, cfg.StartTimeout = d.url, 20*time.Second
		_, err := open(t, postgres.Structs[row](cfg), pipeline.SinkEnv{Run: "a"})
		return err
	}
	wantError(t, start(postgres.Config{Table: "stats.missing", Key: []string{"id"}}),
		`table "stats"."missing" does not exist: CREATE TABLE "stats"."missing" ("id" bigint, "when" timestamptz, "value" double precision, "tags" text[], PRIMARY KEY ("id"));`)
	d.exec(`CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, "when" point, value float8, owner text NOT NULL, made int NOT NULL DEFAULT 1)`)
	err := start(postgres.Config{Table: "t", Key: []string{"id"}})
	wantError(t, err, "table public.t does not fit", `column "id" (field ID of postgres_test.row) has values that the table makes`,
		`column "when" is point, which takes no time.Time (field When of postgres_test.row): ALTER TABLE public.t ALTER COLUMN "when" TYPE timestamptz;`,
		`column "tags" (field Tags of postgres_test.row) does not exist: ALTER TABLE public.t ADD COLUMN "tags" text[];`,
		`column "owner" is NOT NULL, has no default, and nothing is written to it: ALTER TABLE public.t ALTER COLUMN "owner" DROP NOT NULL;`,
		`the key ("id") has no unique index: CREATE UNIQUE INDEX ON public.t ("id");`)
	d.exec(`DROP TABLE t; CREATE TABLE t (id bigint, "when" date, value float8, tags text[])`)
	wantError(t, start(postgres.Config{Table: "t", Key: []string{"id"}}), `CREATE UNIQUE INDEX ON public.t ("id");`)
	d.exec(`CREATE UNIQUE INDEX ON public.t ("id")`)
	if err := start(postgres.Config{Table: "t", Key: []string{"id"}}); err != nil {
		t.Error(err)
	}
	wantError(t, start(postgres.Config{Table: "t", Key: []string{"other"}}), `key column "other" is none that is written`)
}

// TestIntegrationStartErrors starts without a server, and without the right to it.
func TestIntegrationStartErrors(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text); CREATE USER writer PASSWORD 'w'; GRANT INSERT ON t TO writer")
	start := func(url string, timeout time.Duration) error {
		_, err := open(t, postgres.Structs[item](postgres.Config{URL: url, Table: "t", StartTimeout: timeout}), pipeline.SinkEnv{Run: "a"})
		return err
	}
	began := time.Now()
	wantError(t, start(strings.Replace(d.url, realserver.Password, "wrong", 1), time.Minute), "password authentication failed")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a wrong password is tried for %v", took)
	}
	wantError(t, start(strings.Replace(d.url, "test_", "no_test_", 1), time.Minute), "does not exist")
	wantError(t, start("postgres://postgres@127.0.0.1:1/x", 3*time.Second), "the database did not answer within 3s", "connection refused")
	wantError(t, start(strings.Replace(d.url, "postgres:"+realserver.Password, "writer:w", 1), time.Minute), "CREATE SCHEMA", `AUTHORIZATION "writer"`)
}

// TestIntegrationFenced starts a sink a second time.
func TestIntegrationFenced(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text)")
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t"})
	a := mustOpen(t, sink, pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(itemOf(1))
	waits := a.prepare(1)
	a.write(itemOf(2))
	b := mustOpen(t, sink, pipeline.SinkEnv{Run: "b", Checkpoints: true})
	wantError(t, a.w.(pipeline.Committer).Commit(t.Context(), waits), "fenced")
	idle := mustOpen(t, postgres.Structs[item](postgres.Config{URL: d.url, Table: "t", ID: "idle"}), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	idle.write(itemOf(1))
	idle.prepare(1)
	mustOpen(t, postgres.Structs[item](postgres.Config{URL: d.url, Table: "t", ID: "idle"}), pipeline.SinkEnv{Run: "b", Checkpoints: true}) // and removes its table
	_, err := idle.w.(pipeline.Committer).Prepare(t.Context(), 2)
	wantError(t, errors.Join(err, idle.w.(pipeline.Committer).Commit(t.Context(), []byte(`{"v":1,"run":"a","checkpoint":1,"stage":"x"}`))), "fenced")
	b.write(itemOf(10))
	first := b.prepare(1)
	b.commit(first)
	d.want("SELECT n FROM t", "10")
	forget := `UPDATE "millrace"."sinks" SET last_run = '', last_checkpoint = 0 WHERE id = 'sink > public.t';`
	// A third has no reason to fence anybody.
	_, err = open(t, sink, pipeline.SinkEnv{Run: "c", Checkpoints: true})
	wantError(t, err, `"sink > public.t" has committed rows up to checkpoint 1 of run b, and the job starts anew`, forget)
	b.write(itemOf(11))
	b.commit(b.prepare(2))
	_, err = open(t, sink, pipeline.SinkEnv{Run: "c", Checkpoints: true, Prepared: [][]byte{first}})
	wantError(t, err, "starts from checkpoint 1, which is not behind it")
	d.want("SELECT n FROM t", "10", "11")
}

// TestIntegrationLost starts on a database that has not what it had.
func TestIntegrationLost(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text)")
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t"})
	a := mustOpen(t, sink, pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(itemOf(1))
	waits := a.prepare(1)
	d.exec("DROP SCHEMA millrace CASCADE")
	b := mustOpen(t, sink, pipeline.SinkEnv{Run: "b", Checkpoints: true, Prepared: [][]byte{waits}})
	forget := `UPDATE "millrace"."sinks" SET last_run = '', last_checkpoint = 0 WHERE id = 'sink > public.t';`
	wantError(t, b.w.(pipeline.Committer).Commit(t.Context(), waits), "knows nothing of the rows that waited", forget)
	d.exec(forget)
	b = mustOpen(t, sink, pipeline.SinkEnv{Run: "c", Checkpoints: true, Prepared: [][]byte{waits}})
	b.commit(waits)
	b.write(itemOf(2))
	b.commit(b.prepare(2))
	d.want("SELECT n FROM t", "2")
}

// TestIntegrationStandbyBehind finds a database that has gone back to before the rows of
// a checkpoint, as a standby does that takes over without them.
func TestIntegrationStandbyBehind(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text)")
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t"})
	a := mustOpen(t, sink, pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(itemOf(1))
	first := a.prepare(1)
	a.commit(first)
	d.exec("CREATE TABLE before AS SELECT * FROM millrace.stages")
	a.write(itemOf(2))
	waits := a.prepare(2)
	d.exec("DELETE FROM millrace.stages; INSERT INTO millrace.stages SELECT * FROM before")
	wantError(t, a.w.(pipeline.Committer).Commit(t.Context(), waits), "a standby has taken over that did not have them")
	a.commit(first) // which it has
}

// TestIntegrationFromEarlier writes rows again, from an earlier checkpoint, as a refused
// start tells how to.
func TestIntegrationFromEarlier(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text)")
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t"})
	env := func(run string, prepared ...[]byte) pipeline.SinkEnv {
		return pipeline.SinkEnv{Run: run, Checkpoints: true, Prepared: prepared}
	}
	a := mustOpen(t, sink, env("a"))
	a.write(itemOf(1))
	first := a.prepare(1)
	a.commit(first)
	a.write(itemOf(10))
	second := a.prepare(2)
	a.commit(second)
	b := mustOpen(t, sink, env("b", second)) // which forgets what the first was
	b.commit(second)
	b.write(itemOf(100))
	b.commit(b.prepare(3))
	_, err := open(t, sink, env("c", first))
	forget := `UPDATE "millrace"."sinks" SET last_run = '', last_checkpoint = 0 WHERE id = 'sink > public.t';`
	wantError(t, err, "starts from checkpoint 1, which is not behind it", forget)
	d.exec(forget)
	for i := range 2 { // also when it is killed before its first commit
		c := mustOpen(t, sink, env(fmt.Sprint("c", i), first))
		c.commit(first)
		c.write(itemOf(1000))
		if i == 1 {
			c.commit(c.prepare(2))
		}
	}
	d.want("SELECT n FROM t ORDER BY n", "1", "10", "100", "1000")
	_, err = open(t, sink, env("d", first))
	wantError(t, err, "starts from checkpoint 1, which is not behind it")
}

// TestIntegrationPanickingDelete loses no row beside one whose function panics.
func TestIntegrationPanickingDelete(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE parent (n bigint PRIMARY KEY); INSERT INTO parent VALUES (0), (1), (4); CREATE TABLE t (n bigint PRIMARY KEY REFERENCES parent, s text)")
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t", Key: []string{"n"}}).Deletes(func(v item) bool {
		if v.N == 2 {
			panic("two")
		}
		return false
	})
	o := mustOpen(t, sink, pipeline.SinkEnv{Run: "a", Checkpoints: true})
	o.write(itemOf(0), itemOf(1), itemOf(2), itemOf(3), itemOf(4)) // 3 has no parent
	o.commit(o.prepare(1))
	d.want("SELECT n FROM t ORDER BY n", "0", "1", "4")
}

// cutAtCommit is a connection that breaks when the answer to a COMMIT comes.
type cutAtCommit struct {
	net.Conn
	armed *atomic.Bool
	cut   atomic.Bool
}

func (c *cutAtCommit) Write(b []byte) (int, error) {
	if bytes.Contains(bytes.ToLower(b), []byte("commit\x00")) && c.armed.CompareAndSwap(true, false) {
		c.cut.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutAtCommit) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() {
		return 0, io.EOF
	}
	return n, err
}

// TestIntegrationCommitUnanswered has rows refused by a commit whose answer is lost: it
// has them become dead letters all the same, and says so at the end.
func TestIntegrationCommitUnanswered(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE parent (n bigint PRIMARY KEY); INSERT INTO parent VALUES (1); CREATE TABLE t (n bigint REFERENCES parent, s text)")
	var armed atomic.Bool
	sink := postgres.Structs[item](postgres.Config{URL: d.url, Table: "t", Connection: func(c *pgx.ConnConfig) error {
		c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return &cutAtCommit{Conn: conn, armed: &armed}, err
		}
		return nil
	}})
	for _, more := range []bool{true, false} {
		o := mustOpen(t, sink, pipeline.SinkEnv{Run: fmt.Sprint("a", more)})
		o.write(itemOf(1), itemOf(2))
		p := o.prepare(1)
		armed.Store(true)
		o.commit(p)
		if armed.Load() {
			t.Fatal("nothing was cut")
		}
		if more {
			o.write(itemOf(1))
			o.wantLetters("violates foreign key")
			continue
		}
		wantError(t, o.w.(pipeline.Closer).Close(), "the last commit left rows that the table refuses")
	}
}

// TestIntegrationConnectionsCut breaks the connection again and again.
func TestIntegrationConnectionsCut(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (n bigint, s text)")
	cut := func() {
		d.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	}
	o := mustOpen(t, postgres.Structs[item](postgres.Config{URL: d.url, Table: "t", BatchBytes: 500, BufferBytes: 2000}), pipeline.SinkEnv{Run: "a"})
	n, checkpoint := 0, int64(0)
	var waiting [][]byte
	for range 60 {
		if n%3 == 0 {
			cut()
		}
		var items []item
		for range 7 {
			items = append(items, itemOf(n))
			n++
		}
		o.write(items...)
		if n%4 == 0 {
			cut()
			checkpoint++
			waiting = append(waiting, o.prepare(checkpoint))
		}
		if n%5 == 0 {
			cut()
			for _, p := range waiting {
				o.commit(p)
			}
			waiting = nil
		}
	}
	waiting = append(waiting, o.prepare(checkpoint+1))
	for _, p := range waiting {
		o.commit(p)
	}
	d.want("SELECT count(*), count(DISTINCT n), max(n) FROM t", fmt.Sprintf("%d %d %d", n, n, n-1))
	d.want("SELECT count(*) FROM millrace.stages WHERE checkpoint <> 0", "0")
}
