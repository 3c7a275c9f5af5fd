package kafka

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what to read, and how. Brokers and one of Topics and Pattern must
// be set; the zero values of the rest are the defaults.
type Config struct {
	// Brokers are the addresses, host:port, to learn the cluster from. A few
	// suffice; one that answers is enough to start.
	Brokers []string

	// Topics are the topics to read, by name. Each must exist.
	Topics []string

	// Pattern reads every topic whose whole name matches this regular expression,
	// in the syntax of package regexp, also those that are made while the job
	// runs. Internal topics are left out. It takes the place of Topics. At least
	// one must match at the start.
	Pattern string

	// Start says where to begin in partitions that no checkpoint has a position
	// of. Default [Earliest].
	Start Start

	// Bounded ends the source at the offsets that are the ends of the partitions
	// when the job starts, for replays and tests: what is written later is not
	// read, nor are partitions that are added later. A job that is restored takes
	// the ends of that start. Default: the source goes on for ever.
	Bounded bool

	// Ordered merges all partitions by time into one sequence, so that a replay
	// gives the same results and the same late records every time. It needs
	// Bounded and a source of one subtask, and costs speed: see "Ordered replay"
	// in the package's documentation. [Source.OrderedBy] says by which time.
	// Default: partitions are read in turns, as they come.
	Ordered bool

	// ReadUncommitted also reads the records of transactions that are still open
	// or were aborted. Records of aborted ones then count as if they had happened,
	// so leave it off unless the producers use no transactions and you want to
	// read past one that hangs. Default: records of committed transactions only.
	ReadUncommitted bool

	// Reset says what to do when the broker no longer has, or does not have yet,
	// the offset to be read: because retention removed it while the job was down
	// or too slow, or because the log was cut. Default [ResetRefused].
	Reset Reset

	// Refresh is how often to look for new partitions, and for new topics of a
	// pattern. Their records wait for that long. Default 30 s.
	Refresh time.Duration

	// StartTimeout is how long the start may wait for the brokers before it
	// fails. Once it runs, the source waits for brokers for ever. Default 30 s.
	StartTimeout time.Duration

	// FetchBytes is how many bytes one broker may send at once to one subtask, as
	// they are on the wire, compressed or not. A subtask holds about twice that
	// for every broker, and no more, however slow the job is. Default 16 MiB.
	FetchBytes int

	// PartitionBytes is how many of FetchBytes may come from one partition.
	// A larger share reads faster from brokers that are far away; a smaller one
	// takes less memory, of which records need many times as much when they are
	// decompressed, and keeps partitions closer together in time. A record batch
	// that is larger is read all the same. Default 512 KiB.
	PartitionBytes int

	// Group is the consumer group to which the offsets of each complete checkpoint
	// are committed, so that monitors of lag see how far the job is. The job never
	// goes by it: it goes on from its checkpoints. It must have no members, must
	// not be the group of a sink that delivers exactly once, which such a job
	// commits to anyway, and needs READ where brokers ask for rights. The job must
	// take checkpoints. Default: offsets are committed nowhere.
	Group string

	// Client holds what else the client needs to connect: TLS (kgo.DialTLSConfig),
	// authentication (kgo.SASL), a rack (kgo.Rack), an id (kgo.ClientID). A
	// consumer group or topics to consume are not for it. Default: nothing.
	Client []kgo.Opt
}

// Start says where to begin. It is made by [Earliest], [Latest], [FromTime] or
// [FromOffsets]; the zero value is Earliest.
type Start struct {
	kind    startKind
	at      time.Time
	offsets map[string]map[int32]int64
}

type startKind int

const (
	startEarliest startKind = iota
	startLatest
	startTime
	startOffsets
)

// Earliest begins with the oldest record of each partition.
func Earliest() Start { return Start{} }

// Latest begins with records written after the start. Partitions that are added
// later are read from their beginning, since all in them is later too.
func Latest() Start { return Start{kind: startLatest} }

// FromTime begins, in each partition, with the first record whose timestamp is
// t or later, and at the end where there is none. Timestamps are those of the
// records, as Kafka's index has them, not the jobs' event times.
func FromTime(t time.Time) Start { return Start{kind: startTime, at: t} }

// FromOffsets begins at the given offsets, by topic and partition. Partitions
// that are not named are read from their beginning. A partition that does not
// exist is an error.
func FromOffsets(offsets map[string]map[int32]int64) Start {
	return Start{kind: startOffsets, offsets: offsets}
}

// Reset says what to do when an offset is out of the broker's range.
type Reset int

