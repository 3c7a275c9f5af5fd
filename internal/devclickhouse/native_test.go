package devclickhouse_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/paulmach/orb"
	"github.com/shopspring/decimal"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// The server is tested with the client that the sink uses, in both protocols.
func inBothProtocols(t *testing.T, test func(t *testing.T, dsn string)) {
	server := devclickhouse.Shared(t)
	t.Run("native", func(t *testing.T) { test(t, server.DSN()) })
	t.Run("http", func(t *testing.T) { test(t, server.HTTPDSN()) })
}

func open(t *testing.T, dsn string, edit ...func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	options, err := clickhouse.ParseDSN(dsn)
	must(t, err)
	for _, e := range edit {
		e(options)
	}
	conn, err := clickhouse.Open(options)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// table makes one that no other test has.
func table(t *testing.T, conn driver.Conn, columns string) string {
	t.Helper()
	name := devclickhouse.UniqueName("t")
	must(t, conn.Exec(t.Context(), "CREATE TABLE "+name+" "+columns))
	return name
}

const mergeTree = " ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100"

func count(t *testing.T, conn driver.Conn, from string) (n uint64) {
	t.Helper()
	must(t, conn.QueryRow(t.Context(), "SELECT count() FROM "+from).Scan(&n))
	return n
}

func withSettings(ctx context.Context, s clickhouse.Settings) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(s))
}

func TestPing(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		must(t, conn.Ping(t.Context()))
		version, err := conn.ServerVersion()
		must(t, err)
		if got := fmt.Sprintf("%d.%d", version.Version.Major, version.Version.Minor); got != devclickhouse.Version {
			t.Errorf("the server says it is %s, want %s", got, devclickhouse.Version)
		}
	})
}

// valuesOfEveryType are two rows' values of each type, as clickhouse-go gives them back.
var valuesOfEveryType = []struct {
	typ  string
	rows [2]any
}{
	{"Bool", [2]any{true, false}},
	{"Int8", [2]any{int8(-128), int8(127)}},
	{"UInt64", [2]any{uint64(1<<64 - 1), uint64(0x0a0a0a0a0a0a0a0a)}}, // line ends are no end
	{"Int128", [2]any{big.NewInt(-5), new(big.Int).Lsh(big.NewInt(1), 100)}},
	{"UInt256", [2]any{big.NewInt(7), new(big.Int).Lsh(big.NewInt(1), 200)}},
	{"Float32", [2]any{float32(1.5), float32(-2)}},
	{"Float64", [2]any{1.25, -1e300}},
	{"String", [2]any{"", "a'b\\c\n\n\x00ü;"}},
	{"FixedString(3)", [2]any{"abc", "x\n\n"}},
	{"Date", [2]any{day(2024, 2, 29), day(1970, 1, 1)}},
	{"Date32", [2]any{day(1925, 1, 1), day(2283, 11, 11)}},
	{"DateTime", [2]any{time.Unix(1_700_000_000, 0).UTC(), time.Unix(0, 0).UTC()}},
	{"DateTime64(6, 'UTC')", [2]any{time.UnixMicro(1_700_000_000_123_456).UTC(), time.UnixMicro(1).UTC()}},
	{"UUID", [2]any{uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), uuid.UUID{}}},
	{"IPv4", [2]any{net.IPv4(192, 0, 2, 1).To4(), net.IPv4(10, 10, 10, 10).To4()}},
	{"IPv6", [2]any{net.IP(netip.MustParseAddr("2001:db8::1").AsSlice()), net.IP(netip.MustParseAddr("::1").AsSlice())}},
	{"Decimal(9, 2)", [2]any{decimal.New(-12345, -2), decimal.New(1, -2)}},
	{"Decimal(18, 4)", [2]any{decimal.New(987654321, -4), decimal.New(0, -4)}},
	{"Decimal(38, 10)", [2]any{decimal.New(5, 20), decimal.New(1, -10)}},
	{"Decimal(76, 20)", [2]any{decimal.New(5, 40), decimal.New(1, -20)}},
	{"Enum8('a' = 1, 'b,(\\'' = 2)", [2]any{"a", "b,('"}},
	{"Enum16('x' = 1000, 'y' = -1000)", [2]any{"x", "y"}},
	{"Nullable(String)", [2]any{pointer("s"), (*string)(nil)}},
	{"Nullable(Decimal(9, 2))", [2]any{pointer(decimal.New(1, -2)), (*decimal.Decimal)(nil)}},
	{"LowCardinality(String)", [2]any{"one", "two"}},
	{"LowCardinality(Nullable(String))", [2]any{pointer("s"), (*string)(nil)}},
	{"Array(UInt32)", [2]any{[]uint32{1, 2, 3}, []uint32{}}},
	{"Array(Array(Nullable(String)))", [2]any{[][]*string{{pointer("a"), nil}, {}}, [][]*string{}}},
	{"Array(LowCardinality(String))", [2]any{[]string{"a", "b", "a"}, []string{}}},
	{"Map(String, UInt64)", [2]any{map[string]uint64{"a": 1, "b": 2}, map[string]uint64{}}},
	{"Map(LowCardinality(String), Array(Int8))", [2]any{map[string][]int8{"a": {1, 2}}, map[string][]int8{}}},
	{"Tuple(Int32, String)", [2]any{[]any{int32(1), "x"}, []any{int32(-1), ""}}},
	{"Tuple(a Int32, `b` Array(String))", [2]any{
		map[string]any{"a": int32(1), "b": []string{"x", "y"}}, map[string]any{"a": int32(-1), "b": []string{}}}},
	{"SimpleAggregateFunction(sum, UInt64)", [2]any{uint64(1), uint64(2)}},
}

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

