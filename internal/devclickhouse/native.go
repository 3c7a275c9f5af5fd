package devclickhouse

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// revision is the newest of the native protocol's that the server speaks: the one
// that clickhouse-go does.
const revision = int(proto.FeatureServerQueryTimeInProgress)

// nativeConn is a client's connection in the native protocol. One goroutine reads
// packets. A query runs in a second one, so that the first sees it cancelled, or the
// connection cut. Only one of them writes: the first, while no query runs.
type nativeConn struct {
	server  *Server
	conn    net.Conn
	r       *proto.Reader
	out     bytes.Buffer
	version int // of the protocol, as both sides know it
	client  *client
	query   *running // the one that runs, or ran last
	// inserting is whether that one is an insert with data.
	inserting bool

	compressed bool // whether the current query's blocks are
	compressor *compress.Writer
}

func (s *Server) serveNative(conn net.Conn) {
	n := &nativeConn{server: s, conn: conn, r: proto.NewReader(bufio.NewReaderSize(conn, 1<<16))}
	defer func() { _ = conn.Close() }() // the client is told nothing more
	if err := n.hello(); err != nil {
		return // it was told
	}
	defer n.client.conn.close()
	defer n.wait()
	for {
		if err := n.packet(); err != nil {
			n.abandon()
			n.wait()
			n.complain(err)
			return
		}
	}
}

// hello answers the first packet. A client that is refused gets an exception.
func (n *nativeConn) hello() error {
	if code, err := n.r.UVarInt(); err != nil || proto.ClientCode(code) != proto.ClientCodeHello {
		return errors.Join(err, errPacket)
	}
	var hello proto.ClientHello
	if err := hello.Decode(n.r); err != nil {
		return err
	}
	n.version = min(hello.ProtocolVersion, revision)
	if err := n.admit(hello); err != nil {
		_ = n.exception(err)
		return err
	}
	var b proto.Buffer
	info := n.server.info()
	info.EncodeAware(&b, n.version)
	n.out.Write(b.Buf)
	if err := n.flush(); err != nil {
		n.client.conn.close()
		return err
	}
	if !proto.FeatureAddendum.In(n.version) {
		return nil
	}
	_, err := n.r.Str() // the quota key
	if err != nil {
		n.client.conn.close()
	}
	return err
}

// admit checks the name and password and opens the engine's side.
func (n *nativeConn) admit(hello proto.ClientHello) error {
	if !proto.FeatureSettingsSerializedAsStrings.In(n.version) {
		return &exception{code: 99, message: "the client's protocol is too old", name: "UNKNOWN_PACKET_FROM_CLIENT"}
	}
	if err := n.server.authenticate(hello.User, hello.Password); err != nil {
		return err
	}
	conn, err := n.server.engine.connect()
	if err != nil {
		return err
	}
	n.client = &client{conn: conn}
	if err := n.client.use(hello.Database); err != nil {
		conn.close()
		return err
	}
	return nil
}

// authenticate compares a name and password with the server's user.
func (s *Server) authenticate(user, password string) error {
	if user == "" {
		user = defaultUser
	}
	right := subtle.ConstantTimeCompare([]byte(user), []byte(s.options.User)) == 1 &&
		subtle.ConstantTimeCompare([]byte(password), []byte(s.options.Password)) == 1
	if right {
		return nil
	}
	return &exception{
		code:    int(proto.ErrAuthenticationFailed),
		message: user + ": Authentication failed: password is incorrect, or there is no user with such name.",
		name:    "AUTHENTICATION_FAILED",
	}
}

var errPacket = errors.New("unexpected packet")

// packet reads one and does what it asks for.
func (n *nativeConn) packet() error {
	code, err := n.r.UVarInt()
	if err != nil {
		return err
	}
	switch proto.ClientCode(code) {
	case proto.ClientCodePing:
		n.wait()
		n.out.WriteByte(byte(proto.ServerCodePong))
		return n.flush()
	case proto.ClientCodeCancel:
		if n.query != nil {
			n.query.cancel()
		}
		return nil
	case proto.ClientCodeQuery:
		n.wait()
		return n.readQuery()
	case proto.ClientCodeData:
		// What is left of an insert that was refused before its data came.
		_, err := n.readBlock()
		return err
	}
	return fmt.Errorf("%w %d", errPacket, code)
}

// wait waits for the query that is running.
func (n *nativeConn) wait() {
	if n.query != nil {
		n.query.wait()
	}
}

