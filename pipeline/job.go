package pipeline

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/state"
)

// job is a pipeline that runs: its tasks, and what ends them.
//
// Ending takes one of three ways. The sources end, by themselves or by Drain:
// each sends MaxWatermark and an end signal, and tasks end one after another
// as these arrive. The context is cancelled: sources send an end signal alone,
// and whatever is in flight flows out. A task fails: aborted is closed, and
// every task ends where it stands.
type job struct {
	cfg       *config
	tasks     []*task
	instances []*instance

	aborted  chan struct{}
	abort    sync.Once
	draining chan struct{}
	drained  sync.Once
	stopping chan struct{}
	stopped  sync.Once

	ctx     context.Context // for operators: ends when the job does
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	failed error // the first failure; guarded by mu

	shared map[*node]*sourceGroup

	run         string         // names this start of the job
	checkpoints *checkpoints   // nil: the job takes none
	commitPoint CommitPoint    // nil: its directory decides which checkpoint counts
	commitSink  *node          // it came with this one
	storage     *state.Storage // nil: state is in memory, and ends with the process
	commits     bool           // tasks stay at their end until all is committed
	left        atomic.Int64   // tasks that have not ended, where there are no checkpoints
	stateDir    string
	exporter    exporter
	released    chan struct{} // closed when all is committed, or may be
	releasing   sync.Once
	over        chan struct{} // closed when every task has ended and all is closed
}

// newJob builds the tasks and opens every operator.
func newJob(ctx context.Context, p *Pipeline) (*job, error) {
	j := &job{
		cfg: &p.cfg, aborted: make(chan struct{}), draining: make(chan struct{}),
		stopping: make(chan struct{}), shared: map[*node]*sourceGroup{},
		released: make(chan struct{}), over: make(chan struct{}), run: rand.Text(), commitPoint: p.commitPoint, commitSink: p.commitSink,
	}
	// Operators outlive a cancelled ctx for as long as records flow out.
	j.ctx, j.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err := newBuilder(j, planOf(p)).built()
	if err == nil {
		err = j.exporter.register(j)
	}
	if err == nil {
		err = j.openStorage(ctx)
	}
	if err == nil {
		err = j.open(ctx)
	}
	if err != nil {
		j.cancel()
		j.exporter.unregister()
		return nil, errors.Join(err, j.closeStorage())
	}
	j.left.Store(int64(len(j.tasks)))
	j.commits = j.checkpoints != nil || slices.ContainsFunc(j.instances, func(in *instance) bool { return in.commits })
	j.exporter.opened()
	return j, nil
}

// start lets the tasks run.
func (j *job) start() {
	if j.checkpoints != nil {
		j.checkpoints.start()
	}
	for _, t := range j.tasks {
		j.running.Add(1)
		go j.runTask(t)
	}
}

// openStorage opens what the job's state is kept in, and its checkpoints.
func (j *job) openStorage(ctx context.Context) error {
	cfg := &j.cfg.checkpoints
	dir := cfg.stateDir
	if cfg.dir != "" {
		c, err := openCheckpoints(ctx, j)
		if err != nil {
			return err
		}
		j.checkpoints = c
		if dir == "" {
			dir = cfg.fs.PathJoin(c.store.WorkDir(), "state")
		}
		if err := c.claim(); err != nil {
			return err
		}
	}
	if dir == "" {
		return nil
	}
	if cfg.stateDir != "" {
		dir = cfg.fs.PathJoin(dir, "millrace-"+j.run)
	}
	if err := cfg.fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var err error
	j.storage, err = state.NewStorage(state.StorageConfig{
		Dir: dir, FS: cfg.fs, Memory: cfg.stateMemory, InMemory: cfg.inMemory, Logger: j.cfg.logger,
	})
	j.stateDir = dir
	return err
}

// closeStorage gives back what openStorage opened, after all operators closed.
func (j *job) closeStorage() error {
	var err error
	if j.checkpoints != nil {
		err = j.checkpoints.close()
	}
	if j.storage != nil {
		j.storage.Close()
		if j.cfg.checkpoints.stateDir != "" {
			err = errors.Join(err, j.cfg.checkpoints.fs.RemoveAll(j.stateDir))
		}
	}
	return err
}

