//go:build integration

package clickhouse

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/millrace/millrace/internal/devclickhouse"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/generator"
)

// jobSpec is what a job's process is told.
type jobSpec struct {
	URL, Table  string
	Dir         string
	Records     int64
	Rate        float64
	Parallelism int
	Tokens      bool // false: the deliberately broken variant
	Columnar    bool
	BlockRows   int
	Interval    time.Duration
}

// jobVariable is the environment variable that makes a test process a job's.
const jobVariable = "MILLRACE_TEST_CLICKHOUSE_JOB"

// TestIntegrationJobProcess is the process of the other tests' jobs.
func TestIntegrationJobProcess(t *testing.T) {
	raw := os.Getenv(jobVariable)
	if raw == "" {
		t.Skip("the other tests start it as a process of its own")
	}
	var spec jobSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		t.Fatal(err)
	}
	if err := visitJob(spec).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

type visit struct {
	ID      uint64            `ch:"id"`
	At      time.Time         `ch:"at"`
	Visitor uint64            `ch:"visitor"`
	Page    string            `ch:"page"`
	Kind    string            `ch:"kind"`
	Seconds *float64          `ch:"seconds"`
	Tags    map[string]string `ch:"tags"`
}

func newVisit(r *rand.Rand, i int64) visit {
	v := visit{
		ID: uint64(i), At: time.UnixMilli(1_700_000_000_000 + i*7), Visitor: r.Uint64() % 50_000, Page: "/page/" + strconv.Itoa(r.IntN(500)),
		Kind: []string{"view", "click", "leave"}[r.IntN(3)], Tags: map[string]string{"n": strconv.Itoa(r.IntN(10))},
	}
	if r.IntN(3) == 0 {
		s := r.Float64() * 100
		v.Seconds = &s
	}
	return v
}

const visitTable = `(id UInt64, at DateTime64(3), visitor UInt64, page LowCardinality(String), kind Enum8('view' = 1, 'click' = 2, 'leave' = 3),
	seconds Nullable(Float64), tags Map(String, String)) ENGINE = MergeTree PARTITION BY intDiv(id, 1000000) ORDER BY id`

const window = " SETTINGS non_replicated_deduplication_window = 10000"

func visitSink(s jobSpec) *Sink[visit] {
	cfg := Config{URL: s.URL, Table: s.Table, BlockRows: max(s.BlockRows, 5000)}
	sink := Structs[visit](cfg)
	if s.Columnar {
		sink = Columns(cfg,
			Value("id", func(v *visit) uint64 { return v.ID }),
			Value("at", func(v *visit) time.Time { return v.At }),
			Value("visitor", func(v *visit) uint64 { return v.Visitor }),
			Value("page", func(v *visit) string { return v.Page }),
			Value("kind", func(v *visit) string { return v.Kind }),
			Value("seconds", func(v *visit) *float64 { return v.Seconds }),
			Value("tags", func(v *visit) map[string]string { return v.Tags }))
	}
	sink.look = func(ctx context.Context, o *clickhouse.Options, name string) (*target, error) {
		t, err := look(ctx, o, name)
		fmt.Fprintln(os.Stderr, "started") // for who waits to kill the job
		return t, err
	}
	sink.dial = func(o *clickhouse.Options) server { return tellingServer{newServer(o), s.Tokens} }
	return sink
}

// tellingServer says when it has inserted something, and may be told no tokens.
type tellingServer struct {
	server
	tokens bool
}

var tellOnce sync.Once

func (s tellingServer) insert(ctx context.Context, in insertion, b *block) error {
	if !s.tokens {
		in.token, in.settings = "", map[string]string{"insert_deduplicate": "0", "deduplicate_insert": "disable"}
	}
	err := s.server.insert(ctx, in, b)
	if err == nil {
		tellOnce.Do(func() { fmt.Fprintln(os.Stderr, "inserted") })
	}
	return err
}

func visitJob(s jobSpec) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("visits"), pipeline.DefaultParallelism(s.Parallelism),
		pipeline.Checkpoints(s.Dir, pipeline.CheckpointInterval(max(s.Interval, 50*time.Millisecond))),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	var opts []generator.Option
	if s.Rate > 0 {
		opts = append(opts, generator.Rate(s.Rate))
	}
	in := pipeline.From(p, "in", generator.Func(s.Records, newVisit, opts...))
	pipeline.To(in, "out", pipeline.Sink[visit](visitSink(s)))
	return p
}

