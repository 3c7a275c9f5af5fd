package devkafka_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
)

// TestKilledWithinTransaction: what a producer commits after a kill is read, although a
// transaction of the same producer was open then.
func TestKilledWithinTransaction(t *testing.T) {
	before := t.TempDir()
	first, err := devkafka.Start(devkafka.Options{Dir: before, Topics: []devkafka.Topic{{Name: "numbers"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	producer := transactional(t, first)
	transact(t, producer, "one")
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	transact(t, producer, "lost")

	after := t.TempDir() // as it would be found had the process been killed now
	if err := os.CopyFS(filepath.Join(after, "data"), os.DirFS(filepath.Join(before, "data"))); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{{"one", "two"}, {"one", "two"}} {
		second, err := devkafka.Start(devkafka.Options{Dir: after})
		if err != nil {
			t.Fatal(err)
		}
		if len(readCommitted(t, second)) == 1 {
			producer := transactional(t, second)
			transact(t, producer, "two")
			if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		}
		if got := readCommitted(t, second); !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
		second.Close()
	}
}

func transactional(t *testing.T, b *devkafka.Broker) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.TransactionalID("writer"), kgo.DefaultProduceTopic("numbers"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func transact(t *testing.T, client *kgo.Client, value string) {
	t.Helper()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	// There is nothing to abort: it waits until the client knows where it has written,
	// without which it would abort what it is to commit.
	if err := client.AbortBufferedRecords(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readCommitted reads the topic up to a record that it adds.
func readCommitted(t *testing.T, b *devkafka.Broker) (values []string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("numbers"), kgo.DefaultProduceTopic("numbers"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("end")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	end, err := lastOffset(t, client)
	if err != nil {
		t.Fatal(err)
	}
	for {
		fetches := client.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			if string(r.Value) != "end" {
				values = append(values, string(r.Value))
			}
			if r.Offset == end {
				return values
			}
		}
	}
}

func lastOffset(t *testing.T, client *kgo.Client) (int64, error) {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), "numbers")
	end, _ := ends.Lookup("numbers", 0)
	return end.Offset - 1, err
}
