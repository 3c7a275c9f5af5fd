package state

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// timersOn returns a queue on a storage of its own, for keys of type K.
func timersOn[K comparable](t testing.TB, inMemory bool) (*Backend[K], *TimerQueue[K]) {
	t.Helper()
	b := attached[K](t, vfs.NewMem(), inMemory)
	q := NewTimerQueue(b, "timers", &[]string{"a", "b"})
	if err := b.Ready(); err != nil {
		t.Fatal(err)
	}
	return b, q
}

// attached returns a backend on a storage of its own, to declare state on.
func attached[K comparable](t testing.TB, fs vfs.FS, inMemory bool, from ...Restored) *Backend[K] {
	t.Helper()
	s, err := NewStorage(StorageConfig{Dir: "work", FS: fs, Memory: 8 << 20, InMemory: inMemory, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBackend[K](DefaultMaxParallelism, RangeOf(0, 1, DefaultMaxParallelism))
	if err := b.Attach(s, "backend", from); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.Close()
		s.Close()
	})
	return b
}

func entryOf[K comparable](b *Backend[K], key K) TimerEntry[K] {
	return TimerEntry[K]{Key: key, Hash: b.hasher(key)}
}

// TestRule13_TimersFireInOrder: by time, and for one time in the order in which
// they were first set.
func TestRule13_TimersFireInOrder(t *testing.T) {
	b, q := timersOn[string](t, false)
	for _, s := range []struct {
		key  string
		time int64
	}{{"c", 5}, {"a", 5}, {"b", 3}, {"c", 5}, {"a", 9}} {
		q.Set(entryOf(b, s.key), s.time, false)
	}
	var got []string
	q.Advance(5, func(e TimerEntry[string], time int64) bool {
		got = append(got, fmt.Sprint(e.Key, time))
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
	b, q := timersOn[int](t, false)
	for i := range 200_000 {
		q.Set(entryOf(b, i%100), 7, false)
	}
	if n := q.Len(); n > 400 {
		t.Errorf("100 timers take %d entries", n)
	}
	fired := map[int]int{}
	q.Advance(7, func(e TimerEntry[int], _ int64) bool { fired[e.Key]++; return true })
	if most := slices.Max(slices.Collect(maps.Values(fired))); len(fired) != 100 || most != 1 {
		t.Errorf("%d timers fired, one of them %d times", len(fired), most)
	}
}

// TestMovedTimersLeaveNothing: an operator that moves its timer with every
// record, as a time-out does, keeps one timer and no trace of the others, in
// memory or on disk.
func TestMovedTimersLeaveNothing(t *testing.T) {
	b, q := timersOn[int](t, false)
	e := entryOf(b, 1)
	for ts := range int64(20_000) {
		q.Delete(e, ts-1)
		q.Set(e, ts, false)
		if ts%1000 == 0 {
			if err := b.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, ok := q.Earliest(); !ok {
		t.Error("there is no earliest timer")
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if n, buckets := q.Len(), len(q.buckets); n != 1 || buckets != 1 {
		t.Errorf("one timer takes %d entries in %d buckets", n, buckets)
	}
	if n := onDiskCount(t, b); n != 1 {
		t.Errorf("one timer takes %d entries on disk", n)
	}
	fired := 0
	q.Advance(1<<40, func(TimerEntry[int], int64) bool { fired++; return true })
	if fired != 1 {
		t.Errorf("%d timers fired, want 1", fired)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if n := onDiskCount(t, b); n != 0 {
		t.Errorf("no timer takes %d entries on disk", n)
	}
}

func onDiskCount[K comparable](t *testing.T, b *Backend[K]) int {
	t.Helper()
	n := 0
	if err := b.disk.scan(nil, func([]byte, []byte) (bool, error) { n++; return true, nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRule30_TTLTakesAwayWhatIsOnDisk: values that live on disk only are
// forgotten when their time is over, with all that was kept about them.
func TestRule30_TTLTakesAwayWhatIsOnDisk(t *testing.T) {
	b := attached[int](t, vfs.NewMem(), false)
	now := int64(0)
	b.SetClock(func(Clock) int64 { return now })
	v := NewValue[string](b, "v", TTL(modelTTL, ProcessingTime))
	b.storage.budget = 4 << 10
	for k := range 5000 {
		b.SetKey(k, b.hasher(k))
		v.Set("x")
		if now++; k%100 == 0 {
			b.Relieve()
		}
	}
	if b.Len() != 10_000 { // values and when they expire
		t.Errorf("%d entries, want 10000", b.Len())
	}
	if at, ok := b.NextExpiry(ProcessingTime); !ok || at > modelTTL.Milliseconds() {
		t.Errorf("the next value expires at %d, %v", at, ok)
	}
	if err := b.Expire(ProcessingTime, 5000); err != nil {
		t.Fatal(err)
	}
	if n := v.Len(); n != 99 { // the last was set at 4999
		t.Errorf("%d values are left, want 99", n)
	}
	if err := b.Expire(ProcessingTime, 1<<40); err != nil {
		t.Fatal(err)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if n := b.Len(); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	// The counts, which say 0, are all there is.
	if n := onDiskCount(t, b); n > 2*DefaultMaxParallelism {
		t.Errorf("%d entries are left on disk", n)
	}
}

// FuzzTimerKey wants of all bytes that are taken for a timer's key that they are
// that key.
func FuzzTimerKey(f *testing.F) {
	b, q := timersOn[string](f, true)
	for _, e := range []TimerEntry[string]{entryOf(b, "k"), {Namespace: 1}} {
		e.Hash = b.hasher(e.Key)
		f.Add(q.entryKey(nil, -5, e))
	}
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, key []byte) {
		time, e, err := q.decode(key)
		if err != nil {
			return
		}
		if again := q.entryKey(nil, time, e); !bytes.Equal(again, key) {
			t.Errorf("%x was taken for the timer %v at %d, which is %x", key, e, time, again)
		}
	})
}

// FuzzPartKey feeds a group what may be garbage.
func FuzzPartKey(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 9}, []byte("page"))
	f.Add([]byte{}, []byte{1, 2})
	f.Fuzz(func(t *testing.T, key, val []byte) {
		b := NewBackend[int](1, Range{0, 0})
		parts, whole := NewGroup[album](b, "parts"), NewGroup[int64](b, "whole")
		whole.schema, _ = schemaOf[int64](nil)
		if err := parts.restore(0, key, val); err == nil && len(key) != 8 {
			t.Errorf("%x was taken for the number of a part", key)
		}
		_ = whole.restore(0, key, val) // not to panic is enough
	})
}

// TestRule12_DeletedTimersNeverFire: in the orders of events in which one was
// once found alive on disk.
func TestRule12_DeletedTimersNeverFire(t *testing.T) {
	flush := func(b *Backend[int]) {
		if err := b.flush(); err != nil {
			t.Fatal(err)
		}
	}
	none := func(TimerEntry[int], int64) bool { return true }
	for name, f := range map[string]func(b *Backend[int], q *TimerQueue[int], e TimerEntry[int]){
		"set late": func(b *Backend[int], q *TimerQueue[int], e TimerEntry[int]) {
			q.Advance(10, none)
			flush(b)
			q.Set(e, 5, false)
			flush(b)
			q.Delete(e, 5)
			flush(b)
		},
		"set twice": func(b *Backend[int], q *TimerQueue[int], e TimerEntry[int]) {
			q.Set(e, 20, false)
			flush(b)
			*q = *reopened(b, q)
			q.Set(e, 20, false)
			q.Delete(e, 20)
			flush(b)
		},
		"among many": func(b *Backend[int], q *TimerQueue[int], e TimerEntry[int]) {
			for k := range 200 {
				q.Set(entryOf(b, k), 20, true)
			}
			flush(b)
			for k := range 200 {
				q.Delete(entryOf(b, k), 20)
			}
			flush(b)
		},
		"while firing": func(b *Backend[int], q *TimerQueue[int], e TimerEntry[int]) {
			q.Set(e, 5, false)
			q.Set(entryOf(b, 8), 5, false)
			flush(b)
			q.Advance(10, func(f TimerEntry[int], at int64) bool {
				if f != e {
					t.Errorf("%v fired", f)
				}
				q.Delete(entryOf(b, 8), 5)
				return true
			})
			flush(b)
		},
	} {
		b, q := timersOn[int](t, false)
		f(b, q, entryOf(b, 1))
		reopened(b, q).Advance(100, func(e TimerEntry[int], at int64) bool {
			t.Errorf("%s: the timer of %d at %d fired", name, e.Key, at)
			return true
		})
		if n := onDiskCount(t, b); n != 0 {
			t.Errorf("%s: %d timers are on disk", name, n)
		}
	}
}

// reopened returns the queue as it is after a restart.
func reopened[K comparable](b *Backend[K], q *TimerQueue[K]) *TimerQueue[K] {
	again := &TimerQueue[K]{b: b, name: q.name, namespaces: q.namespaces, section: q.section, passed: -1 << 63, chunk: q.chunk}
	if err := again.attach(b); err != nil {
		panic(err)
	}
	return again
}

// TestRule14_OverdueTimersFireAfterRestore: those for a time that has passed while
// the job was down.
func TestRule14_OverdueTimersFireAfterRestore(t *testing.T) {
	b, q := timersOn[int](t, false)
	for k := range 100 {
		q.Set(entryOf(b, k), int64(k), true)
	}
	q.Advance(49, func(TimerEntry[int], int64) bool { return true })
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	next := int64(50)
	reopened(b, q).Advance(1000, func(_ TimerEntry[int], at int64) bool {
		if at != next {
			t.Errorf("the timer at %d fired, want that at %d", at, next)
		}
		next = at + 1
		return true
	})
	if next != 100 {
		t.Errorf("the timers fired up to %d, want 100", next)
	}
}
