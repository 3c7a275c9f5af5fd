package kafka

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/pause"
	"github.com/millrace/millrace/pipeline"
)

// reader reads the partitions of one subtask. It takes everything the client
// has fetched, hands it on in batches, a partition at a time in turns, and asks
// the client again when all of it is gone. The client fetches ahead what fits
// one fetch for every broker, and then waits: this is what bounds memory.
type reader[T any] struct {
	pause.Set
	cluster *cluster
	env     *pipeline.SourceEnv
	log     *slog.Logger
	decode  func(*kgo.Record, *T) error
	figures figures
	group   *group // nil: nobody is told how far it is

	// Of the reading goroutine.
	splits   map[partition]*split
	ready    []*split // those with pending records, in turns
	announce []*split // not yet announced
	untold   []*split // announced, but the position they start from was not said
	live     int      // splits that are not done
	begun    bool
	decoding bool // user code is at work

	endDiscovery func()
	closed       sync.Once

	mu     sync.Mutex
	found  []*split // new partitions, to be read; guarded by mu
	failed error    // ends the job; guarded by mu
	wake   func()   // ends the poll under way; guarded by mu
}

func newReader[T any](s *Source[T], c *cluster, env *pipeline.SourceEnv, log *slog.Logger) *reader[T] {
	m := metricsOf(env)
	return &reader[T]{
		cluster: c, env: env, log: log, decode: s.decode, figures: newFigures(m), group: newGroup(c, log, m),
		splits: map[partition]*split{}, endDiscovery: func() {},
	}
}

// add takes in a split, which is to be announced.
func (r *reader[T]) add(s *split) {
	r.splits[s.partition] = s
	r.announce = append(r.announce, s)
	r.live++
	r.figures.partitions.Add(1)
	s.done = r.cluster.cfg.Bounded && s.next >= s.end
	s.behind = r.figures.of.SplitGauge("lag", s.name)
	r.measure(s)
}

// fetch has the client fetch splits from where they stand.
func (r *reader[T]) fetch(splits []*split) {
	from := map[string]map[int32]kgo.Offset{}
	for _, s := range splits {
		if s.done {
			continue
		}
		if from[s.topic] == nil {
			from[s.topic] = map[int32]kgo.Offset{}
		}
		from[s.topic][s.number] = kgo.NewOffset().At(s.next).WithEpoch(s.epoch)
	}
	r.cluster.client.AddConsumePartitions(from)
}

// Read implements [pipeline.Reader].
func (r *reader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		if told, err := r.tellNews(b); told || err != nil {
			return err
		}
		if s := r.next(); s != nil {
			r.fill(s, b)
			return nil
		}
		if err := r.poll(ctx); err != nil {
			return err
		}
	}
}

// tellNews says in b what there is to say before any record, if there is.
func (r *reader[T]) tellNews(b *pipeline.SourceBatch[T]) (told bool, err error) {
	first := !r.begun
	r.begun = true
	if err := r.takeNews(); err != nil {
		return false, err
	}
	for _, s := range r.announce {
		b.AddSplit(s.name)
	}
	r.untold = append(r.untold, r.announce...)
	r.announce = r.announce[:0]
	switch {
	case len(r.untold) > 0:
		r.tellStart(b)
		return true, nil
	case r.cluster.cfg.Bounded && r.live == 0:
		return false, pipeline.ErrEndOfInput
	}
	return first, nil // the engine waits to hear of us
}

// takeNews takes what discovery has found.
func (r *reader[T]) takeNews() error {
	r.mu.Lock()
	found, err := r.found, r.failed
	r.found = nil
	r.mu.Unlock()
	for _, s := range found {
		r.add(s)
	}
	if len(found) > 0 {
		r.fetch(found)
	}
	return err
}

// tellStart says where a split starts, before it has any record. A job that
// begins at the end of a partition must not begin there again after a restart,
// behind what was written in between.
func (r *reader[T]) tellStart(b *pipeline.SourceBatch[T]) {
	s := r.untold[0]
	r.untold = r.untold[1:]
	r.place(s, b)
	if s.done {
		r.finish(s, b)
	}
}

// place says in a batch how far the split has been read.
func (r *reader[T]) place(s *split, b *pipeline.SourceBatch[T]) {
	b.Split, b.Position = s.name, s.position()
}

// finish ends a split of a bounded source. The client need not fetch what comes
// behind the end.
func (r *reader[T]) finish(s *split, b *pipeline.SourceBatch[T]) {
	s.done, s.pending = true, nil
	r.live--
	r.figures.partitions.Add(-1)
	r.lags(s, 0)
	b.FinishSplit(s.name)
	r.hold(s)
}

// next returns the split whose turn it is, nil when there is nothing to read.
func (r *reader[T]) next() *split {
	for i, s := range r.ready {
		if r.Paused(s.name) {
			r.hold(s) // what was fetched of it suffices for now
			continue
		}
		r.ready = slices.Delete(r.ready, i, i+1)
		return s
	}
	return nil
}

func (r *reader[T]) hold(s *split) {
	if !s.held {
		s.held = true
		r.cluster.client.PauseFetchPartitions(map[string][]int32{s.topic: {s.number}})
	}
}

func (r *reader[T]) letGo(s *split) {
	if s.held {
		s.held = false
		r.cluster.client.ResumeFetchPartitions(map[string][]int32{s.topic: {s.number}})
	}
}

// batchBytes ends a batch of very long records early.
const batchBytes = 1 << 20

