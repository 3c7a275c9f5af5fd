package kafka_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"weak"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/kafka"
)

// watched notes where the records' values lie.
type watched struct {
	mu      sync.Mutex
	buffers []weak.Pointer[byte]
}

func (w *watched) see(r *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffers = append(w.buffers, weak.Make(&r.Value[0]))
}

// alive returns how many are still in memory.
func (w *watched) alive() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, b := range w.buffers {
		if b.Value() != nil {
			n++
		}
	}
	return n
}

// TestKeptRecordsDoNotKeepFetches keeps every decoded record, as state would, and
// sees that the memory they were fetched into is freed. A decoder that returns
// part of it shows that the test would notice.
func TestKeptRecordsDoNotKeepFetches(t *testing.T) {
	for _, compression := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression()} {
		w := newWorld(t, devkafka.Topic{Name: "orders"})
		c := w.newClient(kgo.ProducerBatchCompression(compression))
		var records []*kgo.Record
		for i := range 100 {
			records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Append(nil, "key ", i),
				Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("a trace")}},
				Value:   []byte(fmt.Sprintf(`{"ID":%d,"Buyer":"somebody %s"}`, i, strings.Repeat("x", 100)))})
		}
		if err := c.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		cfg := bounded(w.config("orders"))

		kept := keptBuffers(t, cfg, func(r *kgo.Record) (order, error) {
			var o order
			return o, json.Unmarshal(r.Value, &o)
		})
		if kept != 0 {
			t.Errorf("JSON: %d of 100 records are kept alive in their fetch", kept)
		}
		if kept := keptBuffers(t, cfg, func(r *kgo.Record) ([]byte, error) { return r.Value[:1], nil }); kept == 0 {
			t.Error("the test does not see what keeps a fetch alive")
		}
	}
}

// keptBuffers reads everything with a decoder, keeps the values, and returns how
// many of the records' bytes are still in memory.
func keptBuffers[T any](t *testing.T, cfg kafka.Config, decode func(*kgo.Record) (T, error)) int {
	t.Helper()
	seen := &watched{}
	return keptOf(t, kafka.Decode(cfg, func(r *kgo.Record) (T, error) {
		seen.see(r)
		return decode(r)
	}), seen)
}

func keptOf[T any](t *testing.T, src pipeline.Source[T], seen *watched) int {
	t.Helper()
	r := open(t, src, env(0, 1))
	r.toEnd()
	if n := r.count(); n != 100 {
		t.Fatalf("read %d records, want 100", n)
	}
	for range 100 { // the client lets go of a fetch on a goroutine of its own
		runtime.GC()
		if seen.alive() == 0 {
			break
		}
		runtime.Gosched()
	}
	n := seen.alive()
	runtime.KeepAlive(r.values)
	runtime.KeepAlive(r.rejected)
	return n
}

// TestDecodersDoNotKeepFetches looks at the package's own decoders, through the
// client's hook that sees every record.
func TestDecodersDoNotKeepFetches(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders"})
	var records []*kgo.Record
	for i := range 100 {
		records = append(records, &kgo.Record{Topic: "orders", Key: fmt.Append(nil, "key ", i),
			Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("a trace")}},
			Value:   []byte(fmt.Sprintf(`{"ID":%d,"Buyer":"somebody %s"}`, i, strings.Repeat("x", 100)))})
	}
	w.write(records...)
	check := func(name string, read func(cfg kafka.Config, seen *watched) int) {
		t.Helper()
		seen := &watched{}
		cfg := bounded(w.config("orders"))
		cfg.Client = quick(kgo.WithHooks(&fetchHook{seen}))
		if n := read(cfg, seen); n != 0 {
			t.Errorf("%s: %d of 100 records are kept alive in their fetch", name, n)
		}
		if len(seen.buffers) != 100 {
			t.Errorf("%s: the hook saw %d records", name, len(seen.buffers))
		}
	}
	check("JSON", func(cfg kafka.Config, seen *watched) int { return keptOf(t, kafka.JSON[order](cfg), seen) })
	check("JSONRecords", func(cfg kafka.Config, seen *watched) int { return keptOf(t, kafka.JSONRecords[order](cfg), seen) })
	check("Raw", func(cfg kafka.Config, seen *watched) int { return keptOf(t, kafka.Raw(cfg), seen) })
	check("rejected", func(cfg kafka.Config, seen *watched) int { return keptOf(t, kafka.JSON[int](cfg), seen) })
}

type fetchHook struct{ seen *watched }

func (h *fetchHook) OnFetchRecordBuffered(r *kgo.Record) { h.seen.see(r) }

// TestBackpressure has the reader of a long topic be slow: what the client has
// fetched may never be more than what was read, one fetch in the reader's hands,
// one that waits, and one that is on its way.
func TestBackpressure(t *testing.T) {
	const values, size, fetchBytes = 1000, 10_000, 200_000
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	c := w.newClient(kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range values {
		r := &kgo.Record{Topic: "hits", Partition: int32(i % 2), Value: make([]byte, size)}
		if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var fetches atomic.Int64
	respond(w, func(*kmsg.FetchRequest) kmsg.Response {
		fetches.Add(1)
		return nil
	})
	cfg := bounded(w.config("hits"))
	cfg.FetchBytes, cfg.PartitionBytes = fetchBytes, fetchBytes/2
	r := open(t, text(cfg), env(0, 1))
	for r.count() < values*9/10 { // near the end, fetches find nothing
		r.records(r.count() + 1)
		// One is at least half full, as batches of both partitions end where they end.
		if most := int64(r.count()*size/(fetchBytes/2) + 3); fetches.Load() > most {
			t.Fatalf("%d fetches after %d records, want at most %d", fetches.Load(), r.count(), most)
		}
	}
	r.toEnd()
	if r.count() != values {
		t.Errorf("got %d records, want %d", r.count(), values)
	}
	if n := fetches.Load(); n < values*size/fetchBytes/2 {
		t.Errorf("only %d fetches: the bound was not put to the test", n)
	}
}
