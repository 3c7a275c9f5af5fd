package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/internal/kafkagroup"
	"github.com/millrace/millrace/internal/kafkaoffset"
	"github.com/millrace/millrace/pipeline"
)

// offsets commits the sources' offsets to the job's consumer group, as part of a
// transaction. The metadata of each says to which checkpoint it belongs, so that
// results, offsets and the name of the checkpoint are committed together or not
// at all.
//
// Every commit carries all partitions that are known, moved or not. A partition
// that was not known yet, or is not read any more, names an earlier checkpoint or
// none, so the highest number counts. A job that reads no topic of this cluster
// commits an offset of 0 of its first output topic, for the sake of the metadata, and
// so does a checkpoint before the sources' first batch.
type offsets struct {
	id      string // the transactional id
	job     string
	group   string
	topics  []string // of the sinks
	timeout time.Duration
	log     *slog.Logger
	client  *kgo.Client

	// The producer for checkpoints with nothing to write. The client's own
	// transaction begins with a record, and ends only if it has begun.
	producer int64
	epoch    int16

	known map[string][16]byte // ids of topics on this cluster
	other map[string]bool     // topics that are not on it
}

func (o *offsets) connect(cfg *Config, more []kgo.Opt) (err error) {
	// As of these versions the brokers add offsets to transactions by themselves,
	// and count the epoch up with each, which is between them and the client that
	// produces.
	versions := kversion.Tip()
	versions.SetMaxKeyVersion(int16(kmsg.EndTxn), 4)
	versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4)
	versions.SetMaxKeyVersion(int16(kmsg.InitProducerID), 5)
	o.known, o.other = map[string][16]byte{}, map[string]bool{}
	o.client, err = kgo.NewClient(cfg.clientOptions(append(more, kgo.MaxVersions(versions))...)...)
	return err
}

func (o *offsets) close() {
	if o.client != nil {
		o.client.Close()
	}
}

// emptyID is the transactional id for checkpoints with nothing to write.
func (o *offsets) emptyID() string { return o.id + "-offsets" }

