package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/checkpoint"
	"github.com/millrace/millrace/state"
)

// checkpoints is the shell around the coordinator: it owns the goroutine that
// the coordinator decides on, the store, and the work between a task's snapshot
// and the manifest.
//
// A checkpoint's life: the coordinator has the sources inject barriers; each
// task, when barriers have come by all its inputs, takes its snapshot and goes
// on with its records; a goroutine makes files of the snapshot and brings them to
// the store; when all have come, the manifest is written, whose rename is the
// commit point; then the tasks are told, and sinks commit.
type checkpoints struct {
	job      *job
	cfg      *checkpointConfig
	fs       vfs.FS
	log      *slog.Logger
	store    *checkpoint.Store
	manifest *checkpoint.Manifest // what the job started from, or nil
	from     string               // what to call that

	commitPoint CommitPoint  // nil: the store decides
	commits     *Histogram   // how long they took, if there is a commit point
	opened      bool         // the commit point is
	pointed     bool         // the store knows that another decides
	current     atomic.Int64 // the checkpoint that snapshots are wanted for; 0 is none

	ctx     context.Context // of uploads
	cancel  context.CancelFunc
	uploads sync.WaitGroup
	stop    chan struct{}
	stopped chan struct{}

	mu     sync.Mutex
	events []func() []checkpoint.Action // guarded by mu
	over   bool                         // guarded by mu: nothing is done any more
	notify chan struct{}                // capacity 1

	// What follows belongs to the coordinator's goroutine.
	coord       *checkpoint.Coordinator
	began       time.Time
	timer       *time.Timer
	pending     *checkpoint.Pending
	live        map[*task]*collected // of the checkpoint under way
	ended       map[*task]*taskSnapshot
	waiting     []waiter
	notExported error  // why the last checkpoint did not become the savepoint it was to
	export      string // what to call the final checkpoint as a savepoint
	exported    bool   // it has become that
	started     time.Time
	size        int64 // of the files of the last checkpoint that was stored
	metrics     checkpointFigures
}

// collected is a task's snapshot with the files it has brought.
type collected struct {
	*taskSnapshot
	keyed []*checkpoint.Snapshot // by part
}

// waiter waits for a checkpoint that begins after another.
type waiter struct {
	after int64
	name  string
	done  chan error
}

// checkpointFigures are what [CheckpointStats] shows.
type checkpointFigures struct {
	durations *Histogram

	mu    sync.Mutex
	stats CheckpointStats // guarded by mu
}

func (f *checkpointFigures) completed(id, size int64, took time.Duration) {
	f.durations.Observe(took)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Completed++
	f.stats.LastID, f.stats.LastSize, f.stats.LastDuration = id, size, took
}

func (f *checkpointFigures) read() CheckpointStats {
	durations := f.durations.stats()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Durations = durations
	return s
}

// CheckpointStats is what is known of a job's checkpoints.
type CheckpointStats struct {
	// Completed and Failed count checkpoints of this run.
	Completed, Failed int64
	// LastID is the number of the last complete one, 0 before the first.
	LastID int64
	// LastDuration is the time from its barriers to its commit.
	LastDuration time.Duration
	// LastSize is how many bytes its files have, those too that it shares with
	// checkpoints before it.
	LastSize int64
	// Durations are those of all complete ones.
	Durations HistogramStats
	// LastError is why the last one that failed did.
	LastError error
}

// openCheckpoints opens the store and decides what to start from.
func openCheckpoints(ctx context.Context, j *job) (*checkpoints, error) {
	cfg := &j.cfg.checkpoints
	c := &checkpoints{
		job: j, cfg: cfg, fs: cfg.fs, log: j.cfg.logger.With("job", j.cfg.name),
		stop: make(chan struct{}), stopped: make(chan struct{}), notify: make(chan struct{}, 1),
		ended: map[*task]*taskSnapshot{}, commitPoint: j.commitPoint,
		metrics: checkpointFigures{durations: newHistogram()},
	}
	c.ctx, c.cancel = context.WithCancel(j.ctx)
	var err error
	c.store, err = checkpoint.Open(c.fs, cfg.dir, checkpoint.Options{Job: j.cfg.name, Keep: cfg.keep, Logger: c.log})
	if err != nil {
		return nil, err
	}
	if err := c.choose(ctx); err != nil {
		return nil, errors.Join(err, c.closeCommitPoint(), c.store.Close())
	}
	return c, nil
}

