package clickhouse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
	source "github.com/millrace/millrace/sources/memory"
)

func hitCase(cfg Config, sink func(cfg Config) *Sink[hit]) pipelinetest.SinkCase[hit] {
	return pipelinetest.SinkCase[hit]{
		New: func(testing.TB) (pipeline.Sink[hit], func() []hit) {
			f := newFakeTable(hitColumns()...)
			return attach(f, sink(cfg)), func() []hit {
				f.mu.Lock()
				defer f.mu.Unlock()
				var all []hit
				for _, row := range f.rows {
					all = append(all, hitOf(row))
				}
				return all
			}
		},
		Value: newHit,
		Bad:   func() hit { return hit{ID: 5, Kind: "unheard-of"} },
	}
}

func hitValues(cfg Config) *Sink[hit] {
	return Columns(cfg,
		Value("id", func(h *hit) uint64 { return h.ID }),
		Value("page", func(h *hit) string { return h.Page }),
		Value("kind", func(h *hit) string { return h.Kind }),
		Value("at", func(h *hit) time.Time { return h.At }))
}

func TestExactlyOnceConformance(t *testing.T) {
	cfg := newConfig()
	cfg.BlockRows, cfg.Inserts = 100, 1
	pipelinetest.TestSink(t, hitCase(cfg, Structs[hit]))
	t.Run("columns", func(t *testing.T) { pipelinetest.TestSink(t, hitCase(cfg, hitValues)) })
}

func TestAtLeastOnceConformance(t *testing.T) {
	cfg := newConfig()
	cfg.Delivery, cfg.BlockTime, cfg.BlockRows, cfg.Inserts = AtLeastOnce, -1, 100, 1
	pipelinetest.TestSink(t, hitCase(cfg, Structs[hit]))
}

// TestRefusedRows finds the rows that the server refuses, and no others.
func TestRefusedRows(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	bad := []uint64{0, 7, 8, 99}
	f.refuse = func(row []any) error {
		if slices.Contains(bad, row[0].(uint64)) {
			return &exception{chproto.ErrViolatedConstraint, "code 469: Constraint c is violated"}
		}
		return nil
	}
	s := mustOpen(t, attach(f, Structs[hit](newConfig())), vfs.NewMem(), "a")
	s.write(hits(0, 100)...)
	if err := s.commit(s.prepare()); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, f, without(100, bad...))
	if len(s.rejected) != 0 {
		t.Error("rows were rejected outside of Write and Flush")
	}
	s.flush()
	if len(s.rejected) != len(bad) {
		t.Fatalf("%d rows were rejected, want %d", len(s.rejected), len(bad))
	}
	if l := s.rejected[1]; l.Time != 1007 || !strings.Contains(l.Error, "Constraint c") || !strings.Contains(l.Record, "id:7 page:/page/0 kind:click") {
		t.Errorf("letter %+v", l)
	}
}

// TestRefusedAgain kills a job at each insert of a block with rows that the server
// refuses: all others are there once, and the letters are told at least once.
func TestRefusedAgain(t *testing.T) {
	for kill := 1; ; kill++ {
		f := newFakeTable(hitColumns()...)
		f.refuse = func(row []any) error {
			if id := row[0].(uint64); id == 3 || id == 17 {
				return &exception{chproto.ErrViolatedConstraint, "code 469: no"}
			}
			return nil
		}
		killed := false
		f.after = func(n int) error {
			if n == kill {
				killed = true
				return &exception{chproto.ErrUnknownTable, "code 60: the job ends here"}
			}
			return nil
		}
		files := vfs.NewMem()
		first := mustOpen(t, attach(f, Structs[hit](newConfig())), files, "first")
		first.write(hits(0, 30)...)
		p := first.prepare()
		err := first.commit(p)
		if killed && err == nil {
			t.Fatal("the failure was not told")
		}
		second := mustOpen(t, attach(f, Structs[hit](newConfig())), files, "second")
		f.after = nil
		if err := second.commit(p); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, f, without(30, 3, 17))
		second.flush()
		if len(second.rejected) != 2 {
			t.Errorf("killed at insert %d: %d letters, want 2", kill, len(second.rejected))
		}
		if !killed && kill > 40 {
			return
		}
	}
}