func pointer[T any](v T) *T { return &v }

func TestEveryType(t *testing.T) {
	var columns []string
	var rows [2][]any
	for i, v := range valuesOfEveryType {
		columns = append(columns, fmt.Sprintf("c%d %s", i, v.typ))
		rows[0], rows[1] = append(rows[0], v.rows[0]), append(rows[1], v.rows[1])
	}
	inBothProtocols(t, func(t *testing.T, dsn string) {
		for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD} {
			t.Run(method.String(), func(t *testing.T) {
				conn := open(t, dsn, func(o *clickhouse.Options) { o.Compression = &clickhouse.Compression{Method: method} })
				table := table(t, conn, "("+strings.Join(columns, ", ")+")"+mergeTree)
				batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
				must(t, err)
				must(t, batch.Append(rows[0]...))
				must(t, batch.Append(rows[1]...))
				must(t, batch.Send())
				result, err := conn.Query(t.Context(), "SELECT * FROM "+table)
				must(t, err)
				for _, want := range rows {
					compareRow(t, result, want)
				}
				must(t, result.Close())
				must(t, result.Err())
			})
		}
	})
}

// compareRow reads a row into values of the types of those wanted.
func compareRow(t *testing.T, rows driver.Rows, want []any) {
	t.Helper()
	if !rows.Next() {
		t.Fatalf("no row, want one: %v", rows.Err())
	}
	var into []any
	for _, w := range want {
		into = append(into, reflect.New(reflect.TypeOf(w)).Interface())
	}
	must(t, rows.Scan(into...))
	for i, w := range want {
		got := reflect.ValueOf(into[i]).Elem().Interface()
		if g, ok := got.(time.Time); ok {
			got = g.UTC()
		}
		if !equal(got, w) {
			t.Errorf("%s: got %v, want %v", valuesOfEveryType[i].typ, got, w)
		}
	}
}

func equal(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	switch a := a.(type) {
	case decimal.Decimal:
		return a.Equal(b.(decimal.Decimal))
	case *decimal.Decimal:
		return b.(*decimal.Decimal) != nil && a.Equal(*b.(*decimal.Decimal))
	case *big.Int:
		return a.Cmp(b.(*big.Int)) == 0
	case net.IP:
		return a.Equal(b.(net.IP))
	}
	return false
}