// choose decides what the job starts from.
func (c *checkpoints) choose(ctx context.Context) error {
	choose := c.chooseLatest
	if c.commitPoint != nil {
		choose = func() (*checkpoint.Manifest, error) { return c.chooseCommitted(ctx) }
	}
	m, err := choose()
	if err != nil || m == nil {
		return err
	}
	if want := c.job.cfg.maxParallelism; m.MaxParallelism != want {
		return fmt.Errorf("the checkpoint %s was taken with MaxParallelism %d, the job has %d: it is fixed for the life of a job's state",
			m.Label(), m.MaxParallelism, want)
	}
	c.manifest, c.from = m, m.Label()
	c.log.Info("starting from a checkpoint", "checkpoint", c.from, "taken", time.UnixMilli(m.Created))
	return nil
}

// chooseLatest decides where the store does.
func (c *checkpoints) chooseLatest() (*checkpoint.Manifest, error) {
	if err := c.decideHere(); err != nil {
		return nil, err
	}
	return c.latestOrSavepoint()
}

// latestOrSavepoint takes the last checkpoint, and a savepoint only where there is
// none.
func (c *checkpoints) latestOrSavepoint() (*checkpoint.Manifest, error) {
	m, err := c.store.Latest()
	if err == nil && m == nil && c.cfg.savepoint != "" {
		m, err = c.store.Load(c.cfg.savepoint)
	}
	return m, err
}

// claim gives every instance what the checkpoint has of its operator, and
// refuses what no operator claims (rule 21).
func (c *checkpoints) claim() error {
	if c.manifest == nil {
		return nil
	}
	claimed := map[string]bool{}
	for _, in := range c.job.instances {
		if in.node.kind == kindUnion {
			continue // it has no state, and no name that a user could not take
		}
		claimed[in.node.name] = true
		in.restored = c.manifest.Operator(in.node.name)
		in.watermark.Store(in.restoredWatermark())
	}
	for _, t := range c.job.tasks {
		// A task that had come to its end comes to it again, and has to say so:
		// others may not have heard.
		t.valve.out = min(t.instances[0].watermark.Load(), MaxWatermark-1)
	}
	var errs []error
	for i := range c.manifest.Operators {
		if op := &c.manifest.Operators[i]; !claimed[op.Name] && holdsSomething(op) {
			errs = append(errs, fmt.Errorf("%w: the checkpoint %s holds state of the %s %q, which the job does not have",
				ErrUnclaimedState, c.from, op.Kind, op.Name))
		}
	}
	if c.cfg.allowUnclaimed {
		for _, err := range errs {
			c.log.Warn("state is left behind", "err", err)
		}
		return nil
	}
	return errors.Join(errs...)
}

func holdsSomething(op *checkpoint.Operator) bool {
	return slices.ContainsFunc(op.Subtasks, func(s checkpoint.Subtask) bool {
		return s.Keyed != nil || len(s.Splits) > 0 || len(s.Prepared) > 0
	})
}

// start begins taking checkpoints. All operators are open.
func (c *checkpoints) start() {
	cfg := checkpoint.Config{
		Interval: c.cfg.interval, Timeout: c.cfg.timeout, MinPause: c.cfg.pause, Tolerated: c.cfg.tolerated,
		Tasks: len(c.job.tasks), LastID: c.store.LastID(),
	}
	if c.manifest != nil {
		cfg.LastID = max(cfg.LastID, c.manifest.ID)
	}
	for i, t := range c.job.tasks {
		t.index = i
		t.lastCheckpoint = cfg.LastID
		if t.head.kind == kindSource {
			cfg.Sources = append(cfg.Sources, i)
		}
	}
	c.coord = checkpoint.NewCoordinator(cfg)
	c.began = time.Now()
	c.timer = time.NewTimer(time.Hour)
	go c.run()
}

// close ends the coordinator's goroutine and waits for uploads under way, then
// gives the store up.
func (c *checkpoints) close() error {
	c.cancel()
	close(c.stop)
	if c.coord != nil {
		<-c.stopped
	}
	c.uploads.Wait()
	if c.pending != nil {
		c.pending.Abandon()
	}
	return errors.Join(c.closeCommitPoint(), c.store.Close())
}

