package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
)

// transaction is the commit point of a job: one transaction at a time, into which
// all its writers write, and which commits their records, the sources' offsets and
// the checkpoint's name together.
//
// A writer that has passed the barrier of a checkpoint holds its records back
// until that checkpoint was committed, whose transaction they do not belong to, or
// given up, whose records go on to belong to the same transaction as theirs.
//
//	barrier 7 at the writer   commit 7               barrier 8
//	──── produce ─────┼──────── hold ────┼─ produce held, produce ─┼──── hold …
type transaction struct {
	p *Producer

	// What follows is set by Open.
	id      string // the transactional id
	offsets *offsets
	timeout time.Duration
	lasted  *pipeline.Histogram // from a transaction's first record to its commit

	mu       sync.Mutex
	resolved int64         // the last checkpoint that was committed or given up; guarded by mu
	news     chan struct{} // closed when resolved changes; guarded by mu
}

func newTransaction(p *Producer) *transaction {
	return &transaction{p: p, news: make(chan struct{})}
}

// String says where it is recorded which checkpoint counts. Brokers leave offsets of
// topics that the job has no right to out of what they answer, without a word, so a
// job that has lost a right may find nothing.
func (t *transaction) String() string {
	return fmt.Sprintf("consumer group %q of the Kafka cluster at %q, which tells those who may READ the job's topics",
		t.offsets.group, t.p.cfg.Brokers)
}

// Open implements [pipeline.CommitPoint].
func (t *transaction) Open(ctx context.Context, env *pipeline.CommitEnv) (last string, err error) {
	cfg := &t.p.cfg
	if err := cfg.check(); err != nil {
		return "", err
	}
	id, group := cfg.TransactionalID, cfg.Group
	if id == "" {
		id = env.Job
	}
	if group == "" {
		group = env.Job
	}
	if id == "" || group == "" {
		return "", errors.New("invalid config: TransactionalID and Group are empty, and the job has no name")
	}
	if t.timeout, err = transactionTimeout(cfg.TransactionTimeout, env.Interval); err != nil {
		return "", err
	}
	t.id, t.lasted = id, env.Metrics.Histogram("transaction_duration")
	t.forget()
	err = t.p.open(ctx, env.Logger, append(t.patience(), kgo.TransactionalID(id), kgo.TransactionTimeout(t.timeout))...)
	if err != nil {
		return "", err
	}
	t.offsets = &offsets{id: id, job: env.Job, group: group, topics: t.p.topics, timeout: t.timeout, log: env.Logger}
	if last, err = t.start(ctx, env); err != nil {
		return "", errors.Join(err, t.Close())
	}
	return last, nil
}

// forget is for another job with the same producer, in a test for example: its
// checkpoints are counted anew.
func (t *transaction) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resolved = 0
}

// patience has clients try again for as long as a transaction lives: brokers that
// are away for less cost nothing but time.
func (t *transaction) patience() []kgo.Opt {
	return []kgo.Opt{kgo.RetryTimeout(t.timeout), kgo.RequestRetries(math.MaxInt32)}
}

// start finds out what was committed last. It asks twice: first without touching
// anything, so that a process that has no business here leaves the one that has
// alone, and again when no other process can commit any more.
func (t *transaction) start(ctx context.Context, env *pipeline.CommitEnv) (last string, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.p.cfg.StartTimeout)
	defer cancel()
	if err := t.offsets.connect(&t.p.cfg, t.patience()); err != nil {
		return "", err
	}
	last, err = t.offsets.last(ctx, false)
	if err != nil {
		return "", err
	}
	if last != "" && !env.Holds(last) {
		return last, nil // which is refused
	}
	if err := t.fence(ctx); err != nil {
		return "", fmt.Errorf("transactional id %q: %w", t.offsets.id, transactionError(err))
	}
	if err := t.offsets.init(ctx); err != nil {
		return "", fmt.Errorf("transactional id %q: %w", t.offsets.emptyID(), transactionError(err))
	}
	if last, err = t.offsets.last(ctx, true); err != nil {
		return "", err
	}
	return last, t.p.client.BeginTransaction()
}

// fence ends what others do with the transactional id.
func (t *transaction) fence(ctx context.Context) error {
	return retry(ctx, func() error {
		_, _, err := t.p.client.ProducerID(ctx)
		return err
	})
}

// allowedTimeout is transaction.max.timeout.ms of brokers that were told no other.
const allowedTimeout = 15 * time.Minute

// transactionTimeout returns how long a transaction may take.
func transactionTimeout(wanted, interval time.Duration) (time.Duration, error) {
	if wanted == 0 {
		wanted = allowedTimeout
	}
	if wanted <= interval {
		return 0, fmt.Errorf("invalid config: TransactionTimeout is %v and checkpoints are taken every %v: the brokers would abort "+
			"each transaction before its checkpoint; make it several times as long (and the brokers' transaction.max.timeout.ms), or "+
			"shorten CheckpointInterval", wanted, interval)
	}
	return wanted, nil
}

// Commit implements [pipeline.CommitPoint].
func (t *transaction) Commit(ctx context.Context, c *pipeline.Commit) error {
	began := time.Now()
	if err := t.p.flush(ctx); err != nil {
		return err
	}
	if err := t.p.settle(ctx); err != nil {
		return err
	}
	produced := t.p.begun.Swap(0) > 0
	if err := t.commit(ctx, c, produced); err != nil {
		return t.p.explained(transactionError(err))
	}
	if produced {
		t.lasted.Observe(time.Since(time.Unix(0, t.p.opened.Load())))
	}
	t.p.stats.committed(time.Since(began))
	t.resolve(c.Checkpoint)
	return nil
}

