// Package topics makes the topics of a benchmark, and removes them.
package topics

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Make makes topics and returns when the brokers tell of them, which is some time after
// they have made them: what starts at once would not find them. settings may be nil.
func Make(ctx context.Context, client *kgo.Client, partitions int32, settings map[string]*string, names ...string) error {
	made, err := kadm.NewClient(client).CreateTopics(ctx, partitions, -1, settings, names...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		return fmt.Errorf("make topics %q: %w", names, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// Not kadm's ListTopics: it answers from what the client has, which is asked for anew
	// after five seconds.
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		req.Topics = append(req.Topics, topic)
	}
	for {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return fmt.Errorf("ask for topics %q: %w", names, err)
		}
		if !slices.ContainsFunc(resp.Topics, func(t kmsg.MetadataResponseTopic) bool {
			return t.ErrorCode != 0 || len(t.Partitions) != int(partitions) || slices.ContainsFunc(t.Partitions,
				func(p kmsg.MetadataResponseTopicPartition) bool { return p.ErrorCode != 0 || p.Leader < 0 })
		}) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Remove removes topics, if any.
func Remove(ctx context.Context, client *kgo.Client, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	removed, err := kadm.NewClient(client).DeleteTopics(ctx, names...)
	if err == nil {
		err = removed.Error()
	}
	return err
}