// post hands the coordinator's goroutine something to do, and says whether that
// still takes anything. It never blocks.
func (c *checkpoints) post(event func() []checkpoint.Action) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return false
	}
	c.events = append(c.events, event)
	select {
	case c.notify <- struct{}{}:
	default:
	}
	return true
}

func (c *checkpoints) posted() []func() []checkpoint.Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.events
	c.events = nil
	return events
}

func (c *checkpoints) run() {
	defer close(c.stopped)
	defer c.timer.Stop()
	defer c.giveUp(errors.New("the job has ended"))
	for {
		c.do(c.coord.Now(time.Since(c.began)))
		for _, event := range c.posted() {
			c.do(event())
		}
		select {
		case <-c.notify:
		case <-c.timer.C:
		case <-c.stop:
			return
		}
	}
}

func (c *checkpoints) giveUp(err error) {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	for _, event := range c.posted() { // somebody may wait for an answer
		event()
	}
	for _, w := range c.waiting {
		w.done <- err
	}
	c.waiting = nil
}

func (c *checkpoints) do(actions []checkpoint.Action) {
	for _, a := range slices.Clone(actions) { // what is done may ask the coordinator again
		switch a.Kind {
		case checkpoint.ActInject:
			c.inject(a)
		case checkpoint.ActStore:
			c.storeManifest(a)
		case checkpoint.ActCommitted:
			c.committed(a)
		case checkpoint.ActAbandon:
			c.abandoned(a)
		case checkpoint.ActWakeAt:
			c.timer.Reset(max(a.At-time.Since(c.began), 0))
		case checkpoint.ActDone:
			c.job.release()
		case checkpoint.ActFail:
			c.job.fail(fmt.Errorf("checkpoints: %w", a.Reason))
		}
	}
}

// begin makes room for a checkpoint in the store.
func (c *checkpoints) begin(id int64) error {
	c.started = time.Now()
	c.live = map[*task]*collected{}
	var err error
	c.pending, err = c.store.Begin(id)
	return err
}

func (c *checkpoints) inject(a checkpoint.Action) {
	if err := c.begin(a.ID); err != nil {
		c.post(func() []checkpoint.Action { return c.coord.Declined(0, a.ID, err) })
		return
	}
	c.current.Store(a.ID)
	for _, t := range c.job.tasks {
		if t.head.kind == kindSource {
			t.barrier.Store(a.ID)
			t.wake()
		}
	}
}

// wants says whether snapshots for a checkpoint are wanted. Any goroutine may
// call it.
func (c *checkpoints) wants(id int64) bool { return c != nil && c.current.Load() == id }

// taken takes over a task's snapshot, on the task's goroutine.
//
// The end of a task is told only after what came of the checkpoints that it took
// part in before: it would else be taken for its part in one of those, of which
// other tasks have a part without the records since.
func (c *checkpoints) taken(s *taskSnapshot, err error) {
	c.uploads.Add(1)
	if !s.ended {
		s.task.uploads.Add(1)
	}
	before, done := s.task.finishing, make(chan struct{})
	s.task.finishing = done
	go func() {
		defer c.uploads.Done()
		ctx := c.ctx
		if err != nil { // an operator that could not; the others have begun theirs
			ended, cancel := context.WithCancel(ctx)
			cancel()
			ctx = ended
		}
		if before != nil { // a snapshot that is unchanged is that of the one before
			<-before
		}
		if ferr := c.finishAll(ctx, s); err == nil {
			err = ferr
		}
		close(done)
		if err == nil {
			err = s.awaitSinks(ctx)
		}
		if s.ended {
			s.task.uploads.Wait()
		}
		if !c.post(func() []checkpoint.Action { return c.finished(s, err) }) && !s.ended {
			s.task.uploads.Done()
		}
	}()
}

// finished goes on with a snapshot whose files are there, or could not be made.
func (c *checkpoints) finished(s *taskSnapshot, err error) []checkpoint.Action {
	switch {
	case err != nil && s.ended: // nothing can stand for the task any more
		c.job.fail(fmt.Errorf("last snapshot: %w", err))
		return nil
	case err != nil:
		c.dropAll(s)
		s.task.uploads.Done()
		return c.coord.Declined(s.task.index, s.id, err)
	case s.ended:
		c.ended[s.task] = s
		return c.coord.Finished(s.task.index)
	}
	return c.collect(s)
}