// TestLettersSurvive has a checkpoint come between the commit that found a row and
// the next Write: then the letter is the next checkpoint's.
func TestLettersSurvive(t *testing.T) {
	for _, n := range []int{1, 200} { // in the checkpoint, and in a file
		f := newFakeTable(hitColumns()...)
		f.refuse = func(row []any) error {
			if row[0].(uint64) < uint64(n) {
				return &exception{chproto.ErrViolatedConstraint, "code 469: no"}
			}
			return nil
		}
		files := vfs.NewMem()
		first := mustOpen(t, attach(f, Structs[hit](newConfig())), files, "first")
		first.write(hits(0, 300)...)
		if err := first.commit(first.prepare()); err != nil {
			t.Fatal(err)
		}
		p := first.prepare()
		if len(p) > 4<<10 {
			t.Errorf("%d letters make %d bytes of the checkpoint", n, len(p))
		}
		second := mustOpen(t, attach(f, Structs[hit](newConfig())), files, "second")
		if err := second.commit(p); err != nil {
			t.Fatal(err)
		}
		second.flush()
		if len(second.rejected) != n {
			t.Errorf("%d letters after the restart, want %d", len(second.rejected), n)
		}
	}
}

// TestConnectionsCut cuts connections before and after the server has a block.
func TestConnectionsCut(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	f.before = func(n int) error {
		if n%3 == 0 {
			return errCut
		}
		return nil
	}
	f.after = func(n int) error {
		if n%3 == 1 {
			return &exception{chproto.ErrTooManyParts, "code 252: Too many parts (300) in all data parts in table"}
		}
		return nil
	}
	cfg := newConfig()
	cfg.BlockRows = 10
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	for i := range 4 {
		s.write(hits(i*25, i*25+25)...)
		if err := s.commit(s.prepare()); err != nil {
			t.Fatal(err)
		}
	}
	wantIDs(t, f, upTo(100))
	if n := len(f.attempts); n < 20 {
		t.Errorf("%d inserts, so nothing was cut", n)
	}
}

// TestLastingErrors stop the job and say what failed.
func TestLastingErrors(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	f.before = func(int) error { return &exception{chproto.ErrUnknownTable, "code 60: Table d.t does not exist"} }
	s := mustOpen(t, attach(f, Structs[hit](newConfig())), vfs.NewMem(), "a")
	s.write(hits(0, 3)...)
	wantError(t, s.commit(s.prepare()), "table d.t", "INSERT INTO `d`.`t` (`id`, `page`, `kind`, `at`)", "Table d.t does not exist")
	f.before = func(int) error {
		return &exception{chproto.ErrFunctionThrowIfValueIsNonZero, "code 395: while pushing to view d.v"}
	}
	wantError(t, s.commit(s.prepareMore(hits(3, 6)...)), "while pushing to view")
	if n := len(f.attempts); n != 2 {
		t.Errorf("%d inserts: what a view refuses must not come again in pieces", n)
	}
}

func (s *subtask[T]) prepareMore(values ...T) []byte {
	s.write(values...)
	return s.prepare()
}

// TestTooManyRefused is a mistake in the table, not in rows.
func TestTooManyRefused(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	f.refuse = func([]any) error { return &exception{chproto.ErrViolatedConstraint, "code 469: no"} }
	s := mustOpen(t, attach(f, Structs[hit](newConfig())), vfs.NewMem(), "a")
	wantError(t, s.commit(s.prepareMore(hits(0, 2*maxRefused)...)), "more than 1000 rows", "code 469")
}

