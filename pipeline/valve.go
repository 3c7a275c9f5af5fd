package pipeline

// valve turns the watermarks and idleness of a task's channels into those of
// the task (rule 1). It is pure: signals in, signals out.
//
//	            idle                    end after MaxWatermark
//	active ───────────▶ idle            any ───────────▶ ended
//	   ▲                  │
//	   └─ watermark or ───┘             A channel that becomes active again is
//	      record: active,               not aligned, and so has no say, until its
//	      not yet aligned               watermark has reached the task's.
//
// The watermark is the minimum over channels that are active and aligned, and
// never goes back. A channel that ended without MaxWatermark was stopped: it
// keeps its watermark and its say, so that a stopped job fires no window that
// an undisturbed one would not have fired.
type valve struct {
	channels []valveChannel
	out      int64 // the last watermark sent on
	idle     bool  // the last status sent on
	live     int   // channels that have not ended
	actions  []signal
}

type valveChannel struct {
	watermark int64
	group     int // channels that turn idle and active together; 0 is none
	active    bool
	aligned   bool
	ended     bool // drained: no longer part of anything
	stopped   bool // ended, but its watermark still counts
}

func newValve(channels int) *valve {
	v := &valve{channels: make([]valveChannel, channels), out: MinWatermark, live: channels}
	for i := range v.channels {
		v.channels[i] = valveChannel{watermark: MinWatermark, active: true, aligned: true}
	}
	return v
}

// add returns the index of a new channel, and whether it starts idle. One that
// joins before time has started is active and holds it back; one that joins
// later starts idle, since it may never have a record.
func (v *valve) add() (i int, idle bool) {
	c := valveChannel{watermark: MinWatermark}
	c.active = v.out == MinWatermark && !v.idle
	c.aligned = c.active
	v.live++
	for i := range v.channels {
		if v.channels[i].ended {
			v.channels[i] = c
			return i, !c.active
		}
	}
	v.channels = append(v.channels, c)
	return len(v.channels) - 1, !c.active
}

// restore gives a channel that was just added the watermark and status it had
// before a restart, and v what it had sent on.
func (v *valve) restore(i int, watermark int64, idle bool) {
	c := &v.channels[i]
	c.watermark = watermark
	c.active = !idle
	c.aligned = c.active && watermark >= v.out
}

// due returns what restored channels give the task to pass on, as input does:
// what they had come to and not sent on, or that all were idle, which whoever is
// behind the task no longer knows.
func (v *valve) due() []signal {
	v.actions = v.actions[:0]
	if v.live > 0 && !v.anyActive() {
		v.setIdle(true)
	}
	v.advance()
	return v.actions
}

// remove takes a channel out, though the others go on. It returns what the
// task has to pass on, as input does.
func (v *valve) remove(i int) []signal {
	v.actions = v.actions[:0]
	v.live--
	v.channels[i] = valveChannel{ended: true}
	v.afterLeaving()
	return v.actions
}

// input takes a signal of channel i and returns what the task has to pass on,
// in order. The slice holds until the next call.
func (v *valve) input(i int, s signal) []signal {
	v.actions = v.actions[:0]
	c := &v.channels[i]
	switch s.kind {
	case sigWatermark:
		v.watermark(c, s.ts)
	case sigIdle:
		v.turnIdle(c)
	case sigActive:
		v.turnActive(c)
	case sigEnd:
		v.end(c)
	}
	return v.actions
}

func (v *valve) watermark(c *valveChannel, ts int64) {
	if !c.active || ts <= c.watermark {
		return
	}
	c.watermark = ts
	if !c.aligned && ts >= v.out {
		c.aligned = true
	}
	v.advance()
}

func (v *valve) turnIdle(c *valveChannel) {
	if !c.active || c.stopped {
		return
	}
	pinned := v.pinned(c)
	c.active, c.aligned = false, false
	if v.anyActive() {
		v.advance()
		return
	}
	// The largest watermark is flushed only if this channel was what held it
	// back; a channel that was already ahead of the others has flushed nothing
	// new.
	if pinned {
		v.send(v.largest())
	}
	v.setIdle(true)
}

