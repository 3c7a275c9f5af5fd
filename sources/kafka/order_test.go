package kafka_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
)

// TestOrderedAgainstTheClock: IdleAfter would make a replay another one each time.
func TestOrderedAgainstTheClock(t *testing.T) {
	reg := newRegistry(t)
	cfg := kafka.Config{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"hits"}, Bounded: true, Ordered: true}
	strategy := pipeline.Monotonic(func(o order) int64 { return int64(o.ID) })
	for name, src := range map[string]pipeline.Source[order]{
		"plain": kafka.JSON[order](cfg), "by time": kafka.JSON[order](cfg).OrderedBy(func(order) int64 { return 0 }),
		"registered": kafka.RegisteredJSON[order](cfg, reg.client),
	} {
		p := pipeline.New()
		memory.Collect(pipeline.From(p, "orders", src, strategy.IdleAfter(time.Second)), "out")
		wantError(t, p.Validate(), `source "orders": IdleAfter moves event time by the clock`)
		p = pipeline.New()
		memory.Collect(pipeline.From(p, "orders", src, strategy), "out")
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg.Ordered = false
	p := pipeline.New()
	memory.Collect(pipeline.From(p, "orders", kafka.JSON[order](cfg), strategy.IdleAfter(time.Second)), "out")
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

// TestOrderedRegistered merges by a time that only the decoded value has, past
// records that the registry knows no schema of.
func TestOrderedRegistered(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "orders", Partitions: 2})
	reg := newRegistry(t)
	write := func(partition int32, id int, value string) {
		w.write(&kgo.Record{Topic: "orders", Partition: partition, Value: framed(t, id, value)})
	}
	for i := range 6 {
		write(int32(i%2), 1, fmt.Sprintf(`{"ID":%d}`, i+1))
	}
	write(0, 77, `{"ID":0}`)
	write(0, 1, `{"ID":7}`)
	src := kafka.RegisteredJSON[order](w.ordered("orders"), reg.client).OrderedBy(func(o order) int64 { return int64(o.ID) })
	r := open(t, src, env(0, 1))
	if _, ok := r.reader.(pipeline.Pauser); ok {
		t.Error("an ordered reader can pause partitions, and would hand them on in another order")
	}
	var ids []int
	for err := error(nil); err == nil; {
		var b pipeline.SourceBatch[order]
		err = r.reader.Read(t.Context(), &b)
		for _, o := range b.Values {
			ids = append(ids, o.ID)
		}
		r.rejected = append(r.rejected, b.Rejected...)
	}
	if want := []int{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
	wantLetter(t, r, 3, "schema 77")
}
