package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"

	"github.com/millrace/millrace/pipeline"
)

// deliverer brings blocks into the table, each once for its token.
type deliverer struct {
	timeout time.Duration
	context *column.ServerContext
	table   string // as errors name it
	log     *slog.Logger
	pause   func(ctx context.Context, d time.Duration) error // of retries; replaced in tests
	stats   stats
	// memory is how long the table remembers tokens, by memorySetting; 0: without limit,
	// or it does not matter.
	memory        time.Duration
	memorySetting string

	mu   sync.Mutex
	said time.Time // when the log has last heard of a failure; guarded by mu
}

// stats are the deliverer's counters.
type stats struct{ blocks, retries *pipeline.Counter }

// letter is a row that the server refuses.
type letter struct {
	Time   int64  `json:"time"`
	Record string `json:"record"`
	Error  string `json:"error"`
}

// maxRefused is how many rows of one block may be refused. More of them, and it is
// not the rows: the job stops.
const maxRefused = 1000

// deliver inserts a block, and returns the rows that the server refuses.
//
// A block with such rows is cut in halves, and these again, until the rest is in.
// Each piece has the token of its place in the block, so that a delivery after a
// restart, which finds the same rows refused, cuts the same pieces, and the server
// knows those it has.
func (d *deliverer) deliver(ctx context.Context, s server, in insertion, b *block) ([]letter, error) {
	err := d.send(ctx, s, in, b)
	if err != nil && judge(err) == refusal && in.settings["async_insert"] == "1" {
		// The server fails all that it has gathered together: the row may be another's.
		in.settings = maps.Clone(in.settings)
		in.settings["async_insert"] = "0"
		err = d.send(ctx, s, in, b)
	}
	if err == nil || judge(err) != refusal {
		return nil, d.failure(in, err)
	}
	o, oerr := b.open(d.context)
	if oerr != nil {
		return nil, fmt.Errorf("%w; and the block can't be cut to find the row: %w", d.failure(in, err), oerr)
	}
	c := &cutting{deliverer: d, server: s, in: in, block: o}
	in.room.give() // the block itself takes none
	if err := c.refused(ctx, 0, b.rows, err); err != nil {
		return nil, err
	}
	return c.letters, nil
}

// failure names what failed for good.
func (d *deliverer) failure(in insertion, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("table %s: %s: %w", d.table, in.statement, err)
}

// cutting looks for the rows of a block that are refused.
type cutting struct {
	*deliverer
	server  server
	in      insertion
	block   *opened
	letters []letter
}

// refused has the rows from from to to been refused: one is a letter, more are tried
// in halves.
func (c *cutting) refused(ctx context.Context, from, to int, why error) error {
	if to-from == 1 {
		if len(c.letters) == maxRefused {
			return fmt.Errorf("more than %d rows of a block are refused: %w", maxRefused, c.failure(c.in, why))
		}
		c.letters = append(c.letters, letter{c.block.times[from], c.block.show(from), why.Error()})
		return nil
	}
	middle := from + (to-from)/2
	if err := c.try(ctx, from, middle); err != nil {
		return err
	}
	return c.try(ctx, middle, to)
}

func (c *cutting) try(ctx context.Context, from, to int) error {
	piece, err := c.block.slice(from, to)
	if err != nil {
		return err
	}
	in := c.in
	if in.token != "" {
		in.token = pieceToken(in.token, from, to)
	}
	if err := in.room.take(); err != nil {
		return fmt.Errorf("table %s: %w", c.table, err)
	}
	err = c.send(ctx, c.server, in, piece)
	if err != nil && judge(err) == refusal {
		in.room.give()
		return c.refused(ctx, from, to, err)
	}
	return c.failure(in, err)
}

// blockToken returns the token of a block: the name of a staged file is unlike any
// other's for ever.
func blockToken(file string, number int) string {
	return fmt.Sprintf("millrace/%s/%d", file, number)
}

func pieceToken(block string, from, to int) string {
	return fmt.Sprintf("%s/%d-%d", block, from, to)
}

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
	// quietFor is how long the log is spared after it has heard of a failure.
	quietFor = 10 * time.Second
)

// send inserts a block, as often as it takes, until the server has it or says
// something that lasts.
func (d *deliverer) send(ctx context.Context, s server, in insertion, b *block) error {
	var began time.Time
	warned := false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if d.memory > 0 && !in.unsure.IsZero() && time.Since(in.unsure) >= d.memory {
			return &forgottenError{b.rows, d.memory, d.memorySetting}
		}
		sent := time.Now()
		err := d.once(ctx, s, in, b)
		if err != nil && in.unsure.IsZero() && mayBeThere(err) {
			in.unsure = sent
		}
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil || judge(err) != passing {
			if err == nil {
				d.stats.blocks.Add(1)
				if warned {
					d.log.Info("the table takes rows again", "table", d.table, "after", time.Since(began).Round(time.Millisecond))
				}
			}
			return err
		}
		d.stats.retries.Add(1)
		if began.IsZero() {
			began = time.Now()
		}
		if d.loud() {
			warned = true
			d.log.Warn("the table takes no rows, trying again", "table", d.table, "rows", b.rows, "err", err)
		}
		if err := d.pause(ctx, pause+rand.N(pause)/2); err != nil {
			return err
		}
	}
}

// forgottenError is of a block that the table may have, and would not know any more.
type forgottenError struct {
	rows    int
	memory  time.Duration
	setting string
}

func (e *forgottenError) Error() string {
	return fmt.Sprintf("a block of %d rows was sent, nobody knows whether it arrived, and the server has not taken it again for as long as the table remembers "+
		"deduplication tokens, %v (%s): sent now, it may be there twice; look whether it is, and see DeliverLate", e.rows, e.memory, e.setting)
}

// loud says whether it is time for the log to hear of a failure.
func (d *deliverer) loud() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.said) < quietFor {
		return false
	}
	d.said = time.Now()
	return true
}

var errInsertTimeout = errors.New("no answer within InsertTimeout")

func (d *deliverer) once(ctx context.Context, s server, in insertion, b *block) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, errInsertTimeout)
	defer cancel()
	err := s.insert(ctx, in, b)
	if err != nil && context.Cause(ctx) == errInsertTimeout {
		return fmt.Errorf("%w: %v", errInsertTimeout, err)
	}
	return err
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
