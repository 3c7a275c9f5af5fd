package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/checkpoint"
)

// CommitPoint is where it is decided that a checkpoint counts, in the place of the
// job's directory: in a system whose transactions can't be prepared now and
// committed by another process later, such as Kafka's. Its transaction makes the
// results visible and says, in the same instant, which checkpoint they belong to.
//
//	all tasks have their part of checkpoint 7 in the directory
//	  → the manifest of 7 is written, which decides nothing yet
//	    → Commit(7): results, positions and the name of 7, or none of them
//	      → checkpoint 7 is complete
//
// A sink that has one offers it by a method CommitPoint() CommitPoint, and sinks
// that write by the same transaction offer the same one: a job has one at most.
// It needs [Checkpoints]. What it prints as (fmt.Stringer) once it is open is told to
// users as the place where it is recorded which checkpoint counts.
type CommitPoint interface {
	// Open is called at the job's start, before any operator is opened. From when
	// it returns, no other process can commit in the job's name. It returns the
	// name of the checkpoint that was committed last, as [Commit.Name] had it,
	// and an empty one if none ever was. An error stops the start.
	Open(ctx context.Context, env *CommitEnv) (last string, err error)

	// Commit commits everything that writers have prepared up to the checkpoint,
	// and its name. It is called once every part of the checkpoint is in the
	// directory, from any goroutine. An error stops the job, since nobody may know
	// what came of the transaction; the next start asks.
	Commit(ctx context.Context, c *Commit) error

	// Abandon says that the checkpoint was given up: what writers have prepared
	// for it belongs to the next. It must not block, and may come before some
	// writers prepare for that checkpoint.
	Abandon(checkpoint int64)

	// Close is called after all writers were closed, if Open succeeded.
	Close() error
}

// CommitEnv is what a [CommitPoint] knows of the job.
type CommitEnv struct {
	// Job is the job's name.
	Job string
	// Directory is that of the job's checkpoints.
	Directory string
	// Interval is the time between two checkpoints, 0 for none but the last.
	Interval time.Duration
	// Holds says whether the directory holds a checkpoint, by its name.
	Holds func(name string) bool
	// Logger carries the job's name.
	Logger *slog.Logger
	// Metrics are those of subtask 0 of the sink that the commit point came with,
	// the first of them. The engine has commit_duration there.
	Metrics *Metrics
}

// Commit is what there is to commit.
type Commit struct {
	// Checkpoint is the number that writers prepared for.
	Checkpoint int64
	// Name is what the checkpoint is to be called where it is committed: short,
	// and unlike that of any other checkpoint of any job.
	Name string
	// Positions are how far the sources had read.
	Positions []Position
}

// Position is how far a source had read one of its splits.
type Position struct {
	// Operator is the source's name.
	Operator string
	// Split and Position are what the source's reader said of it.
	Split    string
	Position []byte
}

// hasCommitPoint is a sink that commits by a transaction.
type hasCommitPoint interface{ CommitPoint() CommitPoint }

// commitWith notes the commit point of a sink, nil for none.
func (p *Pipeline) commitWith(n *node, c CommitPoint) {
	switch {
	case c == nil:
	case p.cfg.checkpoints.dir == "":
		p.mistake(n.where, "sink %q delivers exactly once, with checkpoints, of which the job takes none: set Checkpoints, "+
			"or have the sink deliver at least once", n.name)
	case p.commitPoint != nil && p.commitPoint != c:
		p.mistake(n.where, "sink %q commits by another transaction than a sink before it: a job has one, for sinks to share", n.name)
	default:
		if p.commitPoint == nil {
			p.commitSink = n
		}
		p.commitPoint = c
	}
}

// nameOf names a checkpoint. Numbers start again with every directory, hence the
// run.
func nameOf(m *checkpoint.Manifest) string { return strconv.FormatInt(m.ID, 10) + "@" + m.Run }

// chooseCommitted decides what the job starts from when it has a commit point.
func (c *checkpoints) chooseCommitted(ctx context.Context) (*checkpoint.Manifest, error) {
	metrics := c.job.metricsOf(c.job.commitSink)
	c.commits = metrics.Histogram(commitDuration)
	last, err := c.commitPoint.Open(ctx, &CommitEnv{
		Job: c.job.cfg.name, Directory: c.store.Dir(), Interval: c.cfg.interval, Logger: c.log, Metrics: metrics,
		Holds: func(name string) bool { m, err := c.held(name); return m != nil && err == nil },
	})
	if err != nil {
		return nil, err
	}
	c.opened = true
	if last == "" {
		return c.chooseFirst()
	}
	m, err := c.held(last)
	if err != nil {
		return nil, fmt.Errorf("the last committed checkpoint is %s: %w", last, err)
	}
	if m == nil {
		return nil, fmt.Errorf("the last committed checkpoint is %s, which %s does not hold (it is recorded in %v): start the job "+
			"with the directory it had, or give it another name; it would otherwise deliver its results again", last, c.store.Dir(), c.commitPoint)
	}
	if err := c.noteCommitted(); err != nil {
		return nil, err
	}
	return m, c.store.Rewind(m.ID)
}

