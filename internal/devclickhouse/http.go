package devclickhouse

import (
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/klauspost/compress/zstd"
)

// serveHTTP is ClickHouse's HTTP interface: /ping, and queries everywhere else.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ping", "/replicas_status":
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		fmt.Fprint(w, "Ok.\n")
		return
	}
	a := &answer{server: s, w: w, in: r, args: r.URL.Query()}
	if err := a.query(); err != nil {
		a.fail(err)
	}
}

// answer is the answer to one HTTP request.
type answer struct {
	server *Server
	w      http.ResponseWriter
	in     *http.Request
	args   url.Values

	format  string // of the result
	version int    // of the protocol, by which a Native result is written
	tag     string // marks an exception within the result
	begun   bool   // whether the status is out
	out     io.Writer
	closers []io.Closer
	total   stats
}

// query does what the request asks for.
func (a *answer) query() error {
	if err := a.authenticate(); err != nil {
		return err
	}
	r, err := a.request()
	if err != nil {
		return err
	}
	c, release, err := a.client()
	if err != nil {
		return err
	}
	defer release()
	if err := c.use(first(a.args.Get("database"), a.in.Header.Get("X-ClickHouse-Database"))); err != nil {
		return err
	}
	if err := a.do(c, r); err != nil {
		return err
	}
	return a.end()
}

// do runs the query. A client that goes away ends it, unless it writes.
func (a *answer) do(c *client, r request) error {
	query := newRunning(c)
	defer query.wait()
	defer close(query.ended)
	if !writes(r.text) {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-a.in.Context().Done():
				query.cancel()
			case <-stop:
			}
		}()
	}
	if in, ok := parseInsert(r.text); ok && !in.whole {
		return c.insert(r, in, first(in.format, "Values"), []byte(in.data), a.piece)
	}
	return c.do(r, a.piece)
}

// writes reports whether the statement is one to finish though nobody waits for it.
func writes(text string) bool {
	switch verb(text) {
	case "SELECT", "WITH", "FROM", "(", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK":
		return false
	}
	return true
}

func (a *answer) authenticate() error {
	user, password := a.args.Get("user"), a.args.Get("password")
	if u, p, ok := a.in.BasicAuth(); ok {
		user, password = u, p
	}
	h := a.in.Header
	return a.server.authenticate(first(h.Get("X-ClickHouse-User"), user), first(h.Get("X-ClickHouse-Key"), password))
}

// request puts the query together: the parameter first, and then the body, which may
// be the rest of it, or data.
func (a *answer) request() (request, error) {
	if strings.HasPrefix(a.in.Header.Get("Content-Type"), "multipart/form-data") {
		return request{}, &exception{code: int(proto.ErrNotImplemented), name: "NOT_IMPLEMENTED", message: "the development server takes no external tables"}
	}
	body, err := a.body()
	if err != nil {
		return request{}, &exception{code: int(proto.ErrCannotReadAllData), name: "CANNOT_READ_ALL_DATA", message: "read the request: " + err.Error()}
	}
	r := request{text: a.args.Get("query")}
	if r.text != "" && len(body) > 0 {
		r.text += "\n"
	}
	r.text += string(body)
	a.version, _ = strconv.Atoi(a.args.Get("client_protocol_version")) // 0 is none
	a.version = min(a.version, revision)
	var explicit string
	if _, ok := parseInsert(r.text); !ok {
		_, explicit = splitFormat(r.text)
	}
	r.format = first(a.in.Header.Get("X-ClickHouse-Format"), a.args.Get("default_format"), "TabSeparated")
	a.format = first(explicit, r.format)
	a.settings(&r)
	return r, nil
}

