package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
)

// registry is a fake one that counts what it is asked for.
type registry struct {
	*srfake.Registry
	client *sr.Client
	asked  atomic.Int64
}

// newRegistry has an order's JSON schema as 1.
func newRegistry(t testing.TB) *registry {
	t.Helper()
	r := &registry{Registry: srfake.New()}
	t.Cleanup(r.Close)
	r.Intercept(func(http.ResponseWriter, *http.Request) bool {
		r.asked.Add(1)
		return false
	})
	r.SeedSchema("orders-value", 1, 1, sr.Schema{Type: sr.TypeJSON, Schema: `{"type":"object"}`})
	r.client = clientOf(t, r.URL())
	return r
}

func clientOf(t testing.TB, url string) *sr.Client {
	t.Helper()
	c, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fails answers requests for a schema with a status, until the returned function
// is called.
func (r *registry) fails(id, status int, body string) (recover func()) {
	var well atomic.Bool
	r.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if well.Load() || req.URL.Path != fmt.Sprintf("/schemas/ids/%d", id) {
			return false
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body) // a client that is gone is no matter
		return true
	})
	return func() { well.Store(true) }
}

// framed puts a value into the wire format.
func framed(t testing.TB, id int, value string, index ...int) []byte {
	t.Helper()
	b, err := new(sr.ConfluentHeader).AppendEncode(nil, id, index)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, value...)
}

func (w *world) writeValues(topic string, values ...[]byte) {
	w.t.Helper()
	for _, v := range values {
		w.write(&kgo.Record{Topic: topic, Key: []byte("k"), Value: v})
	}
}

func TestRegisteredJSON(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	reg := newRegistry(t)
	reg.SeedSchema("avro", 1, 2, sr.Schema{Type: sr.TypeAvro, Schema: `"string"`})
	reg.fails(500, http.StatusInternalServerError, `{"error_code":50001,"message":"error in the backend"}`)
	reg.fails(404, http.StatusNotFound, `{"error_code":40403,"message":"Schema 404 not found"}`)
	reg.fails(405, http.StatusNotFound, `page not found`)
	w.writeValues("orders",
		framed(t, 1, `{"ID":7,"Buyer":"Ann"}`),
		[]byte("\x00\x00\x00\x00"),
		[]byte{},
		[]byte(`{"ID":7}`),
		framed(t, 77, `{"ID":7}`), // 4
		framed(t, 404, `{"ID":7}`),
		framed(t, 500, `{"ID":7}`),
		framed(t, 405, `{"ID":7}`),
		framed(t, 2, `{"ID":7}`), // 8
		framed(t, math.MaxUint32, `{"ID":7}`),
		framed(t, 1, `{"ID":`),
		framed(t, 1, "{\"Buyer\":\"\xff\"}"),
		nil, // 12
		framed(t, 1, `{"ID":8}`),
	)
	r := open(t, kafka.RegisteredJSON[order](bounded(w.config("orders")), reg.client).Patience(10*time.Millisecond), env(0, 1))
	r.toEnd()
	got := r.values["orders/0"]
	if len(got) != 2 || got[0] != (order{ID: 7, Buyer: "Ann"}) || got[1].ID != 8 {
		t.Errorf("got %v", got)
	}
	for offset, why := range map[int64]string{
		1: "4 bytes are too few", 2: "0 bytes are too few", 3: "the first byte is 123, not 0",
		4: "schema 77: the registry answers 404", 5: "schema 404: the registry answers 404: Schema 404 not found",
		6: "schema 500: the registry answers 500: error in the backend", 7: "schema 405: the registry answers 404: page not found",
		8: "schema 2: it is of type AVRO, not JSON", 9: "schema id 4294967295 is out of range",
		10: "unexpected end", 11: "invalid UTF-8", 12: "tombstone",
	} {
		wantLetter(t, r, offset, why)
	}
	if n := len(r.rejected); n != 12 {
		t.Errorf("%d records rejected, want 12", n)
	}
	for _, d := range r.rejected {
		if d.Split != "orders/0" || string(d.Key) != "k" || d.Time == 0 || (d.Offset == 4 && string(d.Raw) != string(framed(t, 77, `{"ID":7}`))) {
			t.Errorf("dead letter %+v", d)
		}
	}
}

