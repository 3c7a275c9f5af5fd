package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"unsafe"

	"github.com/millrace/millrace/benchmarks/internal/results"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// keys measures a count for each key, one update a record, with all keys in memory,
// beside a bare map of the same keys that is given the same records. The job and the
// map of a thousand keys stay, and run in the same round as those of any other size.
//
// There is no collection of garbage within a round, since neither side makes any.
func keys(c config) (*figure, error) {
	sizes := []int{1000, 10_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000}
	if c.short {
		sizes = []int{1000, 100_000, 1_000_000}
	}
	small, err := startCount(sizes[0])
	if err != nil {
		return nil, err
	}
	m := &keysMeasured{}
	for i, n := range sizes {
		if err := m.size(c, small, n, i == 0 || i == len(sizes)-1); err != nil {
			return nil, fmt.Errorf("%d keys: %w", n, err)
		}
	}
	return m.figure(sizes), small.end()
}

// keysMeasured holds rounds by size, in ns a record.
type keysMeasured struct {
	ours, bare           [][]float64
	byMap, growth, extra [][]float64
	bareGrowth           [][]float64
}

func (m *keysMeasured) size(c config, small *counting, n int, profile bool) error {
	large, err := small, error(nil)
	if n != small.keys {
		if large, err = startCount(n); err != nil {
			return err
		}
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var ours, bare, oursSmall, bareSmall []float64
	for round := range c.rounds + 1 {
		o, b, err := large.both(c.of(500_000, 1_000_000), uint64(round))
		if err != nil {
			return err
		}
		oSmall, bSmall, err := small.both(1_000_000, uint64(round))
		if err != nil {
			return err
		}
		if round > 0 { // the first warms up
			ours, bare = append(ours, o), append(bare, b)
			oursSmall, bareSmall = append(oursSmall, oSmall), append(bareSmall, bSmall)
		}
	}
	m.add(ours, bare, oursSmall, bareSmall)
	if profile && c.profile != "" {
		if err := large.profile(c); err != nil {
			return err
		}
	}
	if large == small {
		return nil
	}
	return large.end()
}

func (m *keysMeasured) add(ours, bare, oursSmall, bareSmall []float64) {
	m.ours, m.bare = append(m.ours, ours), append(m.bare, bare)
	m.byMap = append(m.byMap, ratios(ours, bare))
	m.growth = append(m.growth, ratios(ours, oursSmall))
	m.bareGrowth = append(m.bareGrowth, ratios(bare, bareSmall))
	m.extra = append(m.extra, beyondMisses(ours, bare, oursSmall, bareSmall))
}

func (m *keysMeasured) figure(sizes []int) *figure {
	f := &figure{
		Title: "Cost of a record by the number of keys (count by key, all in memory, parallelism 1)",
		X:     "keys", Y: "processor time, ns", Sizes: sizes, Doubling: true,
	}
	f.add("millrace", "ns", m.ours)
	f.add("bare map", "ns", m.bare)
	f.add("by the map", "×", m.byMap).Aside = true
	f.add("by 1 k keys", "×", m.growth).Aside = true
	f.add("map by 1 k", "×", m.bareGrowth).Aside = true
	f.add("beyond misses", "×", m.extra).Aside = true
	at, last := worst(m.extra), len(sizes)-1
	f.Goals = append(f.Goals,
		judge(fmt.Sprintf("cost of a record beyond misses of the cache, worst at %s keys", short(sizes[at])),
			"ours / (ours with 1 k keys + bare map − bare map with 1 k keys)", flat, false, m.extra[at]),
		judge(fmt.Sprintf("cost of a record with %s keys by that with 1 k, misses and all", short(sizes[last])), "ours", 0, false, m.growth[last]),
		judge("the same of the bare map", "bare map", 0, false, m.bareGrowth[last]),
	)
	return f
}

// counting is a running job and a map, which count the same keys.
type counting struct {
	keys int
	gate *gate
	done chan error

	bare map[string]int64
	sum  int64 // of what the job has emitted: the counts of all records' keys
}

// startCount starts a job and a map that know all their keys.
func startCount(keys int) (*counting, error) {
	g := &gate{records: make(chan []string), counted: make(chan int64)}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	byKey := pipeline.KeyBy(pipeline.From(p, "keys", g), func(k string) string { return k })
	pipeline.To(pipeline.Process(byKey, "count", func() *counter[string] { return &counter[string]{} }), "sum", g.sink())
	c := &counting{keys: keys, gate: g, done: make(chan error, 1), bare: make(map[string]int64)}
	go func() { c.done <- p.Run(context.Background()); close(c.done) }()
	for from := 0; from < keys; from += 1_000_000 {
		next := from - 1
		some := makeKeys(min(1_000_000, keys-from), func() int { next++; return next })
		if _, err := c.ours(some); err != nil {
			return nil, err
		}
		c.byHand(some)
	}
	return c, nil
}

// both lets both sides count the same records, and returns what a record has cost
// each. They take turns at being first, since the second finds the records in the cache.
func (c *counting) both(records int, round uint64) (ours, bare float64, err error) {
	rng := rand.New(rand.NewPCG(uint64(c.keys), round))
	some := makeKeys(records, func() int { return rng.IntN(c.keys) })
	if round%2 == 0 {
		bare = c.byHand(some)
	}
	ours, err = c.ours(some)
	if round%2 == 1 {
		bare = c.byHand(some)
	}
	return ours, bare, err
}

// profile has the job alone count some more records, under the profiler.
func (c *counting) profile(cfg config) error {
	rng := rand.New(rand.NewPCG(uint64(c.keys), 1<<32))
	some := makeKeys(5_000_000, func() int { return rng.IntN(c.keys) })
	defer c.byHand(some)
	return cfg.profiled("keys-"+strconv.Itoa(c.keys), func() error {
		_, err := c.ours(some)
		return err
	})
}

func (c *counting) ours(keys []string) (float64, error) {
	before := results.CPU()
	sum, err := c.gate.pass(keys, c.done)
	c.sum += sum
	return float64(results.CPU()-before) / float64(len(keys)), err
}

func (c *counting) byHand(keys []string) float64 {
	before := results.CPU()
	for _, k := range keys {
		c.bare[k]++
	}
	return float64(results.CPU()-before) / float64(len(keys))
}

// end ends the job. A key that was counted to n has been emitted as 1, 2, … n.
func (c *counting) end() error {
	close(c.gate.records)
	if err := <-c.done; err != nil {
		return err
	}
	want := int64(0)
	for _, n := range c.bare {
		want += n * (n + 1) / 2
	}
	if c.sum != want {
		return fmt.Errorf("what was counted adds up to %d, by hand to %d", c.sum, want)
	}
	return nil
}

// counter counts the records of each key, and emits each count.
type counter[T any] struct{ n *state.Value[string, int64] }

// Open implements [pipeline.Opener].
func (o *counter[T]) Open(c *pipeline.Context[string, int64]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

// Process implements [pipeline.Processor].
func (o *counter[T]) Process(c *pipeline.Context[string, int64], _ T) error {
	n := o.n.Upsert()
	*n++
	c.Emit(*n)
	return nil
}

// makeKeys makes the keys of records. Their bytes stand one after another: reading them
// costs both sides the same, whatever the number of keys.
func makeKeys(n int, next func() int) []string {
	const size = len("user-00000000")
	text := make([]byte, n*size)
	all := make([]string, n)
	for i := range all {
		k := text[i*size : (i+1)*size]
		copy(k, "user-")
		for j, v := size-1, next(); j >= len("user-"); j, v = j-1, v/10 {
			k[j] = byte('0' + v%10)
		}
		all[i] = unsafe.String(unsafe.SliceData(k), size) // nobody writes to k again
	}
	return all
}
