package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

func benches() []bench {
	return []bench{
		{
			name: "chain of five operators, per operator", goal: "at most 3 ns",
			met:  func(ours, _, _ float64) bool { return ours <= 3 },
			ours: chainOurs, theirs: chainByHand,
		},
		{
			name: "hash exchange to two subtasks", goal: "ratio at most 1.5",
			met:  atMost(1.5),
			ours: exchangeOurs, theirs: exchangeByHand,
		},
		countBench(1_000), countBench(100_000), countBench(1_000_000),
	}
}

func atMost(limit float64) func(_, _, ratio float64) bool {
	return func(_, _, ratio float64) bool { return ratio <= limit }
}

const batchSize = 512

// replay is a source that hands out prepared batches over and over.
type replay[T any] struct {
	values []T
	times  []int64
	rounds int
}

func (s replay[T]) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	if !env.Mine(0) {
		s.rounds = 0
	}
	return &replayReader[T]{replay: s}, nil
}

type replayReader[T any] struct {
	replay[T]
	at int
}

func (r *replayReader[T]) Read(_ context.Context, b *pipeline.SourceBatch[T]) error {
	if r.rounds == 0 {
		return pipeline.ErrEndOfInput
	}
	end := min(r.at+batchSize, len(r.values))
	b.Split = "replay"
	b.Values = append(b.Values, r.values[r.at:end]...)
	b.Times = append(b.Times, r.times[r.at:end]...)
	if r.at = end; end == len(r.values) {
		r.at = 0
		r.rounds--
	}
	return nil
}

// summing is a sink that adds up what of makes of each record.
type summing[T any] struct {
	of  func(T) int64
	sum *int64
	mu  *sync.Mutex
}

func newSumming[T any](of func(T) int64) summing[T] {
	return summing[T]{of, new(int64), new(sync.Mutex)}
}

func (s summing[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return s, nil
}

func (s summing[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	sum := int64(0)
	for _, v := range b.Values {
		sum += s.of(v)
	}
	s.mu.Lock()
	*s.sum += sum
	s.mu.Unlock()
	return nil
}

func run(p *pipeline.Pipeline) {
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
}

func identity(n int64) int64 { return n }

// ── chain ────────────────────────────────────────────────────────────────────

// The chain's cost is the difference between a job with ten operators and one
// with five, so that source and sink do not count.

func chainRounds() int { return quarter(800) }

var chainValues, chainTimes = numbers(10_000)

func numbers(n int) (values, times []int64) {
	for i := range n {
		values, times = append(values, int64(i)), append(times, int64(i))
	}
	return values, times
}

//go:noinline
func addOne(n int64) int64 { return n + 1 }

func chainOurs() (cost, int64) {
	job := func(ops int) (float64, int64) {
		p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.BatchSize(batchSize))
		s := pipeline.From(p, "numbers", replay[int64]{chainValues, chainTimes, chainRounds()})
		for i := range ops {
			s = operators.Map(s, fmt.Sprint("add ", i), addOne)
		}
		sink := newSumming(identity)
		pipeline.To(s, "sum", sink)
		return measure(func() { run(p) }), *sink.sum
	}
	with, _ := job(10)
	without, sum := job(5)
	return costOf(with, without, 5*chainRounds()*len(chainValues)), sum
}

// chainByHand is five calls of the same function in one loop, which is what the
// operators' own work costs.
func chainByHand() (float64, int64) {
	f := addOne
	sum := int64(0)
	with := measure(func() {
		for range chainRounds() {
			for _, v := range chainValues {
				sum += f(f(f(f(f(v)))))
			}
		}
	})
	return with / float64(5*chainRounds()*len(chainValues)), sum
}

// ── exchange ─────────────────────────────────────────────────────────────────

func exchangeRounds() int { return quarter(400) }

type keyedNumber struct {
	Key  string
	N    int64
	Time int64
}

var exchangeValues, exchangeTimes = keyedNumbers(10_000, 1000, 1)

func keyedNumbers(n, keys int, step int64) (values []keyedNumber, times []int64) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		ts := int64(i) * step
		values = append(values, keyedNumber{fmt.Sprintf("user-%07d", rng.IntN(keys)), int64(i), ts})
		times = append(times, ts)
	}
	return values, times
}

func keyOf(v keyedNumber) string   { return v.Key }
func numberOf(v keyedNumber) int64 { return v.N }

type passOn struct{}

func (passOn) Process(c *pipeline.Context[string, keyedNumber], v keyedNumber) error {
	c.Emit(v)
	return nil
}

func (passOn) ProcessBatch(c *pipeline.Context[string, keyedNumber], b *pipeline.Batch[string, keyedNumber]) error {
	c.EmitBatch(b.Values, b.Times)
	return nil
}

// exchangeOurs is the difference between a job whose records go through a hash
// exchange and one in which they don't.
func exchangeOurs() (cost, int64) {
	source := replay[keyedNumber]{exchangeValues, exchangeTimes, exchangeRounds()}
	sink := newSumming(numberOf)
	p := pipeline.New(pipeline.DefaultParallelism(2), pipeline.BatchSize(batchSize))
	src := pipeline.From(p, "numbers", source, pipeline.Parallelism(1))
	pipeline.To(pipeline.Process(pipeline.KeyBy(src, keyOf), "receive", func() passOn { return passOn{} }), "sum", sink)
	with := measure(func() { run(p) })

	p = pipeline.New(pipeline.DefaultParallelism(1), pipeline.BatchSize(batchSize))
	pipeline.To(pipeline.From(p, "numbers", source), "sum", newSumming(numberOf))
	without := measure(func() { run(p) })
	return costOf(with, without, exchangeRounds()*len(exchangeValues)), *sink.sum
}

