package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/kafkagroup"
	"github.com/millrace/millrace/pipeline"
)

// group is the consumer group that the offsets of complete checkpoints are
// committed to, for who watches lag. The job never asks it where to go on.
type group struct {
	name    string
	cluster *cluster
	log     *slog.Logger
	trouble seldom

	commits, failures *pipeline.Counter
}

// newGroup returns nil where there is no group to commit to.
func newGroup(c *cluster, log *slog.Logger, m *pipeline.Metrics) *group {
	if c.cfg.Group == "" {
		return nil
	}
	return &group{
		name: c.cfg.Group, cluster: c, log: log,
		commits: m.Counter("offset_commits"), failures: m.Counter("offset_commit_failures"),
	}
}

// checkGroup sees at the start whether the group can be committed to.
func (r *reader[T]) checkGroup(ctx context.Context) error {
	switch {
	case r.group == nil:
		return nil
	case !r.env.Checkpoints:
		return errors.New("invalid config: Group is set, and the job takes no checkpoints, whose offsets would be committed there: " +
			"set pipeline.Checkpoints, or leave Group out")
	case r.env.Subtask > 0: // one of the subtasks says so
		return nil
	}
	return r.group.check(ctx)
}

func (g *group) check(ctx context.Context) error {
	for {
		err := g.refuse(ctx)
		dial, ok := errors.AsType[*net.OpError](err)
		unreachable := ok && dial.Op == "dial"
		if !unreachable && !kerr.IsRetriable(err) || sleep(ctx, awaitInterval) != nil {
			return g.explained(err)
		}
	}
}

// refuse refuses a group that is somebody else's.
func (g *group) refuse(ctx context.Context) error {
	members, err := kafkagroup.Members(ctx, g.cluster, g.name)
	if err != nil {
		return err
	}
	if members > 0 {
		return fmt.Errorf("it has %d members, which commit offsets of their own: stop them, or set Config.Group to one that only this job commits to", members)
	}
	return g.refuseRecords(ctx, false)
}

// errRecords is matched by the error about a group that holds what a job goes on
// from.
var errRecords = errors.New("checkpoints are recorded in it")

// refuseRecords refuses a group in which a sink that delivers exactly once records
// the job's checkpoints: to write over it would leave that job without a place to
// go on from.
func (g *group) refuseRecords(ctx context.Context, stable bool) error {
	offsets, err := kafkagroup.Offsets(ctx, g.cluster, g.name, stable)
	if err != nil {
		return err
	}
	for _, t := range offsets.Topics {
		for _, p := range t.Partitions {
			if pointer, ok := kafkagroup.ParsePointer(p.Metadata); ok {
				return fmt.Errorf("%w, of the job %q, by a sink that delivers exactly once, and a start would not find them any more: "+
					"set the source's Config.Group to another group; such a job's own group shows its lag, too", errRecords, pointer.Job)
			}
		}
	}
	return nil
}

// commitTimeout bounds a commit: the job's end waits for the last one.
const commitTimeout = 5 * time.Second

// Acknowledge implements [pipeline.Acknowledger].
func (r *reader[T]) Acknowledge(ctx context.Context, _ int64, positions map[string][]byte) error {
	if r.group == nil {
		return nil
	}
	return r.group.acknowledge(ctx, positions)
}

func (g *group) acknowledge(ctx context.Context, positions map[string][]byte) error {
	bounded, cancel := within(ctx, commitTimeout)
	defer cancel()
	err := g.commit(bounded, positions)
	switch {
	case err == nil:
		g.commits.Add(1)
	case errors.Is(err, errRecords), errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.InvalidGroupID):
		return g.explained(err)
	case ctx.Err() == nil:
		g.failures.Add(1)
		g.trouble.warn(g.log, "offsets are not committed, so monitors of lag do not see how far the job is; the job itself does not need them",
			"group", g.name, "error", err)
	}
	return nil
}

// commit looks before it writes, every time: a job with such a sink may have begun
// to use the group a moment ago. Between the two it still may, and finds out at its
// next start.
func (g *group) commit(ctx context.Context, positions map[string][]byte) error {
	if err := g.refuseRecords(ctx, true); err != nil {
		return err
	}
	req, err := g.request(positions)
	if err != nil {
		return err
	}
	resp, err := req.RequestWith(ctx, g.cluster)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit offsets: %w", err)
			}
		}
	}
	return nil
}

// request is that of somebody who is no member of the group.
func (g *group) request(positions map[string][]byte) (*kmsg.OffsetCommitRequest, error) {
	decoded, err := decodePositions(positions)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = g.name
	at := map[string]int{}
	for p, pos := range decoded {
		i, ok := at[p.topic]
		if !ok {
			i = len(req.Topics)
			at[p.topic] = i
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic, t.TopicID = p.topic, pos.topic // newer brokers go by the id, others by the name
			req.Topics = append(req.Topics, t)
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p.number, pos.offset, pos.epoch, kmsg.StringPtr("")
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	return req, nil
}

// explained says what an error means for the job.
func (g *group) explained(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		err = fmt.Errorf("the brokers refuse to let us commit to it; allow READ on the group, or leave Config.Group out: %w", err)
	}
	return fmt.Errorf("consumer group %q: %w", g.name, err)
}
