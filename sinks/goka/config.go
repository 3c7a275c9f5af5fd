package goka

import (
	"fmt"
	"time"

	lovoo "github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says which table to write. Brokers and Group must be set; the zero
// values of the rest are the defaults.
type Config struct {
	// Brokers are the addresses, host:port, to learn the cluster from. A few
	// suffice; one that answers is enough to start.
	Brokers []string

	// Group is goka's name for the table: its topic is Group followed by "-table",
	// or by what goka.SetTableSuffix was given.
	Group string

	// Create makes the topic, compacted and with Partitions and Replication, if it
	// isn't there when the job starts. Default: a missing topic is an error.
	Create bool

	// Partitions is how many partitions the topic has: it is made with so many, and
	// one that has another number is an error. Default: what the topic has; needed
	// with Create.
	Partitions int32

	// Replication is how many replicas a topic is made with. A topic that is there
	// is not asked. Default: the brokers' default.
	Replication int16

	// StartTimeout is how long the start may wait for the brokers before it
	// fails. Once it runs, the sink waits for brokers for ever. Default 30 s.
	StartTimeout time.Duration

	// Client holds what else the client needs to connect: TLS (kgo.DialTLSConfig),
	// authentication (kgo.SASL), an id (kgo.ClientID); and how it is to produce:
	// compression, linger. A transactional id, a partitioner or limits of sizes are
	// not for it. Default: nothing.
	Client []kgo.Opt
}

func (c Config) withDefaults() Config {
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	if c.Replication == 0 {
		c.Replication = -1
	}
	return c
}

func (c *Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("invalid config: "+format, args...)
	}
	switch {
	case len(c.Brokers) == 0:
		return invalid("Brokers names none")
	case c.Group == "":
		return invalid("Group is not set")
	case c.Partitions < 0:
		return invalid("Partitions is negative: %d", c.Partitions)
	case c.Create && c.Partitions == 0:
		return invalid("Create is set, and Partitions is not")
	case c.Replication < -1:
		return invalid("Replication is negative: %d", c.Replication)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	}
	return nil
}

// topic is the table's.
func (c *Config) topic() string { return string(lovoo.GroupTable(lovoo.Group(c.Group))) }

// newClient makes a client, which connects when it is first used.
func (c *Config) newClient(opts ...kgo.Opt) (*kgo.Client, error) {
	all := []kgo.Opt{kgo.ClientID("millrace"), kgo.RetryTimeout(c.StartTimeout), kgo.DisableClientMetrics()}
	all = append(all, c.Client...)
	all = append(all, kgo.SeedBrokers(c.Brokers...))
	client, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("invalid config: Client: %w", err)
	}
	if id, _ := client.OptValue(kgo.TransactionalID).(string); id != "" {
		client.Close()
		return nil, fmt.Errorf("invalid config: Client sets the transactional id %q", id)
	}
	return client, nil
}