func TestJSON(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt8, j JSON(typed UInt32), after String)"+mergeTree)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		must(t, err)
		texts := []string{
			`{"typed": 5, "a": {"b": [1, 2]}, "c": "x"}`, `{"typed": 0, "c": 7, "d": true, "e": 1.5}`, `{}`,
		}
		for i, text := range texts {
			must(t, batch.Append(uint8(i), text, "after"))
		}
		must(t, batch.Send())
		rows, err := conn.Query(t.Context(), "SELECT j, after, j.c::String FROM "+table+" ORDER BY id")
		must(t, err)
		var got []string
		for rows.Next() {
			var j clickhouse.JSON
			var after, c string
			must(t, rows.Scan(&j, &after, &c))
			text, err := j.MarshalJSON()
			must(t, err)
			got = append(got, string(text), after, c)
		}
		must(t, rows.Err())
		if len(got) != 9 || got[1] != "after" || got[2] != "x" || got[5] != "7" || !strings.Contains(got[0], `"typed":5`) ||
			!strings.Contains(got[3], `"e":1.5`) {
			t.Errorf("got %q", got)
		}
	})
}

// Objects travel as columns, not as text.
func TestInsertedObjects(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt8, j JSON, v Variant(String, UInt64), d Dynamic, p Point, after String)"+mergeTree)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		must(t, err)
		for i := range 3 {
			j := clickhouse.NewJSON()
			j.SetValueAtPath("a.b", clickhouse.NewDynamicWithType(int64(i), "Int64"))
			if i == 1 {
				j.SetValueAtPath("c", clickhouse.NewDynamicWithType("text", "String"))
			}
			v := clickhouse.NewVariantWithType("s", "String")
			if i == 2 {
				v = clickhouse.NewVariantWithType(uint64(7), "UInt64")
			}
			must(t, batch.Append(uint8(i), j, v, clickhouse.NewDynamicWithType(fmt.Sprint(i), "String"), orb.Point{1, 2}, "after"))
		}
		must(t, batch.Send())
		var got string
		must(t, conn.QueryRow(t.Context(), `SELECT toString(groupArray((j.a.b::Int64, j.c::Nullable(String), v::String, d::String, p, after)))
			FROM (SELECT * FROM `+table+` ORDER BY id)`).Scan(&got))
		if want := "[(0,NULL,'s','0',(1,2),'after'),(1,'text','s','1',(1,2),'after'),(2,NULL,'7','2',(1,2),'after')]"; got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
	})
}

// Types that only travel from the server.
func TestSelectedTypes(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		rows, err := conn.Query(t.Context(), `SELECT
			number::Variant(UInt64, String, Array(String)) AS v,
			if(number = 1, 'text'::Dynamic, number::Dynamic) AS d,
			[(1, 2)]::Ring AS ring, INTERVAL 3 DAY AS i, NULL AS n, [] AS empty, 'end' AS last
			FROM numbers(3)`)
		must(t, err)
		rowCount := 0
		for rows.Next() {
			rowCount++
			if types := rows.ColumnTypes(); types[6].DatabaseTypeName() != "String" {
				t.Errorf("the last column is a %s", types[6].DatabaseTypeName())
			}
		}
		must(t, rows.Err())
		if rowCount != 3 {
			t.Errorf("%d rows, want 3", rowCount)
		}
	})
}

func TestAggregateStates(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		ctx := t.Context()
		name := devclickhouse.UniqueName("states")
		must(t, conn.Exec(ctx, "CREATE TABLE "+name+` (page String, visitors AggregateFunction(uniq, UInt64),
			hits AggregateFunction(sum, UInt32)) ENGINE = AggregatingMergeTree ORDER BY page`))
		insert := "INSERT INTO " + name + " SELECT page, uniqState(visitor), sumState(hits) FROM "
		for range 2 {
			must(t, conn.Exec(ctx, insert+"values('page String, visitor UInt64, hits UInt32', ('/', 1, 2), ('/', 2, 3)) GROUP BY page"))
		}
		var visitors, hits uint64
		must(t, conn.QueryRow(ctx, "SELECT uniqMerge(visitors), sumMerge(hits) FROM "+name).Scan(&visitors, &hits))
		if visitors != 2 || hits != 10 {
			t.Errorf("%d visitors and %d hits, want 2 and 10", visitors, hits)
		}
		_, err := conn.Query(ctx, "SELECT visitors FROM "+name)
		wantCode(t, err, 48)
	})
}

