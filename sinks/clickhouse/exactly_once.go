package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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

	waiting int // blocks that are prepared
	closed  bool
}

// openExactlyOnce checks that the table remembers tokens.
func openExactlyOnce[T any](w *writer[T]) (pipeline.Writer[T], error) {
	perBlock := w.cfg.PartitionsPerBlock
	if perBlock == 0 {
		perBlock = 1
		if w.table.partitioned {
			perBlock = 4
		}
	}
	if err := w.table.wantWindows(w.cfg.RecoveryBlocks*perBlock, ""); err != nil {
		return nil, err
	}
	for _, name := range w.table.unseenViews() {
		w.env.Logger.Warn("the table behind a materialized view can't be seen, so nobody knows whether it remembers deduplication tokens", "view", name)
	}
	e := &exactlyOnce[T]{writer: w, staging: w.env.Staging, packer: newPacker()}
	e.allowed = max(1, w.table.window/perBlock/w.env.Parallelism)
	if e.staging == nil {
		return e, e.stageAlone()
	}
	return e, nil
}

// stageAlone makes a staging for a job without checkpoints, whose rows wait for its
// end.
func (w *exactlyOnce[T]) stageAlone() (err error) {
	if w.own, err = os.MkdirTemp("", "millrace-clickhouse-"); err == nil {
		w.staging, err = pipeline.NewStaging(vfs.Default, w.own, fmt.Sprintf("%s-%s-%d", w.env.Run, w.env.Operator, w.env.Subtask))
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
	return writeStagedHead(w.out, w.plan.statement)
}

// tooMany refuses rows that the table could not be relied upon to know again.
func (w *exactlyOnce[T]) tooMany() error {
	count, _ := windowSettings(w.table.engine)
	return fmt.Errorf("%d blocks wait for their checkpoint in this subtask, and table %s remembers %d deduplication tokens, those of %d blocks for each subtask: "+
		"take checkpoints more often, make blocks larger (BlockRows, BlockBytes), or enlarge the table's memory: ALTER TABLE %s MODIFY SETTING %s = %d",
		w.waiting+w.blocks, w.table, w.table.window, w.allowed, w.table.quoted(), count, roundUp(w.table.window+1))
}

// lettersInline is how many bytes of letters go into the checkpoint itself.
const lettersInline = 2 << 10

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
	}
	if err := w.prepareLetters(p); err != nil {
		return nil, err
	}
	w.waiting += w.blocks
	w.file, w.out, w.blocks, w.rows = nil, nil, 0, 0
	return p.encode()
}

// prepareLetters has letters that could not be rejected yet wait for the next Commit:
// the one they came from is not repeated any more once this checkpoint is complete.
func (w *exactlyOnce[T]) prepareLetters(p *prepared) error {
	if len(w.letters) == 0 {
		return nil
	}
	text, err := json.Marshal(w.letters)
	if err != nil {
		return err
	}
	if len(text) <= lettersInline {
		p.Letters, w.letters = w.letters, nil
		return nil
	}
	f, err := w.staging.Create()
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	p.LettersFile, w.letters = f.Name(), nil
	return errors.Join(err, f.Close())
}

// Commit implements [pipeline.Committer].
func (w *exactlyOnce[T]) Commit(ctx context.Context, b []byte) error {
	p, err := decodePrepared(b)
	if err != nil {
		return err
	}
	if err := w.checkTime(p); err != nil {
		return err
	}
	letters := p.Letters
	if p.LettersFile != "" {
		if letters, err = w.readLetters(p.LettersFile); err != nil {
			return err
		}
	}
	if p.File != "" {
		refused, err := w.deliverFile(ctx, p)
		if err != nil {
			return err
		}
		letters = append(letters, refused...)
	}
	w.letters = append(w.letters, letters...)
	w.waiting = max(0, w.waiting-p.Blocks)
	return nil
}

// checkTime refuses what the table may have forgotten the tokens of.
func (w *exactlyOnce[T]) checkTime(p *prepared) error {
	if p.Table != w.table.String() && p.File != "" {
		return fmt.Errorf("the checkpoint has %d rows for table %s, and the sink writes to %s now: "+
			"start it once more as it was, and stop it with a final checkpoint", p.Rows, p.Table, w.table)
	}
	age := time.Since(time.UnixMilli(p.Time))
	if limit := time.Duration(w.table.seconds) * time.Second; limit == 0 || age < limit || w.cfg.DeliverLate {
		return nil
	}
	_, seconds := windowSettings(w.table.engine)
	return fmt.Errorf("%d rows were prepared for table %s %v ago, which remembers deduplication tokens for %v (%s): if they were inserted then, they would be there twice. "+
		"Look whether they are there; DeliverLate inserts them, and does no harm where they are not", p.Rows, p.Table, age.Round(time.Second), time.Duration(w.table.seconds)*time.Second, seconds)
}

func (w *exactlyOnce[T]) readLetters(name string) (letters []letter, err error) {
	f, err := w.staging.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = json.Unmarshal(text, &letters)
	}
	if err != nil {
		return nil, fmt.Errorf("staged file %q: %w", name, err)
	}
	return letters, nil
}

// deliverFile inserts the blocks of a staged file, some at once, and returns the rows
// that the server refuses.
func (w *exactlyOnce[T]) deliverFile(ctx context.Context, p *prepared) ([]letter, error) {
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
	group := newDelivery(ctx, w.deliverer, w.pool)
	rows := int64(0)
	for i := range p.Blocks {
		b, err := unpacker{r}.next()
		if err != nil {
			_, gerr := group.wait()
			return nil, errors.Join(fmt.Errorf("staged file %q: block %d of %d: %w", p.File, i, p.Blocks, err), gerr)
		}
		rows += int64(b.rows)
		if !group.start(insertion{head.Statement, w.settings, blockToken(p.File, i)}, b) {
			break
		}
	}
	letters, err := group.wait()
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
