package pipeline

import (
	"context"
	"fmt"
	"sync"

	"github.com/millrace/millrace/internal/checkpoint"
)

// Acknowledger is implemented by readers that tell their system how far they have
// been read for good: a database that keeps a log until its readers have it, or a
// consumer group whose lag is watched. What a job goes on from is in its
// checkpoints all the same.
type Acknowledger interface {
	// Acknowledge says that a checkpoint is complete, which holds these positions
	// of the reader's splits, as the reader gave them: nothing before them will
	// be read again, unless somebody starts from an older savepoint.
	//
	// It is called from a goroutine of its own, one call at a time, beside Read and
	// before Close. Of checkpoints that were completed while a call lasts, only
	// the last is told. The last checkpoint of a job that ends well is told, and
	// the job's end waits for it. ctx ends when the job fails.
	//
	// An error stops the job. What may pass, such as a server that is away, is
	// for the reader to hide: the next checkpoint says it all again.
	Acknowledge(ctx context.Context, checkpoint int64, positions map[string][]byte) error
}

// acknowledging tells a reader of complete checkpoints.
type acknowledging struct {
	reader Acknowledger
	ctx    context.Context
	fail   func(error)

	mu     sync.Mutex
	newest *acknowledgement // not told yet; guarded by mu
	busy   bool             // a goroutine tells the reader; guarded by mu
	ended  bool             // guarded by mu
	done   sync.WaitGroup
}

// acknowledgement is what a reader is told of one checkpoint.
type acknowledgement struct {
	id        int64
	positions map[string][]byte
}

// tell takes the splits of a complete checkpoint. It does not block.
func (a *acknowledging) tell(id int64, splits []checkpoint.Split) {
	positions := map[string][]byte{}
	for _, s := range splits {
		if s.Position != nil {
			positions[s.Name] = s.Position
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(positions) == 0 || a.ended {
		return
	}
	a.newest = &acknowledgement{id, positions}
	if !a.busy {
		a.busy = true
		a.done.Go(a.run)
	}
}

// run tells what there is to tell.
func (a *acknowledging) run() {
	for {
		a.mu.Lock()
		next := a.newest
		a.newest, a.busy = nil, next != nil
		a.mu.Unlock()
		if next == nil {
			return
		}
		if err := a.once(next); err != nil && a.ctx.Err() == nil {
			a.fail(fmt.Errorf("acknowledge checkpoint %d: %w", next.id, err))
		}
	}
}

func (a *acknowledging) once(next *acknowledgement) (err error) {
	defer CatchPanic(&err)
	return a.reader.Acknowledge(a.ctx, next.id, next.positions)
}

// end returns when the reader has been told everything, and is told no more.
func (a *acknowledging) end() {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	a.done.Wait()
}

// acknowledge tells the sources' readers which of their positions are in a
// checkpoint that is complete.
func (c *checkpoints) acknowledge(id int64) {
	for _, t := range c.job.tasks {
		if t.head.kind != kindSource {
			continue
		}
		s := c.ended[t]
		if live := c.live[t]; live != nil {
			s = live.taskSnapshot
		}
		if s == nil {
			continue
		}
		for _, part := range s.parts {
			if told := part.inst.told; told != nil {
				told.tell(id, part.splits)
			}
		}
	}
}