// An INSERT … SELECT … FROM input() sends the rows that the SELECT takes.
func TestInsertThroughExpressions(t *testing.T) {
	server := devclickhouse.Shared(t)
	conn := open(t, server.DSN())
	ctx := t.Context()
	name := devclickhouse.UniqueName("states")
	must(t, conn.Exec(ctx, "CREATE TABLE "+name+` (page String, visitors AggregateFunction(uniq, UInt64))
		ENGINE = AggregatingMergeTree ORDER BY page SETTINGS non_replicated_deduplication_window = 100`))
	native := rawClient(t, server)
	for range 2 {
		native.query("INSERT INTO "+name+" SELECT page, uniqState(visitor) FROM input('page String, visitor UInt64') GROUP BY page FORMAT Native",
			map[string]string{"insert_deduplication_token": "one"})
		if got, want := native.header(), "page String, visitor UInt64"; got != want {
			t.Fatalf("the server wants the columns %s, want %s", got, want)
		}
		native.sendPages("/", "/", "/a")
		native.end()
	}
	var visitors uint64
	must(t, conn.QueryRow(ctx, "SELECT uniqMerge(visitors) FROM "+name).Scan(&visitors))
	if visitors != 3 || count(t, conn, name) != 2 {
		t.Errorf("%d visitors in %d rows, want 3 in 2", visitors, count(t, conn, name))
	}
}

func TestParameters(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{
			"number": "42", "text": `it's \ a "text"`, "list": "['a', 'b']", "column": "x",
		}))
		var number uint64
		var text string
		var list []string
		must(t, conn.QueryRow(ctx, `SELECT {number:UInt64}, {text:String}, {list:Array(String)}
			FROM (SELECT 1 AS x) WHERE {column:Identifier} = 1`).Scan(&number, &text, &list))
		if number != 42 || text != `it's \ a "text"` || !reflect.DeepEqual(list, []string{"a", "b"}) {
			t.Errorf("got %d %q %q", number, text, list)
		}
		// Bound by the client.
		must(t, conn.QueryRow(t.Context(), "SELECT toUInt64(?)", 7).Scan(&number))
		err := conn.QueryRow(t.Context(), "SELECT {missing:String}").Scan(&text)
		wantCode(t, err, 456)
	})
}

// wantCode wants an exception of a code, as clickhouse-go's users see it.
func wantCode(t *testing.T, err error, code int32) {
	t.Helper()
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		t.Errorf("got %v, want an exception of code %d", err, code)
	} else if e.Code != code || e.Name != "DB::Exception" {
		t.Errorf("got code %d, name %s: %v, want code %d", e.Code, e.Name, err, code)
	}
}

func TestExceptions(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		ctx := t.Context()
		table := table(t, conn, "(id UInt64, e Enum8('a' = 1), n Int32)"+mergeTree)
		for query, code := range map[string]int32{
			"SELECT * FROM no_such_table":                          60,
			"SELECT * FROM no_such_database.t":                     81,
			"SELEC 1":                                              62,
			"SELECT 1 SETTINGS no_such_setting = 1":                115,
			"CREATE TABLE " + table + " (a Int8) ENGINE = Memory":  57,
			"INSERT INTO " + table + " (id, e) VALUES (1, 'zzz')":  691,
			"INSERT INTO " + table + " (id, x) VALUES (1, 'zzz')":  16,
			"SELECT throwIf(number = 3) FROM numbers(5)":           395,
			"ALTER TABLE " + table + " MODIFY SETTING no_such = 1": 115,
		} {
			wantCode(t, conn.Exec(ctx, query), code)
		}
		_, err := conn.PrepareBatch(ctx, "INSERT INTO no_such_table")
		wantCode(t, err, 60)
		// Behind rows that are out.
		rows, err := conn.Query(ctx, "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_block_size = 1000")
		if err == nil {
			for rows.Next() {
				continue
			}
			err = rows.Err()
		}
		wantCode(t, err, 395)
		must(t, conn.Ping(ctx)) // the connections are as good as new
		if n := count(t, conn, table); n != 0 {
			t.Errorf("%d rows came in", n)
		}
	})
}

