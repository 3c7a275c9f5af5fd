package realkafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UniqueName returns a name that begins with base and that nobody else has, for a
// topic, a group or a transactional id on a shared broker.
func UniqueName(base string) string {
	return base + "-" + strings.ToLower(rand.Text()[:10])
}

// MakeTopic makes a topic of so many partitions, with as many replicas as the
// cluster has by default. It is there, with leaders, when MakeTopic returns.
func MakeTopic(t testing.TB, brokers []string, name string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), topicTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, -1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
	}
	if err == nil {
		err = awaitReplicas(ctx, client, name, 1)
	}
	if err != nil {
		t.Fatalf("make topic %q: %v", name, err)
	}
}

// topicTimeout is for brokers on a busy machine, and elections.
const topicTimeout = time.Minute

// AwaitInSync waits until every partition of a topic has all its replicas in sync,
// so that any of them may be killed: a broker that was restarted answers before it
// has caught up.
func (c *Cluster) AwaitInSync(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	return awaitReplicas(ctx, client, topic, len(c.nodes))
}

// awaitReplicas waits until every partition has a leader and so many replicas in
// sync.
func awaitReplicas(ctx context.Context, client *kgo.Client, topic string, replicas int) error {
	for {
		err := checkReplicas(ctx, client, topic, replicas)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %q: %w: %w", topic, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func checkReplicas(ctx context.Context, client *kgo.Client, topic string, replicas int) error {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	t := resp.Topics[0]
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
		return err
	}
	var errs []error
	for _, p := range t.Partitions {
		if p.Leader < 0 || len(p.ISR) < replicas {
			errs = append(errs, fmt.Errorf("partition %d: leader %d, replicas in sync %v", p.Partition, p.Leader, p.ISR))
		}
	}
	return errors.Join(errs...)
}

// End adds up where the partitions of a topic end: how many records there are, if
// none was removed and none was written in a transaction. It is 0 while there is no
// such topic.
func End(t testing.TB, brokers []string, topic string) (sum int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), topicTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	meta := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = kmsg.StringPtr(topic)
	meta.Topics = append(meta.Topics, mt)
	there, err := meta.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	if kerr.ErrorForCode(there.Topics[0].ErrorCode) != nil {
		return 0
	}
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range there.Topics[0].Partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.Partition, -1 // the end
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, client)
	if errors.Is(err, kerr.UnknownTopicOrPartition) { // it is just being made
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			sum += max(p.Offset, 0)
		}
	}
	return sum
}
