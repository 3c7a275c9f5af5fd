package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/kafkaoutage"
	"github.com/millrace/millrace/pipeline"
)

// Producer writes to one cluster, for any number of sinks of one job. With
// [ExactlyOnce], all they write is one transaction.
type Producer struct {
	cfg    Config
	topics []string // of its sinks

	mu      sync.Mutex
	users   int            // writers that are open, and the transaction; guarded by mu
	client  *kgo.Client    // nil while there are no users; guarded by mu
	options []kgo.Opt      // those of client; guarded by mu
	limits  map[string]int // how large a record of a topic may be; guarded by mu
	refused error          // why the last attempt to connect failed; guarded by mu

	attempts atomic.Int64 // to connect
	txn      *transaction // nil for AtLeastOnce
	begun    atomic.Int64 // records that were produced since the last commit
	opened   atomic.Int64 // when the first of them was, in nanoseconds since the epoch
	failed   atomic.Pointer[error]
	stats    commitStats
}

// NewProducer returns a producer for sinks of one job.
func NewProducer(cfg Config) *Producer {
	p := &Producer{cfg: cfg.withDefaults()}
	if cfg.Delivery == ExactlyOnce {
		p.txn = newTransaction(p)
	}
	return p
}

// open connects, once for all users. Who waits for another's attempt fails with
// it, or else the subtasks would all wait for StartTimeout, one after the other.
func (p *Producer) open(ctx context.Context, log *slog.Logger, more ...kgo.Opt) error {
	seen := p.attempts.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.users > 0:
		p.users++
		return nil
	case p.attempts.Load() > seen && p.refused != nil:
		return p.refused
	}
	p.refused = p.connect(ctx, log, more)
	p.attempts.Add(1)
	if p.refused == nil {
		p.users++
	}
	return p.refused
}

func (p *Producer) connect(ctx context.Context, log *slog.Logger, more []kgo.Opt) error {
	if err := p.cfg.check(); err != nil {
		return err
	}
	if slices.Contains(p.topics, "") {
		return errors.New("invalid sink: it has no topic")
	}
	p.begun.Store(0)
	p.failed.Store(nil)
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StartTimeout)
	defer cancel()
	// Topics are asked for before the client that produces is made, since it is to
	// know how large their records may be.
	asking, err := kgo.NewClient(p.cfg.clientOptions()...)
	if err != nil {
		return fmt.Errorf("invalid config: Client: %w", err)
	}
	defer asking.Close()
	if err := p.awaitTopics(ctx, asking); err != nil {
		return err
	}
	if p.limits, err = p.askLimits(ctx, asking, log); err != nil {
		return err
	}
	opts := p.cfg.clientOptions(more...)
	limits, buffer := p.limits, p.cfg.BufferBytes
	for _, n := range limits { // the client would not take a record that is larger than its buffer
		buffer = max(buffer, n)
	}
	// A broker that is killed may take a connection and no request. The client takes
	// that for a refusal, which it isn't: the brokers have just answered.
	opts = append(opts, kgo.AlwaysRetryEOF(), kgo.WithHooks(kafkaoutage.New(log)), kgo.MaxBufferedBytes(buffer), kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
		if n, ok := limits[topic]; ok {
			return int32(n)
		}
		return defaultLimit
	}))
	p.options = opts
	return p.newClient()
}

func (p *Producer) newClient() error {
	client, err := kgo.NewClient(p.options...)
	if err != nil {
		return fmt.Errorf("invalid config: Client: %w", err)
	}
	p.client = client
	return nil
}

// release is for a user that is done.
func (p *Producer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users--; p.users == 0 {
		p.client.Close()
		p.client = nil
	}
}

// awaitTopics checks that the sinks' topics are there. Brokers that can't be
// reached yet are waited for.
func (p *Producer) awaitTopics(ctx context.Context, client *kgo.Client) error {
	var telling error // of the last try that the end of the time did not cut short
	for {
		err := p.checkTopics(ctx, client)
		var unreachable *unreachableError
		if !errors.As(err, &unreachable) {
			return err
		}
		if timeout, ok := errors.AsType[net.Error](err); telling == nil || !ok || !timeout.Timeout() {
			telling = err
		}
		select {
		case <-ctx.Done():
			return telling
		case <-time.After(awaitInterval):
		}
	}
}

const awaitInterval = 250 * time.Millisecond