// The block that holds a wrong value is refused as a whole.
func TestRefusedBlock(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt64, CONSTRAINT small CHECK id < 10)"+mergeTree)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		must(t, err)
		for id := range uint64(20) {
			must(t, batch.Append(id))
		}
		err = batch.Send()
		wantCode(t, err, 469)
		if n := count(t, conn, table); n != 0 {
			t.Errorf("%d rows came in, want none", n)
		}
		if err != nil && strings.Contains(err.Error(), "/proc/") {
			t.Errorf("the exception names a file: %v", err)
		}
	})
}

func TestDeduplicationTokens(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt64)"+mergeTree)
		insert := func(token string, rows int) {
			ctx := withSettings(t.Context(), clickhouse.Settings{"insert_deduplication_token": token, "async_insert": 0})
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table+" (id)")
			must(t, err)
			for range rows {
				must(t, batch.Append(uint64(1)))
				must(t, batch.Flush()) // a block for each row, in the native protocol
			}
			must(t, batch.Send())
		}
		insert("a", 3)
		insert("a", 3)
		insert("b", 3)
		if n := count(t, conn, table); n != 6 {
			t.Errorf("%d rows, want 6", n)
		}
		// The token went with its queries.
		var token string
		must(t, conn.QueryRow(t.Context(), "SELECT getSetting('insert_deduplication_token')").Scan(&token))
		if token != "" {
			t.Errorf("the token %q has stayed", token)
		}
	})
}

func TestStructsAndColumns(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt64, name String, extra String DEFAULT 'd', twice UInt64 MATERIALIZED id * 2)"+mergeTree)
		type row struct {
			ID    uint64 `ch:"id"`
			Name  string `ch:"name"`
			Extra string `ch:"extra"`
		}
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		must(t, err)
		must(t, batch.AppendStruct(&row{1, "struct", "e"}))
		must(t, batch.Send())
		batch, err = conn.PrepareBatch(t.Context(), "INSERT INTO "+table+" (name, id)")
		must(t, err)
		must(t, batch.Column(0).Append([]string{"a", "b"}))
		must(t, batch.Column(1).Append([]uint64{2, 3}))
		must(t, batch.Send())
		var rows []row
		must(t, conn.Select(t.Context(), &rows, "SELECT id, name, extra FROM "+table+" ORDER BY id"))
		if want := []row{{1, "struct", "e"}, {2, "a", "d"}, {3, "b", "d"}}; !reflect.DeepEqual(rows, want) {
			t.Errorf("got %v, want %v", rows, want)
		}
		var twice uint64
		must(t, conn.QueryRow(t.Context(), "SELECT sum(twice) FROM "+table).Scan(&twice))
		if twice != 12 {
			t.Errorf("the materialized column adds up to %d, want 12", twice)
		}
	})
}