// TestRegisteredAsksOnce has three subtasks read at once, and one of them twice.
func TestRegisteredAsksOnce(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders", Partitions: 3})
	reg := newRegistry(t)
	for p := range int32(3) {
		for range 20 {
			w.write(&kgo.Record{Topic: "orders", Partition: p, Value: framed(t, 1, `{"ID":1}`)},
				&kgo.Record{Topic: "orders", Partition: p, Value: framed(t, 9, `{}`)})
		}
	}
	var opened atomic.Int64
	src := kafka.Registered(bounded(w.config("orders")), reg.client, func(_ context.Context, id int, s sr.Schema) (func([]byte) (order, error), error) {
		opened.Add(1)
		if id != 1 || s.Type != sr.TypeJSON || s.Schema == "" {
			return nil, fmt.Errorf("got schema %d, %v", id, s)
		}
		return func(payload []byte) (o order, err error) { return o, json.Unmarshal(payload, &o) }, nil
	})
	var subtasks sync.WaitGroup
	for i := range 3 {
		r := open(t, src, env(i, 3))
		subtasks.Go(func() {
			r.toEnd()
			if good := r.count() - len(r.rejected); good != 20 || len(r.rejected) != 20 {
				t.Errorf("read %d, rejected %d: %v", good, len(r.rejected), r.rejected)
			}
		})
	}
	subtasks.Wait()
	open(t, src, env(0, 3)).toEnd()
	if opened.Load() != 1 || reg.asked.Load() != 1+3 { // the unknown one is asked for three times
		t.Errorf("asked %d times, opened %d schemas", reg.asked.Load(), opened.Load())
	}
}

// TestRegisteredWaits has the registry away in several ways, one after the other,
// and then a connection refused.
func TestRegisteredWaits(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"unavailable": {http.StatusServiceUnavailable, ""},
		"not ready":   {http.StatusInternalServerError, `{"error_code":50002,"message":"not ready"}`},
		"a proxy":     {http.StatusOK, "<html>come back later</html>"},
		"no registry": {http.StatusNotFound, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := newRegistry(t)
			w := &world{t: t, broker: w.broker, client: w.client}
			w.writeValues("orders", framed(t, 1, `{"ID":7}`))
			recovers := reg.fails(1, c.status, c.body)
			book := newLogBook()
			e := env(0, 1)
			e.Logger = slog.New(slog.NewTextHandler(book, nil))
			r := open(t, kafka.RegisteredJSON[order](w.config("orders"), reg.client), e)
			go func() {
				book.await(t, "waiting for it")
				recovers()
			}()
			r.records(1)
			book.await(t, "answers again")
			if len(r.rejected) > 0 {
				t.Errorf("rejected %v", r.rejected)
			}
			if n := strings.Count(book.String(), "waiting for it"); n != 1 {
				t.Errorf("%d lines in the log, want 1:\n%s", n, book)
			}
		})
	}
	t.Run("down", func(t *testing.T) { waitForServer(t, w) })
}

// waitForServer has a registry that can't be reached when a record comes.
func waitForServer(t *testing.T, w *world) {
	reg := newRegistry(t)
	var reachable atomic.Bool
	client, err := sr.NewClient(sr.URLs(reg.URL()), sr.HTTPClient(&http.Client{Transport: gate{&reachable}}))
	if err != nil {
		t.Fatal(err)
	}
	w.writeValues("orders", framed(t, 1, `{"ID":7}`))
	book := newLogBook()
	e := env(0, 1)
	e.Logger = slog.New(slog.NewTextHandler(book, nil))
	r := open(t, kafka.RegisteredJSON[order](w.config("orders"), client).Patience(0), e)
	go func() {
		book.await(t, "waiting for it")
		reachable.Store(true)
	}()
	r.records(1)
	if len(r.rejected) > 0 {
		t.Errorf("rejected %v", r.rejected)
	}
}

// gate is a transport without a connection until it is opened.
type gate struct{ open *atomic.Bool }

func (g gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if !g.open.Load() {
		return nil, errors.New("connection refused")
	}
	return http.DefaultTransport.RoundTrip(req)
}

