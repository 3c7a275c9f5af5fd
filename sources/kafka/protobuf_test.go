package kafka_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/sources/kafka"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantLetter looks for one rejected record.
func wantLetter[T any](t *testing.T, r *reading[T], offset int64, why string) {
	t.Helper()
	for _, d := range r.rejected {
		if d.Offset == offset {
			if !strings.Contains(d.Error, why) {
				t.Errorf("%s at offset %d: rejected for %q, want %q in it", d.Split, offset, d.Error, why)
			}
			return
		}
	}
	t.Errorf("offset %d was not rejected", offset)
}

func TestProtobuf(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "pages"})
	page := marshal(t, wrapperspb.String("/about"))
	w.write(
		&kgo.Record{Topic: "pages", Value: page},
		&kgo.Record{Topic: "pages", Value: page[:len(page)-1]},
		&kgo.Record{Topic: "pages", Value: []byte{}}, // a message of default values
		&kgo.Record{Topic: "pages", Value: nil, Key: []byte("gone")},
		&kgo.Record{Topic: "pages", Value: []byte("\x0a\x01\xff")},
	)
	r := open(t, kafka.Protobuf[wrapperspb.StringValue](bounded(w.config("pages"))), env(0, 1))
	r.toEnd()
	got := r.values["pages/0"]
	if len(got) != 2 || got[0].Value != "/about" || got[1].Value != "" {
		t.Errorf("got %v", got)
	}
	if len(r.rejected) != 3 {
		t.Errorf("rejected %v, want 3", r.rejected)
	}
	wantLetter(t, r, 1, "proto")
	wantLetter(t, r, 3, "tombstone")
	wantLetter(t, r, 4, "UTF-8")
}

func TestProtobufRecords(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "users"})
	w.write(
		&kgo.Record{Topic: "users", Key: []byte("17"), Value: marshal(t, wrapperspb.String("Ann")), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("a")}}},
		&kgo.Record{Topic: "users", Key: []byte("17")},
		&kgo.Record{Topic: "users", Key: []byte("18"), Value: []byte{0xff}},
	)
	r := open(t, kafka.ProtobufRecords[wrapperspb.StringValue](bounded(w.config("users"))), env(0, 1))
	r.toEnd()
	got := r.values["users/0"]
	if len(got) != 2 || string(got[0].Key) != "17" || got[0].Value.GetValue() != "Ann" || got[0].Tombstone || string(got[0].Headers[0].Value) != "a" {
		t.Errorf("got %v", got)
	}
	if len(got) == 2 && (!got[1].Tombstone || got[1].Value != nil || got[1].Offset != 1) {
		t.Errorf("got %+v, want a tombstone", got[1])
	}
	wantLetter(t, r, 2, "proto")
}

// TestProtobufDoesNotKeepFetches has messages with all that could refer to the
// fetch: strings, bytes, nested messages, map keys and unknown fields.
func TestProtobufDoesNotKeepFetches(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"}, devkafka.Topic{Name: "blobs"})
	var records []*kgo.Record
	for i := range 100 {
		buyer := strings.Repeat("x", 100)
		order, err := structpb.NewStruct(map[string]any{"id": i, "buyer": buyer, "items": []any{buyer, map[string]any{buyer: true}}})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records,
			&kgo.Record{Topic: "orders", Key: fmt.Append(nil, "key ", i), Value: marshal(t, order)},
			&kgo.Record{Topic: "blobs", Value: marshal(t, wrapperspb.Bytes([]byte(buyer)))})
	}
	w.write(records...)
	check := func(name, topic string, read func(kafka.Config, *watched) int) {
		t.Helper()
		seen := &watched{}
		cfg := bounded(w.config(topic))
		cfg.Client = quick(kgo.WithHooks(&fetchHook{seen}))
		if n := read(cfg, seen); n != 0 || len(seen.buffers) != 100 {
			t.Errorf("%s: %d of %d records are kept alive in their fetch", name, n, len(seen.buffers))
		}
	}
	check("Protobuf", "orders", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.Protobuf[structpb.Struct](cfg), seen)
	})
	check("ProtobufRecords", "orders", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.ProtobufRecords[structpb.Struct](cfg), seen)
	})
	check("bytes", "blobs", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.Protobuf[wrapperspb.BytesValue](cfg), seen)
	})
	check("unknown fields", "blobs", func(cfg kafka.Config, seen *watched) int {
		return keptOf(t, kafka.Protobuf[wrapperspb.Int64Value](cfg), seen)
	})
}