// init fences other processes' use of emptyID.
func (o *offsets) init(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = kmsg.StringPtr(o.emptyID())
	req.TransactionTimeoutMillis = int32(o.timeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	return retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, o.client)
		if err != nil {
			return err
		}
		o.producer, o.epoch = resp.ProducerID, resp.ProducerEpoch
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// last returns the name of the checkpoint that was committed last, empty if none
// was. With stable, it waits for transactions whose end is under way.
func (o *offsets) last(ctx context.Context, stable bool) (name string, err error) {
	if err := o.refuseMembers(ctx); err != nil {
		return "", err
	}
	var group *kmsg.OffsetFetchResponseGroup
	err = retry(ctx, func() error {
		group, err = kafkagroup.Offsets(ctx, o.client, o.group, stable)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("consumer group %q: %w", o.group, transactionError(err))
	}
	highest := int64(-1)
	for _, t := range group.Topics {
		for _, p := range t.Partitions {
			number, committed, err := o.pointerOf(p.Metadata)
			if err != nil {
				return "", fmt.Errorf("consumer group %q: %s: %w", o.group, kafkaoffset.Split(t.Topic, p.Partition), err)
			}
			if number > highest {
				highest, name = number, committed
			}
		}
	}
	return name, nil
}

// pointerOf returns the checkpoint that metadata names, and its number, -1 where it
// is none of ours.
func (o *offsets) pointerOf(metadata *string) (number int64, name string, err error) {
	p, ok := kafkagroup.ParsePointer(metadata)
	switch {
	case !ok:
		return -1, "", nil
	case p.Version != kafkagroup.PointerVersion:
		return -1, "", fmt.Errorf("metadata %q is of version %d, this program knows version %d", *metadata, p.Version, kafkagroup.PointerVersion)
	case p.Job != o.job:
		return -1, "", fmt.Errorf("the group is that of the job %q, and this is job %q: set Config.Group", p.Job, o.job)
	}
	return p.Number, p.Checkpoint, nil
}

// refuseMembers refuses a group with members, who would commit offsets of their
// own.
func (o *offsets) refuseMembers(ctx context.Context) error {
	members := 0
	err := retry(ctx, func() (err error) { // a new cluster has to make itself a place for groups first
		members, err = kafkagroup.Members(ctx, o.client, o.group)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("consumer group %q: %w", o.group, transactionError(err))
	case members > 0:
		return o.hasMembers(members)
	}
	return nil
}

func (o *offsets) hasMembers(n int) error {
	return fmt.Errorf("consumer group %q has %d members, and is to be the job's own: stop them, or set Config.Group", o.group, n)
}

// commitAlone commits offsets where no record was produced.
func (o *offsets) commitAlone(ctx context.Context, c *pipeline.Commit) error {
	if err := o.add(ctx, o.emptyID(), o.producer, o.epoch, c); err != nil {
		return err
	}
	if err := end(ctx, o.client, o.emptyID(), o.producer, o.epoch); err != nil {
		return fmt.Errorf("end transaction: %w", err)
	}
	return nil
}

// end commits a transaction.
func end(ctx context.Context, client *kgo.Client, id string, producer int64, epoch int16) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, producer, epoch, true
	return retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// add makes the offsets a part of the producer's transaction.
func (o *offsets) add(ctx context.Context, id string, producer int64, epoch int16, c *pipeline.Commit) error {
	topics, err := o.all(ctx, c)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = id, producer, epoch, o.group
	err = retry(ctx, func() error {
		resp, err := add.RequestWith(ctx, o.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		return fmt.Errorf("add consumer group %q to the transaction: %w", o.group, err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group = id, producer, epoch, o.group
	commit.Topics = topics
	err = retry(ctx, func() error {
		resp, err := commit.RequestWith(ctx, o.client)
		if err != nil {
			return err
		}
		return refusal(resp)
	})
	if err != nil {
		return fmt.Errorf("commit offsets to the consumer group %q: %w", o.group, err)
	}
	return nil
}

func refusal(resp *kmsg.TxnOffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			err := kerr.ErrorForCode(p.ErrorCode)
			if errors.Is(err, kerr.TopicAuthorizationFailed) {
				return fmt.Errorf("topic %q: the brokers refuse an offset of it; allow READ: %w", t.Topic, err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", kafkaoffset.Split(t.Topic, p.Partition), err)
			}
		}
	}
	return nil
}

// all returns the offsets of all partitions of this cluster that the job reads.
func (o *offsets) all(ctx context.Context, c *pipeline.Commit) ([]kmsg.TxnOffsetCommitRequestTopic, error) {
	metadata, err := json.Marshal(kafkagroup.Pointer{
		Version: kafkagroup.PointerVersion, Job: o.job, Number: c.Checkpoint, Checkpoint: c.Name,
	})
	if err != nil {
		return nil, err
	}
	parts, err := o.partitions(ctx, c.Positions)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		parts = []read{{topic: o.topics[0], Position: kafkaoffset.Position{Epoch: -1}}}
	}
	at := map[string]int{}
	var topics []kmsg.TxnOffsetCommitRequestTopic
	for _, r := range parts {
		i, ok := at[r.topic]
		if !ok {
			i = len(topics)
			at[r.topic] = i
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic = r.topic
			topics = append(topics, t)
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = r.number, r.Offset, r.Epoch, kmsg.StringPtr(string(metadata))
		topics[i].Partitions = append(topics[i].Partitions, p)
	}
	return topics, nil
}

// read is how far a partition was read.
type read struct {
	topic  string
	number int32
	kafkaoffset.Position
}

// partitions returns the positions that are of partitions of this cluster.
func (o *offsets) partitions(ctx context.Context, all []pipeline.Position) ([]read, error) {
	var parts []read
	for _, p := range all {
		topic, number, err := kafkaoffset.ParseSplit(p.Split)
		if err != nil {
			continue // of a source of another kind
		}
		pos, err := kafkaoffset.Decode(p.Position)
		if err != nil {
			continue
		}
		here, err := o.here(ctx, topic, pos.Topic)
		if err != nil {
			return nil, err
		}
		if here {
			parts = append(parts, read{topic, number, pos})
		}
	}
	return parts, nil
}

// here says whether a topic is one of this cluster, and not of the same name on
// another.
func (o *offsets) here(ctx context.Context, topic string, id [16]byte) (bool, error) {
	known, ok := o.known[topic]
	if !ok && !o.other[topic] {
		var err error
		if known, ok, err = o.idOf(ctx, topic); err != nil {
			return false, err
		}
		if ok {
			o.known[topic] = known
		} else {
			o.other[topic] = true
		}
	}
	return ok && (known == id || known == [16]byte{} || id == [16]byte{}), nil
}

func (o *offsets) idOf(ctx context.Context, topic string) (id [16]byte, there bool, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	err = retry(ctx, func() error {
		resp, err := req.RequestWith(ctx, o.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			err := kerr.ErrorForCode(t.ErrorCode)
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				continue
			}
			if err != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
				return err
			}
			id, there = t.TopicID, true
		}
		return nil
	})
	return id, there, err
}

// cutOff says that an error is of the connection: the broker may have died, and
// another takes over. Every request here may be repeated.
func cutOff(err error) bool {
	_, refused := errors.AsType[*net.OpError](err)
	return refused || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// retryPause is the time between two tries of a request.
const retryPause = 20 * time.Millisecond

// retry does what brokers can't do just now until they can: coordinators move, and
// a transaction may be begun only when the one before it is over.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		passing := errors.Is(err, kerr.ConcurrentTransactions) || errors.Is(err, kerr.UnstableOffsetCommit)
		if ke, ok := errors.AsType[*kerr.Error](err); ok {
			passing = passing || ke.Retriable && !errors.Is(err, kerr.UnknownTopicOrPartition)
		}
		if !passing && !cutOff(err) {
			return err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