// jobProcess is a running process of a job.
type jobProcess struct {
	*exec.Cmd
	mu       sync.Mutex
	out      bytes.Buffer // guarded by mu
	started  chan struct{}
	inserted chan struct{}
	ended    chan error
}

func (p *jobProcess) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.out.Len()
	n, err := p.out.Write(b)
	for word, said := range map[string]chan struct{}{"started\n": p.started, "inserted\n": p.inserted} {
		all := p.out.Bytes()
		if bytes.Contains(all, []byte(word)) && !bytes.Contains(all[:before], []byte(word)) {
			close(said)
		}
	}
	return n, err
}

func (p *jobProcess) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func startJob(t *testing.T, s jobSpec) *jobProcess {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &jobProcess{
		Cmd:   exec.Command(os.Args[0], "-test.run=^TestIntegrationJobProcess$", "-test.timeout=15m"),
		ended: make(chan error, 1), started: make(chan struct{}), inserted: make(chan struct{}),
	}
	p.Env = append(os.Environ(), jobVariable+"="+string(raw))
	p.Stdout, p.Stderr = p, p
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.ended <- p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-over
		if t.Failed() {
			t.Logf("what a job said:\n%s", p.said())
		}
	})
	return p
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func connect(t *testing.T, url string) driver.Conn {
	t.Helper()
	o, err := clickhouse.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clickhouse.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	if err := connect(t, url).Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// makeTable makes a table and returns its name.
func makeTable(t *testing.T, url, columns string) string {
	t.Helper()
	name := devclickhouse.UniqueName("visits")
	execute(t, url, "CREATE TABLE "+name+" "+columns)
	return name
}

// content is what is compared.
type content struct{ Rows, Hash uint64 }

func contentOf(t *testing.T, url, table string) (c content) {
	t.Helper()
	if err := connect(t, url).QueryRow(t.Context(), "SELECT count(), sum(cityHash64(*)) FROM "+table).Scan(&c.Rows, &c.Hash); err != nil {
		t.Fatal(err)
	}
	return c
}

var undisturbed = struct {
	sync.Mutex
	of map[int64]content
}{of: map[int64]content{}}

// undisturbedRun returns what the table holds after a job that nothing happens to.
func undisturbedRun(t *testing.T, records int64) content {
	t.Helper()
	server := devclickhouse.Shared(t)
	undisturbed.Lock()
	defer undisturbed.Unlock()
	if c, ok := undisturbed.of[records]; ok {
		return c
	}
	s := jobSpec{URL: server.DSN(), Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Parallelism: 2, Tokens: true, BlockRows: 100_000, Interval: time.Second}
	if err := visitJob(s).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := contentOf(t, server.DSN(), s.Table)
	if c.Rows != uint64(records) {
		t.Fatalf("the undisturbed run has %d rows, want %d", c.Rows, records)
	}
	undisturbed.of[records] = c
	return c
}

// killAgainAndAgain kills the job's process, and has it end at last.
func killAgainAndAgain(t *testing.T, spec jobSpec, kills int) {
	t.Helper()
	restored := 0
	for done := 0; done < kills; {
		spec.Parallelism = 1 + rand.IntN(3)
		p := startJob(t, spec)
		moment := p.inserted // so that each start comes further than the one before
		if rand.IntN(5) == 0 {
			moment = p.started
		}
		select {
		case <-moment:
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond) // at any moment
			_ = p.Process.Signal(syscall.SIGKILL)
		case err := <-p.ended:
			p.ended <- err
		}
		if err := <-p.ended; p.ProcessState.ExitCode() > 0 {
			t.Fatalf("after %d kills: %v\n%s", done, err, p.said())
		} else if err == nil {
			t.Logf("the job ended after %d kills", done)
			break
		}
		if done++; strings.Contains(p.said(), "starting from a checkpoint") {
			restored++
		}
	}
	if restored == 0 {
		t.Error("no start was from a checkpoint")
	}
	spec.Rate, spec.BlockRows, spec.Interval = 0, 100_000, time.Second
	p := startJob(t, spec)
	if err := <-p.ended; err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
}