// abandon ends a query whose client has gone. An insert whose data is complete goes
// on: it may be acknowledged to nobody, but it is not cut in the middle.
func (n *nativeConn) abandon() {
	if n.query != nil && !n.inserting {
		n.query.cancel()
	}
}

// complain tells the client what is wrong with its packet. What comes behind that can't
// be told apart.
func (n *nativeConn) complain(err error) {
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return // nobody listens
	}
	_ = n.exception(err) // and is cut off
}

// readQuery reads a query, and the data of an insert, and runs it.
func (n *nativeConn) readQuery() error {
	var q proto.Query
	if err := q.DecodeAware(n.r, n.version); err != nil {
		return err
	}
	n.compressed = q.Compression == proto.CompressionEnabled
	external, err := n.readData()
	if err != nil {
		return err
	}
	r, method := newRequest(q)
	if n.compressor = nil; n.compressed {
		n.compressor = compress.NewWriter(compress.LevelZero, method)
	}
	if external.rows > 0 {
		return n.exception(&exception{code: int(proto.ErrNotImplemented), name: "NOT_IMPLEMENTED", message: "the development server takes no external tables"})
	}
	in, ok := parseInsert(r.text)
	if ok && !in.whole && in.data == "" {
		return n.insert(r, in)
	}
	n.inserting = ok
	if ok && !in.whole {
		n.run(func() error { return n.client.insert(r, in, in.format, []byte(in.data), n.wrote) })
		return nil
	}
	r.text, _ = splitFormat(r.text)
	r.format = "Native"
	n.run(func() error { return n.result(r) })
	return nil
}

// newRequest returns what the client wants done, and how the result is compressed.
func newRequest(q proto.Query) (request, compress.Method) {
	r := request{text: q.Body}
	method := compress.LZ4
	for _, s := range q.Settings {
		if s.Key == "network_compression_method" && strings.EqualFold(s.Value, "zstd") {
			method = compress.ZSTD
		}
		r.settings = append(r.settings, setting{s.Key, s.Value, s.Custom})
	}
	for _, p := range q.Parameters {
		r.params = append(r.params, parameter{p.Key, unquote(p.Value)})
	}
	return r, method
}

// unquote takes off the quotes and backslashes of a literal.
func unquote(literal string) string {
	if len(literal) < 2 || literal[0] != '\'' || literal[len(literal)-1] != '\'' {
		return literal
	}
	literal = literal[1 : len(literal)-1]
	var b strings.Builder
	for i := 0; i < len(literal); i++ {
		if literal[i] == '\\' && i+1 < len(literal) {
			i++
		}
		b.WriteByte(literal[i])
	}
	return b.String()
}

// insert tells the client the columns, reads the blocks, and runs the insert.
func (n *nativeConn) insert(r request, in insert) error {
	columns, err := n.insertColumns(r, in)
	if err != nil {
		return n.exception(err)
	}
	if err := n.data(header(nil, n.version, columns)); err != nil {
		return err
	}
	if err := n.flush(); err != nil {
		return err
	}
	data, err := n.readData()
	if err != nil {
		return err
	}
	if data.err != nil {
		return n.exception(data.err)
	}
	if data.rows == 0 { // the engine takes that for a mistake
		return n.end()
	}
	n.inserting = true
	n.run(func() error { return n.client.insert(r, in, "Native", data.blocks, n.wrote) })
	return nil
}

// insertColumns asks for the columns under the query's own settings.
func (n *nativeConn) insertColumns(r request, in insert) ([]namedType, error) {
	restore, err := n.client.with(r.settings)
	if err != nil {
		return nil, err
	}
	defer restore()
	return n.client.insertColumns(in)
}

// received is the data that came with a query.
type received struct {
	rows   int
	blocks []byte
	err    error // why the blocks can't be used
}

// readData reads blocks up to the empty one.
func (n *nativeConn) readData() (received, error) {
	var data received
	for {
		code, err := n.r.UVarInt()
		if err != nil {
			return received{}, err
		}
		if proto.ClientCode(code) != proto.ClientCodeData {
			return received{}, fmt.Errorf("%w %d within data", errPacket, code)
		}
		c, err := n.readBlock()
		if err != nil {
			return received{}, err
		}
		if c.columns == 0 && c.rows == 0 {
			return data, nil
		}
		data.rows += c.rows
		data.blocks = append(data.blocks, c.bytes...)
	}
}

// receivedBlock is one block, as the engine takes it.
type receivedBlock struct {
	block
	bytes []byte
}

