package pipeline

import (
	"sync"
	"time"
)

// sourceGroup is what the subtasks of one source share: how far each is in
// event time. It bounds the drift between splits, and tells when all are idle.
type sourceGroup struct {
	tasks    []*task // of the subtasks, complete once the job is built
	mu       sync.Mutex
	subtasks []subtaskProgress // guarded by mu
}

type subtaskProgress struct {
	lowest    int64 // of its active splits' watermarks; MaxWatermark without any
	watermark int64 // what it last sent
	idle      bool
	idleSince time.Time
	heard     bool // its reader has brought something
	left      bool
}

// groupOf returns the group of a source's subtasks. The builder calls it on
// one goroutine.
func (j *job) groupOf(n *node) *sourceGroup {
	g := j.shared[n]
	if g == nil {
		g = &sourceGroup{subtasks: make([]subtaskProgress, n.parallelism)}
		for i := range g.subtasks {
			g.subtasks[i] = subtaskProgress{lowest: MinWatermark, watermark: MinWatermark}
		}
		j.shared[n] = g
	}
	return g
}

func (g *sourceGroup) publish(subtask int, lowest, watermark int64, idle bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := &g.subtasks[subtask]
	p.lowest = lowest
	if !idle || !p.idle { // an idle advance counts from where it began
		p.watermark = watermark
	}
	if idle && !p.idle {
		p.idleSince = time.Now()
	}
	p.idle = idle
}

// leave takes a subtask out when its input has ended.
func (g *sourceGroup) leave(subtask int) {
	g.mu.Lock()
	g.subtasks[subtask].left = true
	g.subtasks[subtask].lowest = MaxWatermark
	g.mu.Unlock()
	g.wake()
}

// hear notes that a subtask's reader has brought something.
func (g *sourceGroup) hear(subtask int) {
	g.mu.Lock()
	g.subtasks[subtask].heard = true
	g.mu.Unlock()
	g.wake()
}

// allHeard says whether every reader has brought something or has ended.
func (g *sourceGroup) allHeard() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.subtasks {
		if p := &g.subtasks[i]; !p.heard && !p.left {
			return false
		}
	}
	return true
}

func (g *sourceGroup) wake() {
	for _, t := range g.tasks {
		t.wake()
	}
}

// lowest returns the event time of the slowest active split of all subtasks.
func (g *sourceGroup) lowest() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	lowest := int64(MaxWatermark)
	for i := range g.subtasks {
		lowest = min(lowest, g.subtasks[i].lowest)
	}
	return lowest
}

// allIdle says since when every subtask has been idle, and the largest
// watermark among them.
func (g *sourceGroup) allIdle() (since time.Time, watermark int64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	watermark = MinWatermark
	for i := range g.subtasks {
		p := &g.subtasks[i]
		if p.left {
			continue
		}
		if !p.idle {
			return time.Time{}, 0, false
		}
		ok = true
		watermark = max(watermark, p.watermark)
		if p.idleSince.After(since) {
			since = p.idleSince
		}
	}
	return since, watermark, ok && watermark > MinWatermark
}

// The rest is the sourceRunner's side of drift, idleness and idle advance: all
// it does by the clock.

// publish tells the group how far this subtask is.
func (r *sourceRunner[T]) publish() {
	if r.strategy.drift == 0 && r.strategy.advance == 0 {
		return
	}
	lowest := int64(MaxWatermark)
	if !r.heard {
		lowest = MinWatermark
	}
	for _, s := range r.splits {
		if !s.idle {
			lowest = min(lowest, s.watermark)
		}
	}
	r.group.publish(r.inst.task.subtask, lowest, r.sent, r.valve.idle)
}

// ahead says whether a split is further than the drift bound allows.
func (r *sourceRunner[T]) ahead(s *split[T]) bool {
	if r.strategy.drift == 0 || s.watermark == MinWatermark {
		return false
	}
	lowest := r.group.lowest()
	if lowest == MaxWatermark {
		return false
	}
	return lowest == MinWatermark || s.watermark-lowest > r.strategy.drift.Milliseconds()
}

func (r *sourceRunner[T]) hold(s *split[T], b *SourceBatch[T]) {
	r.newsOfOthers(s, b)
	s.held = append(s.held, b)
	if !s.paused {
		s.paused = true
		r.pauser.Pause(s.name)
	}
}

// newsOfOthers takes what a batch that is to be held says of other splits. It
// must not wait: the batch may be held because of just those splits.
func (r *sourceRunner[T]) newsOfOthers(s *split[T], b *SourceBatch[T]) {
	own := func(name string) bool { return name == s.name }
	others := &SourceBatch[T]{}
	b.idle, others.idle = splitBy(b.idle, own)
	b.finished, others.finished = splitBy(b.finished, own)
	if len(others.idle)+len(others.finished) > 0 {
		r.handle(others)
	}
}

func splitBy(names []string, own func(string) bool) (mine, others []string) {
	for _, name := range names {
		if own(name) {
			mine = append(mine, name)
		} else {
			others = append(others, name)
		}
	}
	return mine, others
}