// TestRegisteredEndsWithItsContext stops two subtasks that wait, one of them for
// the other. What they waited for stays unread: no value, no dead letter, and no
// position beyond it. A third one then takes over.
func TestRegisteredEndsWithItsContext(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders", Partitions: 3})
	reg := newRegistry(t)
	reg.SeedSchema("later", 1, 2, sr.Schema{Type: sr.TypeJSON, Schema: `{}`})
	recovers := reg.fails(2, http.StatusServiceUnavailable, "")
	for p := range int32(3) {
		w.write(&kgo.Record{Topic: "orders", Partition: p, Value: framed(t, 1, `{"ID":1}`)},
			&kgo.Record{Topic: "orders", Partition: p, Value: framed(t, 2, `{"ID":2}`)},
			&kgo.Record{Topic: "orders", Partition: p, Value: []byte("bad")})
	}
	src := kafka.RegisteredJSON[order](w.config("orders"), reg.client)
	book := newLogBook()
	ctx, cancel := context.WithCancel(t.Context())
	var subtasks sync.WaitGroup
	var stopped [2]*reading[order]
	for i := range stopped {
		e := env(i, 3)
		e.Logger = slog.New(slog.NewTextHandler(book, nil))
		r := open(t, src, e)
		r.placed(1)
		stopped[i] = r
		subtasks.Go(func() {
			for r.read(ctx) == nil {
			}
			if err := r.read(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("reading on: got %v, want the context's error", err)
			}
		})
	}
	book.await(t, "waiting for it")
	third := open(t, src, env(2, 3))
	third.placed(1)
	cancel()
	subtasks.Wait()
	recovers()
	third.records(3)
	for i, r := range stopped {
		// A fetch may have brought the first record alone.
		for _, at := range r.positions {
			if n := r.count(); n > 1 || len(r.rejected) > 0 || !strings.Contains(string(at), fmt.Sprintf(`"offset":%d`, n)) {
				t.Errorf("subtask %d: got %v, rejected %v, position %s", i, r.values, r.rejected, at)
			}
		}
	}
}

// TestRegisteredRefused stops the job when the registry refuses it.
func TestRegisteredRefused(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	reg := srfake.New(srfake.WithAuth("Basic c29tZWJvZHk6ZWxzZQ=="))
	t.Cleanup(reg.Close)
	w.writeValues("orders", framed(t, 1, `{"ID":7}`))
	p := pipeline.New()
	in := pipeline.From(p, "orders", kafka.RegisteredJSON[order](bounded(w.config("orders")), clientOf(t, reg.URL())))
	out := memory.Collect(in, "out")
	rejected := memory.Collect(pipeline.DeadLetters(p), "rejected")
	wantError(t, p.Run(t.Context()), `"orders"`, "refuses to let us read schema 1", "credentials", "401")
	if out.Len()+rejected.Len() > 0 {
		t.Errorf("got %v, rejected %v", out.Values(), rejected.Values())
	}
}

// TestRegisteredOpen has the program's part fail.
func TestRegisteredOpen(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	reg := newRegistry(t)
	for id := 2; id <= 4; id++ {
		reg.SeedSchema(fmt.Sprint("s", id), 1, id, sr.Schema{Type: sr.TypeJSON, Schema: `{}`})
	}
	tries := 0
	w.writeValues("orders", framed(t, 1, "a"), framed(t, 2, "b"), framed(t, 3, "c"), framed(t, 4, "d"), framed(t, 4, "bad"))
	src := kafka.Registered(bounded(w.config("orders")), reg.client, func(ctx context.Context, id int, _ sr.Schema) (func([]byte) (string, error), error) {
		switch id {
		case 1:
			return nil, errors.New("no codec for that")
		case 2:
			panic("what is that")
		case 3:
			return nil, nil
		}
		if tries++; tries == 1 { // the registry goes away between the two
			_, err := clientOf(t, "http://127.0.0.1:1").SchemaByID(ctx, 5)
			return nil, err
		}
		return func(payload []byte) (string, error) {
			if len(payload) > 1 {
				return "", errors.New("too long")
			}
			return string(payload), nil
		}, nil
	})
	r := open(t, src, env(0, 1))
	r.toEnd()
	if got := r.values["orders/0"]; !slices.Equal(got, []string{"d"}) {
		t.Errorf("got %q", got)
	}
	wantLetter(t, r, 0, "schema 1: no codec for that")
	wantLetter(t, r, 1, "what is that")
	wantLetter(t, r, 2, "the decoder is nil")
	wantLetter(t, r, 4, "too long")
	if tries != 2 {
		t.Errorf("opened %d times, want 2", tries)
	}
}

func TestRegisteredConfig(t *testing.T) {
	cfg := kafka.Config{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"orders"}}
	refused := func(src pipeline.Source[order], want string) {
		t.Helper()
		_, err := src.Open(t.Context(), env(0, 1))
		wantError(t, err, want)
	}
	client := clientOf(t, "http://127.0.0.1:1")
	refused(kafka.RegisteredJSON[order](cfg, nil), "client is nil")
	refused(kafka.Registered[order](cfg, client, nil), "the decoder is nil")
	refused(kafka.RegisteredJSON[order](cfg, client).Patience(-1), "Patience is negative")
	refused(kafka.RegisteredJSON[order](kafka.Config{}, client), "Brokers names none")
}

const wrappersSchema = `syntax = "proto3";
package google.protobuf;
message DoubleValue { double value = 1; }
message FloatValue { float value = 1; }
message StringValue { string value = 1; }`