// finishAll makes local files of a task's snapshot. Until it has, the task's
// operators can't write to their disks, so it comes before anything else, and for
// every part even if one fails.
func (c *checkpoints) finishAll(ctx context.Context, s *taskSnapshot) error {
	var errs []error
	for _, part := range s.parts {
		errs = append(errs, c.finish(ctx, part, s.id))
	}
	return errors.Join(errs...)
}

// collect brings a snapshot's files into the checkpoint under way.
func (c *checkpoints) collect(s *taskSnapshot) []checkpoint.Action {
	if !c.wants(s.id) {
		c.dropAll(s)
		s.task.uploads.Done()
		return nil
	}
	p := c.pending
	c.uploads.Add(1)
	go func() {
		defer c.uploads.Done()
		all, err := c.uploadAll(p, s)
		c.dropAll(s)
		c.post(func() []checkpoint.Action {
			if err != nil {
				return c.coord.Declined(s.task.index, s.id, err)
			}
			if c.wants(s.id) {
				c.live[s.task] = all
			}
			return c.coord.Acked(s.task.index, s.id)
		})
		s.task.uploads.Done()
	}()
	return nil
}

func (c *checkpoints) uploadAll(p *checkpoint.Pending, s *taskSnapshot) (*collected, error) {
	all := &collected{taskSnapshot: s}
	for _, part := range s.parts {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		keyed, err := c.upload(p, part)
		if err == nil {
			err = c.uploadStaged(p, part)
		}
		if err != nil {
			return nil, err
		}
		all.keyed = append(all.keyed, keyed)
	}
	return all, nil
}

// storeManifest writes the manifest, elsewhere: it may take long.
func (c *checkpoints) storeManifest(a checkpoint.Action) {
	if c.pending == nil { // the final one needs no barrier
		if err := c.begin(a.ID); err != nil {
			c.post(func() []checkpoint.Action { return c.coord.StoreFailed(a.ID, err) })
			return
		}
	}
	p := c.pending
	var live []*collected
	for _, s := range c.live {
		live = append(live, s)
	}
	var ended []*taskSnapshot
	for t, s := range c.ended {
		if c.live[t] == nil {
			ended = append(ended, s)
		}
	}
	if a.Final && c.export != "" {
		a.Savepoint = c.export
	}
	c.uploads.Add(1)
	go func() {
		defer c.uploads.Done()
		m, err := c.commit(p, a, live, ended)
		if errors.Is(err, errUndecided) {
			c.job.fail(fmt.Errorf("checkpoints: %w", err))
			return
		}
		var notExported error
		if err == nil && a.Savepoint != "" {
			if _, err := c.store.Export(m, a.Savepoint); err != nil {
				notExported = fmt.Errorf("savepoint %q: %w", a.Savepoint, err)
			}
		}
		c.post(func() []checkpoint.Action {
			if err != nil {
				return c.coord.StoreFailed(a.ID, err)
			}
			c.size = sizeOf(m)
			c.notExported = notExported
			c.exported = a.Final && a.Savepoint != "" && notExported == nil
			return c.coord.Stored(a.ID)
		})
	}()
}

// commit writes the manifest: the commit point, unless the job has another one,
// which comes right after.
func (c *checkpoints) commit(p *checkpoint.Pending, a checkpoint.Action, all []*collected, ended []*taskSnapshot) (*checkpoint.Manifest, error) {
	for _, s := range ended {
		brought, err := c.uploadAll(p, s)
		if err != nil {
			return nil, err
		}
		all = append(all, brought)
	}
	m := c.describe(all)
	m.Finished = a.Final && c.job.drainedAll()
	if err := p.Commit(m); err != nil {
		return nil, err
	}
	return m, c.decide(a.ID, m)
}

func sizeOf(m *checkpoint.Manifest) int64 {
	size := int64(0)
	for _, f := range m.Files() {
		size += f.Size
	}
	return size
}

func (c *checkpoints) committed(a checkpoint.Action) {
	c.current.CompareAndSwap(a.ID, 0)
	c.pending = nil
	took := time.Since(c.started)
	c.metrics.completed(a.ID, c.size, took)
	c.log.Debug("checkpoint complete", "checkpoint", a.ID, "took", took)
	for _, t := range c.job.tasks {
		t.complete.Store(a.ID)
		t.wake()
	}
	c.acknowledge(a.ID)
	c.answer(a, c.notExported)
	if !a.Final { // else it is for StopWithSavepoint to tell
		c.notExported = nil
	}
	if err := c.store.Prune(); err != nil {
		c.log.Warn("old checkpoints stay", "err", err)
	}
}

