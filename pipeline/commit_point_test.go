package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// notary is a commit point that remembers what was committed.
type notary struct {
	mu        sync.Mutex
	last      string // guarded by mu, like the rest
	commits   []pipeline.Commit
	abandoned []int64
	log       []string
	refuses   error // to commit
	forgets   bool  // that it has committed what it says it hasn't
	closed    bool  // it opens no more
}

func (n *notary) String() string { return "the notary's book" }

func (n *notary) Open(_ context.Context, env *pipeline.CommitEnv) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", errors.New("nobody is at home")
	}
	n.log = append(n.log, fmt.Sprintf("open %s, holds the last: %v", env.Job, env.Holds(n.last)))
	return n.last, nil
}

func (n *notary) Commit(_ context.Context, c *pipeline.Commit) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuses == nil || n.forgets {
		n.last = c.Name
	}
	if n.refuses == nil {
		n.commits = append(n.commits, *c)
	}
	return n.refuses
}

func (n *notary) Abandon(checkpoint int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.abandoned = append(n.abandoned, checkpoint)
}

func (n *notary) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, "close")
	return nil
}

// notarised is a sink with a commit point.
type notarised struct {
	collector[int]
	n *notary
}

func (s *notarised) CommitPoint() pipeline.CommitPoint { return s.n }

// notaryJob reads 600 numbers, and checkpoints are taken where the test asks.
func notaryJob(n *notary, g *gate, opts pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("faults"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), opts)
	pipeline.To(gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, g), "out", pipeline.Sink[int](&notarised{n: n}))
	return p
}

func TestCommitPoint(t *testing.T) {
	fs, n := vfs.NewMem(), &notary{}
	if err := notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(n.commits) != 1 || n.commits[0].Checkpoint != 1 || !strings.HasPrefix(n.last, "1@") || len(n.commits[0].Positions) != 3 {
		t.Errorf("committed: %+v", n.commits)
	}
	for _, p := range n.commits[0].Positions {
		if p.Operator != "numbers" || p.Split == "" || len(p.Position) == 0 {
			t.Errorf("position %+v", p)
		}
	}
	if err := notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"open faults, holds the last: false", "close", "open faults, holds the last: true", "close"}
	if !slices.Equal(n.log, want) {
		t.Errorf("got %q, want %q", n.log, want)
	}
}

func TestCommitPointDoesNotOpen(t *testing.T) {
	n := &notary{closed: true}
	mustBeAbout(t, notaryJob(n, ungated(), checkpointsOn(vfs.NewMem())).Run(t.Context()), "nobody is at home")
	if len(n.log) > 0 {
		t.Errorf("got %q", n.log)
	}
}

// Nobody knows whether the commit took effect: the job ends, and the next start
// asks.
func TestCommitPointUndecided(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		fs, n := vfs.NewMem(), &notary{refuses: errors.New("the line is dead"), forgets: forgets}
		err := notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context())
		mustBeAbout(t, err, "checkpoints: commit checkpoint chk-0000000001: the line is dead")
		n.refuses = nil
		if err := notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		started := fmt.Sprintf("open faults, holds the last: %v", forgets)
		if n.log[2] != started {
			t.Errorf("got %q, want %q", n.log, started)
		}
	}
}

// The commit point names a checkpoint that is not there, or not whole, or none any
// more.
func TestCommitPointRefuses(t *testing.T) {
	fs, n := vfs.NewMem(), &notary{}
	run := func() error { return notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context()) }
	if err := run(); err != nil {
		t.Fatal(err)
	}
	last := n.last
	for _, name := range []string{"7@x", "1@x", "x", "@", "-1@x", "1"} {
		n.last = name
		mustBeAbout(t, run(), "the last committed checkpoint is "+name+", which /job does not hold", "the notary's book")
	}
	n.last = ""
	mustBeAbout(t, run(), "/job holds checkpoints that were committed", "the notary's book", "an empty directory")
	n.last = last
	writeFile(t, fs, "/job/chk-0000000001/MANIFEST", []byte("{"))
	mustBeAbout(t, run(), "the last committed checkpoint is "+last, "/job/chk-0000000001/MANIFEST", "damaged")
}

// Checkpoints of a job without such a sink count for it when it gets one, until it
// has committed; and those that were never committed don't when it loses it.
func TestCommitPointComesAndGoes(t *testing.T) {
	for _, goes := range []bool{false, true} {
		fs, g := vfs.NewMem(), newGate(halfway)
		without := func(g *gate) (*pipeline.Pipeline, *collector[int]) {
			p := pipeline.New(pipeline.Name("faults"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), checkpointsOn(fs))
			return p, collect(gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, g), "out")
		}
		p, _ := without(g)
		job := begin(t, p, g)
		if err := job.checkpoint(t); err != nil {
			t.Fatal(err)
		}
		job.Kill()
		if err := job.wait(t); !errors.Is(err, pipeline.ErrKilled) {
			t.Fatal(err)
		}
		n := &notary{refuses: errors.New("not today")}
		for range 2 {
			mustBeAbout(t, notaryJob(n, ungated(), checkpointsOn(fs)).Run(t.Context()), "commit checkpoint chk-", "not today")
		}
		p, out := without(ungated())
		if !goes {
			n.refuses = nil
			p = pipeline.New(pipeline.Name("faults"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), checkpointsOn(fs))
			sink := &notarised{n: n}
			pipeline.To(gatedNumbers(p, "numbers", numbersSource{3, 600, 0}, ungated()), "out", pipeline.Sink[int](sink))
			out = &sink.collector
		}
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(out.values); got != 1800-halfway {
			t.Errorf("%d records, want those behind the first checkpoint, %d", got, 1800-halfway)
		}
		p, _ = without(ungated())
		if err := p.Run(t.Context()); goes && err != nil {
			t.Error(err)
		} else if !goes {
			mustBeAbout(t, err, "exactly-once delivery to the notary's book", "or give the job another directory")
		}
	}
}
