package clickhouse

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// exactlyOnce stages blocks, and inserts them once the checkpoint that has them is
// complete.
type exactlyOnce[T any] struct {
	*writer[T]
	staging *pipeline.Staging
	own     string // directory of a staging of its own
	allowed int    // blocks that may wait, of this subtask

	packer *packer
	file   *pipeline.StagedFile // nil before the first block since the last Prepare
	out    *bufio.Writer
	blocks int
	rows   int64

	waiting    int // blocks that are prepared
	prepares   int // of files, in this run
	commits    int // of those
	repeatable []delivered
	closed     bool
}

// delivered is how many tokens a commit has taken, and before which Prepare that was:
// checkpoints up to then may mention the same blocks, and have them delivered again.
type delivered struct{ tokens, before int }

// openExactlyOnce checks that the table remembers tokens.
func openExactlyOnce[T any](w *writer[T]) (pipeline.Writer[T], error) {
	restored, err := restoredBlocks(w.env.Prepared, w.table)
	if err != nil {
		return nil, err
	}
	if err := w.table.wantWindows(max(w.cfg.RecoveryBlocks, restored), w.cfg.PartitionsPerBlock, ""); err != nil {
		return nil, err
	}
	for _, name := range w.table.unseenViews() {
		w.env.Logger.Warn("the table behind a materialized view can't be seen, so nobody knows whether it remembers deduplication tokens", "view", name)
	}
	e := &exactlyOnce[T]{writer: w, staging: w.env.Staging, packer: newPacker()}
	_, blocks := w.table.narrowest(w.cfg.PartitionsPerBlock)
	e.allowed = max(1, blocks/w.env.Parallelism)
	if !w.cfg.DeliverLate {
		w.memory = time.Duration(w.table.seconds) * time.Second
		_, w.memorySetting = windowSettings(w.table.engine)
	}
	if e.staging == nil {
		return e, e.stageAlone()
	}
	return e, nil
}

// restoredBlocks returns how many blocks for a table a start delivers again.
func restoredBlocks(all [][]byte, t *table) (blocks int, err error) {
	for _, b := range all {
		p, err := decodePrepared(b)
		if err != nil {
			return 0, err
		}
		if p.Table == t.String() {
			blocks += p.Blocks
		}
	}
	return blocks, nil
}

// stageAlone makes a staging for a job without checkpoints, whose rows wait for its
// end.
func (w *exactlyOnce[T]) stageAlone() (err error) {
	if w.own, err = os.MkdirTemp("", "millrace-clickhouse-"); err == nil {
		operator := sha256.Sum256([]byte(w.env.Operator)) // tokens differ by it, and its name may be none of a file
		w.staging, err = pipeline.NewStaging(vfs.Default, w.own, fmt.Sprintf("%s-%x-%d", w.env.Run, operator[:8], w.env.Subtask))
	}
	if err != nil {
		return fmt.Errorf("stage rows: %w", err)
	}
	return nil
}

