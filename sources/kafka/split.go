package kafka

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
)

// split is a partition that this subtask reads.
type split struct {
	partition
	name      string
	id        topicID
	next      int64 // the offset to be read next
	epoch     int32 // of the record before, -1 is unknown
	end       int64 // where a bounded source ends
	highWater int64 // where the broker's log ended when last heard
	lag       int64 // as it is counted in the subtask's gauge
	behind    *pipeline.Gauge
	pending   []*kgo.Record
	done      bool // read to its end
	held      bool // the client was told not to fetch it
	low       int  // with so few pending, an ordered source has more fetched
}

func (s *split) position() []byte {
	return position{offset: s.next, epoch: s.epoch, topic: s.id}.append(make([]byte, 0, 96))
}

func (p partition) compare(q partition) int {
	if c := strings.Compare(p.topic, q.topic); c != 0 {
		return c
	}
	return cmp.Compare(p.number, q.number)
}

// mine says whether a partition belongs to the subtask. The subtasks learn of
// new topics and partitions at different moments, so it must not depend on which
// others there are. The partitions of one topic are dealt out in turns; the
// topic's hash decides where that begins, or else many topics of one partition
// would all be the first subtask's.
func mine(env *pipeline.SourceEnv, p partition) bool {
	h := fnv.New32a()
	h.Write([]byte(p.topic))
	return env.Mine(int(h.Sum32()&0xffff) + int(p.number))
}

// placing finds where partitions are to be read from.
type placing struct {
	*cluster
	log       *slog.Logger
	positions map[partition]position // of the checkpoint
	topics    map[string]topic
	added     bool // the partitions were added while the job ran
}

// place returns the splits of the given partitions.
func (pl *placing) place(ctx context.Context, partitions []partition) ([]*split, error) {
	if len(partitions) == 0 {
		return nil, nil
	}
	slices.SortFunc(partitions, partition.compare)
	first, err := pl.list(ctx, slices.Clone(partitions), listEarliest, true)
	if err != nil {
		return nil, err
	}
	last, err := pl.list(ctx, slices.Clone(partitions), listLatest, pl.cfg.ReadUncommitted)
	if err != nil {
		return nil, err
	}
	var byTime map[partition]int64
	if pl.cfg.Start.kind == startTime {
		if byTime, err = pl.list(ctx, slices.Clone(partitions), max(pl.cfg.Start.at.UnixMilli(), 0), pl.cfg.ReadUncommitted); err != nil {
			return nil, err
		}
	}
	var splits []*split
	for _, p := range partitions {
		s := &split{partition: p, name: p.String(), id: pl.topics[p.topic].id, epoch: -1, end: last[p], highWater: last[p]}
		if err := pl.start(s, first[p], last[p], byTime); err != nil {
			return nil, err
		}
		if err := pl.checkRange(ctx, s, first[p], last[p]); err != nil {
			return nil, fmt.Errorf("partition %s: %w", s.name, err)
		}
		splits = append(splits, s)
	}
	return splits, nil
}

// start sets where a split begins.
func (pl *placing) start(s *split, first, last int64, byTime map[partition]int64) error {
	start := pl.cfg.Start
	if at, ok := pl.positions[s.partition]; ok {
		if at.topic != (topicID{}) && s.id != (topicID{}) && at.topic != s.id {
			return fmt.Errorf("topic %q was deleted and made again: offsets of the checkpoint mean other records", s.topic)
		}
		s.next, s.epoch = at.offset, at.epoch
		return nil
	}
	s.next = first
	switch {
	case start.kind == startTime:
		if s.next = byTime[s.partition]; s.next < 0 { // none that late yet
			s.next = last
		}
	case pl.isNew(s.topic):
	case start.kind == startLatest:
		s.next = last
	case start.kind == startOffsets:
		if at, ok := start.offsets[s.topic][s.number]; ok {
			s.next = at
		}
	}
	return nil
}

// isNew says whether a partition without a position was added since the job
// first started. All its records are then new as well, and Latest or offsets of
// that start don't apply.
func (pl *placing) isNew(topic string) bool {
	if pl.added || (pl.pattern != nil && len(pl.positions) > 0) {
		return true
	}
	for p := range pl.positions {
		if p.topic == topic {
			return true
		}
	}
	return false
}

// checkRange sees that the log has the offset to begin with. The broker would
// say so only with the first fetch.
func (pl *placing) checkRange(ctx context.Context, s *split, first, last int64) error {
	if s.next > last && !pl.cfg.ReadUncommitted {
		// Beyond an open transaction, where a job that did not mind was before.
		all, err := pl.list(ctx, []partition{s.partition}, listLatest, true)
		if err != nil {
			return err
		}
		last = all[s.partition]
	}
	if s.next >= first && s.next <= last {
		return nil
	}
	err := outOfRange(s.next, first, last)
	if pl.cfg.Reset == ResetRefused {
		return err
	}
	lost := s.next
	s.next, s.epoch = first, -1
	if pl.cfg.Reset == ResetLatest {
		s.next = last
	}
	pl.log.Warn("going on elsewhere, records are lost or read again", "partition", s.name, "offset", lost, "new_offset", s.next, "error", err)
	return nil
}

func outOfRange(offset, first, last int64) error {
	if offset < first {
		return fmt.Errorf("offset %d is out of range: retention has removed the records up to %d, %d of them unread (Config.Reset would go on without)",
			offset, first, first-offset)
	}
	return fmt.Errorf("offset %d is out of range: the log ends at %d, so it was cut, or its topic made again (Config.Reset would go on elsewhere)", offset, last)
}

// checkPositions looks for what a checkpoint and the brokers disagree about.
func (pl *placing) checkPositions(env *pipeline.SourceEnv) error {
	for p := range pl.positions {
		t, ok := pl.topics[p.topic]
		switch {
		case !ok && mine(env, p): // one of the subtasks says so
			pl.log.Warn("the checkpoint has a position in a topic that is not read any more", "partition", p.String())
		case !ok:
		case p.number >= t.partitions:
			return fmt.Errorf("topic %q was deleted and made again: it has %d partitions, and the checkpoint a position in partition %d", p.topic, t.partitions, p.number)
		}
	}
	for name, offsets := range pl.cfg.Start.offsets {
		for number := range offsets {
			if number < 0 || number >= pl.topics[name].partitions {
				return fmt.Errorf("invalid config: Start names partition %d of topic %q, which has %d", number, name, pl.topics[name].partitions)
			}
		}
	}
	return nil
}

// partitionsOf returns the subtask's partitions of the given topics.
func partitionsOf(env *pipeline.SourceEnv, topics map[string]topic) []partition {
	var all []partition
	for name, t := range topics {
		for n := range t.partitions {
			if p := (partition{name, n}); mine(env, p) {
				all = append(all, p)
			}
		}
	}
	return all
}

// within returns a context that ends after d, too.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", d))
}
