package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/pipeline"
)

// World is what there is outside of a job's process and outlives it: a file
// system that holds the checkpoints, and databases, each a [Ledger]. In it a job
// is started, killed at some moment, and started again from what it left, until
// it ends by itself:
//
//	w := pipelinetest.NewWorld(t)
//	w.KillAt(pipelinetest.BeforeCommit, 2)
//	w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline {
//		p := pipeline.New(opts...)
//		hits := pipeline.From(p, "hits", pipelinetest.Watched(w, memory.From(all)), byTime)
//		...
//		pipeline.To(views, "views", pipelinetest.NewLedger[View](w, "views"))
//		return p
//	})
//	fmt.Println(pipelinetest.NewLedger[View](w, "views").Records())
//
// At a kill the world is cut off from the job at once: files are what they are
// at that moment, or, after [World.LosePower], what of them was synced; no ledger
// takes anything from the dying job any more. [Survive] does all of it for a
// job and compares the results.
//
// All settings are made before Run. What a job does may not depend on the clock.
type World struct {
	t       testing.TB
	logs    pipeline.Option
	options []pipeline.Option
	links   sync.RWMutex // see linking; taken after mu

	mu        sync.Mutex
	rand      *rand.Rand     // guarded by mu, as is all below
	fs        *vfs.MemFS     // what the next start finds
	power     bool           // kills lose what was not synced
	every     int            // so many batches between two checkpoints asked for, on average
	endings   []ending       // that are to come
	random    int            // kills to come that are drawn
	survey    [moments]int   // how often each moment came in a run that was not disturbed
	dir       string         // of the job
	savepoint string         // to start from
	run       *execution     // of the job, now
	kills     map[Moment]int // that have happened
	restores  int            // kills before any source read
	starts    int
	ledgers   map[string]ledger
}

// Moment is a kind of moment at which [World] ends a job.
type Moment int

// The moments, each of which a job meets many times. [AtRead] needs the source
// to be [Watched], those of records and commits a [Ledger].
const (
	AtRead        Moment = iota // a record was read
	AtWrite                     // a sink is handed a record
	BeforePrepare               // a sink is told to prepare, as the barrier has come
	AfterPrepare                // it has prepared, the checkpoint is not complete
	BeforeCommit                // a sink is told to commit: the checkpoint is complete
	AfterCommit                 // it has committed
	AtStore                     // something is to be written in the checkpoint directory
	AtState                     // something is to be written among working state
	moments
)

// String returns the moment's name in words.
func (m Moment) String() string {
	return [...]string{"read", "write", "before prepare", "after prepare", "before commit", "after commit", "store", "state"}[m]
}

// ending is what ends one run of the job.
type ending struct {
	at        Moment
	n         int
	savepoint string // to stop with; empty is a kill
	set       bool
}

// execution is one start of the job.
type execution struct {
	p       *pipeline.Pipeline
	cancel  context.CancelFunc
	ending  ending
	counts  [moments]int
	dead    bool // the world is cut off
	stopped chan error
	done    chan struct{} // closed when Run has returned
}

// ledger is a [Ledger] without its type.
type ledger interface {
	lines() []string
}

// NewWorld returns an empty world. The job's options are those given here, its
// name, and where its checkpoints are.
func NewWorld(t testing.TB, opts ...pipeline.Option) *World {
	return &World{
		t: t, logs: pipeline.Logger(discardLogs), options: opts,
		rand: rand.New(rand.NewPCG(1, 2)), fs: vfs.NewCrashableMem(), dir: "/job",
		kills: map[Moment]int{}, ledgers: map[string]ledger{},
	}
}

// Seed sets where random choices start from. Default 1.
func (w *World) Seed(seed uint64) { w.rand = rand.New(rand.NewPCG(seed, 2)) }

// LosePower makes a kill that of the machine: the files keep what was synced
// and, at random, some of what was not.
func (w *World) LosePower() { w.power = true }

// CheckpointEvery makes watched sources ask for a checkpoint now and then: once
// in so many batches. Half of the time they wait for it. Default: checkpoints
// are left to their interval.
func (w *World) CheckpointEvery(batches int) { w.every = batches }

// KillAt has the next start that no ending is planned for killed at the n-th
// moment of a kind. If it does not come to it, it ends as if nothing had been
// planned.
func (w *World) KillAt(at Moment, n int) { w.endings = append(w.endings, ending{at, n, "", true}) }

// StopAt has a start stopped with a savepoint, as [World.KillAt] has it killed.
// The next one starts from the savepoint in a directory of its own. at is AtRead
// or AtWrite.
func (w *World) StopAt(at Moment, n int) {
	name := fmt.Sprintf("stop-%d", len(w.endings))
	w.endings = append(w.endings, ending{at, n, name, true})
}

