package kafka

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/pipeline"
)

// OrderedBy says by which time Config.Ordered merges the partitions, in
// milliseconds. Give it what the watermark strategy is given, where that takes
// event times from the value:
//
//	hits := pipeline.From(p, "hits", kafka.JSON[Hit](cfg).OrderedBy(Hit.Time),
//		pipeline.BoundedDisorder(Hit.Time, 10*time.Second), pipeline.Parallelism(1))
//
// A record for which it panics is rejected. Without Config.Ordered it has no
// effect. Default: the timestamps of the records.
func (s *Source[T]) OrderedBy(time func(T) int64) *Source[T] {
	ordered := *s
	ordered.by = time
	return &ordered
}

// Ordered implements [pipeline.Ordered]: with Config.Ordered, a watermark strategy
// that goes by the clock is refused.
func (s *Source[T]) Ordered() bool { return s.cfg.Ordered }

// ordered reads all partitions as one sequence. It knows the next record of
// every partition, its head, before it hands on the lowest of them; where one is
// missing, it waits for it, however many records of others there are.
//
// It is no [pipeline.Pauser]. What the engine holds back for MaxDrift it would
// hand on in another order, so the engine is to refuse that.
type ordered[T any] struct {
	reader *reader[T]
	by     func(T) int64 // nil is by timestamp
	heads  map[*split]*head[T]
	queue  queue[T]
}

// head is the next record of a split, decoded, while it is also the first of
// those pending.
type head[T any] struct {
	*split
	known bool
	value T
	time  int64
}

func newOrdered[T any](r *reader[T], by func(T) int64) *ordered[T] {
	o := &ordered[T]{reader: r, by: by, heads: map[*split]*head[T]{}}
	for _, s := range r.splits {
		o.heads[s] = &head[T]{split: s}
	}
	return o
}

// checkOrdered sees that one subtask reads all: two would each keep an order of
// their own, and how they mix would depend on their speed.
func checkOrdered(env *pipeline.SourceEnv) error {
	if env.Parallelism > 1 {
		return fmt.Errorf("invalid config: Ordered is for one subtask, the source has %d: add pipeline.Parallelism(1)", env.Parallelism)
	}
	return nil
}

// Read implements [pipeline.Reader].
func (o *ordered[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		if told, err := o.reader.tellNews(b); told || err != nil {
			return err
		}
		if o.lookAhead(b) {
			return nil
		}
		if len(o.queue) == o.reader.live {
			o.fill(b)
			return nil
		}
		if err := o.reader.poll(ctx); err != nil {
			return err
		}
	}
}

// lookAhead finds the heads of the splits that have records again. It says
// whether it came upon something to be told about one of them, which then is the
// split of b. A split whose records all turn out to be rejected ends here, always
// between its last record and the next one of any split.
func (o *ordered[T]) lookAhead(b *pipeline.SourceBatch[T]) bool {
	r := o.reader
	for len(r.ready) > 0 {
		h := o.heads[r.ready[0]]
		r.ready = slices.Delete(r.ready, 0, 1)
		if o.seek(h, b) {
			heap.Push(&o.queue, h)
		}
		if len(b.Rejected) > 0 || h.next >= h.end {
			o.conclude(h, b)
			return true
		}
	}
	return false
}

// fill moves records into b, of one split, as long as they are the lowest.
func (o *ordered[T]) fill(b *pipeline.SourceBatch[T]) {
	r, h := o.reader, o.queue[0]
	for size := 0; ; {
		rec := h.pending[0]
		size += len(rec.Key) + len(rec.Value)
		b.Values = append(b.Values, h.value)
		b.Times = append(b.Times, rec.Timestamp.UnixMilli())
		h.pass(rec)
		if !o.seek(h, b) {
			heap.Pop(&o.queue)
			r.figures.bytes.Add(int64(size))
			break
		}
		if o.queue.moved() || o.isFull(b) || size >= batchBytes {
			heap.Fix(&o.queue, 0)
			r.figures.bytes.Add(int64(size))
			break
		}
	}
	r.figures.records.Add(int64(len(b.Values)))
	o.conclude(h, b)
}

