package devkafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options says what broker to start. The zero value is one in memory, without
// topics, on a free port.
type Options struct {
	// Dir is where topics, records, groups and transactions are kept, so that a
	// later broker on the same directory goes on with them, even after a kill of
	// the process. It is made if it isn't there, and locked: a second broker on
	// it is refused. Default: memory.
	Dir string
	// Topics are made if they aren't there yet. One that has fewer partitions
	// gets more; one that has more keeps them. Default: none.
	Topics []Topic
	// Port is where to listen, on the loopback interface. Set it where clients
	// are to find the broker again after a restart. Default: a free one.
	Port int
	// Sync writes every batch through to the disk before it is acknowledged, so
	// that it survives a failure of the machine as well. Slow. Default: off.
	Sync bool
	// Setup holds settings of kfake beyond these, such as authentication. A
	// broker that asks for it needs Client too. Default: none.
	Setup []kfake.Opt
	// Client holds what the broker's own client, which makes the topics, needs
	// to connect: TLS, SASL. Default: nothing.
	Client []kgo.Opt
}

// Topic is a topic to be made.
type Topic struct {
	Name string
	// Partitions is how many it has. Default 1.
	Partitions int32
}

// Broker is a running broker.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	dir     string
	lock    io.Closer
}

// Start starts a broker. When it returns, clients may connect, and the topics
// are there.
func Start(o Options) (*Broker, error) {
	b := &Broker{dir: o.Dir}
	opts := []kfake.Opt{kfake.Ports(o.Port)}
	wasKilled := false
	if o.Dir != "" {
		err := b.claim(o.Dir)
		if err == nil {
			wasKilled, err = killed(o.Dir)
		}
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("start broker: %w", err)
		}
		opts = append(opts, kfake.DataDir(filepath.Join(o.Dir, "data")))
		if o.Sync {
			opts = append(opts, kfake.SyncWrites())
		}
	}
	cluster, err := kfake.NewCluster(append(opts, o.Setup...)...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b.cluster = cluster
	b.addr = cluster.ListenAddrs()[0]
	if wasKilled {
		if err := b.abortOpen(o); err != nil {
			b.kill()
			return nil, fmt.Errorf("start broker: end transactions that were open when it was killed: %w", err)
		}
	}
	if err := b.makeTopics(o); err != nil {
		b.Close()
		return nil, fmt.Errorf("start broker: %w", err)
	}
	return b, nil
}

// claim locks the directory. kfake does not, and two of them on one directory
// would write over each other.
func (b *Broker) claim(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := vfs.Default.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("%s is used by another broker: %w", dir, err)
	}
	b.lock = lock
	return nil
}

// Addr returns the host and port to connect to.
func (b *Broker) Addr() string { return b.addr }

// Cluster returns the broker behind, for faults to be injected
// ([kfake.Cluster.ControlKey]), leaders to be moved, and the like.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close stops the broker and writes down what it keeps. Its clients see their
// connections fail. A second call does nothing.
func (b *Broker) Close() {
	if b.cluster != nil {
		b.cluster.Close()
		if b.lock != nil { // one that can't be written has the next start look for open transactions
			_ = os.WriteFile(filepath.Join(b.dir, closed), nil, 0o644)
		}
	}
	b.release()
}

// kill leaves the broker as one that was killed.
func (b *Broker) kill() {
	b.cluster.Close()
	b.release()
}

func (b *Broker) release() {
	if b.lock != nil {
		_ = b.lock.Close() // the data is written; a lock that stays shows at the next start
		b.lock = nil
	}
}

// topicTimeout is how long making the topics may take, on a busy machine.
const topicTimeout = 30 * time.Second

func (b *Broker) makeTopics(o Options) error {
	if len(o.Topics) == 0 {
		return nil
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.addr), kgo.DisableClientMetrics()}, o.Client...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), topicTimeout)
	defer cancel()
	for _, t := range o.Topics {
		if err := makeTopic(ctx, client, t.Name, max(t.Partitions, 1)); err != nil {
			return fmt.Errorf("topic %q: %w", t.Name, err)
		}
	}
	return nil
}

// makeTopic makes a topic, or adds the partitions that one lacks.
func makeTopic(ctx context.Context, client *kgo.Client, name string, partitions int32) error {
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	create.Topics = append(create.Topics, topic)
	created, err := create.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range created.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); errors.Is(err, kerr.TopicAlreadyExists) {
			return morePartitions(ctx, client, name, partitions)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func morePartitions(ctx context.Context, client *kgo.Client, name string, partitions int32) error {
	grow := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, partitions
	grow.Topics = append(grow.Topics, topic)
	grown, err := grow.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range grown.Topics {
		// Refused where there are as many or more.
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.InvalidPartitions) {
			return err
		}
	}
	return nil
}
