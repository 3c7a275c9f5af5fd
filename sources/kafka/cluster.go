package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster asks the brokers for topics and offsets.
type cluster struct {
	cfg     Config
	pattern *regexp.Regexp // nil for topics by name
	client  *kgo.Client
	health  *health
}

// topic is what the brokers say of a topic.
type topic struct {
	id         topicID
	partitions int32
}

// errMissing is what a topic's absence looks like, by whatever name.
var errMissing = errors.New("topic does not exist")

// describe returns the source's topics. A missing one is an error that matches
// errMissing.
func (c *cluster) describe(ctx context.Context) (map[string]topic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, name := range c.cfg.Topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	answer, err := c.request(ctx, req)
	if err != nil {
		return nil, c.unanswered(err)
	}
	resp := answer.(*kmsg.MetadataResponse)
	topics := map[string]topic{}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic == nil || (c.pattern != nil && (t.IsInternal || !c.pattern.MatchString(*t.Topic))) {
			continue
		}
		if err := topicError(t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %q: %w", *t.Topic, err)
		}
		topics[*t.Topic] = topic{id: t.TopicID, partitions: int32(len(t.Partitions))}
	}
	for _, name := range c.cfg.Topics {
		if _, ok := topics[name]; !ok {
			return nil, fmt.Errorf("topic %q: %w", name, errMissing)
		}
	}
	return topics, nil
}

// await is describe at the start of a job: brokers that can't be reached yet are
// waited for. The client itself gives up when it has tried all of them once.
func (c *cluster) await(ctx context.Context) (map[string]topic, error) {
	for {
		topics, err := c.describe(ctx)
		dial, ok := errors.AsType[*net.OpError](err)
		if !ok || dial.Op != "dial" || sleep(ctx, awaitInterval) != nil {
			return topics, err
		}
	}
}

const awaitInterval = 250 * time.Millisecond

func topicError(code int16) error {
	err := kerr.ErrorForCode(code)
	switch {
	case err == nil, errors.Is(err, kerr.LeaderNotAvailable): // for a moment, behind an election
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return errMissing
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("the brokers refuse to let us read it; allow READ and DESCRIBE: %w", err)
	}
	return err
}

// request asks the brokers. It returns when ctx ends, which the client's own
// call does not while it waits for a connection's first answer.
func (c *cluster) request(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	type answer struct {
		resp kmsg.Response
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := c.client.Request(ctx, req)
		answered <- answer{resp, err}
	}()
	select {
	case a := <-answered:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Request implements [kmsg.Requestor] by request.
func (c *cluster) Request(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	return c.request(ctx, req)
}

// unanswered names the brokers in an error, and what is behind it: that time is
// up says nothing.
func (c *cluster) unanswered(err error) error {
	if last := c.health.lastError(); last != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w (the last connection failed: %w)", err, last)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the connection was closed, as by a broker that refuses the authentication, or that expects TLS or expects none", err)
	}
	return fmt.Errorf("brokers %v: %w", c.cfg.Brokers, err)
}

// What to list instead of the offset at a time.
const (
	listEarliest = -2
	listLatest   = -1
)

// list returns an offset of each partition: the earliest, the latest, or the
// first that has at least the given timestamp, and -1 where there is none. The
// latest is what a reader can reach: with committed transactions only, where
// the first open one begins.
func (c *cluster) list(ctx context.Context, partitions []partition, timestamp int64, uncommitted bool) (map[partition]int64, error) {
	offsets := make(map[partition]int64, len(partitions))
	for len(partitions) > 0 {
		answer, err := c.request(ctx, listRequest(partitions, timestamp, uncommitted))
		if err != nil {
			return nil, c.unanswered(fmt.Errorf("list offsets: %w", err))
		}
		var again []partition
		for _, t := range answer.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				at := partition{t.Topic, p.Partition}
				switch err := kerr.ErrorForCode(p.ErrorCode); {
				case err == nil:
					offsets[at] = p.Offset
				case kerr.IsRetriable(err) && ctx.Err() == nil: // an election
					again = append(again, at)
				default:
					return nil, fmt.Errorf("partition %s: list offsets: %w", at, err)
				}
			}
		}
		if len(again) > 0 {
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, fmt.Errorf("partition %s has no leader: %w", again[0], err)
			}
		}
		partitions = again
	}
	return offsets, nil
}

func listRequest(partitions []partition, timestamp int64, uncommitted bool) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	if !uncommitted {
		req.IsolationLevel = 1
	}
	slices.SortFunc(partitions, partition.compare)
	for _, p := range partitions {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != p.topic {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = p.topic
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p.number, timestamp
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, rp)
	}
	return req
}

// sleep waits for d, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
