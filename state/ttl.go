package state

import "math"

// lifetimes forgets the values of one state when their time is over: when they
// are kept until is a state of its own, and for each such time a timer is set.
// A value that is renewed leaves its old timer where it is; when that fires,
// what the value is kept until is later.
type lifetimes[K comparable, V any] struct {
	v     *Value[K, V]
	clock Clock
	ttl   int64
	step  int64 // what times are rounded up to, so that most renewals set no timer
	until *Value[K, int64]
	queue *TimerQueue[K]
}

// lifetimeSteps is how many timers a value that is written all the time costs
// within its TTL.
const lifetimeSteps = 64

func newLifetimes[K comparable, V any](v *Value[K, V], ttl int64, clock Clock) *lifetimes[K, V] {
	l := &lifetimes[K, V]{v: v, clock: clock, ttl: ttl, step: max(ttl/lifetimeSteps, 1)}
	l.until = NewValue[int64](v.b, v.about.Name+" expiry")
	l.queue = NewTimerQueue(v.b, v.about.Name+" expiry", nil)
	v.b.mortal = append(v.b.mortal, l)
	return l
}

// renew counts the TTL from now on.
func (l *lifetimes[K, V]) renew(key K, hash uint64) {
	at := l.v.b.now(l.clock)
	if at > math.MaxInt64-l.ttl-l.step {
		return // the end of time
	}
	at += l.ttl
	if over := at % l.step; over > 0 {
		at += l.step - over
	}
	if p, created := l.until.upsert(key, hash); created || *p < at {
		*p = at
		// It may be set already: a value that was cleared left its timer behind.
		l.queue.Set(TimerEntry[K]{Key: key, Hash: hash}, at, false)
	}
}

func (l *lifetimes[K, V]) forget(key K, hash uint64) { l.until.delete(key, hash) }

// mortal is lifetimes without the type of the values.
type mortal interface {
	expire(clock Clock, now int64) error
	next(clock Clock) (int64, bool)
}

func (l *lifetimes[K, V]) expire(clock Clock, now int64) error {
	if clock != l.clock {
		return nil
	}
	l.queue.Advance(now, func(e TimerEntry[K], time int64) bool {
		if p := l.until.peek(e.Key, e.Hash); p != nil && *p <= time {
			l.until.delete(e.Key, e.Hash)
			l.v.delete(e.Key, e.Hash)
		}
		return true
	})
	return l.queue.Err()
}

func (l *lifetimes[K, V]) next(clock Clock) (int64, bool) {
	if clock != l.clock {
		return 0, false
	}
	return l.queue.Earliest()
}

// Expire forgets every value whose [TTL] is over at now, in milliseconds of the
// given clock. The engine calls it, with each watermark and when
// [Backend.NextExpiry] has come.
func (b *Backend[K]) Expire(clock Clock, now int64) error {
	for _, m := range b.mortal {
		if err := m.expire(clock, now); err != nil {
			return err
		}
	}
	return nil
}

// NextExpiry returns when a value's [TTL] may be over next.
func (b *Backend[K]) NextExpiry(clock Clock) (earliest int64, any bool) {
	for _, m := range b.mortal {
		if at, ok := m.next(clock); ok && (!any || at < earliest) {
			earliest, any = at, true
		}
	}
	return earliest, any
}