func (o *ordered[T]) isFull(b *pipeline.SourceBatch[T]) bool {
	return len(b.Values)+len(b.Rejected) >= max(o.reader.env.BatchSize, 1)
}

// seek finds the head of a split among its pending records, and passes over
// what is none. False is that there is none: the pending records or the split
// are at their end, or b can take no more of what is rejected.
func (o *ordered[T]) seek(h *head[T], b *pipeline.SourceBatch[T]) bool {
	var zero T
	h.known, h.value = false, zero
	for len(h.pending) > 0 {
		rec := h.pending[0]
		switch {
		case rec.Offset < h.next: // of a batch that was begun before
			h.pending = h.pending[1:]
			continue
		case rec.Offset >= h.end:
			h.next = max(h.next, h.end)
			return false
		case rec.Attrs.IsControl():
			h.pass(rec)
			continue
		}
		err := o.decode(h, rec)
		if err == nil {
			h.known = true
			return true
		}
		h.value = zero
		if len(b.Rejected) > 0 && o.isFull(b) {
			return false
		}
		o.reader.reject(h.split, b, rec, err)
		h.pass(rec)
	}
	return false
}

func (o *ordered[T]) decode(h *head[T], rec *kgo.Record) (err error) {
	defer pipeline.CatchPanic(&err)
	if err := o.reader.decode(rec, &h.value); err != nil {
		return err
	}
	if o.by == nil {
		h.time = rec.Timestamp.UnixMilli()
		return nil
	}
	h.time = o.by(h.value)
	return nil
}

// pass moves a split past the first of its pending records.
func (s *split) pass(rec *kgo.Record) {
	s.next, s.epoch = rec.Offset+1, rec.LeaderEpoch
	s.pending = s.pending[1:]
}

// conclude ends a batch: it says how far the split has been read, and sees to
// what comes next for it.
func (o *ordered[T]) conclude(h *head[T], b *pipeline.SourceBatch[T]) {
	r, s := o.reader, h.split
	r.place(s, b)
	if s.next >= s.end {
		delete(o.heads, s)
		r.finish(s, b)
		return
	}
	switch {
	case len(s.pending) == 0:
		s.pending = nil // or the last fetch would live on
	case !h.known: // b could take no more of what is rejected
		r.ready = append(r.ready, s)
	}
	if len(s.pending) <= s.low && s.fetched() < s.end {
		r.letGo(s)
	}
	r.measure(s)
}

// holdAhead holds a split back that has records enough, while the source waits
// for another one: a whole fetch that was not begun, or all there is. The client
// throws away what it fetches of a split meanwhile, so a split that is read as
// fast as it is fetched is not held.
func (r *reader[T]) holdAhead(s *split, fetched int) {
	s.low = fetched / 2
	if len(s.pending) > fetched || s.fetched() >= s.end {
		r.hold(s)
	}
}

// Acknowledge implements [pipeline.Acknowledger].
func (o *ordered[T]) Acknowledge(ctx context.Context, checkpoint int64, positions map[string][]byte) error {
	return o.reader.Acknowledge(ctx, checkpoint, positions)
}

// Close implements [pipeline.Closer].
func (o *ordered[T]) Close() error { return o.reader.Close() }

// queue is a heap of the known heads.
type queue[T any] []*head[T]

func (q queue[T]) Len() int      { return len(q) }
func (q queue[T]) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue[T]) Push(h any)   { *q = append(*q, h.(*head[T])) }

func (q queue[T]) Less(i, j int) bool {
	if c := cmp.Compare(q[i].time, q[j].time); c != 0 {
		return c < 0
	}
	return q[i].compare(q[j].partition) < 0
}

func (q *queue[T]) Pop() any {
	n := len(*q) - 1
	h := (*q)[n]
	(*q)[n] = nil
	*q = (*q)[:n]
	return h
}

// moved says whether the first head, which has changed, is still the lowest.
func (q queue[T]) moved() bool {
	for i := 1; i < min(len(q), 3); i++ {
		if q.Less(i, 0) {
			return true
		}
	}
	return false
}
