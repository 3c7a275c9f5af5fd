package devkafka_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
)

func start(t *testing.T, o devkafka.Options) (*devkafka.Broker, *kgo.Client) {
	t.Helper()
	b, err := devkafka.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("hits"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return b, c
}

func produce(t *testing.T, c *kgo.Client, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: "hits", Partition: partition, Value: []byte(v)}
		if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func consume(t *testing.T, c *kgo.Client, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), n, err)
		}
		for r := range fetches.RecordsAll() {
			got = append(got, fmt.Sprintf("%d/%d %s", r.Partition, r.Offset, r.Value))
		}
	}
	slices.Sort(got)
	return got
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	b, c := start(t, devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 2}}})
	produce(t, c, 0, "a", "b")
	produce(t, c, 1, "c")
	c.Close()
	b.Close()
	b.Close() // does nothing

	_, c = start(t, devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 3}, {Name: "more"}}})
	produce(t, c, 2, "d")
	want := []string{"0/0 a", "0/1 b", "1/0 c", "2/0 d"}
	if got := consume(t, c, len(want)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	req := kmsg.NewPtrMetadataRequest()
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range resp.Topics {
		if n, want := len(topic.Partitions), map[string]int{"hits": 3, "more": 1}[*topic.Topic]; n != want {
			t.Errorf("topic %s has %d partitions, want %d", *topic.Topic, n, want)
		}
	}
}

// TestKilled goes on with a copy of the directory that was made while the broker
// ran, which is what a kill leaves behind.
func TestKilled(t *testing.T) {
	dir, left := t.TempDir(), filepath.Join(t.TempDir(), "left")
	_, c := start(t, devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 2}}})
	produce(t, c, 0, "a", "b")
	produce(t, c, 1, "c")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	produce(t, c, 1, "lost")
	_, c = start(t, devkafka.Options{Dir: left})
	produce(t, c, 1, "d")
	want := []string{"0/0 a", "0/1 b", "1/0 c", "1/1 d"}
	if got := consume(t, c, len(want)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFewerPartitionsAreLeft(t *testing.T) {
	dir := t.TempDir()
	b, _ := start(t, devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 4}}})
	b.Close()
	_, c := start(t, devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 2}}})
	produce(t, c, 3, "kept")
}

func TestTwoBrokersOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, devkafka.Options{Dir: dir})
	_, err := devkafka.Start(devkafka.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "used by another broker") {
		t.Errorf("got %v, want that the directory is used by another broker", err)
	}
}

func TestPort(t *testing.T) {
	b, _ := start(t, devkafka.Options{})
	var port int
	if _, err := fmt.Sscanf(b.Addr(), "127.0.0.1:%d", &port); err != nil {
		t.Fatalf("address %s: %v", b.Addr(), err)
	}
	if _, err := devkafka.Start(devkafka.Options{Port: port}); err == nil {
		t.Error("two brokers listen on one port")
	}
	b.Close()
	again, _ := start(t, devkafka.Options{Port: port})
	if again.Addr() != b.Addr() {
		t.Errorf("got address %s, want %s", again.Addr(), b.Addr())
	}
}
