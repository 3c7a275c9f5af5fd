package state

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestTTLOfAValueThatIsClearedAndSet: its timer is set once, also where the
// snapshot is of a kind that would not take it twice.
func TestTTLOfAValueThatIsClearedAndSet(t *testing.T) {
	b := attached[int](t, vfs.NewMem(), true)
	v := NewValue[int64](b, "v", TTL(modelTTL, EventTime))
	b.SetKey(1, b.hasher(1))
	for range 3 {
		v.Set(1)
		v.Clear()
	}
	v.Set(2)
	finish(t, begin(t, b), "snapshot")
	if err := b.Expire(EventTime, modelTTL.Milliseconds()); err != nil || b.Len() != 0 {
		t.Errorf("%d entries are left, %v", b.Len(), err)
	}
}