// body reads the whole body: a request that is cut has done nothing.
func (a *answer) body() ([]byte, error) {
	var in io.Reader = a.in.Body
	var err error
	switch encoding := a.in.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		in, err = gzip.NewReader(in)
	case "deflate":
		in, err = zlib.NewReader(in)
	case "zstd":
		in, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	default:
		err = fmt.Errorf("the development server does not know the encoding %q", encoding)
	}
	if err != nil {
		return nil, err
	}
	if a.args.Get("decompress") == "1" {
		return readFrames(in)
	}
	return io.ReadAll(in)
}

// readFrames reads all of ClickHouse's compressed frames.
func readFrames(in io.Reader) ([]byte, error) {
	out, err := io.ReadAll(compress.NewReader(in))
	if errors.Is(err, io.EOF) { // it wraps the one of an ordinary end
		err = nil
	}
	return out, err
}

// reserved are the arguments that are no settings.
var reserved = map[string]bool{
	"query": true, "database": true, "user": true, "password": true, "default_format": true, "query_id": true,
	"compress": true, "decompress": true, "client_protocol_version": true, "quota_key": true, "role": true,
	"session_id": true, "session_timeout": true, "session_check": true, "wait_end_of_query": true,
	"buffer_size": true, "stacktrace": true, "http_write_exception_in_output_format": true,
}

// settings sorts the arguments into settings and parameters.
func (a *answer) settings(r *request) {
	for key, values := range a.args {
		if name, ok := strings.CutPrefix(key, "param_"); ok {
			r.params = append(r.params, parameter{name, values[0]})
		} else if !reserved[key] {
			r.settings = append(r.settings, setting{key: key, value: values[0]})
		}
	}
	if a.in.Method == http.MethodGet || a.in.Method == http.MethodHead {
		r.settings = append(r.settings, setting{key: "readonly", value: "2"}) // as the last of them
	}
}

// client returns the session that the request names, or one for it alone, and what
// gives it back.
func (a *answer) client() (*client, func(), error) {
	if id := a.args.Get("session_id"); id != "" {
		return a.server.held.take(a.server.engine, id)
	}
	conn, err := a.server.engine.connect()
	if err != nil {
		return nil, nil, err
	}
	return &client{conn: conn}, conn.close, nil
}

// heldSessions are those that requests may come back to.
type heldSessions struct {
	mu   sync.Mutex
	byID map[string]*heldSession // guarded by mu
}

type heldSession struct {
	busy   sync.Mutex
	client *client
}

func (h *heldSessions) take(e *engine, id string) (*client, func(), error) {
	h.mu.Lock()
	held, ok := h.byID[id]
	if !ok {
		conn, err := e.connect()
		if err != nil {
			h.mu.Unlock()
			return nil, nil, err
		}
		held = &heldSession{client: &client{conn: conn}}
		if h.byID == nil {
			h.byID = map[string]*heldSession{}
		}
		h.byID[id] = held
	}
	h.mu.Unlock()
	if !held.busy.TryLock() {
		return nil, nil, &exception{code: 373, name: "SESSION_IS_LOCKED", message: "Session " + id + " is locked by a concurrent client."}
	}
	return held.client, held.busy.Unlock, nil
}

// close ends them all. Nobody uses them any more.
func (h *heldSessions) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, held := range h.byID {
		held.client.conn.close()
	}
}

// piece sends a piece of the result.
func (a *answer) piece(piece []byte, s stats) error {
	a.total.add(s)
	if !a.begun {
		a.begin()
	}
	if !strings.EqualFold(a.format, "Native") || a.version == 0 {
		_, err := a.out.Write(piece)
		return err
	}
	in := newSliceReader(piece)
	c := copier{r: in}
	for in.Len() > 0 {
		if _, err := c.copyBlock(0, a.version); err != nil {
			return err
		}
	}
	_, err := a.out.Write(c.out)
	return err
}

