package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestPackedKeysAreTheirStrings: zeros and the empty string are keys like others.
func TestPackedKeysAreTheirStrings(t *testing.T) {
	hash, _ := HasherFor[string]()
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[packed]string{}
	for range 50_000 {
		raw := make([]byte, rng.IntN(20))
		for i := range raw {
			raw[i] = byte(rng.IntN(3)) * 0x7f
		}
		s := string(raw)
		p, ok := pack(s)
		if ok != (len(s) <= 15) {
			t.Fatalf("%q is packed: %v", s, ok)
		}
		if !ok {
			continue
		}
		if other, known := seen[p]; known && other != s {
			t.Fatalf("%q and %q are packed alike", s, other)
		}
		seen[p] = s
		if p.String() != s || string(p.append([]byte("x"))) != "x"+s || p.hash() != hash(s) {
			t.Fatalf("%q reads back as %q, with hash %x for %x", s, p, p.hash(), hash(s))
		}
	}
}

// named is a type of key that is a string without being string.
type named string

// wordKey is the key of a number: for odd ones long, if those are allowed.
func wordKey(n int, long bool) named {
	switch s := named(fmt.Sprint(n)); {
	case long && n%2 == 1:
		return s + named(strings.Repeat("\x00", 15-len(s)+n%3/2)) + "l"
	case n == 0:
		return ""
	case n%3 == 0:
		return s + named(strings.Repeat("\x00", 15-len(s)))
	default:
		return s
	}
}

// words is a backend with string keys beside a Go map, under random operations.
type words struct {
	t     *testing.T
	rng   *rand.Rand
	b     *Backend[named]
	v     *Value[named, string]
	model map[named]string
	long  bool // keys may be
}

func (w *words) step() {
	w.t.Helper()
	key := wordKey(w.rng.IntN(600), w.long)
	w.b.SetKey(key, w.b.hasher(key))
	want, known := w.model[key]
	switch w.rng.IntN(12) {
	case 0, 1:
		w.v.Clear()
		delete(w.model, key)
	case 2, 3, 4:
		w.v.Set(fmt.Sprint(w.rng.Int()))
		w.model[key], _ = w.v.Get()
	case 5, 6:
		if p := w.v.Ptr(); (p != nil) != known || known && *p != want {
			w.t.Fatalf("%q is %v, want %q", key, p, want)
		}
	case 7, 8:
		p := w.v.Upsert()
		if *p != want {
			w.t.Fatalf("%q is %q, want %q", key, *p, want)
		}
		*p += "+"
		w.model[key] = *p
	case 9:
		w.prefetch()
	case 10:
		w.b.Relieve()
	default:
		if got, ok := w.v.Get(); got != want || ok != known {
			w.t.Fatalf("%q is %q, %v, want %q", key, got, ok, want)
		}
	}
}

func (w *words) prefetch() {
	var keys []named
	var hashes []uint64
	for range 20 {
		k := wordKey(w.rng.IntN(600), w.long)
		keys, hashes = append(keys, k), append(hashes, w.b.hasher(k))
	}
	w.b.Prefetch(keys, hashes)
}

func (w *words) compare() {
	w.t.Helper()
	got := map[named]string{}
	w.v.Each(func(k named, val *string) bool {
		if _, twice := got[k]; twice {
			w.t.Fatalf("%q comes twice", k)
		}
		got[k] = *val
		return true
	})
	if !maps.Equal(got, w.model) || w.v.Len() != len(w.model) {
		w.t.Fatalf("%d entries, want %d:\n%q\n%q", w.v.Len(), len(w.model), got, w.model)
	}
}

func (w *words) open(fs vfs.FS, inMemory bool, from ...Restored) {
	w.t.Helper()
	w.b = attached[named](w.t, fs, inMemory, from...)
	w.b.storage.budget = 16 << 10 // of some 50 KiB
	w.v = NewValue[string](w.b, "v")
	if err := w.b.Ready(); err != nil {
		w.t.Fatal(err)
	}
}