// KillRandomly plans n kills at random moments. How many moments there are it
// learns from a world in which the same job ran undisturbed.
func (w *World) KillRandomly(n int, undisturbed *World) {
	w.random = n
	w.survey = undisturbed.run.counts
}

// Kills returns how many kills have happened at each kind of moment.
func (w *World) Kills() map[Moment]int { return w.kills }

// Starts returns how often the job was started.
func (w *World) Starts() int { return w.starts }

// Restores returns how many kills came before the job had read anything: while
// it started from a checkpoint.
func (w *World) Restores() int { return w.restores }

// Run runs the job that build makes, again and again, until it has ended by
// itself. Build is called for each start, and passes opts to [pipeline.New]; all
// else may differ from start to start as far as a restart allows. Run returns
// an error if a start fails that was not killed.
func (w *World) Run(build func(opts ...pipeline.Option) *pipeline.Pipeline) error {
	for {
		again, err := w.start(build)
		if err != nil || !again {
			return err
		}
	}
}

// start runs the job once, and says whether that was not its end.
func (w *World) start(build func(opts ...pipeline.Option) *pipeline.Pipeline) (again bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.mu.Lock()
	w.starts++
	r := &execution{cancel: cancel, stopped: make(chan error, 1), done: make(chan struct{}), ending: w.plan()}
	w.run = r
	opts := w.jobOptions()
	w.mu.Unlock()
	r.p = build(opts...)
	err = r.await(ctx, w.t)
	close(r.done)

	w.mu.Lock()
	defer w.mu.Unlock()
	if r.dead {
		return true, nil
	}
	if !r.ending.hit(r) || r.ending.savepoint == "" || err != nil {
		return false, err
	}
	if err := <-r.stopped; err != nil && !errors.Is(err, pipeline.ErrNoCheckpoints) {
		return false, fmt.Errorf("stop with savepoint: %w", err)
	} else if err != nil { // it had ended by itself
		return false, nil
	}
	w.savepoint = w.dir + "/savepoints/" + r.ending.savepoint
	w.dir = fmt.Sprintf("/job-%d", w.starts)
	return true, nil
}

// await runs the pipeline, and shows what hangs.
func (r *execution) await(ctx context.Context, t testing.TB) error {
	const patience = time.Minute
	ended := make(chan error, 1)
	go func() { ended <- r.p.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a strings.Builder takes everything
		t.Fatalf("a start of the job has not ended after %v (ending %+v, cut off: %v)\n%s", patience, r.ending, r.dead, &stacks)
		return nil
	}
}

func (w *World) jobOptions() []pipeline.Option {
	checkpoints := []pipeline.CheckpointOption{
		pipeline.CheckpointFiles(errorfs.Wrap(linking{w.fs, &w.links}, errorfs.InjectorFunc(w.file))),
		pipeline.CheckpointInterval(2 * time.Millisecond), pipeline.ToleratedFailures(0),
	}
	if w.savepoint != "" {
		checkpoints = append(checkpoints, pipeline.StartFrom(w.savepoint))
	}
	return append([]pipeline.Option{w.logs, pipeline.Name("job"), pipeline.Checkpoints(w.dir, checkpoints...)}, w.options...)
}

// plan returns how the next start ends.
func (w *World) plan() ending {
	if len(w.endings) > 0 {
		e := w.endings[0]
		w.endings = w.endings[1:]
		return e
	}
	if w.random == 0 {
		return ending{}
	}
	w.random--
	at := Moment(w.rand.IntN(int(moments)))
	for w.survey[at] == 0 {
		at = (at + 1) % moments
	}
	// Later starts have less to do; and the first few moments of a start from a
	// checkpoint are those of restoring it.
	most := w.survey[at]
	if w.starts > 1 {
		most = max(1, most/(1+w.rand.IntN(6)))
	}
	return ending{at, 1 + w.rand.IntN(most), "", true}
}

func (e ending) hit(r *execution) bool { return e.set && r.counts[e.at] >= e.n }

// file counts a change to the file system before it happens.
func (w *World) file(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
		return nil
	}
	at := AtStore
	if strings.Contains(op.Path, "/work/") {
		at = AtState
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met(at, 1)
	return nil // also to a job that is dead: its files are no longer those of the world
}

// met counts moments, and ends the run if it is time. It says whether the run
// has a world to speak to. mu is held.
func (w *World) met(at Moment, n int) bool {
	r := w.run
	before := r.ending.hit(r)
	r.counts[at] += n
	if !r.dead && !before && r.ending.hit(r) {
		w.end(r)
	}
	return !r.dead
}

// linking keeps links and clones of the file system apart: while it links, it
// takes a lock twice that a clone takes in between, and neither goes on.
type linking struct {
	vfs.FS
	links *sync.RWMutex
}

