package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/millrace/millrace/internal/checkpoint"
	"github.com/millrace/millrace/state"
)

// taskSnapshot is what the subtasks of a chain add to a checkpoint, all at the
// same point of their input.
type taskSnapshot struct {
	task  *task
	id    int64
	ended bool // it stands for the task in every later checkpoint too
	parts []*subtaskSnapshot
}

// subtaskSnapshot is what one subtask of one operator adds to a checkpoint.
type subtaskSnapshot struct {
	inst      *instance
	watermark int64
	keyType   string
	states    []state.Info
	entries   int64               // of keyed state, timers left out
	keyed     *state.Snapshotting // nil: there is no keyed state
	local     *localSnapshot      // keyed, once it is finished
	splits    []checkpoint.Split
	prepared  []prepared
	safe      func(context.Context) error // waits until what a sink has sent is safe; nil: it is
}

// take adds the instance's part to the snapshot that its task is taking.
func (in *instance) take(id int64) {
	t := in.task
	if t.err != nil || t.taking == nil {
		return
	}
	s := &subtaskSnapshot{inst: in, watermark: in.watermark.Load()}
	t.taking.parts = append(t.taking.parts, s)
	if in.snapshot == nil {
		return
	}
	if err := in.snapshotted(id, s); err != nil {
		t.fail(in.failure("", fmt.Errorf("checkpoint %d: %w", id, err)))
	}
}

func (in *instance) snapshotted(id int64, s *subtaskSnapshot) (err error) {
	defer CatchPanic(&err)
	return in.snapshot(id, s)
}

// snapshot takes the task's part in a checkpoint and passes the barrier on. One
// that was given up meanwhile is passed on all the same: others wait for it.
func (t *task) snapshot(id int64) {
	if t.err != nil {
		return
	}
	t.lastCheckpoint = max(t.lastCheckpoint, id)
	c := t.job.checkpoints
	if !c.wants(id) {
		t.entry(signal{kind: sigBarrier, ts: id})
		return
	}
	s := &taskSnapshot{task: t, id: id}
	t.taking = s
	err := errAborted // of a panic: the parts that were begun must come to an end
	defer func() {
		t.taking = nil
		c.taken(s, err)
	}()
	t.entry(signal{kind: sigBarrier, ts: id})
	err = t.err
}

// lastSnapshot takes the task's last part, when its input has ended.
func (t *task) lastSnapshot() {
	s := &taskSnapshot{task: t, id: t.lastCheckpoint + 1, ended: true}
	t.taking = s
	err := errAborted
	defer func() {
		t.taking = nil
		t.job.ended(s, err)
	}()
	for _, in := range t.instances {
		in.take(s.id)
	}
	err = t.err
}

// commit commits what sinks have prepared for checkpoints up to id.
func (t *task) commit(id int64) {
	for _, in := range t.instances {
		if in.commit != nil && t.err == nil {
			in.commit(id)
		}
	}
}

// commitDue commits what has become complete since the last time.
func (t *task) commitDue() {
	if id := t.complete.Load(); id > t.committed {
		t.committed = id
		t.commit(id)
	}
}

// finish hands over the last snapshot and stays until what is in it was
// committed: a sink that has written its last record still has to commit it.
func (t *task) finish() error {
	t.lastSnapshot()
	for t.err == nil {
		select {
		case <-t.wakeup:
			t.commitDue()
		case <-t.job.released:
			t.commit(MaxWatermark)
			return t.err
		case <-t.job.aborted:
			t.fail(errAborted)
		}
	}
	return t.err
}

// attachable is a backend without the type of its keys, as attach needs it.
type attachable interface {
	Attach(s *state.Storage, name string, from []state.Restored) error
	Owned() state.Range
	KeyType() string
}

// attach connects an operator's backend with the storage of the job, if there is
// one, and with what there is to be restored.
func attach(ctx context.Context, in *instance, backend attachable) error {
	j := in.task.job
	if j.storage == nil {
		return nil
	}
	from, err := in.fetch(ctx, backend.Owned())
	if err != nil {
		return err
	}
	if err := backend.Attach(j.storage, in.id(), from); err != nil {
		return err
	}
	if op := in.restored; op != nil && op.KeyType != "" && op.KeyType != backend.KeyType() {
		return fmt.Errorf("its state has keys of type %s, and the checkpoint %s has %s: "+
			"give the operator another name, or go back to that type", backend.KeyType(), j.checkpoints.from, op.KeyType)
	}
	return nil
}

