package pipeline

import (
	"errors"
	"slices"

	"github.com/millrace/millrace/state"
)

// TimeDomain says which clock a timer follows.
type TimeDomain uint8

const (
	// EventTime timers fire when the watermark reaches their time.
	EventTime TimeDomain = iota
	// ProcessingTime timers fire when the clock does. They do not fire at the
	// end of input.
	ProcessingTime
)

func (d TimeDomain) String() string {
	if d == ProcessingTime {
		return "processing time"
	}
	return "event time"
}

// Timer is a timer that fires.
type Timer struct {
	Namespace string
	Domain    TimeDomain
	// Time is what it was set for, in milliseconds. It may have passed for long,
	// when the watermark took a leap or a processing-time timer was overdue.
	Time int64
}

// Timers sets and deletes the timers of one namespace, for the key in hand.
// Timers are a set: setting one twice fires it once, and a deleted one never
// fires. A timer set for a time that has passed fires at the next watermark.
// Timers are state: a checkpoint has them, and those of processing time that
// became due while the job was down fire when it is up again.
type Timers[K comparable] struct {
	s         *timerService[K]
	namespace uint32
}

// Set sets a timer of event time, in milliseconds.
func (t *Timers[K]) Set(time int64) { t.s.event.Set(t.s.entry(t.namespace), time, false) }

// SetNew sets a timer of event time that the caller knows is not set already,
// for this key and time, and saves the engine finding that out. An operator
// knows when it makes state and timer together.
func (t *Timers[K]) SetNew(time int64) { t.s.event.Set(t.s.entry(t.namespace), time, true) }

// Delete deletes a timer of event time, if it is set.
func (t *Timers[K]) Delete(time int64) { t.s.event.Delete(t.s.entry(t.namespace), time) }

// SetProcessing sets a timer of processing time, in milliseconds.
func (t *Timers[K]) SetProcessing(time int64) {
	t.s.processing.Set(t.s.entry(t.namespace), time, false)
}

// DeleteProcessing deletes a timer of processing time, if it is set.
func (t *Timers[K]) DeleteProcessing(time int64) {
	t.s.processing.Delete(t.s.entry(t.namespace), time)
}

// timerService keeps the timers of one operator subtask, in its backend. The
// queues are there once a namespace was declared.
type timerService[K comparable] struct {
	backend           *state.Backend[K]
	namespaces        []string
	event, processing *state.TimerQueue[K]
	refused           bool
	errs              []error
}

func (s *timerService[K]) namespace(name string) *Timers[K] {
	if s.refused {
		s.errs = append(s.errs, errors.New("timers need a keyed stream: use KeyBy"))
	}
	if slices.Contains(s.namespaces, name) {
		s.errs = append(s.errs, errors.New("timer namespace \""+name+"\" is declared twice"))
	}
	if s.event == nil && !s.refused {
		s.event = state.NewTimerQueue(s.backend, EventTime.String(), &s.namespaces)
		s.processing = state.NewTimerQueue(s.backend, ProcessingTime.String(), &s.namespaces)
	}
	s.namespaces = append(s.namespaces, name)
	return &Timers[K]{s, uint32(len(s.namespaces) - 1)}
}

func (s *timerService[K]) entry(namespace uint32) state.TimerEntry[K] {
	key, hash := s.backend.Current()
	return state.TimerEntry[K]{Key: key, Hash: hash, Namespace: namespace}
}