// TestWindow refuses tables that would forget tokens.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(tb *table, cfg *Config)
		want   []string
	}{
		{"off", func(tb *table, _ *Config) { tb.window = 0 },
			[]string{"table d.t ignores deduplication tokens", "ALTER TABLE `d`.`t` MODIFY SETTING non_replicated_deduplication_window = 1000"}},
		{"small", func(tb *table, _ *Config) { tb.window, tb.partitioned = 999, true },
			[]string{"remembers 999", "may need 4000", "= 10000"}},
		{"replicated", func(tb *table, cfg *Config) {
			tb.window, tb.engine, cfg.RecoveryBlocks = 10000, "ReplicatedMergeTree", 20000
		},
			[]string{"MODIFY SETTING replicated_deduplication_window = 100000"}},
		{"engine", func(tb *table, _ *Config) { tb.engine = "Log" }, []string{"engine Log", "AtLeastOnce"}},
		{"view", func(tb *table, _ *Config) {
			tb.views = []*view{{"d.v", &table{database: "d", name: "sums", engine: "SummingMergeTree"}}}
		}, []string{"table d.sums (filled by materialized view d.v)", "ALTER TABLE `d`.`sums`"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, cfg := newFakeTable(hitColumns()...), newConfig()
			c.change(&f.table, &cfg)
			_, err := open(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
			wantError(t, err, c.want...)
			cfg.Delivery, cfg.RecoveryBlocks = AtLeastOnce, 0
			if _, err := open(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "b"); err != nil {
				t.Errorf("at least once: %v", err)
			}
		})
	}
}

// TestWindowFull stops a job whose checkpoint has more blocks than the table knows
// again.
func TestWindowFull(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	f.window, cfg.RecoveryBlocks, cfg.BlockRows = 5, 5, 10
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	s.write(hits(0, 50)...)
	err := s.Write(t.Context(), &pipeline.Records[hit]{Values: hits(50, 60), Times: make([]int64, 10)})
	wantError(t, err, "5 blocks wait", "ALTER TABLE `d`.`t` MODIFY SETTING non_replicated_deduplication_window = 1000")
}

// TestForgottenTokens refuses to deliver what the table may have and not know.
func TestForgottenTokens(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	f.engine, f.seconds, cfg.RecoveryBlocks = "ReplicatedMergeTree", 3600, 10
	fs := vfs.NewMem()
	var p prepared
	if err := json.Unmarshal(mustOpen(t, attach(f, Structs[hit](cfg)), fs, "a").prepareMore(hits(0, 3)...), &p); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, attach(f, Structs[hit](cfg)), fs, "b")
	p.Time -= 2 * 3600 * 1000
	old, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.commit(old), "3 rows were prepared for table d.t 2h0m0s ago", "replicated_deduplication_window_seconds", "DeliverLate")
	p.Time += 2 * 3600 * 1000
	p.Table = "d.other"
	old, err = p.encode()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, s.commit(old), "for table d.other", "writes to d.t now")
}

// TestStartChecks lists all that does not fit.
func TestStartChecks(t *testing.T) {
	type row struct {
		ID      int64             `ch:"id"`
		Page    *string           `ch:"page"`
		Gone    string            `ch:"gone"`
		Sum     uint64            `ch:"sum"`
		Made    string            `ch:"made"`
		Tags    []*string         `ch:"tags"`
		Labels  map[string]uint8  `ch:"labels"`
		Fine    *uint32           `ch:"fine"`
		Wide    map[string]string `ch:"wide"`
		private int
		Ignored chan int `ch:"-"`
	}
	_ = row{}.private
	f := newFakeTable([]tableColumn{
		{"id", "UInt64", ""}, {"page", "String", ""}, {"sum", "AggregateFunction(sum, UInt64)", ""}, {"made", "String", "MATERIALIZED"},
		{"tags", "Array(String)", ""}, {"labels", "Map(String, String)", ""}, {"fine", "Nullable(UInt32)", ""}, {"wide", "Map(String, LowCardinality(String))", ""},
	}...)
	_, err := open(t, attach(f, Structs[row](newConfig())), vfs.NewMem(), "a")
	wantError(t, err, "the rows don't fit table d.t",
		`column "id": the table has UInt64, field ID of clickhouse.row is int64`,
		`column "page": the table has String, field Page of clickhouse.row is *string, which may be NULL while the column is not Nullable`,
		`column "gone" (field Gone of clickhouse.row, string): the table has none of that name`,
		`column "sum" (field Sum of clickhouse.row, uint64): the table has AggregateFunction(sum, UInt64), which is inserted by an expression`,
		`column "made" (field Made of clickhouse.row): the table computes it (MATERIALIZED)`,
		`column "tags": the table has Array(String), field Tags of clickhouse.row is []*string, which may be NULL in its elements`,
		`column "labels": the table has Map(String, String), field Labels of clickhouse.row is map[string]uint8`)
	if n := strings.Count(err.Error(), "\n\t"); n != 7 {
		t.Errorf("%d mistakes, want 7: %v", n, err)
	}
}