// reopen goes on from a snapshot, on a disk or in memory.
func (w *words) reopen(fs vfs.FS, inMemory bool, dir string) {
	w.t.Helper()
	s, err := w.b.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := s.Finish(w.t.Context(), dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.b.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := fs.RemoveAll("work"); err != nil {
		w.t.Fatal(err)
	}
	w.open(fs, inMemory, Restored{made.Dir, w.b.Owned()})
}

// TestLongKeysComeLate compares state with a map while all keys are short, when
// keys of 16 and 17 bytes come between them, and after restarts from either, with
// and without a disk.
func TestLongKeysComeLate(t *testing.T) {
	for seed := range uint64(6) {
		fs := vfs.NewMem()
		w := &words{t: t, rng: rand.New(rand.NewPCG(seed, 0)), model: map[named]string{}}
		w.open(fs, seed%3 == 2)
		for part := range 6 {
			for range 800 {
				w.step()
			}
			if (w.v.short == nil) != w.long {
				t.Fatalf("seed %d part %d: packed keys: %v", seed, part, w.v.short != nil)
			}
			w.compare()
			switch part {
			case 1, 4:
				w.reopen(fs, w.rng.IntN(3) == 0, fmt.Sprint("snapshot", part))
				w.compare()
			case 2:
				w.long = true
			}
		}
	}
}

// TestLongKeysKeepWhatSlotsKnow: entries that are dirty, stored, dead, or on disk
// only, are so too when their keys are no longer packed.
func TestLongKeysKeepWhatSlotsKnow(t *testing.T) {
	b := attached[string](t, vfs.NewMem(), false)
	v := NewValue[int64](b, "v")
	set := func(k string) { b.SetKey(k, b.hasher(k)); *v.Upsert()++ }
	for i := range 4000 {
		set(fmt.Sprint("stored", i))
	}
	if _, err := v.evict(1<<40, &b.pending); err != nil { // twice around: all go
		t.Fatal(err)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		set(fmt.Sprint("stored", i)) // dirty
		set(fmt.Sprint("new", i))
		k := fmt.Sprint("stored", 1000+i)
		b.SetKey(k, b.hasher(k))
		v.Clear() // dead
		k = fmt.Sprint("stored", 2000+i)
		b.SetKey(k, b.hasher(k))
		v.Get()
	}
	before, kept := v.memory(), v.short
	set(strings.Repeat("l", 16))
	if v.short != nil || v.memory() < before+16*3000 {
		t.Errorf("packed: %v; of %d bytes have become %d", v.short != nil, before, v.memory())
	}
	if v.t.entries != kept.entries+1 || v.Len() != 4001 || v.t.slots < kept.slots {
		t.Errorf("%d entries, %d of them in %d slots", v.Len(), v.t.entries, v.t.slots)
	}
	if err := b.flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 4000 {
		k := fmt.Sprint("stored", i)
		data, closer, err := b.disk.get(v.back.key(nil, k, b.hasher(k)))
		if (closer == nil) != (i/1000 == 1) || err != nil {
			t.Fatalf("%q is on disk: %v, %v", k, closer != nil, err)
		}
		if closer == nil {
			continue
		}
		var n int64
		if err := v.back.decode(data, &n); err != nil || n != 1 && i >= 1000 || n != 2 && i < 1000 {
			t.Fatalf("the disk has %d of %q, %v", n, k, err)
		}
		_ = closer.Close()
	}
}

// TestLookForALongKeyWhileIterating: it changes the table, and not what is seen.
func TestLookForALongKeyWhileIterating(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		b := attached[string](t, vfs.NewMem(), inMemory)
		v := NewValue[int64](b, "v")
		for i := range 2000 {
			k := fmt.Sprint(i)
			b.SetKey(k, b.hasher(k))
			*v.Upsert()++
		}
		if !inMemory {
			if err := b.evict(20 << 10); err != nil {
				t.Fatal(err)
			}
			if v.short.entries == 2000 {
				t.Error("nothing was evicted")
			}
		}
		var seen []string
		v.Each(func(k string, _ *int64) bool {
			if seen = append(seen, k); len(seen) == 700 {
				long := strings.Repeat("l", 40)
				b.SetKey(long, b.hasher(long))
				v.Get()
			}
			return true
		})
		slices.Sort(seen)
		if seen = slices.Compact(seen); len(seen) != 2000 || v.short != nil {
			t.Errorf("in memory %v: %d entries were seen", inMemory, len(seen))
		}
	}
}

