package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go"
	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// server is a connection for inserts, used by one goroutine at a time. It connects
// when it has to.
type server interface {
	// insert sends one block as one INSERT, and returns when the server has it.
	insert(ctx context.Context, in insertion, b *block) error
	close()
}

// insertion is how a block is inserted.
type insertion struct {
	statement string // up to FORMAT, which each protocol has its own way with
	settings  map[string]string
	token     string // empty for none
	// unsure is since when the table may have the block, though nobody knows; zero if
	// it can't.
	unsure time.Time
	room   *room // nil: without bound
}

// room is how many more tokens a delivery may take than it has blocks.
type room struct {
	left  atomic.Int64
	count atomic.Int64
	full  func() error // what to say when nothing is left
}

// take takes a token, or says why there is none.
func (r *room) take() error {
	if r == nil {
		return nil
	}
	if r.left.Add(-1) < 0 {
		return r.full()
	}
	r.count.Add(1)
	return nil
}

// give gives one back that the table has not got.
func (r *room) give() {
	if r != nil {
		r.left.Add(1)
		r.count.Add(-1)
	}
}

func (r *room) taken() int { return int(max(0, r.count.Load())) }

// all returns the settings with the token.
func (in insertion) all() map[string]string {
	if in.token == "" {
		return in.settings
	}
	all := maps.Clone(in.settings)
	if all == nil {
		all = map[string]string{}
	}
	all["insert_deduplication_token"] = in.token
	return all
}

func newServer(o *clickhouse.Options) server {
	if o.Protocol == clickhouse.HTTP {
		return newHTTPServer(o)
	}
	return &nativeServer{options: o}
}

// nativeServer speaks the native protocol through ch-go, because it takes columns
// that are encoded already, and any statement: clickhouse-go's batches do neither.
type nativeServer struct {
	options *clickhouse.Options
	client  *ch.Client
	turn    int // of the addresses
}

func (s *nativeServer) insert(ctx context.Context, in insertion, b *block) error {
	if s.client == nil || s.client.IsClosed() {
		if err := s.connect(ctx); err != nil {
			return &unsentError{err}
		}
	}
	q := ch.Query{Body: in.statement + " FORMAT Native"}
	settings := in.all()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		q.Settings = append(q.Settings, ch.Setting{Key: name, Value: settings[name], Important: true})
	}
	for _, c := range b.columns {
		q.Input = append(q.Input, chproto.InputColumn{Name: c.name, Data: rawInput{c, b.rows}})
	}
	if err := s.client.Do(ctx, q); err != nil {
		s.close() // whatever is still under way is none of the next query's
		return fmt.Errorf("insert at %s: %w", s.addr(), err)
	}
	return nil
}

func (s *nativeServer) addr() string { return s.options.Addr[s.turn%len(s.options.Addr)] }

func (s *nativeServer) close() {
	if s.client != nil {
		_ = s.client.Close() // nothing waits in it
		s.client = nil
	}
}

// connect tries each address once, the one that answered last first.
func (s *nativeServer) connect(ctx context.Context) error {
	var err error
	for range s.options.Addr {
		if err = s.dial(ctx, s.addr()); err == nil || exceptionOf(err) != nil {
			return err
		}
		s.turn++
	}
	return err
}

func (s *nativeServer) dial(ctx context.Context, addr string) error {
	o := s.options
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	user, password := o.Auth.Username, o.Auth.Password
	if o.GetJWT != nil {
		token, err := o.GetJWT(ctx)
		if err != nil {
			return err
		}
		user, password = " JWT AUTHENTICATION ", token
	}
	options := ch.Options{
		Address: addr, Database: o.Auth.Database, User: user, Password: password, ClientName: "millrace",
		DialTimeout: o.DialTimeout, HandshakeTimeout: o.DialTimeout, ReadTimeout: ch.NoTimeout, TLS: o.TLS,
	}
	if o.Compression != nil {
		options.Compression = compressions[o.Compression.Method]
		options.CompressionLevel = ch.CompressionLevel(o.Compression.Level)
	}
	for name, value := range o.Settings {
		options.Settings = append(options.Settings, setting(name, value))
	}
	var err error
	if o.DialContext == nil {
		s.client, err = ch.Dial(ctx, options)
	} else {
		var conn net.Conn
		if conn, err = o.DialContext(ctx, addr); err != nil {
			return fmt.Errorf("connect to %s: %w", addr, err)
		}
		if s.client, err = ch.Connect(ctx, conn, options); err != nil {
			_ = conn.Close() // it was of no use
		}
	}
	if err != nil {
		s.client = nil
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	return nil
}

var compressions = map[clickhouse.CompressionMethod]ch.Compression{
	clickhouse.CompressionLZ4: ch.CompressionLZ4, clickhouse.CompressionLZ4HC: ch.CompressionLZ4HC,
	clickhouse.CompressionZSTD: ch.CompressionZSTD,
}

func setting(name string, value any) ch.Setting {
	if custom, ok := value.(clickhouse.CustomSetting); ok {
		return ch.Setting{Key: name, Value: custom.Value, Custom: true}
	}
	return ch.Setting{Key: name, Value: settingText(value), Important: true}
}

func settingText(value any) string {
	switch v := value.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case clickhouse.CustomSetting:
		return v.Value
	}
	return fmt.Sprint(value)
}

// rawInput is a column whose data is there already, the state that some types have
// before it too.
type rawInput struct {
	rawColumn
	rows int
}

func (c rawInput) Type() chproto.ColumnType       { return chproto.ColumnType(c.typ) }
func (c rawInput) Rows() int                      { return c.rows }
func (c rawInput) EncodeColumn(b *chproto.Buffer) { b.PutRaw(c.data) }
func (c rawInput) WriteColumn(w *chproto.Writer)  { w.ChainWrite(c.data) }