// pinned says whether a channel, or one that it turns idle with, is among those
// that hold time back.
func (v *valve) pinned(c *valveChannel) bool {
	for i := range v.channels {
		if o := &v.channels[i]; o.together(c) && o.watermark <= v.out {
			return true
		}
	}
	return c.watermark <= v.out
}

func (c *valveChannel) together(o *valveChannel) bool {
	return c.group != 0 && c.group == o.group && !c.ended
}

// awaited says whether an idle channel is about to turn active, because one of
// its group has.
//
// A group are the channels from the subtasks of one operator which all get the
// same signals. When its inputs become active again, each subtask fires its
// timers and says so in its own time. If the fastest could move time before
// the others have spoken, their results would be late.
func (v *valve) awaited(c *valveChannel) bool {
	if c.active || c.ended {
		return false
	}
	for i := range v.channels {
		if o := &v.channels[i]; o.active && o.together(c) {
			return true
		}
	}
	return false
}

func (v *valve) turnActive(c *valveChannel) {
	if c.active || c.ended {
		return
	}
	c.active = true
	c.aligned = c.watermark >= v.out
	v.setIdle(false)
	v.advance()
}

func (v *valve) end(c *valveChannel) {
	if c.ended || c.stopped {
		return
	}
	v.live--
	if c.watermark == MaxWatermark {
		c.ended, c.active, c.aligned = true, false, false
	} else {
		c.stopped = true
		v.turnActive(c)
	}
	if v.live == 0 {
		v.lastEnd()
		return
	}
	v.afterLeaving()
}

// afterLeaving looks at what is left when a channel has gone.
func (v *valve) afterLeaving() {
	switch {
	case v.anyActive():
		v.advance()
	case v.live > 0:
		v.send(v.largest())
		v.setIdle(true)
	default:
		v.setIdle(true)
	}
}

// lastEnd passes on the end of the task's input: with MaxWatermark before it
// if every channel was drained.
func (v *valve) lastEnd() {
	for i := range v.channels {
		if v.channels[i].stopped {
			v.actions = append(v.actions, signal{kind: sigEnd})
			return
		}
	}
	v.setIdle(false)
	v.send(MaxWatermark)
	v.actions = append(v.actions, signal{kind: sigEnd})
}

// advance sends the new minimum over aligned channels, if it is one.
func (v *valve) advance() {
	lowest, any := int64(MaxWatermark), false
	for i := range v.channels {
		if c := &v.channels[i]; c.active && c.aligned || v.awaited(c) {
			lowest, any = min(lowest, c.watermark), true
		}
	}
	if any && (lowest < MaxWatermark || !v.idleLeft()) {
		v.send(lowest)
	}
}

// idleLeft says whether a channel is idle that may come back. The end of all
// others is not its end: if it made the watermark MaxWatermark, whatever the
// channel brings then would be late.
func (v *valve) idleLeft() bool {
	for i := range v.channels {
		if c := &v.channels[i]; !c.ended && !c.active && c.watermark < MaxWatermark {
			return true
		}
	}
	return false
}

func (v *valve) largest() int64 {
	largest := int64(MinWatermark)
	for i := range v.channels {
		if c := &v.channels[i]; !c.ended && (c.watermark < MaxWatermark || !v.idleLeft()) {
			largest = max(largest, c.watermark)
		}
	}
	return largest
}

func (v *valve) anyActive() bool {
	for i := range v.channels {
		if v.channels[i].active {
			return true
		}
	}
	return false
}

func (v *valve) send(ts int64) {
	if ts > v.out {
		v.out = ts
		v.actions = append(v.actions, signal{kind: sigWatermark, ts: ts})
	}
}

func (v *valve) setIdle(idle bool) {
	if v.idle == idle {
		return
	}
	v.idle = idle
	kind := sigActive
	if idle {
		kind = sigIdle
	}
	v.actions = append(v.actions, signal{kind: kind})
}
