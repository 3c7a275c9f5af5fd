package reference

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
)

var (
	kills     = flag.Int("graph.kills", 200/share, "how many kills random graphs have to survive")
	killsSeed = flag.Uint64("graph.kills.seed", 1, "the seed of the first graph that is killed")
)

// TestKilledGraphs runs random graphs in three ways: with checkpoints and
// undisturbed; killed at random moments and started again, at other
// parallelisms; stopped with a savepoint and started from it at other
// parallelisms. What is committed must be what the reference says.
func TestKilledGraphs(t *testing.T) {
	if *seed != 0 {
		for range *repeat {
			o := &ordeal{t: t, plan: draw(*seed, *family == "late"), verbose: true}
			o.run()
		}
		return
	}
	n := *kills
	if testing.Short() {
		n /= 5
	}
	var next atomic.Uint64
	next.Store(*killsSeed)
	total := &tally{}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !t.Failed() && total.killed() < n {
				s := next.Add(1) - 1
				o := &ordeal{t: t, plan: draw(s, s%3 == 0)}
				o.run()
				total.add(&o.tally)
			}
		})
	}
	wg.Wait()
	t.Log(total.String())
	if !t.Failed() && total.killed() < n {
		t.Errorf("%d kills, want at least %d", total.killed(), n)
	}
}

// tally counts what graphs went through.
type tally struct {
	mu                              sync.Mutex
	kills                           map[pipelinetest.Moment]int
	graphs, starts, restores, stops int
	records                         int
}

func (t *tally) add(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kills == nil {
		t.kills = map[pipelinetest.Moment]int{}
	}
	for m, n := range o.kills {
		t.kills[m] += n
	}
	t.graphs += o.graphs
	t.starts += o.starts
	t.restores += o.restores
	t.stops += o.stops
	t.records += o.records
}

func (t *tally) killed() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.kills {
		n += k
	}
	return n
}

func (t *tally) String() string {
	var by []string
	for _, m := range slices.Sorted(maps.Keys(t.kills)) {
		by = append(by, fmt.Sprintf("%v %d", m, t.kills[m]))
	}
	return fmt.Sprintf("%d graphs, %d starts, %d kills (%s), %d of them while starting from a checkpoint; %d stops with a savepoint; %d records compared",
		t.graphs, t.starts, t.killed(), strings.Join(by, ", "), t.restores, t.stops, t.records)
}

// ordeal is what one graph goes through.
type ordeal struct {
	t *testing.T
	*plan
	verbose  bool
	expected map[stream][]timed
	rand     *rand.Rand
	tally
}

func (o *ordeal) run() {
	o.rand = rand.New(rand.NewPCG(o.seed, 21))
	want := whole
	if o.late {
		want = steps
	}
	if o.expected = want(o.plan); o.expected == nil {
		return
	}
	if o.verbose {
		o.t.Logf("\n%v", o.plan)
	}
	o.kills = map[pipelinetest.Moment]int{}
	o.graphs++
	undisturbed := o.world()
	if !o.survive("undisturbed", undisturbed, false) {
		return
	}
	for i := range 3 {
		w := o.world()
		w.Seed(o.seed*10 + uint64(i))
		if i == 1 {
			w.LosePower()
		}
		w.KillRandomly(1+o.rand.IntN(4), undisturbed)
		if !o.survive(fmt.Sprintf("killed, round %d", i), w, i > 0) {
			return
		}
	}
	w := o.world()
	records := 0
	for _, n := range o.nodes {
		for _, s := range n.splits {
			records += len(s)
		}
	}
	w.StopAt(pipelinetest.AtRead, 1+o.rand.IntN(max(1, records/2)))
	w.StopAt(pipelinetest.AtRead, 1+o.rand.IntN(max(1, records/2)))
	o.stops += 2
	o.survive("stopped with savepoints", w, true)
}

// world returns a world that keeps state in memory or on disk.
func (o *ordeal) world() *pipelinetest.World {
	opts := []pipeline.Option{pipeline.StateMemory(1 << 20)}
	if o.rand.IntN(2) == 0 {
		opts = append(opts, pipeline.StateInMemory())
	}
	w := pipelinetest.NewWorld(o.t, opts...)
	w.CheckpointEvery(2 + o.rand.IntN(8))
	return w
}

// survive runs the graph in a world until it has ended, and compares.
func (o *ordeal) survive(what string, w *pipelinetest.World, rescale bool) bool {
	starts := 0
	var last *plan
	err := w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline {
		last = o.plan
		if rescale {
			last = o.rescaled([]int{1, 8, 3, 2}[starts%4])
		}
		starts++
		return build(last, w, opts...).p
	})
	for m, n := range w.Kills() {
		o.kills[m] += n
	}
	o.starts += w.Starts()
	o.restores += w.Restores()
	if err != nil {
		o.t.Errorf("%s\n%s, after kills %v: start %d: %v\n%v", rerunKilled(o.plan), what, w.Kills(), w.Starts(), err, last)
		return false
	}
	for _, sink := range o.sinks {
		var got []timed
		for _, r := range pipelinetest.NewLedger[rec](w, sink.name()).Records() {
			got = append(got, timed{r.Value, r.Time})
		}
		o.records += len(got)
		if d := compare(got, o.expected[stream{sink.id, false}]); d != "" {
			o.t.Errorf("%s\n%s, after %d starts and kills %v: results of %s differ from the reference:\n%s\n%v",
				rerunKilled(o.plan), what, w.Starts(), w.Kills(), sink.name(), d, last)
			return false
		}
	}
	return true
}

func rerunKilled(p *plan) string {
	return strings.Replace(rerun(p), "rerun with", "rerun with -run TestKilledGraphs", 1)
}

// rescaled returns the plan at another parallelism, as far as its results don't
// depend on it: a broadcast makes as many copies as there are subtasks. In the
// second family what comes behind an exchange of several subtasks has the
// parallelism of what is before it.
func (o *ordeal) rescaled(par int) *plan {
	p := *o.plan
	p.nodes, p.sinks = nil, nil
	for _, old := range o.nodes {
		n := *old
		if n.kind != opCopy && (!o.late || n.shuffled || n.kind == opSink) {
			n.par = min(par, p.maxParallelism)
			n.toPar = n.par
		}
		p.nodes = append(p.nodes, &n)
		if n.kind == opSink {
			p.sinks = append(p.sinks, &n)
		}
	}
	return &p
}
