package pipeline

import (
	"reflect"

	"github.com/millrace/millrace/state"
)

// connector is how an edge carries records: typed inside, erased for the plan.
// The receivers it takes and returns as any are receiver[K, T] downstream and
// receiver[NoKey, T] upstream.
type connector interface {
	kind() string
	// chainable says whether the edge may be a direct call when both sides have
	// this parallelism.
	chainable(parallelism int) bool
	// targets returns the downstream subtasks that an upstream subtask reaches.
	targets(from, fromPar, toPar int) []int
	channel(cfg *config) channel
	// chain wraps the next operator's receiver for a direct call.
	chain(env *buildEnv, next any) any
	// sender returns the receiver that sends into channels, one for each target.
	sender(env *buildEnv, channels []channel) any
}

// channel is a bounded queue between one subtask and another.
type channel interface {
	// attach makes the channel the index-th input of its receiving task.
	attach(t *task, index int, entry any) input
}

// message is a batch or, where batch is nil, a signal.
type message[K comparable, T any] struct {
	batch  *Batch[K, T]
	signal signal
}

// queue is the channel of all exchanges. Batches go round: the receiver hands
// them back through free, so that steady traffic allocates nothing.
type queue[K comparable, T any] struct {
	full  chan message[K, T]
	free  chan *Batch[K, T]
	to    *task
	index int
	entry receiver[K, T]
	size  int
	clear bool // values or keys hold pointers
}

func newQueue[K comparable, T any](cfg *config) *queue[K, T] {
	return &queue[K, T]{
		full:  make(chan message[K, T], cfg.channelCapacity),
		free:  make(chan *Batch[K, T], cfg.channelCapacity+2),
		size:  cfg.batchSize,
		clear: state.HasPointers(reflect.TypeFor[T]()) || state.HasPointers(reflect.TypeFor[K]()),
	}
}

func (q *queue[K, T]) attach(t *task, index int, entry any) input {
	q.to, q.index, q.entry = t, index, entry.(receiver[K, T])
	return q
}

// poll handles one message if there is one.
func (q *queue[K, T]) poll() bool {
	select {
	case m := <-q.full:
		if m.batch == nil {
			q.to.signal(q.index, m.signal)
			return true
		}
		q.entry.process(m.batch)
		q.recycle(m.batch)
		return true
	default:
		return false
	}
}

func (q *queue[K, T]) recycle(b *Batch[K, T]) {
	if q.clear { // what a record refers to must not outlive it here
		clear(b.Values)
		clear(b.Keys)
	}
	b.Values, b.Times, b.Keys, b.Hashes = b.Values[:0], b.Times[:0], b.Keys[:0], b.Hashes[:0]
	select {
	case q.free <- b:
	default:
	}
}

// take returns an empty batch.
func (q *queue[K, T]) take() *Batch[K, T] {
	select {
	case b := <-q.free:
		return b
	default:
	}
	b := &Batch[K, T]{Values: make([]T, 0, q.size), Times: make([]int64, 0, q.size)}
	if _, unkeyed := any(b.Keys).([]NoKey); !unkeyed {
		b.Keys, b.Hashes = make([]K, 0, q.size), make([]uint64, 0, q.size)
	}
	return b
}

// send blocks while the receiver is behind; from is the sending task.
func (q *queue[K, T]) send(from *task, m message[K, T]) {
	select {
	case q.full <- m:
	default:
		select {
		case q.full <- m:
		case <-from.job.aborted:
			from.fail(errAborted)
			return
		}
	}
	q.to.wake()
}

func queuesOf[K comparable, T any](channels []channel) []*queue[K, T] {
	qs := make([]*queue[K, T], len(channels))
	for i, c := range channels {
		qs[i] = c.(*queue[K, T])
	}
	return qs
}

// sender holds the batches being filled for each target.
type sender[K comparable, T any] struct {
	task   *task
	queues []*queue[K, T]
	fill   []*Batch[K, T]
	size   int
}

func newSender[K comparable, T any](env *buildEnv, channels []channel) *sender[K, T] {
	s := &sender[K, T]{
		task: env.task, queues: queuesOf[K, T](channels), size: env.task.job.cfg.batchSize,
		fill: make([]*Batch[K, T], len(channels)),
	}
	for i, q := range s.queues {
		s.fill[i] = q.take()
	}
	env.task.senders = append(env.task.senders, s)
	return s
}

// flush sends what is buffered for every target.
func (s *sender[K, T]) flush() {
	for i := range s.fill {
		if len(s.fill[i].Values) > 0 {
			s.flushTo(i)
		}
	}
}