// Write implements [pipeline.Writer].
func (w *exactlyOnce[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	w.rejectAll()
	for i := range b.Values {
		full, err := w.add(&b.Values[i], b.Times[i])
		if err == nil && full {
			err = w.stage()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Flush implements [pipeline.Flusher]: what is written is safe with the checkpoint,
// there is nothing to do before.
func (w *exactlyOnce[T]) Flush(context.Context) error {
	w.rejectAll()
	return nil
}

// stage writes the rows to the staged file as a block.
func (w *exactlyOnce[T]) stage() error {
	if w.gathered.len() == 0 {
		return nil
	}
	if w.waiting+w.blocks >= w.allowed {
		return w.tooMany()
	}
	b, err := w.gathered.cut()
	if err != nil {
		return err
	}
	if w.file == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if err := w.packer.write(w.out, b); err != nil {
		return err
	}
	w.blocks++
	w.rows += int64(b.rows)
	w.bytes.Add(int64(b.bytes()))
	return nil
}

func (w *exactlyOnce[T]) begin() (err error) {
	if w.file, err = w.staging.Create(); err != nil {
		return err
	}
	w.out = bufio.NewWriterSize(w.file, 1<<18)
	return writeStagedHead(w.out, w.plan)
}

// tooMany refuses rows that the table could not be relied upon to know again.
func (w *exactlyOnce[T]) tooMany() error {
	return fmt.Errorf("%d blocks wait for their checkpoint in this subtask, and %s: take checkpoints more often, make blocks larger (BlockRows, BlockBytes), or %s",
		w.waiting+w.blocks, w.memoryIs(), w.enlarge())
}

// memoryIs says what limits the subtask, enlarge how to raise it.
func (w *exactlyOnce[T]) memoryIs() string {
	t, _ := w.table.narrowest(w.cfg.PartitionsPerBlock)
	return fmt.Sprintf("table %s remembers %d deduplication tokens, those of %d blocks for each subtask", t, t.window, w.allowed)
}

func (w *exactlyOnce[T]) enlarge() string {
	t, _ := w.table.narrowest(w.cfg.PartitionsPerBlock)
	count, _ := windowSettings(t.engine)
	return fmt.Sprintf("enlarge the table's memory: ALTER TABLE %s MODIFY SETTING %s = %d", t.quoted(), count, roundUp(t.window+1))
}

// Prepare implements [pipeline.Committer].
func (w *exactlyOnce[T]) Prepare(context.Context, int64) ([]byte, error) {
	if err := w.stage(); err != nil {
		return nil, err
	}
	if w.file == nil && len(w.letters) == 0 {
		return nil, nil
	}
	p := &prepared{Version: preparedVersion, Time: time.Now().UnixMilli(), Table: w.table.String(), Blocks: w.blocks, Rows: w.rows}
	if w.file != nil {
		if err := errors.Join(w.out.Flush(), w.file.Close()); err != nil {
			return nil, err
		}
		p.File = w.file.Name()
		w.prepares++
	}
	// Letters that could not be rejected yet wait for the next Commit: the one they came
	// from is not repeated any more once this checkpoint is complete.
	if err := p.keep(w.letters, w.staging); err != nil {
		return nil, err
	}
	w.waiting += w.blocks
	w.letters, w.file, w.out, w.blocks, w.rows = nil, nil, nil, 0, 0
	return p.encode()
}

// Commit implements [pipeline.Committer].
func (w *exactlyOnce[T]) Commit(ctx context.Context, b []byte) error {
	p, err := decodePrepared(b)
	if err != nil {
		return err
	}
	letters, err := p.letters(w.staging)
	if err != nil {
		return err
	}
	own := strings.HasPrefix(p.File+p.LettersFile, w.env.Run+"-")
	if p.File != "" {
		refused, err := w.deliverFile(ctx, p, own)
		if err != nil {
			return err
		}
		letters = append(letters, refused...)
	}
	w.letters = append(w.letters, letters...)
	w.waiting = max(0, w.waiting-p.Blocks)
	return nil
}

// check refuses what belongs elsewhere, and, of an earlier run's, what the table may
// have forgotten the tokens of. Of this run's own it is known whether it was sent.
func (w *exactlyOnce[T]) check(p *prepared, own bool) error {
	if p.Table != w.table.String() {
		return fmt.Errorf("the checkpoint has %d rows for table %s, and the sink writes to %s now: "+
			"start it once more as it was, and stop it with a final checkpoint", p.Rows, p.Table, w.table)
	}
	age := time.Since(time.UnixMilli(p.Time))
	if own || w.memory == 0 || age < w.memory {
		return nil
	}
	return fmt.Errorf("%d rows were prepared for table %s %v ago, which remembers deduplication tokens for %v (%s): if they were inserted then, they would be there twice. "+
		"Look whether they are there; DeliverLate inserts them, and does no harm where they are not", p.Rows, p.Table, age.Round(time.Second), w.memory, w.memorySetting)
}

// room returns how many tokens the pieces of blocks may take while p is delivered, so
// that the table still knows the first of what a recovery repeats when the last is in.
func (w *exactlyOnce[T]) room(p *prepared, own bool) *room {
	if own {
		index := w.commits // Prepare numbers them alike
		w.commits++
		w.repeatable = slices.DeleteFunc(w.repeatable, func(d delivered) bool { return d.before <= index })
	}
	used := max(w.waiting, p.Blocks)
	for _, d := range w.repeatable {
		used += d.tokens
	}
	r := &room{full: func() error {
		return fmt.Errorf("the server refuses so many rows that the others take more deduplication tokens than %s: %s, and start the job again", w.memoryIs(), w.enlarge())
	}}
	r.left.Store(int64(w.allowed - used))
	return r
}

// deliverFile inserts the blocks of a staged file, some at once, and returns the rows
// that the server refuses.
func (w *exactlyOnce[T]) deliverFile(ctx context.Context, p *prepared, own bool) ([]letter, error) {
	if err := w.check(p, own); err != nil {
		return nil, err
	}
	f, err := w.staging.Open(p.File)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was read
	r := bufio.NewReaderSize(f, 1<<18)
	head, err := readStagedHead(r)
	if err != nil {
		return nil, fmt.Errorf("staged file %q: %w", p.File, err)
	}
	in := insertion{statement: head.Statement, settings: settingsFor(w.cfg, head.Selects || w.plan.selects, w.known), room: w.room(p, own)}
	if !own { // an earlier run may have sent it
		in.unsure = time.UnixMilli(p.Time)
	}
	group := newDelivery(ctx, w.deliverer, w.pool)
	rows := int64(0)
	for i := range p.Blocks {
		b, err := unpacker{r}.next()
		if err != nil {
			_, gerr := group.wait()
			return nil, errors.Join(fmt.Errorf("staged file %q: block %d of %d: %w", p.File, i, p.Blocks, err), gerr)
		}
		rows += int64(b.rows)
		in.token = blockToken(p.File, i)
		if !group.start(in, b) {
			break
		}
	}
	letters, err := group.wait()
	w.repeatable = append(w.repeatable, delivered{p.Blocks + in.room.taken(), w.prepares})
	if err == nil && rows != p.Rows {
		err = fmt.Errorf("staged file %q: %w: %d rows, %d were prepared", p.File, errDamaged, rows, p.Rows)
	}
	return letters, err
}

// Close implements [pipeline.Closer].
func (w *exactlyOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.pool.close()
	if w.own == "" {
		return w.untold()
	}
	if w.file != nil {
		_ = w.file.Close() // it is removed
	}
	return errors.Join(w.untold(), os.RemoveAll(w.own))
}

// delivery is blocks that are inserted side by side.
type delivery struct {
	*deliverer
	pool   *pool
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	n      int

	mu      sync.Mutex
	letters map[int][]letter // by block; guarded by mu
	err     error            // the first; guarded by mu
}

func newDelivery(ctx context.Context, d *deliverer, p *pool) *delivery {
	g := &delivery{deliverer: d, pool: p, letters: map[int][]letter{}}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// start begins a block once there is a connection for it. It returns false when there
// is no use in more.
func (g *delivery) start(in insertion, b *block) bool {
	s, err := g.pool.take(g.ctx)
	if err == nil {
		err = g.ctx.Err()
		if err != nil {
			g.pool.give(s)
		}
	}
	if err != nil {
		g.fail(context.Cause(g.ctx))
		return false
	}
	i := g.n
	g.n++
	g.wg.Go(func() {
		defer g.pool.give(s)
		letters, err := g.deliver(g.ctx, s, in, b)
		if err != nil {
			g.fail(err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.letters[i] = letters
	})
	return true
}

func (g *delivery) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		g.cancel(err)
	}
}

// wait returns the letters in the order of the blocks.
func (g *delivery) wait() ([]letter, error) {
	g.wg.Wait()
	g.cancel(nil)
	var all []letter
	for i := range g.n {
		all = slices.Concat(all, g.letters[i])
	}
	return all, g.err
}