func (c *checkpoints) abandoned(a checkpoint.Action) {
	if a.ID != 0 {
		c.current.CompareAndSwap(a.ID, 0)
		if c.pending != nil {
			c.pending.Abandon()
			c.pending = nil
		}
		if c.commitPoint != nil {
			c.commitPoint.Abandon(a.ID)
		}
		c.metrics.mu.Lock()
		c.metrics.stats.Failed++
		c.metrics.stats.LastError = a.Reason
		c.metrics.mu.Unlock()
		c.log.Warn("checkpoint failed", "checkpoint", a.ID, "err", a.Reason)
	}
	c.answer(a, a.Reason)
}

// answer tells those who wait for a checkpoint how it went.
func (c *checkpoints) answer(a checkpoint.Action, err error) {
	c.waiting = slices.DeleteFunc(c.waiting, func(w waiter) bool {
		if w.name != a.Savepoint || a.ID != 0 && a.ID <= w.after {
			return false
		}
		w.done <- err
		return true
	})
}

// request asks for a checkpoint, or a savepoint if it has a name, and waits for
// it.
func (c *checkpoints) request(ctx context.Context, name string) error {
	done := make(chan error, 1)
	c.post(func() []checkpoint.Action {
		c.waiting = append(c.waiting, waiter{c.coord.ID(), name, done})
		return c.coord.Savepoint(name)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.stopped:
		select {
		case err := <-done:
			return err
		default:
			return errors.New("the job has ended")
		}
	}
}

// describe makes the manifest of what all tasks have brought.
func (c *checkpoints) describe(all []*collected) *checkpoint.Manifest {
	m := &checkpoint.Manifest{Kind: checkpoint.KindCheckpoint, Created: time.Now().UnixMilli(), MaxParallelism: c.job.cfg.maxParallelism}
	ops := map[*node]*checkpoint.Operator{}
	var nodes []*node
	for _, s := range all {
		for i, part := range s.parts {
			n := part.inst.node
			if n.kind == kindUnion {
				continue
			}
			op := ops[n]
			if op == nil {
				op = &checkpoint.Operator{
					Name: n.name, Kind: n.kind.String(), Parallelism: n.parallelism, Subtasks: make([]checkpoint.Subtask, n.parallelism),
				}
				ops[n] = op
				nodes = append(nodes, n)
			}
			op.Subtasks[part.inst.task.subtask] = c.subtask(part, s.keyed[i], s.ended)
			if part.keyType != "" {
				op.KeyType, op.States = part.keyType, c.states(part)
			}
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return a.id - b.id })
	for _, n := range nodes {
		op := ops[n]
		if n.kind == kindSource {
			c.carrySplits(op)
		}
		m.Operators = append(m.Operators, *op)
	}
	return m
}

func (c *checkpoints) subtask(part *subtaskSnapshot, keyed *checkpoint.Snapshot, ended bool) checkpoint.Subtask {
	in := part.inst
	groups := state.RangeOf(in.task.subtask, in.node.parallelism, c.job.cfg.maxParallelism)
	var prepared []checkpoint.Prepared
	for _, p := range part.prepared {
		prepared = append(prepared, p.Prepared)
	}
	return checkpoint.Subtask{
		Index: in.task.subtask, First: groups.First, End: groups.Last + 1, Watermark: part.watermark, Ended: ended,
		Keyed: keyed, Splits: part.splits, Prepared: prepared,
	}
}

// states describes what a part holds. Versions of earlier runs stay mentioned:
// values are rewritten only when they change.
func (c *checkpoints) states(part *subtaskSnapshot) []checkpoint.State {
	var all []checkpoint.State
	for _, i := range part.states {
		s := checkpoint.State{Name: i.Name, Kind: i.Kind, Type: i.Type, Versions: []uint32{i.Version}, Shape: i.Shape}
		if part.inst.restored != nil {
			for _, old := range part.inst.restored.States {
				if old.Name == i.Name && old.Kind == i.Kind {
					s.Versions = append(s.Versions, old.Versions...)
				}
			}
		}
		slices.Sort(s.Versions)
		s.Versions = slices.Compact(s.Versions)
		all = append(all, s)
	}
	return all
}

// carrySplits adds the splits that the job started from and that no reader has
// mentioned since, or the next start would read them from the beginning.
func (c *checkpoints) carrySplits(op *checkpoint.Operator) {
	if c.manifest == nil {
		return
	}
	old := c.manifest.Operator(op.Name)
	if old == nil {
		return
	}
	mentioned := map[string]bool{}
	for _, s := range op.Subtasks {
		for _, split := range s.Splits {
			mentioned[split.Name] = true
		}
	}
	for _, s := range old.Subtasks {
		for _, split := range s.Splits {
			if !mentioned[split.Name] {
				mentioned[split.Name] = true
				op.Subtasks[0].Splits = append(op.Subtasks[0].Splits, split)
			}
		}
	}
}

// ErrNoCheckpoints is returned where a checkpoint or savepoint is asked of a job
// that takes none, or that is not running.
var ErrNoCheckpoints = errors.New("the job takes no checkpoints, or is not running")

// Checkpoint takes a checkpoint now and returns when it is complete.
func (p *Pipeline) Checkpoint(ctx context.Context) error { return p.request(ctx, "") }

// Savepoint takes a checkpoint and keeps it under a name, in the folder
// savepoints of the job's directory, until somebody removes it. It is complete
// in itself: it may be moved, and another job may start from it ([StartFrom]),
// at another parallelism too. It returns when the savepoint is there.
func (p *Pipeline) Savepoint(ctx context.Context, name string) error {
	if name == "" {
		return errors.New("savepoint: the name is empty")
	}
	return p.request(ctx, name)
}

func (p *Pipeline) request(ctx context.Context, name string) error {
	j := p.running()
	if j == nil || j.checkpoints == nil {
		return ErrNoCheckpoints
	}
	return j.checkpoints.request(ctx, name)
}

// StopWithSavepoint stops the job as cancelling the context of Run does: sources
// stop reading, records in flight reach their sinks, no window fires. What the job
// knows then is its last checkpoint, which is also kept as a savepoint under the
// name. It returns when Run is about to.
//
// A name that can't be used is an error, and the job goes on. Any other error
// comes from a job that ends without the savepoint: because it failed, or its
// input had just ended by itself, or the savepoint could not be written, though
// the last checkpoint was. Where the job had just ended well, it
// matches [ErrNoCheckpoints].
func (p *Pipeline) StopWithSavepoint(ctx context.Context, name string) error {
	j := p.running()
	if j == nil || j.checkpoints == nil {
		return ErrNoCheckpoints
	}
	c := j.checkpoints
	room, err := c.store.Savepoint(name, 1)
	switch {
	case err != nil && isClosed(c.stopped):
		return ErrNoCheckpoints
	case err != nil:
		return err
	}
	room.Abandon() // it was to try the name
	done := make(chan struct{})
	c.post(func() []checkpoint.Action {
		c.export = name
		close(done)
		return nil
	})
	select {
	case <-done:
	case <-c.stopped:
		return ErrNoCheckpoints
	}
	j.stop()
	select {
	case <-j.over:
		return cmp.Or(j.failure(), c.stoppedWith(name))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stoppedWith says why the job that is over did not leave a savepoint of that
// name.
func (c *checkpoints) stoppedWith(name string) error {
	switch {
	case c.exported && c.export == name:
		return nil
	case c.notExported != nil:
		return c.notExported
	}
	return fmt.Errorf("savepoint %q: %w: it had come to its end", name, ErrNoCheckpoints)
}

// CheckpointStats returns the figures of the job's checkpoints. It is safe from
// any goroutine, during the job and after it.
func (p *Pipeline) CheckpointStats() CheckpointStats {
	j := p.running()
	if j == nil || j.checkpoints == nil {
		return CheckpointStats{}
	}
	return j.checkpoints.metrics.read()
}

// ErrKilled is returned by Run after [Pipeline.Kill].
var ErrKilled = errors.New("killed")

// Kill ends a running job where it stands, as if its process had been killed:
// nothing is flushed or committed that is not yet. It is for tests of what a
// job's next start makes of that.
func (p *Pipeline) Kill() {
	if j := p.running(); j != nil {
		j.fail(ErrKilled)
	}
}