func TestRegisteredProtobuf(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "pages"})
	reg := newRegistry(t)
	schema := func(id int, text string) {
		reg.SeedSchema(fmt.Sprint("s", id), 1, id, sr.Schema{Type: sr.TypeProtobuf, Schema: text})
	}
	schema(2, `syntax = "proto3"; package google.protobuf; message StringValue { string value = 1; }`)
	schema(3, wrappersSchema)
	schema(4, `syntax = "proto3"; package shop; message StringValue { string value = 1; }`)
	schema(5, `syntax = "proto3";`)
	page := string(marshal(t, wrapperspb.String("/about")))
	w.writeValues("pages",
		framed(t, 2, page, 0),
		framed(t, 2, "\x02\x00"+page), // the same, spelt out
		framed(t, 3, page, 2),
		framed(t, 3, page, 0),
		framed(t, 3, page, 3), // 4
		framed(t, 3, page, 2, 0),
		framed(t, 3, page, -1),
		framed(t, 4, page, 0),
		framed(t, 5, page, 0), // 8
		framed(t, 1, page),
		framed(t, 2, ""),
		framed(t, 2, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), // as many indexes as there can be
		framed(t, 2, "\x01"),         // -1 of them
		framed(t, 2, page[:4], 0),    // 13
		framed(t, 2, "\xff\xff\xff"), // cut off
	)
	r := open(t, kafka.RegisteredProtobuf[wrapperspb.StringValue](bounded(w.config("pages")), reg.client), env(0, 1))
	r.toEnd()
	got := r.values["pages/0"]
	if len(got) != 3 {
		t.Errorf("got %d messages, want 3; rejected %v", len(got), r.rejected)
	}
	for _, m := range got {
		if m.Value != "/about" {
			t.Errorf("got %v", m)
		}
	}
	for offset, why := range map[int64]string{
		3: "the record's message is a google.protobuf.DoubleValue, not a google.protobuf.StringValue",
		4: "message indexes [3]: the schema has no such message", 5: "no such message", 6: "no such message",
		7: "the record's message is a shop.StringValue", 8: "no such message", 9: "schema 1: it is of type JSON, not PROTOBUF",
		10: "message indexes: EOF", 11: "message indexes:", 12: "message indexes:", 13: "proto", 14: "message indexes:",
	} {
		wantLetter(t, r, offset, why)
	}
}

// TestRegisteredProtobufNested reads a message that is declared in another.
func TestRegisteredProtobufNested(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "ranges"})
	reg := newRegistry(t)
	reg.SeedSchema("ranges", 1, 2, sr.Schema{Type: sr.TypeProtobuf, Schema: `syntax = "proto2"; package google.protobuf;
		message FileDescriptorSet {}
		message DescriptorProto { message ReservedRange {} message ExtensionRange { optional int32 start = 1; } }`})
	start := int32(7)
	w.writeValues("ranges", framed(t, 2, string(marshal(t, &descriptorpb.DescriptorProto_ExtensionRange{Start: &start})), 1, 1))
	r := open(t, kafka.RegisteredProtobuf[descriptorpb.DescriptorProto_ExtensionRange](bounded(w.config("ranges")), reg.client), env(0, 1))
	r.toEnd()
	if got := r.values["ranges/0"]; len(got) != 1 || got[0].GetStart() != 7 {
		t.Errorf("got %v, rejected %v", got, r.rejected)
	}
}

func TestRegisteredDoesNotKeepFetches(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"}, devkafka.Topic{Name: "pages"})
	reg := newRegistry(t)
	reg.SeedSchema("pages", 1, 2, sr.Schema{Type: sr.TypeProtobuf, Schema: wrappersSchema})
	for i := range 100 {
		w.writeValues("orders", framed(t, 1, fmt.Sprintf(`{"ID":%d,"Buyer":%q}`, i, strings.Repeat("x", 100))))
		w.writeValues("pages", framed(t, 2, string(marshal(t, wrapperspb.String(strings.Repeat("x", 100)))), 2))
	}
	check := func(topic string, read func(kafka.Config, *watched) int) {
		t.Helper()
		seen := &watched{}
		cfg := bounded(w.config(topic))
		cfg.Client = quick(kgo.WithHooks(&fetchHook{seen}))
		if n := read(cfg, seen); n != 0 || len(seen.buffers) != 100 {
			t.Errorf("%s: %d of %d records are kept alive in their fetch", topic, n, len(seen.buffers))
		}
	}
	check("orders", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.RegisteredJSON[order](cfg, reg.client), seen)
	})
	check("pages", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.RegisteredProtobuf[wrapperspb.StringValue](cfg, reg.client), seen)
	})
}
