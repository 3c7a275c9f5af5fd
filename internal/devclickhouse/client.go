package devclickhouse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"golang.org/x/sys/unix"
)

// client is what one client's connection does with the engine.
type client struct {
	conn *connection
	// own are the SET statements that the client has run, which outlive a query. What
	// comes with a query does not.
	own []string
}

// setting is one that comes with a query.
type setting struct {
	key, value string
	custom     bool // whether the value is a literal already
}

// request is a query with what comes with it.
type request struct {
	text     string
	format   string // of the result, unless the text names one
	settings []setting
	params   []parameter
}

// sink takes a result piece by piece: whole blocks, where the format is Native. A piece
// may be empty, and tell only what was read or written.
type sink func(piece []byte, s stats) error

// do runs a query, and gives the result to the sink.
func (c *client) do(r request, to sink) error {
	restore, err := c.with(r.settings)
	if err != nil {
		return err
	}
	defer restore()
	s := statement{text: withoutSync(r.text), format: r.format, params: r.params}
	if streams(r) {
		err = c.stream(s, to)
		if !errors.Is(err, errNoStream) {
			return err
		}
	}
	out, read, err := c.conn.run(s)
	if err != nil {
		return err
	}
	if verb(r.text) == "SET" {
		c.own = append(c.own, r.text)
	}
	return to(out, read)
}

// streams reports whether a result may be had piece by piece: chdb makes each piece a
// whole of its format, so it is for formats where pieces behind each other are one too.
func streams(r request) bool {
	switch verb(r.text) {
	case "SELECT", "WITH", "FROM", "(":
	default:
		return false
	}
	_, explicit := splitFormat(r.text)
	switch strings.ToLower(first(explicit, r.format)) {
	case "native", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv", "jsoneachrow", "jsoncompacteachrow", "rowbinary":
		return true
	}
	return false
}

// insert runs an insert with its data, in the format. The data goes through a file in
// memory: behind the statement's text, chdb would look for the end of it, and take two
// line ends for that, in binary data too.
func (c *client) insert(r request, in insert, format string, data []byte, to sink) error {
	fd, err := unix.MemfdCreate("insert", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "insert")
	defer func() { _ = file.Close() }() // and it is gone
	if _, err := file.Write(data); err != nil {
		return err
	}
	r.text = in.from(fmt.Sprintf("%s%d", memoryFiles, fd), format)
	return c.do(r, to)
}

// memoryFiles is the folder where a process finds its own open files.
const memoryFiles = "/proc/self/fd/"

// errNoStream says that the statement was not begun, because it is no SELECT.
var errNoStream = errors.New("no stream for this statement")

func (c *client) stream(s statement, to sink) error {
	rows, err := c.conn.open(s)
	if isCode(err, proto.ErrBadArguments) && strings.Contains(err.Error(), "Streaming query is not supported") {
		return errNoStream
	}
	if err != nil {
		return err
	}
	for pieces := 0; ; pieces++ {
		piece, read, err := rows.next()
		if pieces > 0 && isStreamEnd(err) {
			err = nil
		}
		if err == nil {
			err = to(piece, read)
		}
		if err != nil || len(piece) == 0 {
			rows.close(err != nil)
			return err
		}
	}
}

// isStreamEnd reports whether the error is what chdb says in place of an empty piece
// behind totals.
func isStreamEnd(err error) bool {
	return err != nil && strings.Contains(err.Error(), "No active streaming query")
}

// syncSetting has every DROP wait as SYNC does, see withoutSync.
const syncSetting = "database_atomic_wait_for_drop_and_detach_synchronously"

// with sets what a query's settings say, and returns what puts things back.
func (c *client) with(settings []setting) (func(), error) {
	var set, reset []string
	for _, s := range settings {
		if s.key == tagSetting || s.key == syncSetting {
			continue // it is taken, and does nothing
		}
		value := s.value
		if !s.custom {
			value = quote(s.value)
		}
		set = append(set, s.key+" = "+value)
		reset = append(reset, s.key+" = DEFAULT")
	}
	if set == nil {
		return func() {}, nil
	}
	if _, err := c.conn.exec("SET " + strings.Join(set, ", ")); err != nil {
		return nil, err
	}
	return func() {
		// Both were accepted before, in some order.
		_, _ = c.conn.exec("SET " + strings.Join(reset, ", "))
		for _, text := range c.own {
			_, _ = c.conn.exec(text)
		}
	}, nil
}

// use makes a database the current one.
func (c *client) use(database string) error {
	if database == "" || database == "default" {
		return nil
	}
	_, err := c.conn.exec("USE " + quoteName(database))
	return err
}

