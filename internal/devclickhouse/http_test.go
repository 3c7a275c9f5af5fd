package devclickhouse_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// reply is what a request was answered with.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // while the body was read
}

// request does what curl does.
func request(t *testing.T, method, addr string, args url.Values, body io.Reader, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/?"+args.Encode(), body)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(got), err}
}

func get(t *testing.T, addr, query string, args ...string) reply {
	t.Helper()
	return request(t, http.MethodGet, addr, arguments(query, args), nil)
}

func post(t *testing.T, addr, query, body string, args ...string) reply {
	t.Helper()
	return request(t, http.MethodPost, addr, arguments(query, args), strings.NewReader(body))
}

func arguments(query string, args []string) url.Values {
	v := url.Values{}
	if query != "" {
		v.Set("query", query)
	}
	for i := 0; i < len(args); i += 2 {
		v.Set(args[i], args[i+1])
	}
	return v
}

func (r reply) want(t *testing.T, body string) {
	t.Helper()
	if r.status != http.StatusOK || r.body != body || r.err != nil {
		t.Errorf("got %d %q %v, want %q", r.status, r.body, r.err, body)
	}
}

func (r reply) wantException(t *testing.T, status int, code, text string) {
	t.Helper()
	if r.status != status || r.header.Get("X-ClickHouse-Exception-Code") != code ||
		!strings.HasPrefix(r.body, "Code: "+code+". DB::Exception: ") || !strings.Contains(r.body, text) {
		t.Errorf("got %d, exception code %q, %q, want %d, %s, %s", r.status, r.header.Get("X-ClickHouse-Exception-Code"), r.body, status, code, text)
	}
}

func TestHTTPQueries(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	response, err := http.Get("http://" + addr + "/ping")
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "Ok.\n" {
		t.Errorf("ping: %q, %v", body, err)
	}

	get(t, addr, "SELECT 1").want(t, "1\n")
	post(t, addr, "", "SELECT 1, 'a\tb'").want(t, "1\ta\\tb\n")
	post(t, addr, "SELECT 1,", "2").want(t, "1\t2\n")
	get(t, addr, "SELECT 1 AS a, 'x' AS b FORMAT JSONEachRow").want(t, `{"a":1,"b":"x"}`+"\n")
	get(t, addr, "SELECT 1 AS a", "default_format", "CSVWithNames").want(t, "\"a\"\n1\n")
	get(t, addr, "SELECT number FROM numbers(3) FORMAT CSV SETTINGS max_threads = 1").want(t, "0\n1\n2\n")
	get(t, addr, "SELECT 1 WHERE 0").want(t, "")
	get(t, addr, "SELECT {a:UInt8} + {b:UInt8}, {c:String}", "param_a", "1", "param_b", "2", "param_c", "a b").want(t, "3\ta b\n")
	get(t, addr, "SELECT getSetting('max_block_size')", "max_block_size", "77").want(t, "77\n")

	// Each format is one whole, however large.
	for format, want := range map[string]int{"JSONEachRow": 100000, "CSVWithNames": 100001, "TSVWithNamesAndTypes": 100002} {
		if n := strings.Count(get(t, addr, "SELECT number FROM numbers(100000) FORMAT "+format).body, "\n"); n != want {
			t.Errorf("%s: %d lines, want %d", format, n, want)
		}
	}
	var whole struct{ Rows int }
	must(t, json.Unmarshal([]byte(get(t, addr, "SELECT number FROM numbers(100000)", "default_format", "JSON").body), &whole))
	if whole.Rows != 100000 {
		t.Errorf("JSON of %d rows, want 100000", whole.Rows)
	}
	get(t, addr, "SELECT number % 2 AS k, count() FROM numbers(4) GROUP BY k WITH TOTALS ORDER BY k").want(t, "0\t2\n1\t2\n\n0\t4\n")

	r := get(t, addr, "SELECT 1 FORMAT JSON")
	if got := r.header.Get("Content-Type"); got != "application/json; charset=UTF-8" {
		t.Errorf("JSON is sent as %s", got)
	}
	if got := r.header.Get("X-ClickHouse-Format"); got != "JSON" {
		t.Errorf("the format is called %s", got)
	}
	if r.header.Get("X-ClickHouse-Query-Id") == "" || r.header.Get("X-ClickHouse-Timezone") == "" {
		t.Errorf("headers are missing: %v", r.header)
	}
	if got := get(t, addr, "SELECT 1", "query_id", "mine").header.Get("X-ClickHouse-Query-Id"); got != "mine" {
		t.Errorf("the query's id is %s", got)
	}
}