func (n *nativeConn) readBlock() (receivedBlock, error) {
	if _, err := n.r.Str(); err != nil { // the name of an external table
		return receivedBlock{}, err
	}
	if n.compressed {
		n.r.EnableCompression()
		defer n.r.DisableCompression()
	}
	c := copier{r: n.r}
	b, err := c.copyBlock(n.version, 0)
	return receivedBlock{b, c.out}, err
}

// run does a query in a goroutine of its own and tells the client how it ended.
func (n *nativeConn) run(do func() error) {
	n.query = newRunning(n.client)
	go func() {
		defer close(n.query.ended)
		err := do()
		if isCode(err, proto.ErrQueryWasCancelled) && n.query.wasCancelled() {
			err = nil // the client knows
		}
		if err != nil {
			err = n.exception(err)
		} else {
			err = n.end()
		}
		if err != nil {
			_ = n.conn.Close() // which the reader sees
		}
	}()
}

// result runs a query and sends what it gives.
func (n *nativeConn) result(r request) error {
	rows, empty := 0, true
	err := n.client.do(r, func(piece []byte, s stats) error {
		n.progress(s)
		if len(piece) == 0 {
			return nil
		}
		empty = false
		sent, err := n.blocks(piece)
		rows += sent
		if err != nil {
			return err
		}
		return n.flush()
	})
	if err != nil {
		return err
	}
	if empty {
		if err := n.noRows(r); err != nil {
			return err
		}
	}
	n.profile(rows)
	return nil
}

// noRows sends the columns of a query that gave no rows.
func (n *nativeConn) noRows(r request) error {
	columns, err := n.client.resultColumns(r)
	if err != nil || columns == nil {
		return err
	}
	return n.data(header(nil, n.version, columns))
}

// blocks sends a piece of a result.
func (n *nativeConn) blocks(piece []byte) (rows int, err error) {
	in := newSliceReader(piece)
	c := copier{r: in}
	for {
		c.out = c.out[:0]
		b, err := c.copyBlock(0, n.version)
		if err != nil {
			return rows, err
		}
		if err := n.data(c.out); err != nil {
			return rows, err
		}
		rows += b.rows
		if in.Len() == 0 {
			return rows, nil
		}
	}
}

// data writes a block, which is flushed later.
func (n *nativeConn) data(encoded []byte) error {
	n.out.WriteByte(byte(proto.ServerCodeData))
	n.out.WriteByte(0) // no name
	return writeFrames(&n.out, encoded, n.compressor)
}

// writeFrames writes bytes, compressed if there is a compressor, in frames of the
// size that ClickHouse makes them.
func writeFrames(to io.Writer, encoded []byte, compressor *compress.Writer) error {
	if compressor == nil {
		_, err := to.Write(encoded)
		return err
	}
	const frame = 1 << 20
	for len(encoded) > 0 {
		n := min(len(encoded), frame)
		if err := compressor.Compress(encoded[:n]); err != nil {
			return err
		}
		if _, err := to.Write(compressor.Data); err != nil {
			return err
		}
		encoded = encoded[n:]
	}
	return nil
}

// wrote tells the client what an insert wrote.
func (n *nativeConn) wrote(_ []byte, s stats) error {
	n.progress(s)
	return nil
}

func (n *nativeConn) progress(s stats) {
	var b proto.Buffer
	proto.ServerCodeProgress.Encode(&b)
	proto.Progress{Rows: s.rowsRead, Bytes: s.bytesRead, WroteRows: s.rowsWritten, WroteBytes: s.bytesWritten}.EncodeAware(&b, n.version)
	n.out.Write(b.Buf)
}

func (n *nativeConn) profile(rows int) {
	var b proto.Buffer
	proto.Profile{Rows: uint64(rows), Blocks: 1}.EncodeAware(&b, n.version)
	n.out.Write(b.Buf)
}

// end says that a query is done.
func (n *nativeConn) end() error {
	n.out.WriteByte(byte(proto.ServerCodeEndOfStream))
	return n.flush()
}

// exception says that a query has failed.
func (n *nativeConn) exception(err error) error {
	e := asException(err)
	var b proto.Buffer
	proto.ServerCodeException.Encode(&b)
	(&proto.Exception{Code: proto.Error(e.code), Name: "DB::Exception", Message: "DB::Exception: " + e.message}).EncodeAware(&b, n.version)
	n.out.Write(b.Buf)
	return n.flush()
}

func (n *nativeConn) flush() error {
	_, err := n.conn.Write(n.out.Bytes())
	n.out.Reset()
	return err
}
