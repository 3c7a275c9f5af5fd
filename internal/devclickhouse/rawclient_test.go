package devclickhouse_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/millrace/millrace/internal/devclickhouse"
)

// raw is a client that sends packets one by one, for what clickhouse-go does not do.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *proto.Reader
	b    proto.Buffer
}

const rawRevision = int(proto.FeatureServerQueryTimeInProgress)

func rawClient(t *testing.T, server *devclickhouse.Process) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	c := &raw{t: t, conn: conn, r: proto.NewReader(conn)}
	proto.ClientHello{Name: "raw", ProtocolVersion: rawRevision, Database: "default", User: "default"}.Encode(&c.b)
	c.b.PutString("") // the quota key
	c.flush()
	c.expect(proto.ServerCodeHello)
	var hello proto.ServerHello
	must(t, hello.DecodeAware(c.r, rawRevision))
	return c
}

func (c *raw) flush() {
	c.t.Helper()
	_, err := c.conn.Write(c.b.Buf)
	must(c.t, err)
	c.b.Reset()
}

// expect reads packets up to one of the code, whose body is still to be read.
func (c *raw) expect(code proto.ServerCode) {
	c.t.Helper()
	for {
		n, err := c.r.UVarInt()
		must(c.t, err)
		switch got := proto.ServerCode(n); got {
		case code:
			return
		case proto.ServerCodeException:
			var e proto.Exception
			must(c.t, e.DecodeAware(c.r, rawRevision))
			c.t.Fatalf("got %s, want a packet %s", e.Message, code)
		case proto.ServerCodeProgress:
			var p proto.Progress
			must(c.t, p.DecodeAware(c.r, rawRevision))
		default:
			c.t.Fatalf("got a packet %s, want %s", got, code)
		}
	}
}

func (c *raw) query(text string, settings map[string]string) {
	c.t.Helper()
	q := proto.Query{Body: text, Stage: proto.StageComplete, Info: proto.ClientInfo{
		ProtocolVersion: rawRevision, Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial,
	}}
	for key, value := range settings {
		q.Settings = append(q.Settings, proto.Setting{Key: key, Value: value, Important: true})
	}
	q.EncodeAware(&c.b, rawRevision)
	c.block(nil)
}

// block sends one, the empty one for no columns.
func (c *raw) block(columns []proto.InputColumn) {
	c.t.Helper()
	proto.ClientCodeData.Encode(&c.b)
	proto.ClientData{}.EncodeAware(&c.b, rawRevision)
	b := proto.Block{Columns: len(columns), Info: proto.BlockInfo{BucketNum: -1}}
	if len(columns) > 0 {
		b.Rows = columns[0].Data.Rows()
	}
	must(c.t, b.EncodeBlock(&c.b, rawRevision, columns))
	c.flush()
}

// header reads the columns that an insert is to have.
func (c *raw) header() string {
	c.t.Helper()
	c.expect(proto.ServerCodeData)
	_, err := c.r.Str()
	must(c.t, err)
	var b proto.Block
	var names []string
	must(c.t, b.Info.Decode(c.r))
	columns, err := c.r.Int()
	must(c.t, err)
	rows, err := c.r.Int()
	must(c.t, err)
	if rows != 0 {
		c.t.Fatalf("the header has %d rows", rows)
	}
	for range columns {
		name, err := c.r.Str()
		must(c.t, err)
		typ, err := c.r.Str()
		must(c.t, err)
		if custom, err := c.r.Bool(); custom || err != nil {
			c.t.Fatal("a custom serialization", err)
		}
		names = append(names, name+" "+typ)
	}
	return strings.Join(names, ", ")
}

// sendPages sends a block of pages, each with a visitor of its own.
func (c *raw) sendPages(pages ...string) {
	c.t.Helper()
	var page proto.ColStr
	var visitor proto.ColUInt64
	for i, p := range pages {
		page.Append(p)
		visitor.Append(uint64(i))
	}
	c.block([]proto.InputColumn{{Name: "page", Data: &page}, {Name: "visitor", Data: &visitor}})
}

// end ends an insert and waits until it is acknowledged.
func (c *raw) end() {
	c.t.Helper()
	c.block(nil)
	c.expect(proto.ServerCodeEndOfStream)
}