func TestNoTable(t *testing.T) {
	_, err := match(structColumns[hit](nil), &Config{Table: "d.t"}, nil, nil)
	wantError(t, err, "table d.t does not exist")
}

func TestInvalid(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"URL is empty":     func(c *Config) { c.URL = "" },
		"URL:":             func(c *Config) { c.URL = "clickhouse://%" },
		"Table is empty":   func(c *Config) { c.Table = "" },
		"without quotes":   func(c *Config) { c.Table = "`t`" },
		"Delivery is 7":    func(c *Config) { c.Delivery = 7 },
		"AsyncInsert":      func(c *Config) { c.AsyncInsert = true },
		"BlockRows is":     func(c *Config) { c.BlockRows = 2_000_000 },
		"BlockBytes is -1": func(c *Config) { c.BlockBytes = -1 },
		"RowBytes is -1":   func(c *Config) { c.RowBytes = -1 },
		"Inserts is -1":    func(c *Config) { c.Inserts = -1 },
		"InsertTimeout":    func(c *Config) { c.InsertTimeout = -1 },
		"RecoveryBlocks":   func(c *Config) { c.RecoveryBlocks = -1 },
		"Partitions":       func(c *Config) { c.PartitionsPerBlock = -1 },
		"StartTimeout":     func(c *Config) { c.StartTimeout = -1 },
		"DeliverLate":      func(c *Config) { c.Delivery, c.DeliverLate = AtLeastOnce, true },
	} {
		cfg := newConfig()
		change(&cfg)
		_, err := open(t, attach(newFakeTable(), Structs[hit](cfg)), vfs.NewMem(), "a")
		wantError(t, err, "invalid config", want)
	}
	_, err := open(t, Structs[int](newConfig()), vfs.NewMem(), "a")
	wantError(t, err, "int is no struct")
	_, err = open(t, Columns[int](newConfig()), vfs.NewMem(), "a")
	wantError(t, err, "no columns")
	id := Value("id", func(i *int) uint64 { return uint64(*i) })
	_, err = open(t, Columns(newConfig(), id, id), vfs.NewMem(), "a")
	wantError(t, err, `column "id" is there twice`)
}

// TestStatement is how expressions become an INSERT.
func TestStatement(t *testing.T) {
	f := newFakeTable([]tableColumn{{"day", "Date", ""}, {"visitors", "AggregateFunction(uniq, UInt64)", ""}}...)
	cfg := newConfig()
	cfg.Expressions = map[string]string{"visitors": "uniqState(visitor)"}
	cfg.Inputs = map[string]string{"visitor": "UInt64"}
	type row struct {
		Day     time.Time `ch:"day"`
		Visitor uint64    `ch:"visitor"`
	}
	p, err := match(structColumns[row](mustFields[row](t)), &cfg, &f.table, testContext)
	if err != nil {
		t.Fatal(err)
	}
	const want = "INSERT INTO `d`.`t` (`day`, `visitors`) SELECT `day`, uniqState(visitor) FROM input('`day` Date, `visitor` UInt64') GROUP BY ALL"
	if p.statement != want {
		t.Errorf("got  %s\nwant %s", p.statement, want)
	}
	cfg.Inputs["other"] = "String"
	cfg.Expressions["nowhere"] = "1"
	_, err = match(structColumns[row](mustFields[row](t)), &cfg, &f.table, testContext)
	wantError(t, err, `value "other"`, `column "nowhere"`)
}

