package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchError decides what an error of a fetch means. nil is that the client
// goes on by itself. What passes by itself, leaders that move and brokers that
// are away, the client hides.
func (r *reader[T]) fetchError(ctx context.Context, p partition, s *split, err error) error {
	loss, lost := errors.AsType[*kgo.ErrDataLoss](err)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange) && s != nil:
		return r.reset(ctx, s)
	case lost && s != nil && r.cluster.cfg.Reset != ResetRefused:
		r.log.Warn("the log was cut, going on where it ends", "partition", s.name, "offset", s.next, "error", loss)
		// The client goes on there by itself, but whether what it has fetched by
		// now is of the old log or the new one, nothing tells.
		s.cut(loss.ResetTo)
		r.refetch(s, s.fetched())
		return nil
	case lost:
		return fmt.Errorf("partition %s: the log was cut: records that were read are not in it any more (Config.Reset would go on): %w", p, loss)
	case errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("topic %q was deleted, or deleted and made again: %w", p.topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %q: the brokers refuse to let us read it; allow READ and DESCRIBE: %w", p.topic, err)
	case kerr.IsRetriable(err):
		return nil
	case p.topic == "": // the client's own
		return err
	}
	return fmt.Errorf("partition %s: at offset %d: %w", p, offsetOf(s), err)
}

func offsetOf(s *split) int64 {
	if s == nil {
		return -1
	}
	return s.next
}

// reset follows Config.Reset for a split whose offset the broker does not have.
func (r *reader[T]) reset(ctx context.Context, s *split) error {
	first, err := r.cluster.list(ctx, []partition{s.partition}, listEarliest, true)
	if err != nil {
		return err
	}
	last, err := r.cluster.list(ctx, []partition{s.partition}, listLatest, r.cluster.cfg.ReadUncommitted)
	if err != nil {
		return err
	}
	pl := &placing{cluster: r.cluster, log: r.log}
	fetched := &split{partition: s.partition, name: s.name, next: s.fetched(), epoch: -1}
	before := fetched.next
	if err := pl.checkRange(ctx, fetched, first[s.partition], last[s.partition]); err != nil {
		return fmt.Errorf("partition %s: %w", s.name, err)
	}
	switch {
	case fetched.next < before:
		s.cut(fetched.next)
	case len(s.pending) == 0:
		s.next, s.epoch = fetched.next, -1
	}
	r.refetch(s, fetched.next)
	return nil
}

// refetch has the client forget what it fetched of a split, and fetch from an
// offset on without asking whether the log is the one that was read before.
func (r *reader[T]) refetch(s *split, offset int64) {
	r.cluster.client.RemoveConsumePartitions(map[string][]int32{s.topic: {s.number}})
	r.fetch([]*split{{partition: s.partition, name: s.name, next: offset, epoch: -1}})
}

// fetched returns the offset that the client is to fetch next. What came before
// it and was not read yet is pending.
func (s *split) fetched() int64 {
	if n := len(s.pending); n > 0 {
		return s.pending[n-1].Offset + 1
	}
	return s.next
}

// cut forgets what was fetched of a log that ends earlier now.
func (s *split) cut(end int64) {
	n := len(s.pending)
	for n > 0 && s.pending[n-1].Offset >= end {
		n--
	}
	s.pending = s.pending[:n]
	if s.next > end {
		s.next, s.epoch = end, -1
	}
}
