//go:build integration

package realkafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/realkafka"
)

func connect(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, c *kgo.Client, topic string, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, v := range values {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("k\n"), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func values(lines []realkafka.Line) string {
	var s []string
	for _, l := range lines {
		s = append(s, fmt.Sprintf("%q=%q", l.Key, l.Value))
	}
	return strings.Join(s, " ")
}

func TestIntegrationKcatSeesTransactions(t *testing.T) {
	brokers := realkafka.Shared(t)
	topic := realkafka.UniqueName("hits")
	c := connect(t, brokers, kgo.TransactionalID(topic))
	realkafka.MakeTopic(t, brokers, topic, 1)
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, c, topic, fmt.Sprint(bool(end)))
		// There is nothing to abort: it waits until the client knows where it has
		// written, without which it would abort what it is to commit.
		if err := c.AbortBufferedRecords(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	for committed, want := range map[bool]string{true: `"k\n"="true"`, false: `"k\n"="true" "k\n"="false"`} {
		if got := values(realkafka.Kcat(t, brokers, topic, committed)); got != want {
			t.Errorf("committed %v: got %s, want %s", committed, got, want)
		}
	}
}

// TestIntegrationThreeBrokers kills one, writes to all partitions while it is away,
// and has it back.
func TestIntegrationThreeBrokers(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{Brokers: 3})
	c := connect(t, cluster.Addrs(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	realkafka.MakeTopic(t, cluster.Addrs(), "hits", 6)
	if err := cluster.AwaitInSync(t.Context(), "hits"); err != nil {
		t.Fatal(err)
	}
	cluster.Kill(1)
	for range 12 {
		produce(t, c, "hits", "v")
	}
	if err := cluster.Restart(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := cluster.AwaitInSync(t.Context(), "hits"); err != nil {
		t.Fatal(err)
	}
	if got := len(realkafka.Kcat(t, cluster.Addrs(), "hits", true)); got != 12 {
		t.Errorf("got %d records, want 12", got)
	}
}

func TestIntegrationSecure(t *testing.T) {
	cluster := realkafka.NewSecure(t, nil)
	realkafka.MakeTopic(t, cluster.Addrs(), "hits", 1)
	secure := connect(t, cluster.SecureAddrs(), append(cluster.SecureClient(), kgo.UnknownTopicRetries(1))...)
	if err := secure.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := realkafka.Right{Operation: kmsg.ACLOperationWrite, Resource: kmsg.ACLResourceTypeTopic, Name: "hits"}
	for _, granted := range []bool{false, true, false} {
		if granted {
			cluster.Grant(t, write)
		}
		err := secure.ProduceSync(t.Context(), &kgo.Record{Topic: "hits"}).FirstErr()
		if granted && err != nil || !granted && !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("granted is %v: got %v", granted, err)
		}
		if granted {
			cluster.Revoke(t, write)
		}
	}
}

// TestIntegrationStartFails shows what the broker said, whichever program of it.
func TestIntegrationStartFails(t *testing.T) {
	for setting, value := range map[string]string{"num.io.threads": "many", "authorizer.class.name": "none.Such"} {
		c, err := realkafka.Start(t.Context(), realkafka.Options{Config: map[string]string{setting: value}})
		if err == nil {
			c.Stop()
			t.Errorf("it started with %s=%s", setting, value)
		} else if !strings.Contains(err.Error(), value) {
			t.Errorf("got %v, want what the broker said of %s", err, value)
		}
	}
}