func mustFields[T any](t *testing.T) []field {
	t.Helper()
	fields, err := fieldsOf(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

// TestBlockTime inserts rows that wait although no more come.
func TestBlockTime(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.Delivery, cfg.BlockTime = AtLeastOnce, time.Millisecond
	arrived := make(chan struct{}, 1)
	f.after = func(int) error {
		select {
		case arrived <- struct{}{}:
		default:
		}
		return nil
	}
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	s.write(hits(0, 3)...)
	<-arrived
	wantIDs(t, f, upTo(3))
	if s.prepare() != nil {
		t.Error("something waits for a commit")
	}
}

// TestAtLeastOncePrepare has all rows in the table before a checkpoint, and letters
// in it.
func TestAtLeastOncePrepare(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.Delivery, cfg.BlockTime, cfg.BlockRows = AtLeastOnce, time.Hour, 10
	f.refuse = func(row []any) error {
		if row[0].(uint64) == 24 {
			return &exception{chproto.ErrViolatedConstraint, "code 469: no"}
		}
		return nil
	}
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	s.write(hits(0, 25)...)
	s.flush()
	p := s.prepare()
	wantIDs(t, f, without(25, 24))
	if err := s.commit(p); err != nil {
		t.Fatal(err)
	}
	s.flush()
	if len(s.rejected) != 1 {
		t.Errorf("%d letters, want 1", len(s.rejected))
	}
	f.refuse = func([]any) error { return &exception{chproto.ErrUnknownTable, "code 60: gone"} }
	s.write(hits(25, 30)...)
	_, err := s.Writer.(pipeline.Committer).Prepare(t.Context(), 2)
	wantError(t, err, "code 60: gone")
}

// TestBadRows are found before the server sees them.
func TestBadRows(t *testing.T) {
	type row struct {
		ID    uint64   `ch:"id"`
		Kind  string   `ch:"kind"`
		Code  string   `ch:"code"`
		Null  any      `ch:"null"`
		Tags  []string `ch:"tags"`
		Other any      `ch:"other"`
	}
	f := newFakeTable([]tableColumn{
		{"id", "UInt64", ""}, {"kind", "Enum16('a' = 1, 'b-c' = -2)", ""}, {"code", "FixedString(2)", ""},
		{"null", "Decimal(9, 2)", ""}, {"tags", "Array(LowCardinality(String))", ""}, {"other", "Nullable(IPv4)", ""},
	}...)
	cfg := newConfig()
	cfg.RowBytes = 1000
	s := mustOpen(t, attach(f, Structs[row](cfg)), vfs.NewMem(), "a")
	good := func(id uint64) row {
		return row{id, "b-c", "de", decimalOf("1.25"), []string{"x", fmt.Sprint(id)}, "127.0.0.1"}
	}
	bad := make([]row, 6)
	for i := range bad {
		bad[i] = good(99)
	}
	bad[0].Kind = "c"
	bad[1].Code = "deu"
	bad[2].Null = nil
	bad[3].Tags = []string{strings.Repeat("x", 2000)}
	bad[4].Other = "no address"
	bad[5].Null = struct{}{}
	s.write(good(0), bad[0], good(1), bad[1], bad[2], bad[3], good(2), bad[4], bad[5], good(3))
	if err := s.commit(s.prepare()); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, f, upTo(4))
	want := []string{`column "kind": "c" is none of Enum16`, `column "code": 3 bytes`, `column "null": NULL`, "RowBytes is 1000", `column "other"`, `column "null"`}
	if len(s.rejected) != len(want) {
		t.Fatalf("%d rows rejected, want %d: %v", len(s.rejected), len(want), s.rejected)
	}
	for i, l := range s.rejected {
		if !strings.Contains(l.Error, want[i]) {
			t.Errorf("letter %d says %q, want %q", i, l.Error, want[i])
		}
	}
	if got := fmt.Sprint(f.rows[3]); got != "[3 b-c de 1.25 [x 3] 127.0.0.1]" {
		t.Errorf("the last row is %s", got)
	}
}

func TestDamagedFile(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	files := vfs.NewMem()
	s := mustOpen(t, attach(f, Structs[hit](newConfig())), files, "a")
	p := s.prepareMore(hits(0, 1000)...)
	for _, damage := range []int{3, 200, 1500} {
		name := "/staged/a-1.staged"
		content := readAll(t, files, name)
		spoiled := slices.Clone(content)
		spoiled[min(damage, len(content)-20)] ^= 0xff
		writeAll(t, files, name, spoiled)
		wantError(t, s.commit(p), "staged file", "a-1.staged")
		writeAll(t, files, name, content[:damage])
		wantError(t, s.commit(p), "staged file", "a-1.staged")
		writeAll(t, files, name, content)
	}
	if n := len(f.all()); n != 0 {
		t.Errorf("%d rows of a damaged file are there", n)
	}
	if err := s.commit(p); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, f, upTo(1000))
}

