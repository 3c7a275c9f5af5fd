package kafka

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrSkip is returned by a decoder for a record that does not matter. It is
// passed over, and counted in the metric "skipped".
var ErrSkip = errors.New("skip this record")

// Record is a value with what Kafka knows of it. It may be kept: nothing in it
// refers to the client's memory, except by a decoder of [Decode] that does so.
type Record[T any] struct {
	Topic     string
	Partition int32
	Offset    int64
	// Time is the record's timestamp, in milliseconds since the epoch: that of
	// its producer, or of the broker where the topic says so.
	Time int64
	// Key is nil for a record without one.
	Key     []byte
	Headers []Header
	// Value is the decoded value, and zero for a tombstone.
	Value T
	// Tombstone says that the record has no value, which in a compacted topic
	// means that its key was deleted. An empty value is no tombstone.
	Tombstone bool
}

// Header is a header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Decode reads topics with a decoder of the program's own.
//
// The record is valid during the call only. Its key, value and headers lie in
// the memory of a whole fetch, a megabyte or more, which a value that refers to
// them keeps alive: what is kept must be a copy. Topic may be kept as it is.
// The function is called by several subtasks at once. What it rejects with an
// error, or a panic, goes to the dead-letter output; for [ErrSkip] the record is
// passed over. A tombstone has a nil Value.
func Decode[T any](cfg Config, decode func(r *kgo.Record) (T, error)) *Source[T] {
	if decode == nil {
		return &Source[T]{cfg: cfg}
	}
	return &Source[T]{cfg: cfg, decode: func(r *kgo.Record, v *T) (err error) {
		*v, err = decode(r)
		return err
	}}
}

// JSON reads topics whose values are JSON, decoded into a T. Field names match
// as with encoding/json. A value that is no JSON, does not fit T, or is not
// valid UTF-8 is rejected, and so is a tombstone: [JSONRecords] shows those.
//
// A string of the value refers to a copy of the record's value, not to the
// fetch it came with, so keeping it keeps no more than one record alive.
func JSON[T any](cfg Config) *Source[T] {
	return &Source[T]{cfg: cfg, decode: func(r *kgo.Record, v *T) error {
		if r.Value == nil {
			return errors.New("tombstone: the record has no value")
		}
		return decodeJSON(r.Value, v)
	}}
}

// JSONRecords is [JSON] with each record's key, headers and coordinates, and
// with tombstones.
func JSONRecords[T any](cfg Config) *Source[Record[T]] {
	return &Source[Record[T]]{cfg: cfg, decode: func(r *kgo.Record, v *Record[T]) error {
		*v = recordOf[T](r)
		copyInto(v, r, 0)
		if v.Tombstone {
			return nil
		}
		return decodeJSON(r.Value, &v.Value)
	}}
}

// Raw reads topics as they are: the values are bytes, copies that may be kept.
func Raw(cfg Config) *Source[Record[[]byte]] {
	return &Source[Record[[]byte]]{cfg: cfg, decode: func(r *kgo.Record, v *Record[[]byte]) error {
		*v = recordOf[[]byte](r)
		spare := copyInto(v, r, len(r.Value))
		if !v.Tombstone {
			v.Value = append(spare, r.Value...)
		}
		return nil
	}}
}

func decodeJSON(value []byte, v any) error {
	if !utf8.Valid(value) { // Go's decoders would replace the bad bytes, which are then gone
		return errors.New("invalid UTF-8" + where(value))
	}
	// The decoder has its own copy of the value: strings do not refer to it.
	return json.Unmarshal(value, v)
}

// where says at which byte a value stops being UTF-8.
func where(value []byte) string {
	for i := 0; i < len(value); {
		r, n := utf8.DecodeRune(value[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Sprintf(" at byte %d", i)
		}
		i += n
	}
	return ""
}

// recordOf returns what a record has besides bytes.
func recordOf[T any](r *kgo.Record) Record[T] {
	return Record[T]{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Time: r.Timestamp.UnixMilli(), Tombstone: r.Value == nil,
	}
}

// copyInto copies key and headers into one piece of memory, and returns an
// empty slice of it with room for extra bytes more, nil for none.
func copyInto[T any](v *Record[T], r *kgo.Record, extra int) []byte {
	n := len(r.Key)
	for _, h := range r.Headers {
		n += len(h.Value)
	}
	memory := make([]byte, 0, n+extra)
	piece := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		from := len(memory)
		memory = append(memory, b...)
		return memory[from:len(memory):len(memory)]
	}
	v.Key = piece(r.Key)
	if len(r.Headers) > 0 {
		v.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			v.Headers[i] = Header{Key: h.Key, Value: piece(h.Value)}
		}
	}
	return memory[len(memory):]
}
