package pipeline

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRule13_TimersAreASet compares the queue with the rule as written, a map
// of (key, namespace, time), under random sets, deletes and advances, timers
// being set and deleted from within firing ones too.
func TestRule13_TimersAreASet(t *testing.T) {
	type timer struct {
		time int64
		e    timerEntry[int]
	}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 13))
		var q timerQueue[int]
		model := map[timer]bool{}
		now := int64(0)
		change := func() {
			tm := timer{now + int64(rng.IntN(20)) - 2, timerEntry[int]{key: rng.IntN(5), namespace: uint32(rng.IntN(2))}}
			if rng.IntN(3) == 0 {
				q.delete(tm.e, tm.time)
				delete(model, tm)
				return
			}
			q.set(tm.e, tm.time, false)
			model[tm] = true
		}
		for range 400 {
			change()
			if rng.IntN(8) != 0 {
				continue
			}
			now += int64(rng.IntN(10))
			last := int64(-1 << 62)
			nested := 0
			q.advance(now, func(e timerEntry[int], time int64) bool {
				tm := timer{time, e}
				if !model[tm] {
					t.Fatalf("seed %d: %v fired, but is not set", seed, tm)
				}
				delete(model, tm)
				if time < last && nested == 0 {
					t.Fatalf("seed %d: timer at %d fired after one at %d", seed, time, last)
				}
				last = time
				if rng.IntN(3) == 0 {
					nested++ // may set a timer for a time that has passed
					change()
				}
				return true
			})
			for tm := range model {
				if tm.time <= now {
					t.Fatalf("seed %d: %v did not fire at %d", seed, tm, now)
				}
			}
		}
	}
}

// TestRule13_TimersFireInOrder: by time, and for one time in the order in which
// they were first set.
func TestRule13_TimersFireInOrder(t *testing.T) {
	var q timerQueue[string]
	for _, s := range []struct {
		key  string
		time int64
	}{{"c", 5}, {"a", 5}, {"b", 3}, {"c", 5}, {"a", 9}} {
		q.set(timerEntry[string]{key: s.key}, s.time, false)
	}
	var got []string
	q.advance(5, func(e timerEntry[string], time int64) bool {
		got = append(got, fmt.Sprint(e.key, time))
		return true
	})
	if want := []string{"b3", "c5", "a5"}; !slices.Equal(got, want) {
		t.Errorf("fired %v, want %v", got, want)
	}
}

// TestTimerLogStaysBounded: setting the same timers over and over, as an
// operator does that sets its timer with every record, keeps no more than a
// few times the live ones.
func TestTimerLogStaysBounded(t *testing.T) {
	var q timerQueue[int]
	for i := range 1_000_000 {
		q.set(timerEntry[int]{key: i % 100}, 7, false)
	}
	if n := q.len(); n > 400 {
		t.Errorf("100 timers take %d entries", n)
	}
	fired := map[int]int{}
	q.advance(7, func(e timerEntry[int], _ int64) bool { fired[e.key]++; return true })
	if len(fired) != 100 || slices.Max(slices.Collect(maps.Values(fired))) != 1 {
		t.Errorf("%d timers fired, one of them %d times", len(fired), slices.Max(slices.Collect(maps.Values(fired))))
	}
}

// TestMovedTimersLeaveNothing: an operator that moves its timer with every
// record, as a time-out does, keeps one timer and no trace of the others.
func TestMovedTimersLeaveNothing(t *testing.T) {
	var q timerQueue[int]
	e := timerEntry[int]{key: 1}
	for ts := range int64(100_000) {
		q.delete(e, ts-1)
		q.set(e, ts, false)
	}
	if n, buckets := q.len(), len(q.buckets); n != 1 || buckets != 1 {
		t.Errorf("one timer takes %d entries in %d buckets", n, buckets)
	}
	if at, ok := q.earliest(); !ok || at != 99_999 {
		t.Errorf("the earliest timer is at %d, %v", at, ok)
	}
	fired := 0
	q.advance(1<<40, func(timerEntry[int], int64) bool { fired++; return true })
	if fired != 1 {
		t.Errorf("%d timers fired, want 1", fired)
	}
}