func TestCancelled(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	f.before = func(int) error { return errCut }
	s := mustOpen(t, attach(f, Structs[hit](newConfig())), vfs.NewMem(), "a")
	p := s.prepareMore(hits(0, 10)...)
	ctx, cancel := contextWithCause(t, errors.New("the job ends"))
	cancel()
	wantError(t, s.Writer.(pipeline.Committer).Commit(ctx, p), "the job ends")
}

// TestRefusedAtTheEnd has a job end with an error when nobody can be told any more of
// rows, and tell of them when it starts again.
func TestRefusedAtTheEnd(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	f.refuse = func(row []any) error {
		if row[0].(uint64) == 90 {
			return &exception{chproto.ErrViolatedConstraint, "code 469: no"}
		}
		return nil
	}
	files := vfs.NewMem()
	job := func(letters *[]pipeline.DeadLetter) error {
		p := pipeline.New(pipeline.Name("job"), pipeline.Logger(quiet), pipeline.DefaultParallelism(1),
			pipeline.Checkpoints("/job", pipeline.CheckpointFiles(files), pipeline.CheckpointInterval(time.Hour)))
		collected := memory.NewSink[pipeline.DeadLetter]()
		pipeline.To(pipeline.DeadLetters(p), "letters", pipeline.Sink[pipeline.DeadLetter](collected))
		pipeline.To(pipeline.From(p, "in", source.From(hits(0, 100))), "out", pipeline.Sink[hit](attach(f, Structs[hit](newConfig()))))
		err := p.Run(t.Context())
		*letters = collected.Values()
		return err
	}
	var letters []pipeline.DeadLetter
	wantError(t, job(&letters), "refused 1 rows at the end of the job", "id:90", "code 469: no", "started again")
	if err := job(&letters); err != nil {
		t.Fatal(err)
	}
	if len(letters) != 1 || !strings.Contains(letters[0].Record, "id:90") {
		t.Errorf("letters %v", letters)
	}
	wantIDs(t, f, without(100, 90))
}

// TestHTTPAnswers tells what passes from what lasts.
func TestHTTPAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		header string
		body   string
		want   verdict
		says   string
	}{
		{200, "", "", -1, ""},
		{200, "", "Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)", passing, "code 252"},
		{500, "469", "Code: 469. DB::Exception: Constraint", refusal, "code 469: DB::Exception: Constraint"},
		{404, "60", "Code: 60. DB::Exception: no table", lasting, "no table"},
		{503, "", "overloaded", passing, "HTTP status 503: overloaded"},
		{403, "", "who are you", lasting, "HTTP status 403"},
	} {
		var got *http.Request
		var body []byte
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body) // what is missing shows
			if c.header != "" {
				w.Header().Set("X-ClickHouse-Exception-Code", c.header)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body) // the client says
		}))
		o, err := clickhouse.ParseDSN(strings.Replace(srv.URL, "http://", "http://me:pw@", 1) + "/d?max_threads=3")
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(o)
		err = s.insert(t.Context(), insertion{statement: "INSERT INTO t (`id`)", settings: map[string]string{"async_insert": "0"}, token: "token/1"},
			&block{rows: 2, columns: []rawColumn{{"id", "UInt8", []byte{1, 2}}}})
		s.close()
		srv.Close()
		if c.want < 0 {
			if err != nil {
				t.Error(err)
			}
		} else if wantError(t, err, c.says); judge(err) != c.want {
			t.Errorf("%d %s is judged %d, want %d", c.status, c.body, judge(err), c.want)
		}
		q := got.URL.Query()
		if q.Get("query") != "INSERT INTO t (`id`) FORMAT Native" || q.Get("insert_deduplication_token") != "token/1" || q.Get("max_threads") != "3" || q.Get("database") != "d" {
			t.Errorf("asked %v", q)
		}
		if got.Header.Get("X-ClickHouse-User") != "me" || got.Header.Get("X-ClickHouse-Key") != "pw" {
			t.Errorf("headers %v", got.Header)
		}
		if string(body) != "\x01\x02\x02id\x05UInt8\x01\x02" {
			t.Errorf("body %q", body)
		}
	}
}