// What the sink reads at its start.
func TestSystemTables(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		ctx := t.Context()
		table := table(t, conn, "(id UInt64, s LowCardinality(String))"+mergeTree)
		var engine, create, full string
		must(t, conn.QueryRow(ctx, "SELECT engine, create_table_query, engine_full FROM system.tables WHERE database = currentDatabase() AND name = ?", table).Scan(&engine, &create, &full))
		if engine != "MergeTree" || !strings.Contains(full, "non_replicated_deduplication_window = 100") {
			t.Errorf("got engine %s, %s", engine, full)
		}
		must(t, conn.QueryRow(ctx, "SHOW CREATE TABLE "+table).Scan(&create))
		if !strings.Contains(create, "LowCardinality(String)") {
			t.Errorf("got %s", create)
		}
		var window string
		must(t, conn.QueryRow(ctx, "SELECT value FROM system.merge_tree_settings WHERE name = 'non_replicated_deduplication_window'").Scan(&window))
		rows, err := conn.Query(ctx, "SELECT name, type FROM system.columns WHERE table = ? ORDER BY position", table)
		must(t, err)
		var columns []string
		for rows.Next() {
			var name, typ string
			must(t, rows.Scan(&name, &typ))
			columns = append(columns, name+" "+typ)
		}
		must(t, rows.Err())
		if got, want := strings.Join(columns, ", "), "id UInt64, s LowCardinality(String)"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A result without rows has columns all the same, in the native protocol.
func TestNoRows(t *testing.T) {
	conn := open(t, devclickhouse.Shared(t).DSN())
	for query, want := range map[string]string{
		"SELECT 1::Int32 AS a, 'x' AS b WHERE 0 SETTINGS max_threads = 1": "a Int32, b String",
		"SHOW TABLES LIKE 'no such table'":                                "name String",
	} {
		rows, err := conn.Query(t.Context(), query)
		must(t, err)
		var columns []string
		for _, c := range rows.ColumnTypes() {
			columns = append(columns, c.Name()+" "+c.DatabaseTypeName())
		}
		if got := strings.Join(columns, ", "); got != want || rows.Next() {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
		must(t, rows.Err())
	}
}

func TestManyBlocks(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		var progressed uint64
		ctx := clickhouse.Context(t.Context(), clickhouse.WithProgress(func(p *clickhouse.Progress) { progressed += p.Rows }))
		rows, err := conn.Query(ctx, "SELECT number, toString(number) FROM numbers(100000)")
		must(t, err)
		var sum, n uint64
		for rows.Next() {
			var number uint64
			var text string
			must(t, rows.Scan(&number, &text))
			if text != fmt.Sprint(number) {
				t.Fatalf("%d beside %s", number, text)
			}
			sum, n = sum+number, n+1
		}
		must(t, rows.Err())
		if n != 100000 || sum != 100000*99999/2 {
			t.Errorf("%d rows that add up to %d", n, sum)
		}
		// The library does not always tell of all.
		if strings.Contains(t.Name(), "native") && (progressed == 0 || progressed > 100000) {
			t.Errorf("progress told of %d rows, want some of 100000", progressed)
		}
	})
}

func TestSettingsOfAClient(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn, func(o *clickhouse.Options) { o.Settings = clickhouse.Settings{"max_block_size": 1234} })
		var size uint64
		must(t, conn.QueryRow(t.Context(), "SELECT toUInt64(getSetting('max_block_size'))").Scan(&size))
		if size != 1234 {
			t.Errorf("max_block_size is %d, want 1234", size)
		}
		err := conn.Exec(withSettings(t.Context(), clickhouse.Settings{"no_such_setting": 1}), "SELECT 1")
		wantCode(t, err, 115)
	})
}

