package goka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// table is what the brokers say of the topic.
type table struct {
	topic      string
	partitions int32
	maxMessage int // bytes of a batch
}

// What is taken for max.message.bytes where the brokers don't say, and at most:
// the client does not send more in one request.
const (
	defaultMaxMessage = 1_000_012
	mostMaxMessage    = 16 << 20
)

// prepare checks the topic, and makes it where that is asked for.
func (c *Config) prepare(ctx context.Context) (*table, error) {
	client, err := c.newClient()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, c.StartTimeout)
	defer cancel()
	partitions, err := c.await(ctx, client)
	if err == nil && partitions == 0 && c.Create {
		partitions, err = c.create(ctx, client)
	}
	if err != nil {
		return nil, fmt.Errorf("topic %q: %w", c.topic(), err)
	}
	t := &table{topic: c.topic(), partitions: partitions, maxMessage: defaultMaxMessage}
	switch {
	case partitions == 0:
		return nil, fmt.Errorf("topic %q does not exist: make it, with cleanup.policy=compact, or set Config.Create", t.topic)
	case c.Partitions != 0 && partitions != c.Partitions:
		return nil, fmt.Errorf("topic %q has %d partitions, and Config.Partitions says %d", t.topic, partitions, c.Partitions)
	}
	if err := t.configure(ctx, client); err != nil {
		return nil, fmt.Errorf("topic %q: %w", t.topic, err)
	}
	return t, nil
}

// await asks for the topic's partitions. Brokers that can't be reached yet are
// waited for. The client itself gives up when it has tried all of them once.
func (c *Config) await(ctx context.Context, client *kgo.Client) (int32, error) {
	for {
		n, err := c.describe(ctx, client)
		if err == nil {
			return n, nil
		}
		dial, ok := errors.AsType[*net.OpError](err)
		if !ok || dial.Op != "dial" || sleep(ctx) != nil {
			return 0, err
		}
	}
}

// describe returns the number of partitions, 0 for no topic.
func (c *Config) describe(ctx context.Context, client *kgo.Client) (int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(c.topic())
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return 0, fmt.Errorf("brokers %v: %w", c.Brokers, err)
	}
	if len(resp.Topics) == 0 {
		return 0, nil
	}
	switch err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return 0, nil
	case err != nil && !errors.Is(err, kerr.LeaderNotAvailable): // for a moment, behind an election
		return 0, explain(err)
	}
	return int32(len(resp.Topics[0].Partitions)), nil
}

// create makes the topic. Another subtask may have been faster.
func (c *Config) create(ctx context.Context, client *kgo.Client) (int32, error) {
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = c.topic(), c.Partitions, c.Replication
	policy := kmsg.NewCreateTopicsRequestTopicConfig()
	policy.Name, policy.Value = cleanupPolicy, kmsg.StringPtr("compact")
	t.Configs = append(t.Configs, policy)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return 0, fmt.Errorf("create: %w", err)
	}
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case err == nil || errors.Is(err, kerr.TopicAlreadyExists):
		case errors.Is(err, kerr.TopicAuthorizationFailed):
			return 0, fmt.Errorf("create: the brokers refuse to let us make it; allow CREATE, or make it yourself: %w", err)
		case t.ErrorMessage != nil:
			return 0, fmt.Errorf("create: %w: %s", err, *t.ErrorMessage)
		default:
			return 0, fmt.Errorf("create: %w", err)
		}
	}
	for { // until the brokers have told each other
		n, err := c.describe(ctx, client)
		if n > 0 || err != nil {
			return n, err
		}
		if err := sleep(ctx); err != nil {
			return 0, fmt.Errorf("created, and not there: %w", err)
		}
	}
}

const (
	cleanupPolicy   = "cleanup.policy"
	maxMessageBytes = "max.message.bytes"
)

// configure checks that the topic is compacted, and learns how large a record may
// be.
func (t *table) configure(ctx context.Context, client *kgo.Client) error {
	configs, err := t.configs(ctx, client)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return fmt.Errorf("the brokers refuse to say whether it is compacted; allow DESCRIBE_CONFIGS: %w", err)
	}
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	policies := strings.Split(strings.ReplaceAll(configs[cleanupPolicy], " ", ""), ",")
	if !slices.Contains(policies, "compact") || slices.Contains(policies, "delete") {
		return fmt.Errorf("%s is %q, under which values of the table are deleted by their age: set it to compact",
			cleanupPolicy, configs[cleanupPolicy])
	}
	if n, err := strconv.Atoi(configs[maxMessageBytes]); err == nil {
		t.maxMessage = min(n, mostMaxMessage)
	}
	return nil
}

func (t *table) configs(ctx context.Context, client *kgo.Client) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, t.topic
	r.ConfigNames = []string{cleanupPolicy, maxMessageBytes}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	configs := map[string]string{}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return nil, err
		}
		for _, c := range r.Configs {
			if c.Value != nil {
				configs[c.Name] = *c.Value
			}
		}
	}
	return configs, nil
}

// explain adds what to do about an error of the brokers.
func explain(err error) error {
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("the brokers refuse to let us write it; allow WRITE and DESCRIBE: %w", err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("it was deleted: %w", err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("max.message.bytes was made smaller while the job ran; start the job again: %w", err)
	}
	return err
}

func sleep(ctx context.Context) error {
	timer := time.NewTimer(250 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
