package devclickhouse

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is libchdb's C interface. Names and sizes travel as pointers and lengths;
// a result is freed with destroy.
type library struct {
	connect      func(argc int32, argv *unsafe.Pointer) unsafe.Pointer
	closeConn    func(conn unsafe.Pointer)
	query        queryFunc
	stream       queryFunc
	fetch        func(conn, stream unsafe.Pointer) unsafe.Pointer
	cancelStream func(conn, stream unsafe.Pointer)
	buffer       func(result unsafe.Pointer) *byte
	length       func(result unsafe.Pointer) uintptr
	failure      func(result unsafe.Pointer) string
	rowsRead     func(result unsafe.Pointer) uint64
	bytesRead    func(result unsafe.Pointer) uint64
	rowsWritten  func(result unsafe.Pointer) uint64
	bytesWritten func(result unsafe.Pointer) uint64
	destroy      func(result unsafe.Pointer)
	signals      func(enabled int32)
}

// queryFunc runs a statement with parameters.
type queryFunc func(conn unsafe.Pointer, text *byte, textLen uintptr, format *byte, formatLen uintptr,
	names *unsafe.Pointer, nameLens *uintptr, values *unsafe.Pointer, valueLens *uintptr, params uintptr) unsafe.Pointer

func load(path string) (*library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	lib := &library{}
	for name, function := range map[string]any{
		"chdb_connect":                     &lib.connect,
		"chdb_close_conn":                  &lib.closeConn,
		"chdb_query_with_params_n":         &lib.query,
		"chdb_stream_query_with_params_n":  &lib.stream,
		"chdb_stream_fetch_result":         &lib.fetch,
		"chdb_stream_cancel_query":         &lib.cancelStream,
		"chdb_result_buffer":               &lib.buffer,
		"chdb_result_length":               &lib.length,
		"chdb_result_error":                &lib.failure,
		"chdb_result_storage_rows_read":    &lib.rowsRead,
		"chdb_result_storage_bytes_read":   &lib.bytesRead,
		"chdb_result_rows_written":         &lib.rowsWritten,
		"chdb_result_bytes_written":        &lib.bytesWritten,
		"chdb_destroy_query_result":        &lib.destroy,
		"chdb_set_signal_handlers_enabled": &lib.signals,
	} {
		if _, err := purego.Dlsym(handle, name); err != nil {
			return nil, fmt.Errorf("load %s: %w: it is not libchdb %s", path, err, packageVersion)
		}
		purego.RegisterLibFunc(function, handle, name)
	}
	return lib, nil
}

// engine is the running ClickHouse of this process.
type engine struct {
	lib     *library
	dir     string
	opened  atomic.Int64
	control *connection // keeps the engine running, and kills queries
}

// startEngine starts ClickHouse on a directory, which it locks.
func startEngine(path, dir string) (*engine, error) {
	lib, err := load(path)
	if err != nil {
		return nil, err
	}
	lib.signals(0) // they are Go's
	e := &engine{lib: lib, dir: dir}
	if e.control, err = e.connect(); err != nil {
		return nil, fmt.Errorf("start the ClickHouse engine on %s (is another one using it?): %w", dir, err)
	}
	return e, nil
}

func (e *engine) stop() { e.control.close() }

// connection is one of the engine's: it has settings, a current database, temporary
// tables and so on of its own, and runs one statement at a time. It is used by one
// goroutine at a time, except for kill.
type connection struct {
	engine *engine
	handle *unsafe.Pointer
	tag    string // what its queries are known by in system.processes
}

// tagSetting is a setting without effect that a query can be recognized by: chdb
// gives out no query ids.
const tagSetting = "query_cache_tag"

func (e *engine) connect() (*connection, error) {
	tag := fmt.Sprintf("devclickhouse-%d", e.opened.Add(1))
	argv := []unsafe.Pointer{unsafe.Pointer(terminated("clickhouse")), unsafe.Pointer(terminated("--path=" + e.dir))}
	handle := (*unsafe.Pointer)(e.lib.connect(int32(len(argv)), &argv[0]))
	runtime.KeepAlive(argv)
	if handle == nil || *handle == nil {
		return nil, fmt.Errorf("libchdb opens no connection")
	}
	c := &connection{engine: e, handle: handle, tag: tag}
	// implicit_select as the server has it: chdb takes an expression alone for a SELECT.
	if _, err := c.exec("SET implicit_select = 0, " + tagSetting + " = '" + tag + "'"); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *connection) close() { c.engine.lib.closeConn(unsafe.Pointer(c.handle)) }

