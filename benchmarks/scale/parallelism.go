package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"

	"github.com/millrace/millrace/benchmarks/internal/results"
	"github.com/millrace/millrace/benchmarks/internal/traffic"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// parallelism measures how many records a second a job takes that decodes JSON and
// counts by key, by the clock.
func parallelism(c config) (*figure, error) {
	records := int64(c.of(500_000, 2_000_000))
	in, err := newClicks(20_000)
	if err != nil {
		return nil, err
	}
	sizes := []int{1}
	for n := 2; n <= min(runtime.NumCPU(), 4); n *= 2 {
		sizes = append(sizes, n)
	}
	used := map[int][]float64{} // processor time by time by the clock
	rates, err := inTurns(c.rounds, sizes, func(n int) (float64, error) {
		wall, cpu, err := in.count(n, records)
		used[n] = append(used[n], float64(cpu)/float64(wall))
		return float64(records) / wall.Seconds() / 1000, err
	})
	if err != nil {
		return nil, err
	}
	f := &figure{
		Title: "Throughput by parallelism (decode JSON, count by key)",
		X:     "parallelism", Y: "1,000 records a second", Sizes: sizes,
	}
	f.add("throughput", "k/s", rates)
	var linear, gains, cores [][]float64
	for i, n := range sizes {
		linear = append(linear, []float64{float64(n) * results.Quantile(rates[0], 0.5)})
		gains = append(gains, ratios(rates[i], rates[0]))
		cores = append(cores, used[n][1:])
	}
	f.add("as many times that at 1", "k/s", linear)
	f.add("by parallelism 1", "×", gains).Aside = true
	f.add("cores in use", "", cores).Aside = true
	if len(sizes) > 1 {
		f.Goals = append(f.Goals, judge("throughput at parallelism 2 by that at 1", "by the clock, from start to end of the job"+ceiling(runtime.NumCPU(), cores[0], cores[1]), 1.7, true, gains[1]))
	}
	return f, nil
}

// ceiling says on how many of the machine's cores the job ran at two sizes, and what all
// of them would allow at the second: at the first it runs on more than its parallelism
// already, since the source reads and garbage is collected beside it.
func ceiling(machine int, first, second []float64) string {
	before, after := results.Quantile(first, 0.5), results.Quantile(second, 0.5)
	return fmt.Sprintf("; it ran on %.2f cores and on %.2f, of %d that allow %.2f", before, after, machine, float64(machine)/before)
}

// clicks are encoded events, and the number of each one's user.
type clicks struct {
	raw   [][]byte
	users []int
}

const users = 10_000

func newClicks(n int) (*clicks, error) {
	rng := rand.New(rand.NewPCG(7, 8))
	c := &clicks{}
	for i := range n {
		user := rng.IntN(users)
		raw, err := json.Marshal(traffic.Event{
			User: fmt.Sprintf("user-%06d", user), Page: fmt.Sprintf("/products/%d", rng.IntN(1000)),
			Time: 1_767_225_600_000 + int64(i), Referrer: "https://search.example/?q=shoes",
			Agent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)", Status: 200,
		})
		if err != nil {
			return nil, err
		}
		c.raw, c.users = append(c.raw, raw), append(c.users, user)
	}
	return c, nil
}

// count runs the job over so many records, the clicks over and over again, and returns
// how long that took and how much processor time.
func (c *clicks) count(parallelism int, records int64) (wall, cpu time.Duration, err error) {
	p := pipeline.New(pipeline.DefaultParallelism(parallelism))
	in := pipeline.From(p, "numbers", numbers{records, 4})
	events := operators.TryMap(in, "decode", func(n int64) (e traffic.Event, err error) {
		return e, json.Unmarshal(c.raw[n%int64(len(c.raw))], &e)
	})
	byUser := pipeline.KeyBy(events, func(e traffic.Event) string { return e.User })
	counts := pipeline.Process(byUser, "count", func() *counter[traffic.Event] { return &counter[traffic.Event]{} })
	sum := new(atomic.Int64)
	pipeline.To(counts, "sum", adding{sum})
	runtime.GC()
	before, start := results.CPU(), time.Now()
	err = p.Run(context.Background())
	wall, cpu = time.Since(start), results.CPU()-before
	if want := c.want(records); err == nil && sum.Load() != want {
		err = fmt.Errorf("parallelism %d: the counts add up to %d, want %d", parallelism, sum.Load(), want)
	}
	return wall, cpu, err
}

// want is the sum of 1, 2, … n for each user of n records.
func (c *clicks) want(records int64) (sum int64) {
	var counts [users]int64
	for i := range records {
		user := c.users[i%int64(len(c.users))]
		counts[user]++
		sum += counts[user]
	}
	return sum
}