// scattered is what a hand-written exchange sends: the records of one target,
// with their times and hashes.
type scattered struct {
	values []keyedNumber
	times  []int64
	hashes []uint64
}

// exchangeByHand scatters batches to two goroutines and hands them back
// through a free list.
func exchangeByHand() (float64, int64) {
	const targets = 2
	var full, free [targets]chan *scattered
	var sums [targets]int64
	var wg sync.WaitGroup
	for i := range targets {
		full[i], free[i] = make(chan *scattered, 4), make(chan *scattered, 6)
		wg.Go(func() {
			for b := range full[i] {
				for _, v := range b.values {
					sums[i] += v.N
				}
				b.values, b.times, b.hashes = b.values[:0], b.times[:0], b.hashes[:0]
				select {
				case free[i] <- b:
				default:
				}
			}
		})
	}
	ns := measure(func() {
		var fill [targets]*scattered
		take := func(i int) *scattered {
			select {
			case b := <-free[i]:
				return b
			default:
				return &scattered{make([]keyedNumber, 0, batchSize), make([]int64, 0, batchSize), make([]uint64, 0, batchSize)}
			}
		}
		for i := range fill {
			fill[i] = take(i)
		}
		for range exchangeRounds() {
			for j, v := range exchangeValues {
				hash := xxhash.Sum64String(v.Key)
				i := hash % targets
				b := fill[i]
				b.values = append(b.values, v)
				b.times = append(b.times, exchangeTimes[j])
				b.hashes = append(b.hashes, hash)
				if len(b.values) == batchSize {
					full[i] <- b
					fill[i] = take(int(i))
				}
			}
		}
		for i := range fill {
			full[i] <- fill[i]
			close(full[i])
		}
		wg.Wait()
	})
	return ns / float64(exchangeRounds()*len(exchangeValues)), sums[0] + sums[1]
}

// ── keyed count ──────────────────────────────────────────────────────────────

// Four one-minute windows in which every key occurs about twenty times (two of
// a million keys, to bound the memory of the run; a quarter of that in a short one).
func countBench(keys int) bench {
	var values []keyedNumber
	var times []int64
	prepare := sync.OnceFunc(func() {
		n := min(80*keys, 8_000_000)
		n = quarter(max(n, 2_000_000))
		values, times = keyedNumbers(n, keys, 1)
		span := 4 * time.Minute.Milliseconds()
		for i := range times {
			times[i] = int64(i) * span / int64(n)
			values[i].Time = times[i]
		}
	})
	return bench{
		name: fmt.Sprintf("keyed one-minute count, %d keys", keys), goal: "ratio at most 1.5", met: atMost(1.5),
		ours:   func() (cost, int64) { prepare(); return countOurs(values, times) },
		theirs: func() (float64, int64) { prepare(); return countByHand(values) },
	}
}

func timeOf(v keyedNumber) int64 { return v.Time }

// countOurs is the difference between a job that counts and one that only
// reads, since the hand-written loop finds its records in memory.
func countOurs(values []keyedNumber, times []int64) (cost, int64) {
	source := replay[keyedNumber]{values, times, 1}
	strategy := pipeline.BoundedDisorder(timeOf, time.Second)
	p := pipeline.New(pipeline.DefaultParallelism(1))
	src := pipeline.From(p, "numbers", source, strategy)
	counts := operators.Aggregate(pipeline.KeyBy(src, keyOf), "count", window.Tumbling(time.Minute), operators.Count[keyedNumber]())
	sink := newSumming(func(r operators.Result[string, int64]) int64 { return r.Value * (r.Window.Start + 1) })
	pipeline.To(counts, "sum", sink)
	with := measure(func() { run(p) })

	p = pipeline.New(pipeline.DefaultParallelism(1))
	pipeline.To(pipeline.From(p, "numbers", source, strategy), "sum", newSumming(numberOf))
	without := measure(func() { run(p) })
	return costOf(with, without, len(values)), *sink.sum
}

// countByHand is the loop one would write: a map per open window, counts
// handed on when the watermark has passed the window.
func countByHand(values []keyedNumber) (float64, int64) {
	const size, delay = int64(60_000), int64(1000)
	sum := int64(0)
	ns := measure(func() {
		windows := map[int64]map[string]int64{}
		emit := func(before int64) {
			for start, counts := range windows {
				if start+size <= before {
					for _, n := range counts {
						sum += n * (start + 1)
					}
					delete(windows, start)
				}
			}
		}
		var current map[string]int64
		currentStart, newest := int64(-1), int64(0)
		for i := range values {
			v := &values[i]
			if start := v.Time - v.Time%size; start != currentStart {
				if windows[start] == nil {
					windows[start] = map[string]int64{}
				}
				current, currentStart = windows[start], start
			}
			current[v.Key]++
			if v.Time > newest {
				newest = v.Time
				if newest%size == delay {
					emit(newest - delay)
				}
			}
		}
		emit(1 << 62)
	})
	return ns / float64(len(values)), sum
}
