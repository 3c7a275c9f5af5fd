package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config says when checkpoints are taken.
type Config struct {
	// Interval is the time from the start of one checkpoint to that of the next.
	// With 0, only savepoints and the final checkpoint are taken.
	Interval time.Duration

	// Timeout is how long the tasks have to acknowledge; 0 is for ever. The
	// store's answer is waited for without limit: a manifest on its way may not
	// be given up.
	Timeout time.Duration

	// MinPause is the least time from the end of one checkpoint to the start of
	// the next, for jobs whose checkpoints take about as long as the interval. A
	// savepoint does not wait for it.
	MinPause time.Duration

	// Tolerated is how many checkpoints in a row may fail before the job does;
	// -1 is any number.
	Tolerated int

	// Tasks is the number of tasks that acknowledge, named 0 to Tasks-1.
	Tasks int

	// Sources are the tasks among them that barriers start from. There has to be
	// one: without, nothing is taken before every task has finished.
	Sources []int

	// LastID is the highest id used so far; the first checkpoint has the next.
	LastID int64
}

// retryPause is the least time before a last checkpoint is tried again.
const retryPause = time.Second

// ActionKind says what is to be done.
type ActionKind int

// Kinds of action, and the fields of [Action] that belong to them.
const (
	// ActInject: have the sources that have not ended put the barrier of
	// checkpoint ID between their records. With Stop it is the last one: they
	// read nothing behind it, unless it is abandoned.
	ActInject ActionKind = iota

	// ActStore: every task has acknowledged checkpoint ID. Write its manifest,
	// and answer with Stored or StoreFailed. With Savepoint, store it as a
	// checkpoint and export it under that name. With Final, the input has ended.
	ActStore

	// ActCommitted: checkpoint ID is real. Tell the tasks, whose sinks commit.
	ActCommitted

	// ActAbandon: checkpoint ID is given up, with Reason. Tell the tasks, and
	// whoever asked for Savepoint. Its files may be removed. Without an ID, it is
	// a savepoint that was never begun.
	ActAbandon

	// ActWakeAt: call Now once, when the clock says At or earlier. It replaces the
	// last one, and every Now asks again.
	ActWakeAt

	// ActDone: the last checkpoint is committed, and the job may end.
	ActDone

	// ActFail: the job has to stop, with Reason. Nothing comes after it.
	ActFail
)

// Action is something that the owner of a [Coordinator] has to do.
type Action struct {
	Kind      ActionKind
	ID        int64
	Savepoint string // the name of the savepoint that was asked for, or empty
	Stop      bool
	Final     bool
	At        time.Duration
	Reason    error
}

// Coordinator decides when a checkpoint is taken and whether it counts. It is
// pure: events in, actions out, which are to be done in order. The slice that a
// method returns holds until the next call. It is for one goroutine, and wants
// to know the time, by Now, before anything else.
//
//	           interval, savepoint                every task acked
//	           or stop: inject                    or finished: store
//	   idle ───────────────────────▶ gathering ──────────────────────▶ storing
//	    ▲ ▲                              │                              │  │
//	    │ └──── timeout, declined: ──────┘         stored: committed    │  │
//	    │       abandon                            storeFailed: abandon │  │
//	    └───────────────────────────────────────────────────────────────┘  │
//	                                  the last one stored: committed, done ▼
//	too many failures in a row, or nobody knows: fail                    over
//
// One checkpoint is under way at a time. Once every task has finished, a final
// one is taken at once, of what they handed over at their end; it needs no
// barrier.
//
// Time is that of the clock given to Now, since whenever. It may jump: back, and
// it counts as if no time had passed, so that nothing waits longer than it would
// have; ahead, and at most one checkpoint times out or starts early.
type Coordinator struct {
	cfg   Config
	tasks []taskStatus
	live  int // tasks that have not finished

	clock   time.Duration // what Now said last
	started bool          // Now was called
	elapsed time.Duration // time passed since the first Now, jumps back left out
	armed   bool          // ActWakeAt was given since
	woken   time.Duration // and for then

	phase     phase
	id        int64 // of the checkpoint under way, or the last one
	current   request
	missing   int           // acknowledgements
	begun     time.Duration // when the last one started, by elapsed
	ended     time.Duration // when the last one ended
	failures  int           // in a row
	retrying  bool          // the last one failed and has to be taken again
	savepoint []string      // asked for and not started
	stop      *request      // what the job is to end with, if it was told to stop
	actions   []Action
}

type phase int

const (
	idle phase = iota
	gathering
	storing
	over
)

type taskStatus struct {
	acked    bool
	finished bool
}