// begin sends the header, and makes what the result goes through.
func (a *answer) begin() {
	a.begun = true
	h := a.w.Header()
	a.tag = rand.Text()[:16]
	h.Set("Content-Type", contentType(a.format))
	h.Set("X-ClickHouse-Server-Display-Name", "devclickhouse")
	h.Set("X-ClickHouse-Query-Id", first(a.args.Get("query_id"), newQueryID()))
	h.Set("X-ClickHouse-Format", a.format)
	h.Set("X-ClickHouse-Timezone", a.server.timezone)
	h.Set("X-ClickHouse-Exception-Tag", a.tag)
	h.Set("X-ClickHouse-Summary", summary(a.total))
	a.out = a.w
	if a.args.Get("compress") == "1" {
		a.out = &frameWriter{to: a.w, compressor: compress.NewWriter(compress.LevelZero, a.method())}
		return
	}
	if a.args.Get("enable_http_compression") != "1" {
		return
	}
	switch accepted := a.in.Header.Get("Accept-Encoding"); {
	case strings.Contains(accepted, "gzip"):
		h.Set("Content-Encoding", "gzip")
		a.through(gzip.NewWriter(a.w))
	case strings.Contains(accepted, "deflate"):
		h.Set("Content-Encoding", "deflate")
		a.through(zlib.NewWriter(a.w))
	}
}

func (a *answer) through(w io.WriteCloser) {
	a.out = w
	a.closers = append(a.closers, w)
}

func (a *answer) method() compress.Method {
	if strings.EqualFold(a.args.Get("network_compression_method"), "zstd") {
		return compress.ZSTD
	}
	return compress.LZ4
}

// frameWriter compresses each write.
type frameWriter struct {
	to         io.Writer
	compressor *compress.Writer
}

// Write compresses p.
func (f *frameWriter) Write(p []byte) (int, error) {
	return len(p), writeFrames(f.to, p, f.compressor)
}

func (a *answer) end() error {
	if !a.begun {
		a.begin()
	}
	for _, c := range a.closers {
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// fail answers with an exception. When a part of the result is out already, the
// exception goes behind it between marks, and the connection is cut, so that nobody
// takes the part for the whole.
func (a *answer) fail(err error) {
	e := asException(err)
	text := fmt.Sprintf("%s (version %s)\n", e.Error(), a.server.version)
	if a.begun {
		framed := fmt.Sprintf("\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n", a.tag, text, len(text), a.tag)
		_, _ = io.WriteString(a.out, framed) // the cut tells the rest
		_ = a.end()
		_ = http.NewResponseController(a.w).Flush()
		panic(http.ErrAbortHandler)
	}
	h := a.w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.code))
	h.Set("X-ClickHouse-Server-Display-Name", "devclickhouse")
	a.w.WriteHeader(e.status())
	_, _ = io.WriteString(a.w, text) // a client that has gone needs no answer
}

// contentType is what ClickHouse calls a format over HTTP.
func contentType(format string) string {
	lower := strings.ToLower(format)
	switch {
	case strings.HasPrefix(lower, "tabseparated"), strings.HasPrefix(lower, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case strings.HasPrefix(lower, "csv"):
		return "text/csv; charset=UTF-8; header=absent"
	case strings.HasSuffix(lower, "eachrow"):
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(lower, "json"):
		return "application/json; charset=UTF-8"
	case lower == "native", strings.HasPrefix(lower, "rowbinary"):
		return "application/octet-stream"
	}
	return "text/plain; charset=UTF-8"
}

// summary is the header that tells what a query read and wrote.
func summary(s stats) string {
	out, _ := json.Marshal(map[string]string{ // of strings alone
		"read_rows": strconv.FormatUint(s.rowsRead, 10), "read_bytes": strconv.FormatUint(s.bytesRead, 10),
		"written_rows": strconv.FormatUint(s.rowsWritten, 10), "written_bytes": strconv.FormatUint(s.bytesWritten, 10),
	})
	return string(out)
}

// newQueryID makes one up: it looks like a UUID.
func newQueryID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	text := hex.EncodeToString(b[:])
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

// first returns the first that is not empty.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