func (s *sender[K, T]) flushTo(i int) {
	q := s.queues[i]
	q.send(s.task, message[K, T]{batch: s.fill[i]})
	s.fill[i] = q.take()
}

// control passes a signal to every target, behind the records before it.
func (s *sender[K, T]) control(sig signal) {
	s.flush()
	for _, q := range s.queues {
		q.send(s.task, message[K, T]{signal: sig})
	}
}

// appendTo copies records to target i's batch, sending it whenever full.
func (s *sender[K, T]) appendTo(i int, values []T, times []int64) {
	for len(values) > 0 {
		b := s.fill[i]
		n := min(s.size-len(b.Values), len(values))
		b.Values = append(b.Values, values[:n]...)
		b.Times = append(b.Times, times[:n]...)
		values, times = values[n:], times[n:]
		if len(b.Values) >= s.size {
			s.flushTo(i)
		}
	}
}

// forwarded carries records to the same subtask, or, where parallelism
// differs, to the subtask with the same index modulo the other's parallelism:
// so the records of one split stay together and in order.
type forwarded[T any] struct{}

func (*forwarded[T]) kind() string              { return "forward" }
func (*forwarded[T]) chainable(int) bool        { return true }
func (*forwarded[T]) channel(c *config) channel { return newQueue[NoKey, T](c) }
func (*forwarded[T]) targets(from, _, toPar int) []int {
	return []int{from % toPar}
}
func (*forwarded[T]) chain(_ *buildEnv, next any) any { return next }
func (*forwarded[T]) sender(env *buildEnv, channels []channel) any {
	return &forwardSender[T]{newSender[NoKey, T](env, channels)}
}

type forwardSender[T any] struct{ *sender[NoKey, T] }

func (s *forwardSender[T]) process(b *Records[T]) { s.appendTo(0, b.Values, b.Times) }

// rebalanced deals batches out in turn.
type rebalanced[T any] struct{}

func (*rebalanced[T]) kind() string                    { return "rebalance" }
func (*rebalanced[T]) chainable(parallelism int) bool  { return parallelism == 1 }
func (*rebalanced[T]) channel(c *config) channel       { return newQueue[NoKey, T](c) }
func (*rebalanced[T]) targets(_, _, toPar int) []int   { return allOf(toPar) }
func (*rebalanced[T]) chain(_ *buildEnv, next any) any { return next }
func (*rebalanced[T]) sender(env *buildEnv, channels []channel) any {
	return &rebalanceSender[T]{sender: newSender[NoKey, T](env, channels), next: env.task.subtask}
}

type rebalanceSender[T any] struct {
	*sender[NoKey, T]
	next int
}

func (s *rebalanceSender[T]) process(b *Records[T]) {
	s.next = (s.next + 1) % len(s.queues)
	s.appendTo(s.next, b.Values, b.Times)
}

// broadcasted copies every record to every target.
type broadcasted[T any] struct{}

func (*broadcasted[T]) kind() string                    { return "broadcast" }
func (*broadcasted[T]) chainable(parallelism int) bool  { return parallelism == 1 }
func (*broadcasted[T]) channel(c *config) channel       { return newQueue[NoKey, T](c) }
func (*broadcasted[T]) targets(_, _, toPar int) []int   { return allOf(toPar) }
func (*broadcasted[T]) chain(_ *buildEnv, next any) any { return next }
func (*broadcasted[T]) sender(env *buildEnv, channels []channel) any {
	return &broadcastSender[T]{newSender[NoKey, T](env, channels)}
}

type broadcastSender[T any] struct{ *sender[NoKey, T] }

func (s *broadcastSender[T]) process(b *Records[T]) {
	for i := range s.queues {
		s.appendTo(i, b.Values, b.Times)
	}
}