// TestIntegrationKilledProcess kills the job's process 30 times while it works on two
// million rows.
func TestIntegrationKilledProcess(t *testing.T) {
	records, kills := int64(fromEnv(t, "MILLRACE_CLICKHOUSE_RECORDS", 2_000_000)), fromEnv(t, "MILLRACE_CLICKHOUSE_KILLS", 30)
	server := devclickhouse.Shared(t)
	want := undisturbedRun(t, records)
	spec := jobSpec{URL: server.DSN(), Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Rate: 200_000, Tokens: true, BlockRows: 20_000, Interval: 100 * time.Millisecond}
	killAgainAndAgain(t, spec, kills)
	if got := contentOf(t, spec.URL, spec.Table); got != want {
		t.Errorf("the table has %+v, want %+v", got, want)
	}
}

// TestIntegrationKilledProcessHTTP is the same over HTTP, compressed, with the
// columnar mode.
func TestIntegrationKilledProcessHTTP(t *testing.T) {
	const records = 200_000
	server := devclickhouse.Shared(t)
	want := undisturbedRun(t, records)
	spec := jobSpec{URL: server.HTTPDSN() + "?compress=lz4", Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Rate: 100_000, Tokens: true, Columnar: true}
	killAgainAndAgain(t, spec, 8)
	if got := contentOf(t, server.DSN(), spec.Table); got != want {
		t.Errorf("the table has %+v, want %+v", got, want)
	}
}

// TestIntegrationTokensOff shows that the comparison can fail: without tokens the same
// disturbance doubles rows.
func TestIntegrationTokensOff(t *testing.T) {
	const records = 200_000
	want := undisturbedRun(t, records)
	server := devclickhouse.Shared(t)
	spec := jobSpec{URL: server.DSN(), Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Rate: 60_000}
	killAgainAndAgain(t, spec, 8)
	got := contentOf(t, server.DSN(), spec.Table)
	if got == want || got.Rows <= want.Rows {
		t.Errorf("without tokens the table has %+v as well", got)
	}
	t.Logf("without tokens: %d rows instead of %d", got.Rows, want.Rows)
}

// TestIntegrationCutConnections cuts connections in the middle of inserts, and after
// the server has one but before the client hears so.
func TestIntegrationCutConnections(t *testing.T) {
	const records = 200_000
	want := undisturbedRun(t, records)
	server := devclickhouse.Shared(t)
	for name, dsn := range map[string]string{"native": server.DSN() + "?compress=lz4", "http": server.HTTPDSN()} {
		t.Run(name, func(t *testing.T) {
			addr := server.Addr()
			if name == "http" {
				addr = server.HTTPAddr()
			}
			p := newProxy(t, addr)
			spec := jobSpec{URL: strings.Replace(dsn, addr, p.addr, 1), Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Parallelism: 2, Tokens: true}
			if err := visitJob(spec).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Log(p.cuts.Load(), "connections cut")
			if p.cuts.Load() == 0 {
				t.Error("no connection was cut")
			}
			if got := contentOf(t, server.DSN(), spec.Table); got != want {
				t.Errorf("the table has %+v, want %+v", got, want)
			}
		})
	}
}

// TestIntegrationServerKilled kills the server, again and again, while the job works.
func TestIntegrationServerKilled(t *testing.T) {
	const records = 200_000
	want := undisturbedRun(t, records)
	server := devclickhouse.New(t, devclickhouse.Options{})
	spec := jobSpec{URL: server.DSN(), Table: makeTable(t, server.DSN(), visitTable+window), Dir: t.TempDir(), Records: records, Rate: 60_000, Parallelism: 2, Tokens: true}
	done := make(chan error, 1)
	go func() { done <- visitJob(spec).Run(t.Context()) }()
	kills := 0
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		case <-time.After(time.Duration(300+rand.IntN(900)) * time.Millisecond):
			server.Kill()
			kills++
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Log(kills, "kills")
	if kills == 0 {
		t.Error("the server was not killed")
	}
	if got := contentOf(t, server.DSN(), spec.Table); got != want {
		t.Errorf("the table has %+v, want %+v", got, want)
	}
}