func (l linking) Link(from, to string) error {
	l.links.RLock()
	defer l.links.RUnlock()
	return l.FS.Link(from, to)
}

func (w *World) end(r *execution) {
	if name := r.ending.savepoint; name != "" {
		go r.stop(name)
		return
	}
	r.dead = true
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: w.rand}
	if w.power {
		cfg.UnsyncedDataPercent = []int{0, 0, 50, 90}[w.rand.IntN(4)]
	}
	w.links.Lock()
	w.fs = w.fs.CrashClone(cfg)
	w.links.Unlock()
	w.kills[r.ending.at]++
	if r.counts[AtRead] == 0 && w.starts > 1 {
		w.restores++
	}
	go func() {
		r.p.Kill()
		r.cancel() // a job that is still being opened
	}()
}

func (r *execution) stop(name string) {
	for {
		err := r.p.StopWithSavepoint(context.Background(), name)
		if !errors.Is(err, pipeline.ErrNoCheckpoints) {
			r.stopped <- err
			return
		}
		select { // it runs in a moment, or no longer
		case <-r.done:
			r.stopped <- err
			return
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// Diff says how the committed output of two worlds differs, or nothing.
func (w *World) Diff(undisturbed *World) string {
	var b strings.Builder
	for name, l := range w.ledgers {
		other := undisturbed.ledgers[name]
		if other == nil {
			fmt.Fprintf(&b, "%s: the undisturbed job has no such ledger\n", name)
			continue
		}
		diffLines(&b, name, l.lines(), other.lines())
	}
	return b.String()
}

func diffLines(b *strings.Builder, name string, got, want []string) {
	if slices.Equal(got, want) {
		return
	}
	count := map[string]int{}
	for _, s := range want {
		count[s]++
	}
	for _, s := range got {
		count[s]--
	}
	fmt.Fprintf(b, "%s: got %d records, want %d\n", name, len(got), len(want))
	for _, s := range slices.Sorted(slices.Values(slices.Concat(got, want))) {
		switch n := count[s]; {
		case n > 0:
			fmt.Fprintf(b, "  missing  %d× %s\n", n, s)
		case n < 0:
			fmt.Fprintf(b, "  unwanted %d× %s\n", -n, s)
		}
		delete(count, s)
	}
}

// Survive runs a job undisturbed and then several times with kills at random
// moments, also those that lose what was not synced, and fails the test if what
// the ledgers hold differs in anything but order. It returns how many kills
// there were.
//
// Build is called for each start and builds the whole graph, in the given world.
// A failure names a seed; with SeedFrom that far, it comes again as far as
// goroutines allow.
func Survive(t testing.TB, o Ordeal, build func(w *World, opts ...pipeline.Option) *pipeline.Pipeline) (kills int) {
	t.Helper()
	o = o.withDefaults()
	straight := NewWorld(t)
	straight.CheckpointEvery(o.CheckpointEvery)
	if err := straight.Run(func(opts ...pipeline.Option) *pipeline.Pipeline { return build(straight, opts...) }); err != nil {
		t.Fatalf("undisturbed: %v", err)
	}
	for seed := o.SeedFrom; kills < o.Kills; seed++ {
		w := NewWorld(t)
		w.Seed(seed)
		w.CheckpointEvery(o.CheckpointEvery)
		if seed%2 == 1 {
			w.LosePower()
		}
		w.KillRandomly(min(o.Kills-kills, 1+int(seed%4)), straight)
		if err := w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline { return build(w, opts...) }); err != nil {
			t.Fatalf("seed %d: start %d, after kills %v: %v", seed, w.starts, w.kills, err)
		}
		if d := w.Diff(straight); d != "" {
			t.Fatalf("seed %d: after kills %v the output differs from that of an undisturbed run:\n%s", seed, w.kills, d)
		}
		for _, n := range w.kills {
			kills += n
		}
		if seed > o.SeedFrom+20*uint64(o.Kills) {
			t.Fatalf("only %d kills in %d runs: the job is too short", kills, seed-o.SeedFrom)
		}
	}
	return kills
}

// Ordeal says what [Survive] does to a job.
type Ordeal struct {
	// Kills is how many kills there are to be altogether. Default 20.
	Kills int
	// CheckpointEvery is [World.CheckpointEvery]. Default 8.
	CheckpointEvery int
	// SeedFrom is the seed of the first run; those after it have the next. Default
	// 1.
	SeedFrom uint64
}

func (o Ordeal) withDefaults() Ordeal {
	if o.Kills == 0 {
		o.Kills = 20
	}
	if o.CheckpointEvery == 0 {
		o.CheckpointEvery = 8
	}
	if o.SeedFrom == 0 {
		o.SeedFrom = 1
	}
	return o
}
