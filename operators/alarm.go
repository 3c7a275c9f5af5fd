package operators

import (
	"math"

	"github.com/millrace/millrace/pipeline"
)

// alarm is the one timer of a key that has several things to wait for. It
// stands at the earliest of them; when it rings, the operator does what is due
// and sets it again. It is part of the key's state.
type alarm struct {
	At  int64
	Set bool
}

// rings says whether a timer that fires is the alarm, which it then no longer
// is.
func (a *alarm) rings(time int64) bool {
	due := a.Set && a.At == time
	a.Set = a.Set && !due
	return due
}

// arm sets a key's alarm, unless it stands at an earlier time.
func arm[K comparable](timers *pipeline.Timers[K], a *alarm, time int64) {
	if a.Set {
		if a.At <= time {
			return
		}
		timers.Delete(a.At)
	}
	a.At, a.Set = time, true
	timers.SetNew(time)
}

// rearm is to be deferred by an operator whose timer calls user code before
// everything due is done. If that panics, what is left is done by another timer,
// and not forgotten.
func rearm[K comparable](timers *pipeline.Timers[K], a *alarm, time int64, done *bool) {
	if !*done {
		arm(timers, a, time+min(1, math.MaxInt64-time))
	}
}