// proxy is in front of a server and cuts connections: after so many bytes from the
// client, which is in the middle of an insert, or before an answer gets through.
type proxy struct {
	addr, to string
	cuts     atomic.Int64
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), to: to}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // it is cut
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer server.Close()                       //nolint:errcheck // it is cut
	left := int64(20_000 + rand.IntN(500_000)) // bytes from the client
	onAnswer := rand.IntN(2) == 0
	var sent atomic.Int64
	ended := make(chan struct{}, 2)
	go func() {
		defer func() { ended <- struct{}{} }()
		for buf := make([]byte, 8<<10); ; {
			n, err := client.Read(buf)
			if n > 0 {
				if sent.Add(int64(n)) > left && !onAnswer {
					p.cuts.Add(1)
					return
				}
				if _, err := server.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer func() { ended <- struct{}{} }()
		for buf := make([]byte, 8<<10); ; {
			n, err := server.Read(buf)
			if n > 0 {
				if onAnswer && sent.Load() > left {
					p.cuts.Add(1)
					return
				}
				if _, err := client.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	<-ended
}

// everything has a field for each kind of column.
type everything struct {
	ID      uint64            `ch:"id"`
	Small   int8              `ch:"small"`
	Float   float32           `ch:"float"`
	Yes     bool              `ch:"yes"`
	Text    string            `ch:"text"`
	Low     string            `ch:"low"`
	LowNull *string           `ch:"low_null"`
	Fixed   string            `ch:"fixed"`
	Enum    string            `ch:"enum"`
	Day     time.Time         `ch:"day"`
	Wide    time.Time         `ch:"wide"`
	Second  time.Time         `ch:"second"`
	Nano    time.Time         `ch:"nano"`
	UUID    uuid.UUID         `ch:"uuid"`
	V4      netip.Addr        `ch:"v4"`
	V6      netip.Addr        `ch:"v6"`
	Money   decimal.Decimal   `ch:"money"`
	Maybe   *int32            `ch:"maybe"`
	MaybeAt *time.Time        `ch:"maybe_at"`
	Tags    []string          `ch:"tags"`
	Nested  [][]uint16        `ch:"nested"`
	Map     map[string]uint64 `ch:"map"`
	Pair    []any             `ch:"pair"`
	JSON    string            `ch:"json"`
	Big     *big.Int          `ch:"big"`
	Simple  uint64            `ch:"simple"`
}

const everythingTable = `(id UInt64, small Int8, float Float32, yes Bool, text String, low LowCardinality(String), low_null LowCardinality(Nullable(String)),
	fixed FixedString(3), enum Enum16('a' = -1, 'b' = 300), day Date, wide Date32, second DateTime('Asia/Tokyo'), nano DateTime64(9, 'UTC'), uuid UUID,
	v4 IPv4, v6 IPv6, money Decimal(18, 4), maybe Nullable(Int32), maybe_at Nullable(DateTime64(3)), tags Array(LowCardinality(String)),
	nested Array(Array(UInt16)), map Map(LowCardinality(String), UInt64), pair Tuple(String, UInt8), json JSON, big Int256,
	simple SimpleAggregateFunction(sum, UInt64), filled String DEFAULT 'default') ENGINE = MergeTree ORDER BY id`

func newEverything(i int) everything {
	at := time.Date(2024, 2, 29, 13, 14, 15, 123456789, time.UTC)
	e := everything{
		ID: uint64(i), Small: -7, Float: 1.5, Yes: true, Text: "text", Low: fmt.Sprint("low", i%300), Fixed: "ab", Enum: "b",
		Day: at, Wide: at, Second: at, Nano: at, UUID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"),
		V4: netip.MustParseAddr("10.1.2.3"), V6: netip.MustParseAddr("2001:db8::1"), Money: decimal.RequireFromString("-12.3456"),
		Tags: []string{"x", "y"}, Nested: [][]uint16{{1, 2}, {}}, Map: map[string]uint64{"k": 9}, Pair: []any{"p", uint8(3)},
		JSON: `{"a":{"b":1}}`, Big: big.NewInt(-5), Simple: 4,
	}
	if i%2 == 1 {
		n, s := int32(-8), "there"
		e.Maybe, e.LowNull, e.MaybeAt = &n, &s, &at
	}
	return e
}

// TestIntegrationTypes inserts every type over both protocols, and again in pieces
// because of a row that the server refuses.
func TestIntegrationTypes(t *testing.T) {
	server := devclickhouse.Shared(t)
	const want = `(1,-7,1.5,true,'text','low1','there','ab\0','b','2024-02-29','2024-02-29','2024-02-29 22:14:15','2024-02-29 13:14:15.123456789',` +
		`'00112233-4455-6677-8899-aabbccddeeff','10.1.2.3','2001:db8::1',-12.3456,-8,'2024-02-29 13:14:15.123',['x','y'],[[1,2],[]],{'k':9},('p',3),'{"a":{"b":1}}',-5,4,'default')`
	for name, url := range map[string]string{
		"native": server.DSN(), "native, lz4": server.DSN() + "?compress=lz4", "native, zstd": server.DSN() + "?compress=zstd",
		"http": server.HTTPDSN(), "http, lz4": server.HTTPDSN() + "?compress=lz4",
	} {
		for _, bad := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/bad=%v", name, bad), func(t *testing.T) {
				columns := everythingTable + window
				if bad {
					columns = strings.Replace(columns, "filled String DEFAULT 'default'", "filled String DEFAULT 'default', CONSTRAINT odd CHECK id != 4", 1)
				}
				table := makeTable(t, server.DSN(), columns)
				sub := mustOpen(t, Structs[everything](Config{URL: url, Table: table}), vfs.NewMem(), "a")
				for i := range 10 {
					sub.write(newEverything(i))
				}
				p := sub.prepare()
				for range 2 {
					if err := sub.commit(p); err != nil {
						t.Fatal(err)
					}
				}
				sub.flush()
				rows, refused := uint64(10), 0
				if bad {
					rows, refused = 9, 2 // once for each commit
				}
				if got := contentOf(t, server.DSN(), table).Rows; got != rows || len(sub.rejected) != refused {
					t.Fatalf("%d rows and %d letters, want %d and %d", got, len(sub.rejected), rows, refused)
				}
				var got string
				if err := connect(t, server.DSN()).QueryRow(t.Context(), "SELECT toString(tuple(* REPLACE(toString(json) AS json))) FROM "+table+" WHERE id = 1").Scan(&got); err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if bad && (!strings.Contains(sub.rejected[0].Error, "odd") || !strings.Contains(sub.rejected[0].Record, "id:4")) {
					t.Errorf("letter %+v", sub.rejected[0])
				}
			})
		}
	}
}

// TestIntegrationRejectedRows has rows that the client refuses, and some that the
// server does, for each delivery.
func TestIntegrationRejectedRows(t *testing.T) {
	server := devclickhouse.Shared(t)
	type row struct {
		ID   uint64         `ch:"id"`
		Kind string         `ch:"kind"`
		Text sql.NullString `ch:"text"`
		Code string         `ch:"code"`
		Len  string         `ch:"len"`
	}
	for _, delivery := range []Delivery{ExactlyOnce, AtLeastOnce} {
		table := makeTable(t, server.DSN(), `(id UInt64, kind Enum8('a' = 1), text String, code FixedString(2), len String, notnull UInt8,
			CONSTRAINT short CHECK length(len) < 10) ENGINE = MergeTree ORDER BY id`+window)
		cfg := Config{URL: server.DSN(), Table: table, Delivery: delivery, RowBytes: 1000, BlockTime: time.Hour,
			// NULL into a column that is not Nullable, which only the server can see.
			Expressions: map[string]string{"notnull": "if(id = 7, throwIf(id = 7, 'seven'), 1)"}}
		if delivery == AtLeastOnce {
			cfg.BlockTime = -1
		}
		sub := mustOpen(t, Structs[row](cfg), vfs.NewMem(), devclickhouse.UniqueName("r"))
		var rows []row
		for i := range 100 {
			rows = append(rows, row{uint64(i), "a", sql.NullString{String: "x", Valid: true}, "de", "short"})
		}
		rows[10].Kind = "b"
		rows[20].Text.Valid = false
		rows[30].Code = "long"
		rows[40].Len = "longer than ten"
		rows[50].Len = strings.Repeat("x", 2000)
		sub.write(rows...)
		if delivery == ExactlyOnce {
			if err := sub.commit(sub.prepare()); err != nil {
				t.Fatal(err)
			}
		}
		sub.flush()
		var ids []uint64
		if err := connect(t, server.DSN()).QueryRow(t.Context(), "SELECT groupArray(id) FROM (SELECT id FROM "+table+" ORDER BY id)").Scan(&ids); err != nil {
			t.Fatal(err)
		}
		if want := without(100, 7, 10, 20, 30, 40, 50); !slices.Equal(ids, want) {
			t.Errorf("delivery %v: the table has %v, want %v", delivery, ids, want)
		}
		var errs []string
		for _, l := range sub.rejected {
			errs = append(errs, l.Error)
		}
		for i, want := range []string{`"b" is none of Enum8`, `column "text": NULL`, "FixedString(2)", "RowBytes is 1000", "seven", "short"} {
			if i >= len(errs) || !strings.Contains(errs[i], want) {
				t.Errorf("delivery %v: letter %d of %q: want %q", delivery, i, errs, want)
			}
		}
	}
}

// TestIntegrationStart is what a start says that can't be.
func TestIntegrationStart(t *testing.T) {
	server := devclickhouse.Shared(t)
	table := makeTable(t, server.DSN(), strings.Replace(visitTable, "visitor UInt64", "visitor String", 1)+window)
	off := makeTable(t, server.DSN(), visitTable)
	locked := devclickhouse.New(t, devclickhouse.Options{User: "job", Password: "secret"})
	wrong := strings.Replace(locked.DSN(), "secret", "wrong", 1)
	away := "clickhouse://127.0.0.1:1/default"
	for name, c := range map[string]struct {
		url, table string
		want       []string
	}{
		"no table":       {server.DSN(), "nowhere", []string{"table nowhere does not exist"}},
		"wrong type":     {server.DSN(), table, []string{"table default." + table, `column "visitor": the table has String, field Visitor of clickhouse.visit is uint64`}},
		"window off":     {server.HTTPDSN(), off, []string{"ignores deduplication tokens", "ALTER TABLE `default`.`" + off + "` MODIFY SETTING non_replicated_deduplication_window = 10000"}},
		"wrong password": {wrong, "visits", []string{`connect to ` + locked.Addr() + ` as user "job"`, "code 516"}},
		"server down":    {away, "visits", []string{"no answer within 300ms", "connect to 127.0.0.1:1", "connection refused"}},
		"down, http":     {"http://127.0.0.1:1/default", "visits", []string{"no answer within 300ms", "connect to 127.0.0.1:1", "connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{URL: c.url, Table: c.table}
			if strings.HasPrefix(c.want[0], "no answer") {
				cfg.StartTimeout = 300 * time.Millisecond
			}
			_, err := open(t, Structs[visit](cfg), vfs.NewMem(), "a")
			wantError(t, err, c.want...)
		})
	}
	execute(t, server.DSN(), "ALTER TABLE "+off+" MODIFY SETTING non_replicated_deduplication_window = 10000")
	if _, err := open(t, Structs[visit](Config{URL: server.DSN(), Table: off}), vfs.NewMem(), "a"); err != nil {
		t.Errorf("after the ALTER TABLE: %v", err)
	}
}

// TestIntegrationViews delivers a block again that the table has and its views have
// not: the server was killed in between.
func TestIntegrationViews(t *testing.T) {
	server := devclickhouse.Shared(t)
	table := makeTable(t, server.DSN(), visitTable+window)
	sums, chained := table+"_sums", table+"_chained"
	execute(t, server.DSN(), "CREATE TABLE "+sums+" (page String, n UInt64) ENGINE = SummingMergeTree ORDER BY page")
	execute(t, server.DSN(), "CREATE TABLE "+chained+" (n UInt64) ENGINE = SummingMergeTree ORDER BY tuple()"+window)
	execute(t, server.DSN(), "CREATE TABLE "+table+"_stop (n UInt8) ENGINE = Memory")
	execute(t, server.DSN(), "CREATE MATERIALIZED VIEW "+table+"_v TO "+sums+" AS SELECT page, count() + throwIf((SELECT count() FROM "+table+"_stop) > 0) AS n FROM "+table+" GROUP BY page")
	execute(t, server.DSN(), "CREATE MATERIALIZED VIEW "+table+"_w TO "+chained+" AS SELECT sum(n) AS n FROM "+sums)
	sink := Structs[visit](Config{URL: server.DSN(), Table: table, BlockRows: 1000})
	_, err := open(t, sink, vfs.NewMem(), "a")
	wantError(t, err, "table default."+sums+" (filled by materialized view default."+table+"_v)", "ALTER TABLE `default`.`"+sums+"`")
	execute(t, server.DSN(), "ALTER TABLE "+sums+" MODIFY SETTING non_replicated_deduplication_window = 10000")

	sub := mustOpen(t, sink, vfs.NewMem(), "a")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 2500 {
		sub.write(newVisit(rng, int64(i)))
	}
	p := sub.prepare()
	execute(t, server.DSN(), "INSERT INTO "+table+"_stop VALUES (1)")
	wantError(t, sub.commit(p), "while pushing to view")
	execute(t, server.DSN(), "TRUNCATE TABLE "+table+"_stop")
	for range 3 {
		if err := sub.commit(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, query := range []string{"SELECT count() FROM " + table, "SELECT sum(n) FROM " + sums, "SELECT sum(n) FROM " + chained} {
		var n uint64
		if err := connect(t, server.DSN()).QueryRow(t.Context(), query).Scan(&n); err != nil || n != 2500 {
			t.Errorf("%s: %d, %v; want 2500", query, n, err)
		}
	}
}

// TestIntegrationExpressions fills columns of aggregate functions, over both
// protocols, each block twice.
func TestIntegrationExpressions(t *testing.T) {
	server := devclickhouse.Shared(t)
	type view struct {
		Day     time.Time `ch:"day"`
		Page    string    `ch:"page"`
		Visitor uint64    `ch:"visitor"`
	}
	for _, url := range []string{server.DSN(), server.HTTPDSN()} {
		table := devclickhouse.UniqueName("uniques")
		sink := Structs[view](Config{
			URL: url, Table: table, BlockRows: 1000,
			Expressions: map[string]string{"visitors": "uniqExactState(visitor)", "views": "sumState(toUInt64(1))"},
			Inputs:      map[string]string{"visitor": "UInt64"},
		})
		if err := sink.Create(t.Context(), TableOptions{
			Engine: "AggregatingMergeTree", OrderBy: []string{"day", "page"}, PartitionBy: "toYYYYMM(day)",
			Types: map[string]string{"day": "Date", "page": "LowCardinality(String)", "visitors": "AggregateFunction(uniqExact, UInt64)", "views": "AggregateFunction(sum, UInt64)"},
		}); err != nil {
			t.Fatal(err)
		}
		sub := mustOpen(t, sink, vfs.NewMem(), devclickhouse.UniqueName("r"))
		for i := range 5000 {
			sub.write(view{time.Date(2024, 1, 1+i%40, 0, 0, 0, 0, time.UTC), fmt.Sprint("/", i%3), uint64(i % 700)})
		}
		p := sub.prepare()
		for range 2 {
			if err := sub.commit(p); err != nil {
				t.Fatal(err)
			}
		}
		var visitors, views uint64
		if err := connect(t, server.DSN()).QueryRow(t.Context(), "SELECT uniqExactMerge(visitors), sumMerge(views) FROM "+table).Scan(&visitors, &views); err != nil {
			t.Fatal(err)
		}
		if visitors != 700 || views != 5000 {
			t.Errorf("%d visitors in %d views, want 700 in 5000", visitors, views)
		}
	}
}

// TestIntegrationAtLeastOnce inserts by time, by size and through the server's own
// gathering.
func TestIntegrationAtLeastOnce(t *testing.T) {
	server := devclickhouse.Shared(t)
	for _, cfg := range []Config{{BlockTime: 50 * time.Millisecond}, {BlockRows: 700, BlockTime: time.Hour}, {AsyncInsert: true, BlockRows: 100}} {
		cfg.URL, cfg.Table, cfg.Delivery = server.DSN(), makeTable(t, server.DSN(), visitTable), AtLeastOnce
		p := pipeline.New(pipeline.Name("visits"), pipeline.Logger(quiet))
		in := pipeline.From(p, "in", generator.Func(5000, newVisit, generator.Rate(20_000)))
		pipeline.To(in, "out", pipeline.Sink[visit](Structs[visit](cfg)))
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, server.DSN(), cfg.Table).Rows; got != 5000 {
			t.Errorf("%+v: %d rows, want 5000", cfg, got)
		}
	}
}

// TestIntegrationAddresses takes the server that answers, when others don't.
func TestIntegrationAddresses(t *testing.T) {
	server := devclickhouse.Shared(t)
	for _, url := range []string{
		strings.Replace(server.DSN(), server.Addr(), "127.0.0.1:1,"+server.Addr(), 1),
		strings.Replace(server.HTTPDSN(), server.HTTPAddr(), "127.0.0.1:1,"+server.HTTPAddr(), 1),
	} {
		table := makeTable(t, server.DSN(), visitTable+window)
		cfg := Config{URL: url, Table: table, Delivery: AtLeastOnce} // exactly once is for replicas
		sub := mustOpen(t, Structs[visit](cfg), vfs.NewMem(), devclickhouse.UniqueName("r"))
		sub.write(newVisit(rand.New(rand.NewPCG(1, 2)), 1))
		sub.prepare()
		if got := contentOf(t, server.DSN(), table).Rows; got != 1 {
			t.Errorf("%s: %d rows, want 1", url, got)
		}
	}
}

// TestIntegrationSilentServer sends a block again to a server that did not answer in
// time, and had it all the same.
func TestIntegrationSilentServer(t *testing.T) {
	server := devclickhouse.New(t, devclickhouse.Options{})
	table := makeTable(t, server.DSN(), visitTable+window)
	cfg := Config{URL: server.DSN() + "?dial_timeout=300ms", Table: table, InsertTimeout: 300 * time.Millisecond}
	sub := mustOpen(t, Structs[visit](cfg), vfs.NewMem(), "a")
	rng := rand.New(rand.NewPCG(1, 2))
	commit := func(i int64) chan error {
		sub.write(newVisit(rng, i))
		p, done := sub.prepare(), make(chan error, 1)
		go func() { done <- sub.commit(p) }()
		return done
	}
	if err := <-commit(0); err != nil { // connects
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	done := commit(1)
	retries := sub.Writer.(*exactlyOnce[visit]).stats.retries
	for deadline := time.Now().Add(time.Minute); retries.Load() < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the block was not sent again")
		}
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, server.DSN(), table).Rows; got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

// TestIntegrationObjects inserts what has an inside.
func TestIntegrationObjects(t *testing.T) {
	server := devclickhouse.Shared(t)
	type point struct {
		X int32  `ch:"x"`
		N string `ch:"n"`
	}
	type row struct {
		ID     uint64             `ch:"id"`
		Object map[string]any     `ch:"object"`
		Point  point              `ch:"point"`
		Points []point            `ch:"points"`
		Some   []*string          `ch:"some"`
		Deep   map[string][]int64 `ch:"deep"`
		Wide   *big.Int           `ch:"wide"`
		Raw    []byte             `ch:"raw"`
		Dur    time.Duration      `ch:"dur"`
	}
	const columns = `(id UInt64, object JSON, point Tuple(x Int32, n String), points Array(Tuple(x Int32, n String)), some Array(Nullable(String)),
		deep Map(String, Array(Int64)), wide UInt128, raw String, dur Int64, CONSTRAINT two CHECK id != 2) ENGINE = MergeTree ORDER BY id` + window
	s := "s"
	for name, url := range map[string]string{"native": server.DSN() + "?compress=lz4", "http": server.HTTPDSN()} {
		t.Run(name, func(t *testing.T) {
			table := makeTable(t, server.DSN(), columns)
			sub := mustOpen(t, Structs[row](Config{URL: url, Table: table}), vfs.NewMem(), "a")
			for i := range uint64(3) {
				sub.write(row{i, map[string]any{"a": map[string]any{"b": int64(i)}, "c": "d"}, point{1, "p"}, []point{{2, "q"}, {3, "r"}}, []*string{&s, nil},
					map[string][]int64{"k": {1, -2}}, big.NewInt(77), []byte("raw"), time.Second})
			}
			if err := sub.commit(sub.prepare()); err != nil {
				t.Fatal(err)
			}
			const record = `{id:2 object:{"a":{"b":2},"c":"d"} point:{"n":"p","x":1} points:[{"n":"q","x":2},{"n":"r","x":3}] some:["s",null] deep:{"k":[1,-2]} wide:77 raw:raw dur:1000000000}`
			if sub.flush(); len(sub.rejected) != 1 || sub.rejected[0].Record != record {
				t.Errorf("letters %v", sub.rejected)
			}
			var got string
			if err := connect(t, server.DSN()).QueryRow(t.Context(), "SELECT toString(tuple(* REPLACE(toString(object) AS object))) FROM "+table+" WHERE id = 1").Scan(&got); err != nil {
				t.Fatal(err)
			}
			if want := `(1,'{"a":{"b":1},"c":"d"}',(1,'p'),[(2,'q'),(3,'r')],['s',NULL],{'k':[1,-2]},77,'raw',1000000000)`; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