// ended takes over the last snapshot of a task. Where there are no checkpoints,
// the end of the last task is what makes everything that sinks prepared real.
func (j *job) ended(s *taskSnapshot, err error) {
	switch {
	case j.checkpoints != nil:
		j.checkpoints.taken(s, err)
	case err == nil && j.left.Add(-1) == 0:
		j.release()
	}
}

// release lets the tasks commit what they have prepared, and end.
func (j *job) release() { j.releasing.Do(func() { close(j.released) }) }

// drainedAll says whether the job came to the end of its input.
func (j *job) drainedAll() bool { return !isClosed(j.stopping) }

func (j *job) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// open opens all tasks at once, since opening may mean dialling a server, and
// reports every failure.
func (j *job) open(ctx context.Context) error {
	errs := make([]error, len(j.tasks))
	var wg sync.WaitGroup
	for i, t := range j.tasks {
		wg.Go(func() { errs[i] = t.openAll(ctx) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	for i, t := range j.tasks {
		if errs[i] == nil {
			err = errors.Join(err, t.closeAll())
		}
	}
	return err
}

// runTask reports a failure before it closes the operators, since closing may
// take time that the other tasks should not spend on a lost cause.
func (j *job) runTask(t *task) {
	defer j.running.Done()
	returned := false
	defer func() {
		if !returned { // runtime.Goexit in user code, by testing.T.FailNow for example
			j.fail(&OperatorError{Operator: t.head.name, Subtask: t.subtask, Err: errors.New("user code ended the goroutine (runtime.Goexit)")})
		}
	}()
	err := t.guardedRun()
	returned = true
	if err != nil {
		j.fail(err)
	}
	if err := t.closeAll(); err != nil {
		j.fail(err)
	}
}

// guardedRun turns a panic of the engine itself, or of an operator's method
// that no record or timer led to, into an error that names the task.
func (t *task) guardedRun() error {
	err := t.caughtRun()
	if p, ok := err.(*PanicError); ok {
		return &OperatorError{Operator: t.head.name, Subtask: t.subtask, Err: fmt.Errorf("%w\n%s", p, p.Stack)}
	}
	return err
}

func (t *task) caughtRun() (err error) {
	defer CatchPanic(&err)
	return t.run()
}

// fail records the first failure and ends every task.
func (j *job) fail(err error) {
	j.mu.Lock()
	if j.failed == nil && !errors.Is(err, errAborted) {
		j.failed = err
	}
	j.mu.Unlock()
	// Operators that wait for a server with the job's context wait no longer.
	j.abort.Do(func() { close(j.aborted); j.cancel() })
}

func (j *job) drain() {
	j.drained.Do(func() { close(j.draining) })
	j.wakeAll()
}

func (j *job) stop() {
	j.stopped.Do(func() { close(j.stopping) })
	j.wakeAll()
}

func (j *job) wakeAll() {
	for _, t := range j.tasks {
		t.wake()
	}
}

// wait returns when every task has ended.
func (j *job) wait(ctx context.Context) error {
	defer j.exporter.unregister()
	defer j.cancel()
	ended := make(chan struct{})
	go func() {
		j.running.Wait()
		if err := j.closeStorage(); err != nil {
			j.fail(err)
		}
		close(ended)
		close(j.over)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		j.stop()
		j.waitStop(ended)
	}
	return j.failure()
}

// waitStop bounds the time that a stopped job has for its records in flight.
func (j *job) waitStop(ended chan struct{}) {
	timeout := time.NewTimer(j.cfg.stopTimeout)
	defer timeout.Stop()
	select {
	case <-ended:
	case <-timeout.C:
		j.fail(fmt.Errorf("%w after %v: records in flight were dropped", ErrStopTimeout, j.cfg.stopTimeout))
		j.cancel()
		<-ended
	}
}

// ErrStopTimeout is returned by Run when, after its context was cancelled, the
// records in flight did not reach their sinks within [StopTimeout].
var ErrStopTimeout = errors.New("job did not stop in time")

// builder makes the tasks of a plan and wires them up.
type builder struct {
	job      *job
	plan     *plan
	tasks    map[*node][]*task
	channels map[*edge][][]channel // by upstream subtask, then target
	uniforms map[*node]bool
	at       *instance // being built
}

func newBuilder(j *job, pl *plan) *builder {
	return &builder{
		job: j, plan: pl, tasks: map[*node][]*task{},
		channels: map[*edge][][]channel{}, uniforms: map[*node]bool{},
	}
}

// built turns a panic in a user's constructor into an error that names the
// operator.
func (b *builder) built() (err error) {
	defer func() {
		if p, ok := err.(*PanicError); ok && b.at != nil {
			err = b.at.failure("", fmt.Errorf("constructor: %w", p))
		}
	}()
	defer CatchPanic(&err)
	b.build()
	return nil
}

func (b *builder) build() {
	for _, head := range b.plan.heads {
		for i := range head.parallelism {
			t := newTask(b.job, head, i)
			b.tasks[head] = append(b.tasks[head], t)
			b.job.tasks = append(b.job.tasks, t)
		}
	}
	for _, head := range b.plan.heads {
		for _, t := range b.tasks[head] {
			in := b.instantiate(head, t)
			t.entry = in.control
			b.attach(t, in)
		}
	}
	slices.SortFunc(b.job.instances, func(x, y *instance) int {
		return cmp.Or(x.node.id-y.node.id, x.task.subtask-y.task.subtask)
	})
}

// instantiate makes the instance of n in t, after those of the nodes chained
// behind it.
func (b *builder) instantiate(n *node, t *task) *instance {
	in := &instance{node: n, task: t, metrics: newMetrics()}
	in.watermark.Store(MinWatermark)
	at := len(t.instances)
	t.instances = append(t.instances, in)
	env := &buildEnv{task: t, inst: in, down: make([][]any, len(n.outputs))}
	for i, o := range n.outputs {
		for _, e := range o.edges {
			env.down[i] = append(env.down[i], b.link(e, env))
		}
	}
	b.at = in
	n.build(env)
	t.instances[at] = in
	b.job.instances = append(b.job.instances, in)
	return in
}

// link returns the receiver behind an edge: the next operator, or a sender.
func (b *builder) link(e *edge, env *buildEnv) any {
	if e.chained {
		next := b.instantiate(e.to, env.task)
		return e.conn.chain(env, next.entries[e.input])
	}
	var to []channel
	for _, c := range b.channelsOf(e)[env.task.subtask] {
		if c != nil {
			to = append(to, c)
		}
	}
	return e.conn.sender(env, to)
}

// channelsOf makes the channels of an edge once: a row for each upstream
// subtask, with nil where it does not reach a target.
func (b *builder) channelsOf(e *edge) [][]channel {
	if rows, ok := b.channels[e]; ok {
		return rows
	}
	rows := make([][]channel, e.from.parallelism)
	for i := range rows {
		rows[i] = make([]channel, e.to.parallelism)
		for _, target := range e.conn.targets(i, e.from.parallelism, e.to.parallelism) {
			rows[i][target] = e.conn.channel(b.job.cfg)
		}
	}
	b.channels[e] = rows
	return rows
}

// attach connects the channels that lead to a task with its head's entries.
func (b *builder) attach(t *task, head *instance) {
	var groups []int // of the inputs, see valve.awaited
	for i, e := range head.node.in {
		group := 0
		if b.uniform(e.from) {
			group = i + 1
		}
		for _, row := range b.channelsOf(e) {
			if c := row[t.subtask]; c != nil {
				t.inputs = append(t.inputs, c.attach(t, len(t.inputs), head.entries[e.input]))
				groups = append(groups, group)
			}
		}
	}
	t.valve = newValve(max(len(t.inputs), 1))
	t.aligner = newAligner(len(t.inputs))
	for i, g := range groups {
		t.valve.channels[i].group = g
	}
}

// uniform says whether all subtasks of a node get the same signals: because
// every exchange that leads to it, or to the nodes it is chained to, reaches all
// subtasks from each.
func (b *builder) uniform(n *node) bool {
	if u, known := b.uniforms[n]; known {
		return u
	}
	u := n.kind != kindSource
	for _, e := range n.in {
		u = u && (e.conn.kind() != "forward" || b.uniform(e.from))
	}
	b.uniforms[n] = u
	return u
}
