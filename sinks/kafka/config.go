package kafka

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says where to write, and how. Brokers must be set; the zero values of
// the rest are the defaults.
type Config struct {
	// Brokers are the addresses, host:port, to learn the cluster from. A few
	// suffice; one that answers is enough to start.
	Brokers []string

	// Delivery is what is promised. Default [ExactlyOnce], which needs a job that
	// takes checkpoints.
	Delivery Delivery

	// Group is the consumer group that the job's offsets are committed to together
	// with its results. It must be the job's own: it is where a start looks up
	// which checkpoint was committed last, and a member of it is an error. Only
	// for ExactlyOnce. Default: the job's name.
	Group string

	// TransactionalID is by which the brokers know the job: a second process that
	// starts with the same one fences the first. Only for ExactlyOnce. Default:
	// the job's name.
	TransactionalID string

	// TransactionTimeout is after how long the brokers give up a transaction that
	// is neither committed nor aborted, because the process is gone and does not
	// come back; until then, readers of committed records wait behind it. It must
	// be longer than a checkpoint may take to come about, and at most what the
	// brokers allow (transaction.max.timeout.ms). Only for ExactlyOnce. Default:
	// 15 minutes, which is the most that brokers allow unless told otherwise. A job
	// that is started again ends the transaction it had at once.
	TransactionTimeout time.Duration

	// BufferBytes is how many bytes of keys and values may wait in memory for the
	// brokers, before the job waits as well; one record may be larger. With
	// ExactlyOnce, each subtask may hold as much again while a checkpoint is being
	// completed. Default 32 MiB.
	BufferBytes int

	// Linger is how long a record waits for others to go out with. Default 5 ms.
	Linger time.Duration

	// Partitioner chooses partitions. Default: by the hash of the key as the Java
	// client does it (murmur2), and for records without a key whichever partition
	// a batch is under way to.
	Partitioner kgo.Partitioner

	// StartTimeout is how long the start may wait for the brokers before it fails.
	// Once it runs, the sink waits for brokers for ever, except that with
	// ExactlyOnce the transaction may time out meanwhile. Default 30 s.
	StartTimeout time.Duration

	// Client holds what else the client needs: TLS (kgo.DialTLSConfig),
	// authentication (kgo.SASL), compression (kgo.ProducerBatchCompression), a
	// rack, an id. Default: nothing.
	Client []kgo.Opt
}

// Delivery is what a sink promises.
type Delivery int

const (
	// ExactlyOnce shows each result exactly once to who reads committed records
	// (isolation.level=read_committed), whatever happens to the job. Results
	// become visible with the checkpoint that they belong to.
	ExactlyOnce Delivery = iota
	// AtLeastOnce shows results as they come about. After a failure, those since
	// the last checkpoint come again.
	AtLeastOnce
)

func (c Config) withDefaults() Config {
	if c.BufferBytes == 0 {
		c.BufferBytes = 32 << 20
	}
	if c.Linger == 0 {
		c.Linger = 5 * time.Millisecond
	}
	if c.Partitioner == nil {
		c.Partitioner = kgo.StickyKeyPartitioner(nil)
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	return c
}

func (c *Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("invalid config: "+format, args...)
	}
	exactly := c.Group != "" || c.TransactionalID != "" || c.TransactionTimeout != 0
	switch {
	case len(c.Brokers) == 0:
		return invalid("Brokers names none")
	case c.Delivery != ExactlyOnce && c.Delivery != AtLeastOnce:
		return invalid("Delivery is %d, which is none", c.Delivery)
	case c.Delivery == AtLeastOnce && exactly:
		return invalid("Group, TransactionalID and TransactionTimeout are for ExactlyOnce")
	case c.TransactionTimeout < 0:
		return invalid("TransactionTimeout is negative: %v", c.TransactionTimeout)
	case c.BufferBytes < 1<<16:
		return invalid("BufferBytes is %d, must be at least 65536", c.BufferBytes)
	case c.Linger < 0:
		return invalid("Linger is negative: %v", c.Linger)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	}
	return nil
}

// clientOptions are those of the client that produces.
func (c *Config) clientOptions(more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{kgo.ClientID("millrace"), kgo.RetryTimeout(c.StartTimeout), kgo.DisableClientMetrics()}
	opts = append(opts, c.Client...)
	opts = append(opts,
		kgo.SeedBrokers(c.Brokers...), kgo.RecordPartitioner(c.Partitioner), kgo.ProducerLinger(c.Linger),
		kgo.MaxBufferedRecords(1<<20),
	)
	return append(opts, more...)
}