// insertColumns returns the columns that an insert's data has.
func (c *client) insertColumns(in insert) ([]namedType, error) {
	if in.input != "" {
		return c.describe("TABLE null" + in.input)
	}
	if in.columns != "" {
		// The engine takes apart what may stand there: names, *, EXCEPT, APPLY.
		return c.describe("(SELECT " + strings.TrimSuffix(strings.TrimPrefix(in.columns, "("), ")") + " FROM " + source(in.target) + ")")
	}
	return c.describe("TABLE " + source(in.target))
}

// source is an insert's target as a SELECT names it.
func source(target string) string {
	l := lexer{text: target}
	if t := l.next(); t.is("FUNCTION") {
		return target[t.end:]
	}
	return target
}

// describe returns the columns of what a DESCRIBE is of, without those that are
// computed.
func (c *client) describe(what string) ([]namedType, error) {
	out, _, err := c.conn.run(statement{text: "DESCRIBE " + what, format: "JSONEachRow"})
	if err != nil {
		return nil, err
	}
	var columns []namedType
	for line := range bytes.Lines(out) {
		var col struct {
			Name, Type string
			Default    string `json:"default_type"`
		}
		if err := json.Unmarshal(line, &col); err != nil {
			return nil, fmt.Errorf("DESCRIBE %s: %w", what, err)
		}
		if col.Default != "ALIAS" && col.Default != "MATERIALIZED" {
			columns = append(columns, namedType{col.Name, col.Type})
		}
	}
	return columns, nil
}

// resultColumns returns the columns of a query that gave no rows: the engine writes
// no block then.
func (c *client) resultColumns(r request) ([]namedType, error) {
	text := strings.TrimRight(r.text, "; \t\r\n")
	switch verb(text) {
	case "SELECT", "WITH", "FROM", "(":
		r.text, r.format = "DESCRIBE ("+text+"\n)", "JSONEachRow"
	case "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK":
		r.text, r.format = text, "JSONCompactEachRowWithNamesAndTypes"
	default:
		return nil, nil
	}
	restore, err := c.with(r.settings)
	if err != nil {
		return nil, err
	}
	defer restore()
	out, _, err := c.conn.run(statement{text: r.text, format: r.format, params: r.params})
	if err != nil {
		return nil, err
	}
	if r.format == "JSONEachRow" {
		return parseDescription(out)
	}
	return parseNamesAndTypes(out)
}

func parseDescription(out []byte) (columns []namedType, err error) {
	for line := range bytes.Lines(out) {
		var col struct{ Name, Type string }
		if err := json.Unmarshal(line, &col); err != nil {
			return nil, err
		}
		columns = append(columns, namedType{col.Name, col.Type})
	}
	return columns, nil
}

func parseNamesAndTypes(out []byte) (columns []namedType, err error) {
	var names, types []string
	lines := bytes.SplitN(out, []byte("\n"), 3)
	if len(lines) < 2 {
		return nil, nil
	}
	if err := errors.Join(json.Unmarshal(lines[0], &names), json.Unmarshal(lines[1], &types)); err != nil {
		return nil, err
	}
	for i := range names {
		columns = append(columns, namedType{names[i], types[i]})
	}
	return columns, nil
}

// cancel kills what the client is running until ended is closed: the query may not
// have begun, or may not look.
func (c *client) cancel(ended <-chan struct{}) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_ = c.conn.kill() // tried again
		select {
		case <-ended:
			return
		case <-time.After(wait):
		}
	}
}

// running is a query on its way.
type running struct {
	client    *client
	ended     chan struct{}
	once      sync.Once
	cancelled chan struct{} // closed when somebody wants it to end
	killing   sync.WaitGroup
}

func newRunning(c *client) *running {
	return &running{client: c, ended: make(chan struct{}), cancelled: make(chan struct{})}
}

// cancel ends the query, without waiting for that.
func (r *running) cancel() {
	r.once.Do(func() {
		close(r.cancelled)
		r.killing.Go(func() { r.client.cancel(r.ended) })
	})
}

// wait waits until the query has ended, and nobody is trying to kill it any more: the
// next one on the connection goes by the same tag.
func (r *running) wait() {
	<-r.ended
	r.once.Do(func() {}) // it is too late to cancel it
	r.killing.Wait()
}

// wasCancelled reports whether somebody has called cancel.
func (r *running) wasCancelled() bool {
	select {
	case <-r.cancelled:
		return true
	default:
		return false
	}
}