func (t *transaction) commit(ctx context.Context, c *pipeline.Commit, produced bool) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	client := t.p.client
	if !produced {
		// The client has begun no transaction then, and would end none.
		return t.offsets.commitAlone(ctx, c)
	}
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return err
	}
	if err := t.offsets.add(ctx, t.offsets.id, id, epoch, c); err != nil {
		return err
	}
	err = client.EndTransaction(ctx, kgo.TryCommit)
	if cutOff(err) {
		err = t.endAnyway(ctx, id, epoch)
	}
	if err != nil {
		return fmt.Errorf("end transaction: %w", err)
	}
	return t.p.client.BeginTransaction()
}

// endAnyway commits the transaction whose end the client has given up. It does where
// none of the brokers takes a connection, and lets nobody try again, as it does not know
// whether the first request arrived. The brokers do, and answer the second as they did
// the first. The client's epoch is behind after that, so another client takes its place:
// there are no records with it, since all writers wait for the end.
func (t *transaction) endAnyway(ctx context.Context, producer int64, epoch int16) error {
	if err := end(ctx, t.p.client, t.id, producer, epoch); err != nil {
		return err
	}
	t.p.client.Close()
	if err := t.p.newClient(); err != nil {
		return err
	}
	return t.fence(ctx)
}

// Abandon implements [pipeline.CommitPoint].
func (t *transaction) Abandon(checkpoint int64) { t.resolve(checkpoint) }

func (t *transaction) resolve(checkpoint int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resolved = max(t.resolved, checkpoint)
	close(t.news)
	t.news = make(chan struct{})
}

// open says whether it is still to be decided what becomes of a checkpoint, and
// if so, returns a channel that is closed when there is news.
func (t *transaction) open(checkpoint int64) (news <-chan struct{}, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.news, checkpoint > t.resolved
}

// await waits until it is decided what becomes of a checkpoint.
func (t *transaction) await(ctx context.Context, checkpoint int64) error {
	for {
		news, open := t.open(checkpoint)
		if !open {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close implements [pipeline.CommitPoint]. What is not committed is left to the
// brokers, who abort it at the next start or after the time-out; to abort it at
// once spares readers the wait.
func (t *transaction) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.p.client.AbortBufferedRecords(ctx); err == nil {
		if err := t.p.client.EndTransaction(ctx, kgo.TryAbort); err != nil {
			t.offsets.log.Debug("the last transaction is left to the brokers", "err", err)
		}
	}
	t.offsets.close()
	t.p.release()
	return nil
}

// closeTimeout bounds what an end of the job waits for brokers that are away.
const closeTimeout = 5 * time.Second

// fenced says whether an error means that the transaction is not ours any more.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) ||
		errors.Is(err, kerr.InvalidProducerIDMapping) || errors.Is(err, kerr.InvalidTxnState)
}

// transactionError says what an error of the brokers means for the job.
func transactionError(err error) error {
	switch {
	case fenced(err):
		return fmt.Errorf("fenced: another process runs with this transactional id, or the transaction took longer than "+
			"Config.TransactionTimeout and was aborted; nothing of it is visible: %w", err)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return fmt.Errorf("Config.TransactionTimeout is longer than the brokers allow: lower it, or raise their "+
			"transaction.max.timeout.ms: %w", err)
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return fmt.Errorf("the brokers refuse the transactional id; allow WRITE and DESCRIBE on it: %w", err)
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("the brokers refuse the consumer group; allow READ on it: %w", err)
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.FencedInstanceID):
		return fmt.Errorf("the consumer group has members: it is the job's own, so stop them, or set Config.Group: %w", err)
	case errors.Is(err, kerr.OffsetMetadataTooLarge):
		return fmt.Errorf("the brokers take less metadata with an offset than the name of a checkpoint needs: raise their "+
			"offset.metadata.max.bytes: %w", err)
	}
	return err
}

// exactlyOnce is a writer within a transaction.
type exactlyOnce[T any] struct {
	*writer[T]
	txn     *transaction
	passed  int64         // the last barrier; what came after is held while that checkpoint is open
	held    []*kgo.Record // since
	holding int           // bytes of them
}

// Write implements [pipeline.Writer].
func (w *exactlyOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		r, err := w.record(v, b.Times[i])
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		w.held = append(w.held, r)
		w.holding += size(r)
	}
	if _, open := w.txn.open(w.passed); !open {
		w.letGo(ctx)
		return w.p.failure()
	}
	if w.holding > w.p.cfg.BufferBytes {
		return w.await(ctx)
	}
	return nil
}

// await waits for what becomes of the checkpoint whose barrier was passed.
func (w *exactlyOnce[T]) await(ctx context.Context) error {
	if err := w.txn.await(ctx, w.passed); err != nil {
		return err
	}
	w.letGo(ctx)
	return w.p.failure()
}

// letGo produces what is held.
func (w *exactlyOnce[T]) letGo(ctx context.Context) {
	for _, r := range w.held {
		w.p.produce(ctx, r)
	}
	clear(w.held)
	w.held, w.holding = w.held[:0], 0
}

// Prepare implements [pipeline.Committer]. The records are with the client then;
// the transaction's commit waits for them.
func (w *exactlyOnce[T]) Prepare(ctx context.Context, checkpoint int64) ([]byte, error) {
	if err := w.await(ctx); err != nil {
		return nil, err
	}
	w.passed = checkpoint
	return nil, nil
}

// Commit implements [pipeline.Committer]; the transaction has committed.
func (w *exactlyOnce[T]) Commit(context.Context, []byte) error { return nil }