func TestConcurrentConnections(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn, func(o *clickhouse.Options) { o.MaxOpenConns = 8 })
		table := table(t, conn, "(id UInt64)"+mergeTree)
		var all sync.WaitGroup
		for worker := range uint64(8) {
			all.Go(func() {
				for round := range uint64(5) {
					ctx := withSettings(t.Context(), clickhouse.Settings{"insert_deduplication_token": fmt.Sprint(worker, round)})
					batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
					if err == nil {
						err = errors.Join(batch.Append(worker*100+round), batch.Send())
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		var n uint64
		must(t, conn.QueryRow(t.Context(), "SELECT uniqExact(id) FROM "+table).Scan(&n))
		if n != 40 {
			t.Errorf("%d different rows, want 40", n)
		}
	})
}

// A query whose client cancels it ends in the engine too.
func TestCancelledQuery(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		mark := devclickhouse.UniqueName("mark")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			var n uint64
			ended <- conn.QueryRow(ctx, "SELECT count() AS "+mark+" FROM system.numbers WHERE number % 7 = 8").Scan(&n)
		}()
		watcher := open(t, dsn)
		running := "system.processes WHERE query LIKE '%" + mark + "%' AND query NOT LIKE '%system.processes%'"
		eventually(t, "the query runs", func() bool { return count(t, watcher, running) == 1 })
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was cancelled", err)
		}
		eventually(t, "the query has ended", func() bool { return count(t, watcher, running) == 0 })
	})
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// A connection that is cut within an insert leaves nothing of it.
func TestCutInsert(t *testing.T) {
	server := devclickhouse.Shared(t)
	conn := open(t, server.DSN())
	table := table(t, conn, "(page String, visitor UInt64)"+mergeTree)
	native := rawClient(t, server)
	native.query("INSERT INTO "+table+" VALUES", nil)
	native.header()
	native.sendPages("/a", "/b")
	native.sendPages("/c")
	must(t, native.conn.Close())

	whole := rawClient(t, server)
	whole.query("INSERT INTO "+table+" VALUES", nil)
	whole.header()
	whole.sendPages("/d")
	whole.end()
	if n := count(t, conn, table); n != 1 {
		t.Errorf("%d rows, want the 1 of the insert that was not cut", n)
	}
}

// A cancelled insert leaves nothing, and does not take the server along.
func TestAbortedBatch(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		table := table(t, conn, "(id UInt64)"+mergeTree)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table)
		must(t, err)
		must(t, batch.Append(uint64(1)))
		must(t, batch.Flush())
		must(t, batch.Abort())
		if n := count(t, conn, table); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}

func TestUsersAndDatabases(t *testing.T) {
	server := devclickhouse.New(t, devclickhouse.Options{User: "ann", Password: "p/w:d"})
	for name, dsn := range map[string]string{"native": server.DSN(), "http": server.HTTPDSN()} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			conn := open(t, dsn)
			must(t, conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `other base`"))
			wrong := open(t, dsn, func(o *clickhouse.Options) { o.Auth.Password = "wrong" })
			wantCode(t, wrong.Ping(ctx), 516)
			wrong = open(t, dsn, func(o *clickhouse.Options) { o.Auth = clickhouse.Auth{Username: "default", Database: "default"} })
			wantCode(t, wrong.Ping(ctx), 516)
			other := open(t, dsn, func(o *clickhouse.Options) { o.Auth.Database = "other base" })
			var database string
			must(t, other.QueryRow(ctx, "SELECT currentDatabase()").Scan(&database))
			if database != "other base" {
				t.Errorf("the database is %q", database)
			}
			missing := open(t, dsn, func(o *clickhouse.Options) { o.Auth.Database = "missing" })
			wantCode(t, missing.Ping(ctx), 81)
		})
	}
}

// What a client sets on its connection stays, and what comes with a query does not.
func TestConnectionState(t *testing.T) {
	options, err := clickhouse.ParseDSN(devclickhouse.Shared(t).DSN())
	must(t, err)
	ctx := t.Context()
	// Even with one connection the client's own pool may make another one: it allows the
	// next query before the connection is back in the pool.
	db := clickhouse.OpenDB(options)
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	must(t, err)
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{"SET max_block_size = 777", "CREATE TEMPORARY TABLE mine (a UInt8)", "INSERT INTO mine VALUES (1)"} {
		_, err := conn.ExecContext(ctx, statement)
		must(t, err)
	}
	sizeOf := func(ctx context.Context) (size uint64) {
		t.Helper()
		must(t, conn.QueryRowContext(ctx, "SELECT toUInt64(getSetting('max_block_size')) FROM mine").Scan(&size))
		return size
	}
	if size := sizeOf(withSettings(ctx, clickhouse.Settings{"max_block_size": 5})); size != 5 {
		t.Errorf("max_block_size is %d, want the query's own 5", size)
	}
	if size := sizeOf(ctx); size != 777 {
		t.Errorf("max_block_size is %d, want the connection's 777", size)
	}
}