// chooseFirst decides for a job that has never committed. Its directory may hold
// checkpoints that count nevertheless, of the time when it had no such sink.
func (c *checkpoints) chooseFirst() (*checkpoint.Manifest, error) {
	p, err := c.store.Pointer()
	if err != nil {
		return nil, err
	}
	if p.Committed {
		return nil, fmt.Errorf("%s holds checkpoints that were committed, and nothing is known of them any more where that was "+
			"recorded (%s): to start anew, and deliver results again, give the job an empty directory", c.store.Dir(), p.Where)
	}
	if p.Where == "" {
		p.After = c.store.LastID()
	}
	p.Where = fmt.Sprint(c.commitPoint)
	if err := c.store.SetPointer(p); err != nil {
		return nil, err
	}
	if err := c.store.Rewind(p.After); err != nil {
		return nil, err
	}
	return c.latestOrSavepoint()
}

// decideHere is for a job without a commit point: its store decides, unless
// another place did before.
func (c *checkpoints) decideHere() error {
	p, err := c.store.Pointer()
	switch {
	case err != nil || p.Where == "":
		return err
	case p.Committed:
		return fmt.Errorf("%s holds checkpoints of a job with exactly-once delivery to %s, where it is recorded which of them "+
			"count: keep such a sink, or give the job another directory, and a savepoint to start from", c.store.Dir(), p.Where)
	}
	if err := c.store.Rewind(p.After); err != nil {
		return err
	}
	return c.store.RemovePointer()
}

// held returns a checkpoint by the name it was committed under, nil if it is not
// there.
func (c *checkpoints) held(name string) (*checkpoint.Manifest, error) {
	number, _, ok := strings.Cut(name, "@")
	if id, err := strconv.ParseInt(number, 10, 64); !ok || err != nil || id < 1 {
		return nil, nil
	}
	m, err := c.loadAs(number, name)
	if m == nil && err == nil && c.cfg.savepoint != "" {
		return c.loadAs(c.cfg.savepoint, name)
	}
	return m, err
}

// loadAs returns a checkpoint if it is there and is the one of that name.
func (c *checkpoints) loadAs(what, name string) (*checkpoint.Manifest, error) {
	m, err := c.store.Load(what)
	if errors.Is(err, fs.ErrNotExist) || err == nil && nameOf(m) != name {
		return nil, nil
	}
	return m, err
}

// errUndecided is matched by the error of a commit point.
var errUndecided = errors.New("commit")

// decide commits a checkpoint whose manifest is written.
func (c *checkpoints) decide(id int64, m *checkpoint.Manifest) error {
	if c.commitPoint == nil {
		return nil
	}
	began := time.Now()
	err := c.commitPoint.Commit(c.ctx, &Commit{Checkpoint: id, Name: nameOf(m), Positions: positionsOf(m)})
	if err == nil {
		c.commits.Observe(time.Since(began))
	}
	if err == nil && !c.pointed {
		err = c.noteCommitted()
	}
	if err != nil {
		return fmt.Errorf("%w checkpoint %s: %w", errUndecided, m.Label(), err)
	}
	return nil
}

// noteCommitted tells the store that a checkpoint was committed elsewhere, before
// which it may be that none was.
func (c *checkpoints) noteCommitted() error {
	c.pointed = true
	return c.store.SetPointer(checkpoint.Pointer{Where: fmt.Sprint(c.commitPoint), Committed: true})
}

func positionsOf(m *checkpoint.Manifest) []Position {
	var all []Position
	for _, op := range m.Operators {
		for _, s := range op.Subtasks {
			for _, split := range s.Splits {
				all = append(all, Position{op.Name, split.Name, split.Position})
			}
		}
	}
	return all
}

// closeCommitPoint is for after the writers.
func (c *checkpoints) closeCommitPoint() error {
	if !c.opened {
		return nil
	}
	return c.commitPoint.Close()
}