const (
	// ResetRefused stops the job with an error that names partition, offset and
	// range: records are lost, and that is for somebody to decide.
	ResetRefused Reset = iota
	// ResetEarliest goes on with the oldest record there is, and logs a warning.
	ResetEarliest
	// ResetLatest goes on with records that are written from now on, and logs a
	// warning.
	ResetLatest
)

func (c Config) withDefaults() Config {
	if c.Refresh == 0 {
		c.Refresh = 30 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	if c.FetchBytes == 0 {
		c.FetchBytes = 16 << 20
	}
	if c.PartitionBytes == 0 {
		c.PartitionBytes = min(512<<10, c.FetchBytes)
	}
	return c
}

// maxFetchBytes leaves room under the largest response that the client reads.
const maxFetchBytes = 90 << 20

func (c *Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("invalid config: "+format, args...)
	}
	switch {
	case len(c.Brokers) == 0:
		return invalid("Brokers names none")
	case len(c.Topics) == 0 && c.Pattern == "":
		return invalid("neither Topics nor Pattern is set")
	case len(c.Topics) > 0 && c.Pattern != "":
		return invalid("both Topics and Pattern are set")
	case c.Refresh < 0:
		return invalid("Refresh is negative: %v", c.Refresh)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	case c.FetchBytes < 1 || c.FetchBytes > maxFetchBytes:
		return invalid("FetchBytes is %d, must be from 1 to %d", c.FetchBytes, maxFetchBytes)
	case c.PartitionBytes < 1 || c.PartitionBytes > c.FetchBytes:
		return invalid("PartitionBytes is %d, must be from 1 to FetchBytes (%d)", c.PartitionBytes, c.FetchBytes)
	case c.Reset < ResetRefused || c.Reset > ResetLatest:
		return invalid("Reset is %d, which is none", c.Reset)
	case c.Ordered && !c.Bounded:
		return invalid("Ordered is set without Bounded: a partition that is quiet would stop the others")
	case c.Ordered && c.Reset != ResetRefused:
		return invalid("Ordered is set with a Reset: a replay that goes on without records is not the same one")
	}
	seen := map[string]bool{}
	for _, topic := range c.Topics {
		if topic == "" || seen[topic] {
			return invalid("Topics names %q twice or without a name", topic)
		}
		seen[topic] = true
	}
	return nil
}

// matcher returns the compiled pattern, nil without one.
func (c *Config) matcher() (*regexp.Regexp, error) {
	if c.Pattern == "" {
		return nil, nil
	}
	re, err := regexp.Compile(`^(?:` + c.Pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("invalid config: Pattern: %w", err)
	}
	return re, nil
}

// fetchWait is how long a broker holds a fetch that it has no records for. A
// partition that is added or resumed waits for the fetch under way, so it is
// shorter than the client's own default.
const fetchWait = 500 * time.Millisecond

// orderedWait is that of an ordered source, which often asks for a single
// partition that all others wait for. It is bounded, so there always is
// something to come.
const orderedWait = 10 * time.Millisecond

func (c *Config) clientOptions(h *health) []kgo.Opt {
	isolation := kgo.ReadCommitted()
	if c.ReadUncommitted {
		isolation = kgo.ReadUncommitted()
	}
	wait := fetchWait
	if c.Ordered {
		wait = orderedWait
	}
	opts := []kgo.Opt{
		kgo.ClientID("millrace"), kgo.FetchMaxWait(wait), kgo.RetryTimeout(c.StartTimeout), kgo.DisableClientMetrics(),
	}
	opts = append(opts, c.Client...)
	return append(opts,
		kgo.SeedBrokers(c.Brokers...), kgo.WithHooks(h), kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxBytes(int32(c.FetchBytes)), kgo.FetchMaxPartitionBytes(int32(c.PartitionBytes)),
		// The client would silently go on elsewhere when an offset is out of range.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// The end of a partition may be a transaction's marker, without which a
		// bounded source would wait for ever.
		kgo.KeepControlRecords(),
	)
}

// newClient makes the client, which connects when it is first used.
func (c *Config) newClient(h *health) (*kgo.Client, error) {
	client, err := kgo.NewClient(c.clientOptions(h)...)
	if err != nil {
		return nil, fmt.Errorf("invalid config: Client: %w", err)
	}
	group, _ := client.OptValue(kgo.ConsumerGroup).(string)
	topics := client.GetConsumeTopics()
	if group != "" || len(topics) > 0 {
		client.Close()
		return nil, errors.New("invalid config: Client sets a consumer group or topics to consume")
	}
	return client, nil
}
