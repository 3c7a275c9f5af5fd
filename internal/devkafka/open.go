package devkafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// closed is a file that says that the broker was closed, and not killed.
const closed = "closed"

// killed says whether the broker that was on the directory before had no time to close.
// The next call says so unless that one has.
func killed(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, "data")); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	err := os.Remove(filepath.Join(dir, closed))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// abortTimeout is how long a start may look for open transactions, on a busy machine.
const abortTimeout = time.Minute

// open is a transaction in a partition that nothing has ended.
type open struct {
	topic     string
	partition int32
	producer  int64
}

// abortOpen ends the transactions that were open when the broker was killed. kfake takes
// them for aborted, and writes no marker that says so: a reader of committed records would
// leave out what the same producer writes next, up to a marker that commits it.
func (b *Broker) abortOpen(o Options) error {
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.addr), kgo.DisableClientMetrics(), kgo.ConsumeRegex(), kgo.ConsumeTopics(".*"), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
	}, o.Client...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	transactions, err := readOpen(ctx, client)
	if err != nil {
		return err
	}
	for t, epoch := range transactions {
		if err := abort(ctx, client, t, epoch); err != nil {
			return fmt.Errorf("topic %q partition %d: %w", t.topic, t.partition, err)
		}
	}
	return nil
}

// readOpen reads everything, and returns the producers' epochs.
func readOpen(ctx context.Context, client *kgo.Client) (map[open]int16, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return nil, err
	}
	unread := map[string]map[int32]int64{}
	left := 0
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if end.Offset <= start.Offset {
			return
		}
		if unread[end.Topic] == nil {
			unread[end.Topic] = map[int32]int64{}
		}
		unread[end.Topic][end.Partition] = end.Offset
		left++
	})
	transactions := map[open]int16{}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			t := open{r.Topic, r.Partition, r.ProducerID}
			switch {
			case r.Attrs.IsControl():
				delete(transactions, t)
			case r.Attrs.IsTransactional():
				transactions[t] = r.ProducerEpoch
			}
			if r.Offset == unread[r.Topic][r.Partition]-1 {
				left--
			}
		})
	}
	return transactions, nil
}

func abort(ctx context.Context, client *kgo.Client, t open, epoch int16) error {
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	marker := kmsg.NewWriteTxnMarkersRequestMarker()
	marker.ProducerID, marker.ProducerEpoch, marker.Committed = t.producer, epoch, false
	topic := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	topic.Topic, topic.Partitions = t.topic, []int32{t.partition}
	marker.Topics = append(marker.Topics, topic)
	req.Markers = append(req.Markers, marker)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, m := range resp.Markers {
		for _, rt := range m.Topics {
			for _, p := range rt.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