// request is what a checkpoint is taken for.
type request struct {
	savepoint string
	stop      bool // the job ends with it, though its input goes on
	final     bool // every task has finished
}

func (r request) last() bool { return r.stop || r.final }

// NewCoordinator returns one whose tasks all run.
func NewCoordinator(cfg Config) *Coordinator {
	return &Coordinator{cfg: cfg, id: cfg.LastID, tasks: make([]taskStatus, cfg.Tasks), live: cfg.Tasks}
}

// Now tells the time.
func (c *Coordinator) Now(t time.Duration) []Action {
	c.actions = c.actions[:0]
	c.armed = false
	if c.started {
		c.elapsed += max(0, t-c.clock)
	}
	c.started, c.clock = true, t
	if c.phase == gathering && c.cfg.Timeout > 0 && c.elapsed >= c.begun+c.cfg.Timeout {
		c.abandon(fmt.Errorf("not acknowledged by %s within %v", c.laggards(), c.cfg.Timeout))
	}
	return c.proceed()
}

// Acked tells that a task has taken its snapshot for a checkpoint. One that was
// abandoned meanwhile is ignored.
func (c *Coordinator) Acked(task int, id int64) []Action {
	c.actions = c.actions[:0]
	if c.phase == gathering && id == c.id {
		c.ack(task)
	}
	return c.proceed()
}

// Declined tells that a task can't take its snapshot.
func (c *Coordinator) Declined(task int, id int64, reason error) []Action {
	c.actions = c.actions[:0]
	if c.phase == gathering && id == c.id {
		c.abandon(fmt.Errorf("declined by task %d: %w", task, reason))
	}
	return c.proceed()
}

// Finished tells that a task has reached the end of its input and handed over
// its last snapshot, which stands for it in every checkpoint from now on, and
// in the one under way unless it has acknowledged that before.
func (c *Coordinator) Finished(task int) []Action {
	c.actions = c.actions[:0]
	t := &c.tasks[task]
	if t.finished {
		return c.proceed()
	}
	t.finished = true
	c.live--
	if c.phase == gathering {
		c.ack(task)
	}
	if c.live == 0 {
		c.failures = 0 // the final one has its own tries
	}
	return c.proceed()
}

// Stored tells that the manifest of a checkpoint is written.
func (c *Coordinator) Stored(id int64) []Action {
	c.actions = c.actions[:0]
	if c.phase != storing || id != c.id {
		return c.proceed()
	}
	c.act(Action{Kind: ActCommitted, ID: id, Savepoint: c.current.savepoint, Final: c.current.final})
	c.phase, c.ended, c.failures = idle, c.elapsed, 0
	// Nothing follows a stop, even if the input has ended meanwhile: what the end
	// brings about would be delivered, and again by whoever goes on from here.
	if c.current.last() {
		c.phase = over
		c.act(Action{Kind: ActDone})
	}
	return c.proceed()
}

// StoreFailed tells that the manifest of a checkpoint is not written, or, with
// an [ErrUncertain], that nobody knows.
func (c *Coordinator) StoreFailed(id int64, err error) []Action {
	c.actions = c.actions[:0]
	switch {
	case c.phase != storing || id != c.id:
	case errors.Is(err, ErrUncertain):
		c.fail(fmt.Errorf("checkpoint %d: %w", id, err))
	default:
		c.abandon(err)
	}
	return c.proceed()
}

// Savepoint asks for a savepoint, which is taken as soon as no checkpoint is
// under way. If it fails, it is abandoned under its name and not tried again.
func (c *Coordinator) Savepoint(name string) []Action {
	c.actions = c.actions[:0]
	c.savepoint = append(c.savepoint, name)
	return c.proceed()
}

// Stop asks for a last checkpoint as soon as none is under way, exported as a
// savepoint if it has a name. No window fires for it. To drain instead, end the
// sources and wait for the final one.
func (c *Coordinator) Stop(savepoint string) []Action {
	c.actions = c.actions[:0]
	if c.stop == nil {
		c.stop = &request{savepoint: savepoint, stop: true}
	}
	return c.proceed()
}

// proceed does what follows from what there is now.
func (c *Coordinator) proceed() []Action {
	if c.phase == idle && c.started {
		if r, ok := c.due(); ok {
			c.begin(r)
		}
	}
	if c.phase == gathering && c.missing == 0 {
		c.phase = storing
		c.act(Action{Kind: ActStore, ID: c.id, Savepoint: c.current.savepoint, Stop: c.current.stop, Final: c.current.final})
	}
	if c.phase == over {
		c.refuse()
	}
	c.wake()
	return c.actions
}