// releaseHeld handles one held batch whose split is no longer ahead.
func (r *sourceRunner[T]) releaseHeld() bool {
	if r.strategy.drift == 0 {
		return false
	}
	for _, s := range r.splits {
		if !s.paused || r.ahead(s) {
			continue
		}
		if len(s.held) == 0 {
			s.paused = false
			r.pauser.Resume(s.name)
			continue
		}
		r.handleHeld(s)
		r.maybeWatermark()
		return true
	}
	return false
}

func (r *sourceRunner[T]) handleHeld(s *split[T]) {
	b := s.held[0]
	s.held[0] = nil
	s.held = s.held[1:]
	r.handle(b)
}

// lastHeld returns the last batch that is held of a split, or nil. What the
// reader says of the split after that batch must wait for it.
func (r *sourceRunner[T]) lastHeld(name string) *SourceBatch[T] {
	s := r.splits[name]
	if s == nil || len(s.held) == 0 {
		return nil
	}
	return s.held[len(s.held)-1]
}

// finishRead finishes the splits that have nothing held once the reader has
// ended, or those that have would wait for them for ever.
func (r *sourceRunner[T]) finishRead() {
	for name, s := range r.splits {
		if len(s.held) == 0 {
			r.finishSplit(name)
		}
	}
	r.publish()
}

// releaseAll handles every held batch, when the job drains.
func (r *sourceRunner[T]) releaseAll() {
	for _, s := range r.splits {
		for len(s.held) > 0 {
			r.handleHeld(s)
		}
	}
}

func (r *sourceRunner[T]) anyHeld() bool {
	for _, s := range r.splits {
		if len(s.held) > 0 {
			return true
		}
	}
	return false
}

// due and tick make the runner a clock. Held batches wait for other subtasks,
// which can't wake this one; they are looked at every few milliseconds.
func (r *sourceRunner[T]) due() (time.Time, bool) {
	interval := r.interval()
	return r.ticked.Add(interval), interval > 0
}

// The clock's steps: often enough that a time-out is at most a quarter late.
const (
	heldInterval    = 2 * time.Millisecond
	advanceInterval = 20 * time.Millisecond
)

func (r *sourceRunner[T]) interval() time.Duration {
	var steps []time.Duration
	if r.strategy.drift > 0 && r.anyPaused() {
		steps = append(steps, heldInterval)
	}
	if r.strategy.advance > 0 {
		steps = append(steps, min(advanceInterval, max(r.strategy.advance/4, time.Millisecond)))
	}
	if r.strategy.idle > 0 {
		steps = append(steps, max(r.strategy.idle/4, time.Millisecond))
	}
	if r.last != nil || r.first != nil {
		steps = append(steps, lastSplitGrace/4)
	}
	shortest := time.Duration(0)
	for _, d := range steps {
		if shortest == 0 || d < shortest {
			shortest = d
		}
	}
	return shortest
}

func (r *sourceRunner[T]) anyPaused() bool {
	for _, s := range r.splits {
		if s.paused {
			return true
		}
	}
	return false
}

func (r *sourceRunner[T]) tick(now time.Time) {
	// A task held up by a slow sink has not seen what its splits may have
	// brought meanwhile, so a step counts at most twice its length.
	elapsed := min(now.Sub(r.ticked), 2*r.interval())
	r.ticked = now
	if r.last != nil {
		if r.last.quiet += elapsed; r.last.quiet >= lastSplitGrace {
			r.forgetLast()
			r.publish()
		}
	}
	if r.strategy.idle > 0 {
		for _, s := range r.splits {
			if s.idle || s.paused {
				continue
			}
			if s.quiet += elapsed; s.quiet >= r.strategy.idle && r.nothingComes(s) {
				r.turnIdle(s)
			}
		}
		r.publish()
	}
	if r.strategy.advance > 0 {
		r.advanceIdle(now)
	}
}

// nothingComes says whether a split that is quiet for too long has no record
// among the batches that were read before that time.
func (r *sourceRunner[T]) nothingComes(s *split[T]) bool {
	if s.overdue == 0 {
		s.overdue = r.taken + 1
	}
	// What was read by then is in full, and one more in the reader's hands.
	return len(r.full) == 0 || r.taken+1-s.overdue > readAhead+1
}

// advanceIdle moves time on by the clock while all splits are idle.
func (r *sourceRunner[T]) advanceIdle(now time.Time) {
	since, base, ok := r.group.allIdle()
	if !ok && r.valve.idle {
		r.setIdle(true) // after an advance that a record elsewhere has ended
	}
	if !ok || now.Sub(since) < r.strategy.advance {
		return
	}
	watermark := base + now.Sub(since).Milliseconds() - r.strategy.advance.Milliseconds()
	if watermark <= r.sent || watermark < base {
		return
	}
	r.valve.out = max(r.valve.out, watermark)
	r.setIdle(false) // an idle channel's watermark would not count downstream
	r.pending = max(r.pending, watermark)
	r.sendWatermark()
}