func TestHTTPInserts(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	table := devclickhouse.UniqueName("http")
	post(t, addr, "", "CREATE TABLE "+table+" (a UInt32, s String DEFAULT 'd') ENGINE = MergeTree ORDER BY a").want(t, "")

	r := post(t, addr, "INSERT INTO "+table+" FORMAT CSV", "1,\"x\n\n;y\"\n2,z\n")
	r.want(t, "")
	var summary map[string]string
	must(t, json.Unmarshal([]byte(r.header.Get("X-ClickHouse-Summary")), &summary))
	if summary["written_rows"] != "2" {
		t.Errorf("the summary is %v, want 2 rows written", summary)
	}
	post(t, addr, "", "INSERT INTO "+table+" FORMAT JSONEachRow {\"a\": 3}\n{\"a\": 4, \"s\": \"FORMAT\"}").want(t, "")
	post(t, addr, "INSERT INTO "+table+" (a) VALUES", "(5), (6)").want(t, "")
	post(t, addr, "INSERT INTO "+table+" SETTINGS max_threads = 1 VALUES (7, 'q''\n\n;')", "").want(t, "")
	post(t, addr, "INSERT INTO "+table+" (a, s) SELECT x + 100, 'in' FROM input('x UInt32') FORMAT TSV", "1\n2\n").want(t, "")
	native := get(t, addr, "SELECT toUInt32(number + 2560) AS a, 'n' AS s FROM numbers(256) FORMAT Native").body
	if !strings.Contains(native, "\n\n") {
		t.Fatal("the block holds no two line ends")
	}
	post(t, addr, "INSERT INTO "+table+" FORMAT Native", native).want(t, "")
	get(t, addr, "SELECT a, s FROM "+table+" WHERE a < 1000 ORDER BY a").want(t,
		"1\tx\\n\\n;y\n2\tz\n3\td\n4\tFORMAT\n5\td\n6\td\n7\tq\\'\\n\\n;\n101\tin\n102\tin\n")
	get(t, addr, "SELECT count(), sum(a) FROM "+table+" WHERE a > 1000").want(t, "256\t688000\n")

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write([]byte("8\n9\n"))
	must(t, err)
	must(t, w.Close())
	request(t, http.MethodPost, addr, arguments("INSERT INTO "+table+" (a) FORMAT CSV", nil), &zipped, "Content-Encoding", "gzip").want(t, "")
	get(t, addr, "SELECT count() FROM "+table+" WHERE a IN (8, 9)").want(t, "2\n")
}

func TestHTTPExceptions(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	get(t, addr, "SELECT * FROM missing").wantException(t, http.StatusNotFound, "60", "(UNKNOWN_TABLE)")
	get(t, addr, "SELEC 1").wantException(t, http.StatusBadRequest, "62", "(SYNTAX_ERROR)")
	get(t, addr, "SELECT 1", "no_such_setting", "1").wantException(t, http.StatusNotFound, "115", "(UNKNOWN_SETTING)")
	get(t, addr, "SELECT 1", "database", "missing").wantException(t, http.StatusNotFound, "81", "(UNKNOWN_DATABASE)")
	get(t, addr, "SELECT 1", "password", "wrong").wantException(t, http.StatusForbidden, "516", "(AUTHENTICATION_FAILED)")
	get(t, addr, "CREATE TABLE never (a Int8) ENGINE = Memory").wantException(t, http.StatusInternalServerError, "164", "(READONLY)")
	post(t, addr, "INSERT INTO missing FORMAT CSV", "1\n").wantException(t, http.StatusNotFound, "60", "(UNKNOWN_TABLE)")
	get(t, addr, "SELECT throwIf(number = 5) FROM numbers(10)").wantException(t, http.StatusInternalServerError, "395", "(FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)")

	// Behind what is out already.
	r := get(t, addr, "SELECT throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_threads = 1")
	if r.status == http.StatusOK && (r.err == nil || !strings.Contains(r.body, "__exception__\r\n"+r.header.Get("X-ClickHouse-Exception-Tag")+"\r\nCode: 395.")) {
		t.Errorf("got %v and %.100q at the end, want a cut answer with an exception", r.err, r.body[max(0, len(r.body)-300):])
	}
}

func TestHTTPCompression(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	r := request(t, http.MethodGet, addr, arguments("SELECT number FROM numbers(1000)", []string{"enable_http_compression", "1"}),
		nil, "Accept-Encoding", "gzip, deflate")
	unzipped, err := gzip.NewReader(strings.NewReader(r.body))
	must(t, err)
	body, err := io.ReadAll(unzipped)
	must(t, err)
	if n := strings.Count(string(body), "\n"); n != 1000 {
		t.Errorf("%d lines, want 1000", n)
	}
}

func TestHTTPUsers(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	query := arguments("SELECT 1", nil)
	request(t, http.MethodGet, addr, query, nil, "X-ClickHouse-User", "default", "X-ClickHouse-Key", "").want(t, "1\n")
	request(t, http.MethodGet, addr, query, nil, "X-ClickHouse-User", "bob").wantException(t, http.StatusForbidden, "516", "bob")
	request(t, http.MethodGet, addr, query, nil, "Authorization", "Basic ZGVmYXVsdDp3cm9uZw==").wantException(t, http.StatusForbidden, "516", "default")
}

// Requests with one session_id share what they set.
func TestHTTPSessions(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	id := devclickhouse.UniqueName("id")
	post(t, addr, "", "CREATE TEMPORARY TABLE mine (a UInt8)", "session_id", id).want(t, "")
	post(t, addr, "INSERT INTO mine FORMAT CSV", "1\n", "session_id", id).want(t, "")
	get(t, addr, "SELECT * FROM mine", "session_id", id).want(t, "1\n")
	get(t, addr, "SELECT * FROM mine").wantException(t, http.StatusNotFound, "60", "mine")
}

// A request that is cut within its body leaves nothing.
func TestHTTPCutInsert(t *testing.T) {
	addr := devclickhouse.Shared(t).HTTPAddr()
	table := devclickhouse.UniqueName("cut")
	post(t, addr, "", "CREATE TABLE "+table+" (a UInt32) ENGINE = MergeTree ORDER BY a").want(t, "")
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
	must(t, err)
	_, err = io.WriteString(conn, "POST /?query="+url.QueryEscape("INSERT INTO "+table+" FORMAT CSV")+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1\n2\n3\n")
	must(t, err)
	must(t, conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn) // the server has seen the cut when it answers, or cuts too
	must(t, conn.Close())
	if err == nil && strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("got %q", answer)
	}
	get(t, addr, "SELECT count() FROM "+table).want(t, "0\n")
}
