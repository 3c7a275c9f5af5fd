package kafka

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"
)

// FuzzFrame puts any bytes through what reads the wire format, and what it
// accepts back into it.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x07{}"))
	f.Add([]byte("\x00\x00\x00\x00\x07\x00message"))
	f.Add([]byte("\x00\x00\x00\x00\x07\x04\x02\x00message"))
	f.Add([]byte("\x00\x7f\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("\x01\x00\x00"))
	file := declaredIn(`package a; message B { message C {} } message D {}`)
	paths := map[string][]int{"a.B": {0}, "a.B.C": {0, 0}, "a.D": {1}, "a": {}}
	f.Fuzz(func(t *testing.T, value []byte) {
		id, payload, err := unframe(value)
		if err != nil {
			return
		}
		again, err := wireFormat.AppendEncode(nil, id, nil)
		if err != nil || !bytes.Equal(append(again, payload...), value) {
			t.Fatalf("%x became schema %d, payload %x", value, id, payload)
		}
		message, name, err := file.locate(payload)
		if err != nil {
			return
		}
		path, ok := paths[name]
		if !ok || !bytes.HasSuffix(payload, message) {
			t.Fatalf("%x became message %q, %x", payload, name, message)
		}
		encoded, err := wireFormat.AppendEncode(nil, id, path)
		if err != nil {
			t.Fatal(err)
		}
		if got, back, err := file.locate(append(encoded[5:], message...)); err != nil || back != name || !bytes.Equal(got, message) {
			t.Fatalf("message %q at %v came back as %q, %x, %v", name, path, back, got, err)
		}
	})
}

// FuzzDeclared must end, whatever the text.
func FuzzDeclared(f *testing.F) {
	f.Add("syntax = \"proto3\"; package a.b; message C { message D {} map<string, D> d = 1; }")
	f.Add("package ;{}}}message{{message x{")
	f.Add("package")
	f.Fuzz(func(_ *testing.T, text string) { namesIn(declaredIn(text), nil) })
}

// namesIn returns paths and names of all messages, in their order.
func namesIn(d *declared, path []int) (names []string) {
	for i, m := range d.nested {
		at := append(slices.Clone(path), i)
		names = append(names, fmt.Sprint(at, " ", m.name))
		names = append(names, namesIn(m, at)...)
	}
	return names
}

func TestDeclaredIn(t *testing.T) {
	for text, want := range map[string]string{
		``:                          "",
		`syntax = "proto3";`:        "",
		`message A {}`:              "[0] A",
		`message A {} message B {}`: "[0] A, [1] B",
		`package shop; message A { message B { message C {} } enum E { X = 0; } message D {} }`: "[0] shop.A, [0 0] shop.A.B, [0 0 0] shop.A.B.C, [0 1] shop.A.D",
		`// message A {
		/* message B {} */ package a . b.c ; message D {}`: "[0] a.b.c.D",
		`option go_package = "x;message A {"; option (o) = { message { a: 'message B {' } }; message C {}`:                               "[0] C",
		`message A { string message = 1; message b = 2; oneof message { string package = 3; } map<string, A> m = 4; message C {} }`:      "[0] A, [0 0] A.C",
		`service S { rpc Do (A) returns (A) { option deprecated = true; } } extend A { string x = 1; } message A { extensions 4 to 9; }`: "[0] A",
		`edition = "2024"; export message A { local message B {} }`:                                                                      "[0] A, [0 0] A.B",
	} {
		if got := strings.Join(namesIn(declaredIn(text), nil), ", "); got != want {
			t.Errorf("%s\ndeclares %s\nwant %s", text, got, want)
		}
	}
}

// benchField is typepb.Field, an event of seven fields that has a generated type.
type benchField struct {
	Name         string `json:"name"`
	TypeURL      string `json:"type_url"`
	JSONName     string `json:"json_name"`
	DefaultValue string `json:"default_value"`
	Number       int32  `json:"number"`
	OneofIndex   int32  `json:"oneof_index"`
	Packed       bool   `json:"packed"`
}

const fieldSchema = `syntax = "proto3"; package google.protobuf; message Field { string name = 4; }`

// BenchmarkDecode compares the decoders on one event, about 180 bytes of JSON.
func BenchmarkDecode(b *testing.B) {
	reg := srfake.New()
	defer reg.Close()
	reg.SeedSchema("json", 1, 1, sr.Schema{Type: sr.TypeJSON, Schema: `{}`})
	reg.SeedSchema("protobuf", 1, 2, sr.Schema{Type: sr.TypeProtobuf, Schema: fieldSchema})
	client, err := sr.NewClient(sr.URLs(reg.URL()))
	if err != nil {
		b.Fatal(err)
	}
	event := benchField{"event-000000017", "/some/page/of/the/site/17", "visitor-4711", "https://example.com/where/they/came/from", 1_700_000_000, 35, true}
	text, err := json.Marshal(event)
	if err != nil {
		b.Fatal(err)
	}
	message, err := proto.Marshal(&typepb.Field{Name: event.Name, TypeUrl: event.TypeURL, JsonName: event.JSONName,
		DefaultValue: event.DefaultValue, Number: event.Number, OneofIndex: event.OneofIndex, Packed: event.Packed})
	if err != nil {
		b.Fatal(err)
	}
	benchDecoder(b, "JSON", JSON[benchField](Config{}).decode, text)
	benchDecoder(b, "RegisteredJSON", reading(RegisteredJSON[benchField](Config{}, client)), append([]byte{0, 0, 0, 0, 1}, text...))
	benchDecoder(b, "Protobuf", Protobuf[typepb.Field](Config{}).decode, message)
	benchDecoder(b, "RegisteredProtobuf", reading(RegisteredProtobuf[typepb.Field](Config{}, client)), append([]byte{0, 0, 0, 0, 2, 0}, message...))
}

// reading returns the decoder that a reader of the source has.
func reading[T any](s *RegisteredSource[T]) func(*kgo.Record, *T) error {
	r := &registeredDecoder[T]{schemas: &s.schemas, log: slog.New(slog.DiscardHandler), known: map[int]decoder[T]{}, ctx: context.Background()}
	return r.decode
}

func benchDecoder[T any](b *testing.B, name string, decode func(*kgo.Record, *T) error, value []byte) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		rec := &kgo.Record{Value: value}
		for b.Loop() {
			var v T
			if err := decode(rec, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestRegistryMemory sees that unknown ids, as many as there may be, are not all
// remembered.
func TestRegistryMemory(t *testing.T) {
	s := RegisteredJSON[int](Config{}, unknownRegistry(t))
	for id := range maxSchemas {
		e, _ := s.schemas.entry(id)
		e.refused = io.EOF
		e.until = e.until.AddDate(9000, 0, 0)
		close(e.done)
	}
	if err := reading(s)(&kgo.Record{Value: []byte("\x00\x00\x01\x00\x00{}")}, new(int)); err == nil || !strings.Contains(err.Error(), "schema 65536") {
		t.Errorf("got error %v", err)
	}
	if n := len(s.schemas.byID); n != 1 {
		t.Errorf("%d ids are remembered, want 1", n)
	}
}

// unknownRegistry knows no schema.
func unknownRegistry(t *testing.T) *sr.Client {
	c, err := sr.NewClient(sr.HTTPClient(&http.Client{Transport: unknowing{}}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type unknowing struct{}

func (unknowing) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusNotFound, Body: io.NopCloser(strings.NewReader(`{"error_code":40403}`))}, nil
}