// id names an instance in file names.
func (in *instance) id() string {
	return strconv.Itoa(in.node.id) + "-" + strconv.Itoa(in.task.subtask)
}

// fetch brings the snapshots that cover key groups of this subtask.
func (in *instance) fetch(ctx context.Context, owned state.Range) ([]state.Restored, error) {
	if in.restored == nil {
		return nil, nil
	}
	c := in.task.job.checkpoints
	var from []state.Restored
	for _, s := range in.restored.Subtasks {
		groups := state.Range{First: s.First, Last: s.End - 1}
		if s.Keyed == nil || groups.First > owned.Last || groups.Last < owned.First {
			continue
		}
		dir := c.fs.PathJoin(c.store.WorkDir(), "restore", in.id()+"-"+strconv.Itoa(s.Index))
		if err := c.fs.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		for _, f := range s.Keyed.Files {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := c.store.Fetch(f, c.manifest, c.fs.PathJoin(dir, f.Name)); err != nil {
				return nil, fmt.Errorf("restore: %w", err)
			}
			if groups == owned {
				in.files.know(f)
			}
		}
		from = append(from, state.Restored{Dir: dir, Owned: groups})
	}
	return from, nil
}

// claimState refuses state of the checkpoint that the operator does not declare:
// to leave it out is to lose it.
func (in *instance) claimState(declared []state.Info) error {
	if in.restored == nil {
		return nil
	}
	from := in.task.job.checkpoints.from
	claimed := map[[2]string]state.Info{}
	for _, i := range declared {
		claimed[[2]string{i.Name, i.Kind}] = i
	}
	var errs []error
	for _, s := range in.restored.States {
		i, ok := claimed[[2]string{s.Name, s.Kind}]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%w: the checkpoint %s has %s %q, which the operator does not declare",
				ErrUnclaimedState, from, s.Kind, s.Name))
		case i.Shape != s.Shape:
			return fmt.Errorf("state %q is of %s, in the checkpoint %s it is of %s: give the operator another name, or go back to that",
				s.Name, i.Shape, from, s.Shape)
		}
	}
	if in.task.job.cfg.checkpoints.allowUnclaimed {
		for _, err := range errs {
			in.logger().Warn("state is left behind", "err", err)
		}
		return nil
	}
	return errors.Join(errs...)
}

// ErrUnclaimedState is matched by the error of a start from a checkpoint that
// holds state of an operator, source or sink that the job does not have, or
// state that its operator does not declare. [AllowUnclaimed] starts anyhow.
var ErrUnclaimedState = errors.New("unclaimed state")

// restoredPrepared returns what all of the sink's subtasks had prepared when the
// checkpoint was taken.
func (in *instance) restoredPrepared() []checkpoint.Prepared {
	var all []checkpoint.Prepared
	if in.restored == nil {
		return nil
	}
	for _, s := range in.restored.Subtasks {
		all = append(all, s.Prepared...)
	}
	return all
}

// restoredWatermark returns what the subtask's watermark was (rule 15). At
// another parallelism it is the lowest of all: no record may become late that
// was not.
func (in *instance) restoredWatermark() int64 {
	op := in.restored
	switch {
	case op == nil || len(op.Subtasks) == 0:
		return MinWatermark
	case op.Parallelism == in.node.parallelism:
		return op.Subtasks[in.task.subtask].Watermark
	}
	lowest := int64(MaxWatermark)
	for _, s := range op.Subtasks {
		lowest = min(lowest, s.Watermark)
	}
	return lowest
}

// files is what is known of the files of an instance's snapshots.
type files struct {
	mu    sync.Mutex
	last  *localSnapshot             // stands for those in which nothing has changed; guarded by mu
	known map[string]checkpoint.File // immutable files that the store has, or had; guarded by mu
}