func allOf(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// keyed carries records to the owner of their key.
type keyed[K comparable, T any] struct{ key func(T) K }

func (*keyed[K, T]) kind() string                   { return "hash" }
func (*keyed[K, T]) chainable(parallelism int) bool { return parallelism == 1 }
func (*keyed[K, T]) channel(c *config) channel      { return newQueue[K, T](c) }
func (*keyed[K, T]) targets(_, _, toPar int) []int  { return allOf(toPar) }

func (c *keyed[K, T]) chain(env *buildEnv, next any) any {
	return &keyChain[K, T]{keyer: newKeyer(env, c.key), next: next.(receiver[K, T])}
}

func (c *keyed[K, T]) sender(env *buildEnv, channels []channel) any {
	s := &hashSender[K, T]{sender: newSender[K, T](env, channels), keyer: newKeyer(env, c.key)}
	groups := env.task.job.cfg.maxParallelism
	s.owner = make([]uint16, groups)
	if groups&(groups-1) == 0 {
		s.mask = uint64(groups - 1)
	}
	for g := range s.owner {
		s.owner[g] = uint16(state.SubtaskOf(g, len(channels), groups))
	}
	return s
}

// keyer computes the keys and hashes of a batch.
type keyer[K comparable, T any] struct {
	inst *instance
	key  func(T) K
	hash func(K) uint64
	out  Batch[K, T]
	kept Records[T] // the batch without rejected records, when there are any
}

func newKeyer[K comparable, T any](env *buildEnv, key func(T) K) *keyer[K, T] {
	hash, err := state.HasherFor[K]()
	if err != nil { // KeyBy reported it; such a graph is not run
		panic(err)
	}
	return &keyer[K, T]{inst: env.inst, key: key, hash: hash}
}

// run returns the batch with its keys. It holds until the next run.
func (k *keyer[K, T]) run(b *Records[T]) *Batch[K, T] {
	n := len(b.Values)
	if cap(k.out.Keys) < n {
		k.out.Keys, k.out.Hashes = make([]K, n), make([]uint64, n)
	}
	out := &k.out
	out.Values, out.Times, out.Keys, out.Hashes = b.Values, b.Times, out.Keys[:n], out.Hashes[:n]
	rejected := 0
	for b.Cursor = 0; ; b.Cursor++ {
		err := k.attempt(b, rejected)
		if err == nil {
			return out
		}
		k.reject(b, b.Cursor-rejected, err)
		rejected++
	}
}

// attempt computes the keys from the cursor on, as many places further ahead
// as records were rejected before.
func (k *keyer[K, T]) attempt(b *Records[T], rejected int) (err error) {
	defer CatchPanic(&err)
	values, keyOf, hashOf := b.Values, k.key, k.hash
	keys, hashes := k.out.Keys, k.out.Hashes
	for i := b.Cursor; i < len(values); i++ {
		b.Cursor = i
		key := keyOf(values[i])
		keys[i-rejected], hashes[i-rejected] = key, hashOf(key)
	}
	return nil
}

// reject takes a record out of a copy of the batch, since the batch itself may
// have other readers.
func (k *keyer[K, T]) reject(b *Records[T], i int, err error) {
	k.inst.reject(DeadLetter{Error: "key function: " + err.Error(), Time: b.Times[b.Cursor], Record: render(b.Values[b.Cursor])}, err)
	out := &k.out
	k.kept.Values = append(append(k.kept.Values[:0], out.Values[:i]...), out.Values[i+1:]...)
	k.kept.Times = append(append(k.kept.Times[:0], out.Times[:i]...), out.Times[i+1:]...)
	out.Values, out.Times = k.kept.Values, k.kept.Times
	out.Keys, out.Hashes = out.Keys[:len(out.Values)], out.Hashes[:len(out.Values)]
}

// keyChain adds keys within a chain: at parallelism 1 there is nowhere to send
// a record to.
type keyChain[K comparable, T any] struct {
	*keyer[K, T]
	next receiver[K, T]
}

func (c *keyChain[K, T]) process(b *Records[T]) { c.next.process(c.run(b)) }
func (c *keyChain[K, T]) control(s signal)      { c.next.control(s) }

// hashSender scatters records to the subtasks that own their key groups.
type hashSender[K comparable, T any] struct {
	*sender[K, T]
	*keyer[K, T]
	owner []uint16 // by key group
	mask  uint64   // of the key groups, if their number is a power of two
}

func (s *hashSender[K, T]) process(b *Records[T]) {
	batch := s.run(b)
	values, times, keys, hashes := batch.Values, batch.Times, batch.Keys, batch.Hashes
	for i, hash := range hashes {
		to := s.owner[s.group(hash)]
		fill := s.fill[to]
		fill.Values = append(fill.Values, values[i])
		fill.Times = append(fill.Times, times[i])
		fill.Keys = append(fill.Keys, keys[i])
		fill.Hashes = append(fill.Hashes, hash)
		if len(fill.Values) >= s.size {
			s.flushTo(int(to))
		}
	}
}

// group is state.KeyGroup without its division, for the usual numbers of key
// groups.
func (s *hashSender[K, T]) group(hash uint64) uint64 {
	if s.mask > 0 {
		return hash & s.mask
	}
	return hash % uint64(len(s.owner))
}