// statement is what a connection runs.
type statement struct {
	text   string
	format string // of the result, unless the text names one
	params []parameter
}

// parameter is a value for a {name:Type} in a statement, written as in a field of
// TabSeparated.
type parameter struct{ name, value string }

// stats is what a statement read and wrote.
type stats struct{ rowsRead, bytesRead, rowsWritten, bytesWritten uint64 }

func (s *stats) add(o stats) {
	s.rowsRead += o.rowsRead
	s.bytesRead += o.bytesRead
	s.rowsWritten += o.rowsWritten
	s.bytesWritten += o.bytesWritten
}

// run runs a statement to its end and returns the whole result.
func (c *connection) run(s statement) ([]byte, stats, error) {
	result := c.call(c.engine.lib.query, s)
	if result == nil {
		return nil, stats{}, errNoResult
	}
	defer c.engine.lib.destroy(result)
	return c.result(result)
}

// exec runs a statement of the server's own.
func (c *connection) exec(text string) ([]byte, error) {
	out, _, err := c.run(statement{text: text, format: "TabSeparatedRaw"})
	return out, err
}

// kill ends what the connection is running, if it is running something. Any goroutine
// may call it.
func (c *connection) kill() error {
	control, err := c.engine.connect()
	if err != nil {
		return err
	}
	defer control.close()
	_, err = control.exec("KILL QUERY WHERE Settings['" + tagSetting + "'] = '" + c.tag + "'")
	return err
}

var errNoResult = &exception{code: 1002, message: "libchdb returned no result", name: "UNKNOWN_EXCEPTION"}

func (c *connection) call(function queryFunc, s statement) unsafe.Pointer {
	n := len(s.params)
	names, values := make([]unsafe.Pointer, n+1), make([]unsafe.Pointer, n+1)
	nameLens, valueLens := make([]uintptr, n+1), make([]uintptr, n+1)
	for i, p := range s.params {
		names[i], nameLens[i] = unsafe.Pointer(terminated(p.name)), uintptr(len(p.name))
		values[i], valueLens[i] = unsafe.Pointer(terminated(p.value)), uintptr(len(p.value))
	}
	result := function(*c.handle, terminated(s.text), uintptr(len(s.text)), terminated(s.format), uintptr(len(s.format)),
		&names[0], &nameLens[0], &values[0], &valueLens[0], uintptr(n))
	runtime.KeepAlive(names)
	runtime.KeepAlive(values)
	return result
}

// terminated returns the text as C has it.
func terminated(s string) *byte { return &append([]byte(s), 0)[0] }

// result copies what is in a result. After an error the numbers are not to be read.
func (c *connection) result(result unsafe.Pointer) ([]byte, stats, error) {
	lib := c.engine.lib
	if text := lib.failure(result); text != "" {
		return nil, stats{}, parseException(text)
	}
	var out []byte
	if n := lib.length(result); n > 0 {
		out = append(out, unsafe.Slice(lib.buffer(result), n)...)
	}
	return out, stats{lib.rowsRead(result), lib.bytesRead(result), lib.rowsWritten(result), lib.bytesWritten(result)}, nil
}

// stream is the result of a SELECT, piece by piece.
type stream struct {
	conn   *connection
	handle unsafe.Pointer
}

// open begins a SELECT. Other statements are refused with errNoStream.
func (c *connection) open(s statement) (*stream, error) {
	handle := c.call(c.engine.lib.stream, s)
	if handle == nil {
		return nil, errNoResult
	}
	if text := c.engine.lib.failure(handle); text != "" {
		c.engine.lib.destroy(handle)
		return nil, parseException(text)
	}
	return &stream{conn: c, handle: handle}, nil
}

// next returns the next piece, whole blocks, and nil at the end.
func (s *stream) next() ([]byte, stats, error) {
	piece := s.conn.engine.lib.fetch(*s.conn.handle, s.handle)
	if piece == nil {
		return nil, stats{}, errNoResult
	}
	defer s.conn.engine.lib.destroy(piece)
	return s.conn.result(piece)
}

// close ends the SELECT, at its end or before.
func (s *stream) close(early bool) {
	if early {
		s.conn.engine.lib.cancelStream(*s.conn.handle, s.handle)
	}
	s.conn.engine.lib.destroy(s.handle)
}
