package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// small returns a backend that has no memory to speak of, with one value.
func small(t *testing.T) (*Backend[int], *Value[int, int64]) {
	t.Helper()
	b := attached[int](t, vfs.NewMem(), false)
	b.storage.budget = 1
	v := NewValue[int64](b, "v")
	if err := b.Ready(); err != nil {
		t.Fatal(err)
	}
	return b, v
}

// onDiskValue returns what the disk has under a key.
func onDiskValue(t *testing.T, b *Backend[int], v *Value[int, int64], key int) (val int64, ok bool) {
	t.Helper()
	data, closer, err := b.disk.get(v.back.key(nil, key, b.hasher(key)))
	if closer == nil || err != nil {
		return 0, err != nil
	}
	if err := v.back.decode(data, &val); err != nil {
		t.Fatal(err)
	}
	return val, closer.Close() == nil
}

// TestFlushWritesEveryKeyGroup: a key's group is told by bits of its hash that a
// slot's tag does not have.
func TestFlushWritesEveryKeyGroup(t *testing.T) {
	b, v := small(t)
	for k := range 500 {
		count(b, v, k)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	for k := range 500 {
		if n, ok := onDiskValue(t, b, v, k); n != 1 || !ok {
			t.Fatalf("the disk has %d, %v of key %d, of group %d", n, ok, k, KeyGroup(b.hasher(k), 128))
		}
	}
}

// TestFlushOfATableThatShrinks: to take dead slots away may make a table smaller
// and move what has yet to be written.
func TestFlushOfATableThatShrinks(t *testing.T) {
	b, v := small(t)
	for k := range 50_000 {
		count(b, v, k)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	for k := range 50_000 {
		if b.SetKey(k, b.hasher(k)); k%20 > 0 {
			v.Clear()
		} else {
			v.Set(2)
		}
	}
	if !v.back.all {
		t.Error("so many changes are kept one by one")
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	for k := range 50_000 {
		n, ok := onDiskValue(t, b, v, k)
		if kept := k%20 == 0; ok != kept || kept && n != 2 {
			t.Fatalf("the disk has %d, %v of key %d", n, ok, k)
		}
	}
}

// TestEvictionFreesMemory: and a key that is used all the time stays.
func TestEvictionFreesMemory(t *testing.T) {
	b, v := small(t)
	b.storage.budget = 1 << 20
	for k := range 100_000 {
		count(b, v, k)
		count(b, v, 7)
		if k%512 == 0 {
			b.Relieve()
		}
	}
	b.Relieve()
	if used := b.storage.Used(); used > 1<<20 {
		t.Errorf("%d bytes are used", used)
	}
	if n, ok := onDiskValue(t, b, v, 7); ok {
		t.Errorf("the hot key went to disk when it was %d", n)
	}
	if v.Len() != 100_000 || v.t.entries > 40_000 {
		t.Errorf("%d keys, %d of them in memory", v.Len(), v.t.entries)
	}
}

// TestEvictionGivesUpOnGroups: state that can't be evicted does not make every
// batch look for what can.
func TestEvictionGivesUpOnGroups(t *testing.T) {
	b, v := small(t)
	g := NewGroup[[]byte](b, "g")
	count(b, v, 1)
	*g.Upsert() = make([]byte, 1<<20)
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	if g.memory() < 1<<20 {
		t.Errorf("a group of a MiB counts for %d bytes", g.memory())
	}
	b.Relieve()
	b.Relieve()
	hand := v.back.hand
	for range 10 {
		b.Relieve()
	}
	if v.back.hand != hand || b.patience == 0 {
		t.Error("eviction goes on and on")
	}
}

// TestKeysDoNotKeepRecords: the keys of state are copies, where the memory they
// would keep counts.
func TestKeysDoNotKeepRecords(t *testing.T) {
	for _, length := range []int{5, 20} {
		b := attached[string](t, vfs.NewMem(), false)
		v := NewValue[int64](b, "v")
		hash := b.hasher
		freed := make(chan struct{}, 100)
		func() {
			for i := range 10 {
				record := append(make([]byte, 0, 1<<16), fmt.Sprintf("key-%d is a part of a record", i)...)
				runtime.AddCleanup(&record[0], func(c chan struct{}) { c <- struct{}{} }, freed)
				key := unsafe.String(&record[0], len(record))[:length]
				b.SetKey(key, hash(key))
				*v.Upsert()++
				b.SetKey("", 0)
			}
		}()
		for range 10 {
			runtime.GC()
		}
		if len(freed) == 0 {
			t.Errorf("keys of %d bytes keep the records they were part of", length)
		}
	}
}

// TestLaterOfTwoWritesCounts: what is left of a flush that failed is older.
func TestLaterOfTwoWritesCounts(t *testing.T) {
	b, _ := small(t)
	w := &writes{}
	for i := range 100 {
		w.begin()
		w.buf = append(w.buf, "key"...)
		w.value()
		w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(i))
		w.set()
	}
	if err := b.disk.write(w); err != nil {
		t.Fatal(err)
	}
	data, closer, err := b.disk.get([]byte("key"))
	if err != nil || !bytes.Equal(data, []byte{0, 0, 0, 99}) {
		t.Errorf("the disk has %v, %v", data, err)
	}
	_ = closer.Close()
}