// unreachableError says that no broker answered.
type unreachableError struct {
	brokers []string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("none of the brokers %q answers: %v", e.brokers, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

func (p *Producer) checkTopics(ctx context.Context, client *kgo.Client) error {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, name := range p.topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		if _, ok := errors.AsType[*kerr.Error](err); ok {
			return fmt.Errorf("ask the brokers %q for topics: %w", p.cfg.Brokers, err)
		}
		return &unreachableError{p.cfg.Brokers, err}
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
			return produceError(*t.Topic, err)
		}
	}
	return nil
}

// defaultLimit is how large a record may be by the brokers' defaults, and less
// what they count in addition.
const defaultLimit = 1_000_000

// overhead is what a record and its batch take besides key, value and headers.
const overhead = 128

// askLimits asks how large the records of topics may be. Who may not ask gets the
// default.
func (p *Producer) askLimits(ctx context.Context, client *kgo.Client, log *slog.Logger) (map[string]int, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range p.topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, name
		r.ConfigNames = []string{"max.message.bytes"}
		req.Resources = append(req.Resources, r)
	}
	limits := map[string]int{}
	if len(req.Resources) == 0 {
		return limits, nil
	}
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask the brokers how large records may be: %w", err)
	}
	for _, r := range resp.Resources {
		limits[r.ResourceName] = defaultLimit
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			log.Debug("nobody says how large records may be", "topic", r.ResourceName, "err", err)
			continue
		}
		for _, c := range r.Configs {
			if c.Name != "max.message.bytes" || c.Value == nil {
				continue
			}
			if n, err := strconv.Atoi(*c.Value); err == nil && n > 0 {
				limits[r.ResourceName] = min(n, 100<<20)
			}
		}
	}
	return limits, nil
}

// produce hands a record to the client. It blocks while too much is buffered.
func (p *Producer) produce(ctx context.Context, r *kgo.Record) {
	if p.begun.Add(1) == 1 {
		p.opened.Store(time.Now().UnixNano())
	}
	p.client.Produce(ctx, r, p.produced)
}

// produced notes the first record that could not be written.
func (p *Producer) produced(r *kgo.Record, err error) {
	if err != nil {
		err = p.explained(produceError(r.Topic, err))
		p.failed.CompareAndSwap(nil, &err)
	}
}

// failure returns why a record could not be written, nil if all were.
func (p *Producer) failure() error {
	if err := p.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// flush waits until everything that was produced is with the brokers.
func (p *Producer) flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return p.failure()
}

// settle waits, behind a flush, until the client knows the partitions of all topics that
// it has written to. At the first records of a topic it hands them on before it stores
// where they go (kgo, storePartitionsUpdate): where the machine is busy, brokers have
// acknowledged them in between. An end of the transaction would find nothing written
// then, and abort what it is told to commit, without an error. Nothing is buffered any
// more that could be aborted: the call takes the lock under which the client stores.
func (p *Producer) settle(ctx context.Context) error {
	return p.client.AbortBufferedRecords(ctx)
}

// produceError says what an error of the brokers means for a topic.
func produceError(topic string, err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("topic %q does not exist: %w", topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %q: the brokers refuse to let us write to it; allow WRITE and DESCRIBE: %w", topic, err)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("topic %q: a batch is larger than the brokers take: raise max.message.bytes of the topic, or let the "+
			"job DESCRIBE_CONFIGS it, so that it knows: %w", topic, err)
	}
	return transactionError(fmt.Errorf("topic %q: %w", topic, err))
}

// explained adds to an error which transactional id it is about, where it is one.
func (p *Producer) explained(err error) error {
	if p.txn == nil || !fenced(err) {
		return err
	}
	return fmt.Errorf("transactional id %q: %w", p.txn.id, err)
}

// ProducerStats is what is known of a producer's commits in this run.
type ProducerStats struct {
	// Commits counts transactions that were committed, those without records too.
	Commits int64
	// LastCommit is how long the last one took, from when all of its checkpoint was
	// in the job's directory. Results wait that long in addition.
	LastCommit time.Duration
	// LongestCommit is how long the longest one took.
	LongestCommit time.Duration
}

// Stats returns the figures of commits, zero for AtLeastOnce. It is safe from any
// goroutine.
func (p *Producer) Stats() ProducerStats {
	p.stats.mu.Lock()
	defer p.stats.mu.Unlock()
	return p.stats.ProducerStats
}

type commitStats struct {
	mu            sync.Mutex
	ProducerStats // guarded by mu
}

func (s *commitStats) committed(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Commits++
	s.LastCommit, s.LongestCommit = took, max(s.LongestCommit, took)
}

// counters of a writer.
type figures struct {
	records, bytes, rejected *pipeline.Counter
}