// TestLongKeysThatMemoryHasNoRoomFor: those that a restart leaves on disk are found
// there, and iterated over, while what is in memory is packed.
func TestLongKeysThatMemoryHasNoRoomFor(t *testing.T) {
	fs := vfs.NewMem()
	w := &words{t: t, rng: rand.New(rand.NewPCG(1, 1)), model: map[named]string{}}
	w.open(fs, false)
	for i := range 300 {
		k := wordKey(i, true)
		w.b.SetKey(k, w.b.hasher(k))
		w.v.Set("x")
		w.model[k] = "x"
	}
	s, err := w.b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.Finish(t.Context(), "snapshot")
	if err != nil {
		t.Fatal(err)
	}
	again := attached[named](t, fs, false, Restored{made.Dir, w.b.Owned()})
	again.storage.dir, again.storage.budget = "again", 0
	w.b, w.v = again, NewValue[string](again, "v")
	w.model, w.long = maps.Clone(w.model), true
	if w.v.short == nil {
		t.Fatal("without anything in memory, keys are not packed")
	}
	for k := range w.model { // the number is not known by group where none was loaded
		if p := w.v.Find(k, again.hasher(k)); p == nil || *p != "x" {
			t.Fatalf("%q is %v", k, p)
		}
	}
	w.compare()
}

// TestTTLOfLongKeys: what a value is kept until has keys of its own.
func TestTTLOfLongKeys(t *testing.T) {
	b := attached[string](t, vfs.NewMem(), false)
	now := int64(0)
	b.SetClock(func(Clock) int64 { return now })
	v := NewValue[string](b, "v", TTL(modelTTL, ProcessingTime))
	b.storage.budget = 4 << 10
	for i := range 2000 {
		k := fmt.Sprint("key", i)
		if i > 1000 {
			k = fmt.Sprint("a key that is too long", i)
		}
		b.SetKey(k, b.hasher(k))
		v.Set("x")
		if now++; i%100 == 0 {
			b.Relieve()
		}
	}
	if v.short != nil || v.life.until.short != nil || b.Len() != 4000 {
		t.Errorf("%d entries, want 4000", b.Len())
	}
	if err := b.Expire(ProcessingTime, 1<<40); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 0 {
		t.Errorf("%d entries are left", b.Len())
	}
}

// TestInspectPackedKeys: a snapshot does not tell how keys were kept in memory.
func TestInspectPackedKeys(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		fs := vfs.NewMem()
		b := attached[string](t, fs, inMemory)
		short, both := NewValue[int64](b, "short"), NewValue[int64](b, "both")
		for _, k := range []string{"", "\x00", "fifteen letters", "sixteen letters!"} {
			b.SetKey(k, b.hasher(k))
			both.Set(1)
			if len(k) <= maxPacked {
				short.Set(1)
			}
		}
		s, err := b.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		made, err := s.Finish(t.Context(), "snapshot")
		if err != nil {
			t.Fatal(err)
		}
		paths := map[string]string{}
		for _, f := range made.Files {
			paths[f] = fs.PathJoin(made.Dir, f)
		}
		i, err := Inspect(fs, paths, b.Declared())
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string][]string{}
		err = i.Each(func(e Entry) bool {
			keys[e.State.Name] = append(keys[e.State.Name], string(e.Key))
			return true
		})
		if err != nil || i.Close() != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]int{"short": 3, "both": 4} {
			slices.Sort(keys[name])
			if all := []string{"", "\x00", "fifteen letters", "sixteen letters!"}; !slices.Equal(keys[name], all[:want]) {
				t.Errorf("in memory %v: %s has %q", inMemory, name, keys[name])
			}
		}
	}
}