// fill moves records of a split into b.
func (r *reader[T]) fill(s *split, b *pipeline.SourceBatch[T]) {
	r.letGo(s)
	size := 0
	for len(s.pending) > 0 {
		n := len(b.Values)
		err := r.decodeSome(s, b, &n, &size)
		if !r.decoding {
			break
		}
		// User code panicked: on with the next record.
		r.decoding = false
		r.drop(b, n)
		r.reject(s, b, s.pending[0], err)
		s.pending = s.pending[1:]
	}
	r.figures.records.Add(int64(len(b.Values)))
	r.figures.bytes.Add(int64(size))
	r.place(s, b)
	switch {
	case r.cluster.cfg.Bounded && s.next >= s.end:
		r.finish(s, b)
		return
	case len(s.pending) > 0:
		r.ready = append(r.ready, s)
	default:
		s.pending = nil // or the last fetch would live on
	}
	r.measure(s)
}

// decodeSome decodes until the batch is full or nothing is left. Of the record
// whose decoder panics, done is the index in b.
func (r *reader[T]) decodeSome(s *split, b *pipeline.SourceBatch[T], done, size *int) (err error) {
	defer pipeline.CatchPanic(&err)
	limit := max(r.env.BatchSize, 1)
	var zero T
	for ; len(s.pending) > 0 && len(b.Values)+len(b.Rejected) < limit && *size < batchBytes; s.pending = s.pending[1:] {
		rec := s.pending[0]
		if rec.Offset < s.next { // of a batch that was begun before
			continue
		}
		if r.cluster.cfg.Bounded && rec.Offset >= s.end {
			s.next = max(s.next, s.end)
			return nil
		}
		s.next, s.epoch = rec.Offset+1, rec.LeaderEpoch
		if rec.Attrs.IsControl() {
			continue
		}
		*size += len(rec.Key) + len(rec.Value)
		*done = len(b.Values)
		b.Values = append(b.Values, zero)
		r.decoding = true
		err := r.decode(rec, &b.Values[*done])
		r.decoding = false
		if err != nil {
			r.drop(b, *done)
			r.reject(s, b, rec, err)
			continue
		}
		b.Times = append(b.Times, rec.Timestamp.UnixMilli())
	}
	return nil
}

// drop takes back what a failed decoder left behind the first n values.
func (r *reader[T]) drop(b *pipeline.SourceBatch[T], n int) {
	clear(b.Values[n:])
	b.Values = b.Values[:n]
}

func (r *reader[T]) reject(s *split, b *pipeline.SourceBatch[T], rec *kgo.Record, err error) {
	if errors.Is(err, ErrSkip) {
		r.figures.skipped.Add(1)
		return
	}
	d := pipeline.DeadLetter{
		Split: s.name, Offset: rec.Offset, Time: rec.Timestamp.UnixMilli(),
		Key: slices.Clone(rec.Key), Raw: slices.Clone(rec.Value), Error: err.Error(),
	}
	for _, h := range rec.Headers {
		d.Headers = append(d.Headers, pipeline.Header{Key: h.Key, Value: slices.Clone(h.Value)})
	}
	b.Rejected = append(b.Rejected, d)
}

// measure brings a split's lag into the gauges.
func (r *reader[T]) measure(s *split) { r.lags(s, max(s.highWater-s.next, 0)) }

func (r *reader[T]) lags(s *split, lag int64) {
	r.figures.lag.Add(lag - s.lag)
	s.lag = lag
	s.behind.Store(lag)
}

// poll waits until the client has fetched something, or something else is to be
// looked at.
func (r *reader[T]) poll(ctx context.Context) error {
	pollCtx, wake := context.WithCancel(ctx)
	defer wake()
	r.mu.Lock()
	r.wake = wake
	news := len(r.found) > 0 || r.failed != nil
	r.mu.Unlock()
	if news || r.anyReady() {
		return nil // it came before there was anything to wake
	}
	fetches := r.cluster.client.PollFetches(pollCtx)
	fetches.EachPartition(func(t kgo.FetchTopicPartition) {
		r.take(partition{t.Topic, t.Partition}, &t.FetchPartition)
	})
	// What is wrong with a partition concerns all that was fetched of it.
	for _, failed := range fetches.Errors() {
		if errors.Is(failed.Err, pollCtx.Err()) {
			continue // what ended the poll comes as an error of it
		}
		p := partition{failed.Topic, failed.Partition}
		if err := r.fetchError(ctx, p, r.splits[p], failed.Err); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *reader[T]) anyReady() bool {
	return slices.ContainsFunc(r.ready, func(s *split) bool { return !r.Paused(s.name) })
}

// Resume implements [pipeline.Pauser].
func (r *reader[T]) Resume(split string) {
	r.Set.Resume(split)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake != nil {
		r.wake()
	}
}

// take takes what a fetch has of a partition.
func (r *reader[T]) take(p partition, f *kgo.FetchPartition) {
	s := r.splits[p]
	if s == nil || s.done || len(f.Records) == 0 {
		return
	}
	s.highWater = f.HighWatermark
	if len(s.pending) > 0 {
		s.pending = append(s.pending, f.Records...)
	} else {
		s.pending = f.Records
		r.ready = append(r.ready, s)
	}
	if r.Paused(s.name) {
		r.hold(s)
	}
	if r.cluster.cfg.Ordered {
		r.holdAhead(s, len(f.Records))
	}
}

// partitions returns those of all splits.
func (r *reader[T]) partitions() map[string][]int32 {
	all := map[string][]int32{}
	for p := range r.splits {
		all[p.topic] = append(all[p.topic], p.number)
	}
	return all
}

// Close implements [pipeline.Closer].
func (r *reader[T]) Close() error {
	r.closed.Do(func() {
		r.endDiscovery()
		// Closing the client does not keep an update of its metadata from fetching
		// the partitions once more, while it ends the sessions of fetches.
		r.cluster.client.RemoveConsumePartitions(r.partitions())
		r.cluster.client.Close()
	})
	return nil
}