// refuse gives up the savepoints that nothing will be taken for any more.
func (c *Coordinator) refuse() {
	for _, name := range c.savepoint {
		c.act(Action{Kind: ActAbandon, Savepoint: name, Reason: errors.New("the job has come to its end")})
	}
	c.savepoint = nil
}

// due returns what has to be started now. Savepoints come first, since nothing
// is taken after the last checkpoint.
func (c *Coordinator) due() (request, bool) {
	at, timed := c.next()
	switch {
	case !c.canStart():
		return request{}, false
	case len(c.savepoint) > 0:
		r := request{savepoint: c.savepoint[0]}
		c.savepoint = slices.Delete(c.savepoint, 0, 1)
		return r, true
	case !timed || c.elapsed < at:
		return request{}, false
	}
	return c.kind(), true
}

// canStart tells whether a barrier could start: not between the end of the
// sources and that of the last task.
func (c *Coordinator) canStart() bool {
	return c.live == 0 || slices.ContainsFunc(c.cfg.Sources, func(i int) bool { return !c.tasks[i].finished })
}

// kind returns what the next checkpoint is, savepoints apart.
func (c *Coordinator) kind() request {
	r := request{}
	if c.stop != nil {
		r = *c.stop
	}
	if c.live == 0 {
		r.stop, r.final = false, true
	}
	return r
}

// next returns when the next checkpoint starts, by elapsed, and false if that is
// not for time to decide.
func (c *Coordinator) next() (time.Duration, bool) {
	switch {
	case !c.canStart():
		return 0, false
	case c.kind().last() && c.retrying:
		return c.ended + max(c.cfg.MinPause, retryPause), true
	case c.kind().last():
		return 0, true
	}
	return max(c.begun+c.cfg.Interval, c.ended+c.cfg.MinPause), c.cfg.Interval > 0
}

func (c *Coordinator) begin(r request) {
	c.id++
	c.phase, c.current, c.begun, c.retrying = gathering, r, c.elapsed, false
	c.missing = c.live
	for i := range c.tasks {
		c.tasks[i].acked = c.tasks[i].finished
	}
	if c.live > 0 {
		c.act(Action{Kind: ActInject, ID: c.id, Savepoint: r.savepoint, Stop: r.stop})
	}
}

func (c *Coordinator) ack(task int) {
	if t := &c.tasks[task]; !t.acked {
		t.acked = true
		c.missing--
	}
}

// abandon gives up the checkpoint under way, and the job if it was one too
// many. A savepoint that fails is for whoever asked for it, and does not count.
func (c *Coordinator) abandon(reason error) {
	r := c.current
	c.act(Action{Kind: ActAbandon, ID: c.id, Savepoint: r.savepoint, Reason: reason})
	c.phase, c.ended = idle, c.elapsed
	if r.savepoint != "" && !r.last() {
		return
	}
	c.retrying = r.last()
	c.failures++
	if c.cfg.Tolerated >= 0 && c.failures > c.cfg.Tolerated {
		c.fail(fmt.Errorf("checkpoint %d: %w (%d failed in a row, %d are tolerated)", c.id, reason, c.failures, c.cfg.Tolerated))
	}
}

func (c *Coordinator) fail(reason error) {
	c.phase = over
	c.act(Action{Kind: ActFail, Reason: reason})
}

// wake asks to be told the time when it next decides something.
func (c *Coordinator) wake() {
	if c.phase == over || !c.started {
		return
	}
	at, ok := c.deadline()
	if !ok {
		return
	}
	at += c.clock - c.elapsed
	if !c.armed || at != c.woken {
		c.armed, c.woken = true, at
		c.act(Action{Kind: ActWakeAt, At: at})
	}
}

func (c *Coordinator) deadline() (time.Duration, bool) {
	switch c.phase {
	case gathering:
		return c.begun + c.cfg.Timeout, c.cfg.Timeout > 0
	case idle:
		return c.next()
	}
	return 0, false
}

// laggards names the tasks that have not acknowledged.
func (c *Coordinator) laggards() string {
	var late []int
	for i, t := range c.tasks {
		if !t.acked {
			late = append(late, i)
		}
	}
	const shown = 8
	if len(late) > shown {
		return fmt.Sprintf("tasks %v and %d more", late[:shown], len(late)-shown)
	}
	return fmt.Sprintf("tasks %v", late)
}

func (c *Coordinator) act(a Action) { c.actions = append(c.actions, a) }

// ID returns the number of the checkpoint under way, or of the last one.
func (c *Coordinator) ID() int64 { return c.id }