// A client that sends what is no packet is cut off, and others go on.
func TestGarbage(t *testing.T) {
	server := devclickhouse.Shared(t)
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00", strings.Repeat("\xff", 100), "\x00\x05abcde\x01\x01\xff\xff\xff\xff\xff\xff"} {
		conn, err := net.Dial("tcp", server.Addr())
		must(t, err)
		_, err = io.Copy(conn, bytes.NewReader([]byte(garbage)))
		must(t, err)
		must(t, conn.(*net.TCPConn).CloseWrite())
		must(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.Copy(io.Discard, conn)
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q: the connection is still open", garbage)
		}
		_ = conn.Close() // the server has closed it
	}
	must(t, open(t, server.DSN()).Ping(t.Context()))
}

// ch-go is a client too.
func TestChGo(t *testing.T) {
	server := devclickhouse.Shared(t)
	for _, compression := range []ch.Compression{ch.CompressionDisabled, ch.CompressionLZ4, ch.CompressionZSTD} {
		ctx := t.Context()
		client, err := ch.Dial(ctx, ch.Options{Address: server.Addr(), Compression: compression})
		must(t, err)
		must(t, client.Ping(ctx))
		table := devclickhouse.UniqueName("ch")
		must(t, client.Do(ctx, ch.Query{Body: "CREATE TABLE " + table + " (id UInt64, tags Array(String))" + mergeTree}))
		var id proto.ColUInt64
		tags := new(proto.ColStr).Array()
		for i := range uint64(1000) {
			id.Append(i)
			tags.Append([]string{"a", fmt.Sprint(i)})
		}
		input := proto.Input{{Name: "id", Data: &id}, {Name: "tags", Data: tags}}
		must(t, client.Do(ctx, ch.Query{Body: input.Into(table), Input: input}))
		var sum proto.ColUInt64
		must(t, client.Do(ctx, ch.Query{
			Body:       "SELECT sum(id + length(tags) + {more:UInt64}) AS sum FROM " + table,
			Parameters: ch.Parameters(map[string]any{"more": 1}),
			Result:     proto.Results{{Name: "sum", Data: &sum}},
		}))
		if len(sum) != 1 || sum[0] != 999*500+3000 {
			t.Errorf("%v: got %v", compression, sum)
		}
		err = client.Do(ctx, ch.Query{Body: "SELECT * FROM no_such_table", Result: proto.Results{}})
		if !ch.IsErr(err, proto.ErrUnknownTable) {
			t.Errorf("%v: got %v", compression, err)
		}
		must(t, client.Close())
	}
}

// TestDropSync drops what chdb would wait for without end.
func TestDropSync(t *testing.T) {
	inBothProtocols(t, func(t *testing.T, dsn string) {
		conn := open(t, dsn)
		name := devclickhouse.UniqueName("dropped")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, drop := range []string{"DROP TABLE %s SYNC", "DROP TABLE %s NO DELAY", "DROP TABLE %s"} {
			must(t, conn.Exec(ctx, "CREATE TABLE "+name+" (x UInt64) ENGINE = MergeTree ORDER BY x"))
			must(t, conn.Exec(ctx, "INSERT INTO "+name+" VALUES (1)"))
			synchronously := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"database_atomic_wait_for_drop_and_detach_synchronously": 1}))
			must(t, conn.Exec(synchronously, fmt.Sprintf(drop, name)))
		}
		must(t, conn.Exec(ctx, "CREATE DATABASE "+name))
		must(t, conn.Exec(ctx, "CREATE TABLE "+name+".a (x UInt64) ENGINE = MergeTree ORDER BY x"))
		must(t, conn.Exec(ctx, "DROP DATABASE "+name+" SYNC"))
	})
}