// localSnapshot is a snapshot in a local directory, which is there for as long
// as somebody needs it.
type localSnapshot struct {
	*state.Snapshot
	users int // guarded by the files' mu
}

func (f *files) know(file checkpoint.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[string]checkpoint.File{}
	}
	if state.Immutable(file.Name) {
		f.known[file.Name] = file
	}
}

func (f *files) knows(name string) (checkpoint.File, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, ok := f.known[name]
	return file, ok
}

// finish writes the snapshot of a subtask into local files.
func (c *checkpoints) finish(ctx context.Context, s *subtaskSnapshot, id int64) error {
	f := &s.inst.files
	if s.keyed == nil {
		return nil
	}
	if s.keyed.Unchanged {
		f.mu.Lock()
		s.local = f.last
		s.local.users++
		f.mu.Unlock()
		return nil
	}
	dir := c.fs.PathJoin(c.store.WorkDir(), "snapshot", s.inst.id()+"-"+strconv.FormatInt(id, 10))
	done, err := s.keyed.Finish(ctx, dir)
	if err != nil {
		return s.inst.failure("", err)
	}
	s.local = &localSnapshot{done, 2}
	f.mu.Lock()
	old := f.last
	f.last = s.local
	f.mu.Unlock()
	c.drop(f, old)
	return nil
}

// awaitSinks waits until what sinks have sent before the barrier is safe.
func (s *taskSnapshot) awaitSinks(ctx context.Context) error {
	for _, part := range s.parts {
		if part.safe == nil {
			continue
		}
		if err := part.safe(ctx); err != nil {
			return part.inst.failure("", fmt.Errorf("sync: %w", err))
		}
	}
	return nil
}

// drop says that somebody needs a local snapshot no longer.
func (c *checkpoints) drop(f *files, l *localSnapshot) {
	if l == nil {
		return
	}
	f.mu.Lock()
	l.users--
	unused := l.users == 0
	f.mu.Unlock()
	if !unused {
		return
	}
	if err := c.fs.RemoveAll(l.Dir); err != nil {
		c.log.Warn("remove old snapshot", "dir", l.Dir, "err", err)
	}
}

// dropAll drops the local files of a task's snapshot.
func (c *checkpoints) dropAll(s *taskSnapshot) {
	for _, part := range s.parts {
		c.drop(&part.inst.files, part.local)
		part.local = nil
	}
}

// upload brings the local files of a subtask's snapshot into a checkpoint: those
// that the store does not have.
func (c *checkpoints) upload(p *checkpoint.Pending, part *subtaskSnapshot) (*checkpoint.Snapshot, error) {
	if part.local == nil {
		return nil, nil
	}
	snap := &checkpoint.Snapshot{Format: "pebble", Entries: part.entries}
	for _, name := range part.local.Files {
		f, err := c.bring(p, part, name)
		if err != nil {
			return nil, fmt.Errorf("operator %q subtask %d: %w", part.inst.node.name, part.inst.task.subtask, err)
		}
		f.Name = name
		snap.Files = append(snap.Files, f)
		snap.Bytes += f.Size
		if name == state.TableFile {
			snap.Format = "table"
		}
	}
	part.inst.files.forgetBut(snap.Files)
	return snap, nil
}

// forgetBut keeps in mind the files of the latest snapshot, which the next one
// shares.
func (f *files) forgetBut(latest []checkpoint.File) {
	f.mu.Lock()
	f.known = nil
	f.mu.Unlock()
	for _, file := range latest {
		f.know(file)
	}
}

func (c *checkpoints) bring(p *checkpoint.Pending, part *subtaskSnapshot, name string) (checkpoint.File, error) {
	path := c.fs.PathJoin(part.local.Dir, name)
	if !state.Immutable(name) {
		data, err := c.read(path)
		if err != nil {
			return checkpoint.File{}, err
		}
		return p.Private(part.inst.id()+"-"+name, data)
	}
	if f, ok := part.inst.files.knows(name); ok {
		brought, err := p.Reuse(f)
		if !errors.Is(err, checkpoint.ErrUnknownFile) {
			return brought, err
		}
	}
	return p.Share(path, name)
}

func (c *checkpoints) read(path string) ([]byte, error) {
	f, err := c.fs.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}
