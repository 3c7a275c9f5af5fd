package gokastore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka/storage"
)

// model is what a storage should hold.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	fs     vfs.FS
	s      storage.Storage
	table  map[string]string
	offset int64
}

// TestModel compares a storage with a map, over random calls.
func TestModel(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 0)), fs: vfs.NewMem(), table: map[string]string{}, offset: -3}
			m.s = open(t, onFS(m.fs))
			for range 500 {
				m.step()
			}
			m.iterate("", "")
		})
	}
}

func (m *model) key() string {
	key := make([]byte, m.rng.IntN(4))
	for i := range key {
		key[i] = "\x00ab\xff"[m.rng.IntN(4)]
	}
	return string(key)
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.set()
	case n < 55:
		key := m.key()
		must(m.t, m.s.Delete(key))
		delete(m.table, key)
	case n < 75:
		m.get(m.key())
	case n < 85:
		m.offset++
		must(m.t, m.s.SetOffset(m.offset))
	case n < 97:
		m.iterate(m.key(), m.key())
	case n < 98:
		must(m.t, m.s.MarkRecovered())
	default:
		must(m.t, m.s.Close())
		m.s = open(m.t, onFS(m.fs))
	}
	wantOffset(m.t, m.s, -3, m.offset)
}

func (m *model) set() {
	key, repeat := m.key(), m.rng.IntN(5)
	if m.rng.IntN(50) == 0 {
		repeat = 50 << 10 // a few of them do not fit in what is held back
	}
	value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, m.rng.Uint64()), repeat)
	must(m.t, m.s.Set(key, value))
	m.table[key] = string(value)
}

func (m *model) get(key string) {
	var want []byte
	if v, ok := m.table[key]; ok {
		want = []byte(v)
	}
	wantValue(m.t, m.s, key, want)
}

// iterate seeks and steps through a range at random.
func (m *model) iterate(start, limit string) {
	it, err := m.s.IteratorWithRange([]byte(start), []byte(limit))
	must(m.t, err)
	defer it.Release()
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(m.table)), func(k string) bool {
		if limit == "" {
			return len(k) < len(start) || k[:len(start)] != start
		}
		return k < start || k >= limit
	})
	at := -1
	for range 2 * len(keys) {
		var found bool
		if m.rng.IntN(4) == 0 {
			key := m.key()
			at, _ = slices.BinarySearch(keys, key)
			found = it.Seek([]byte(key))
		} else {
			at = min(at+1, len(keys))
			found = it.Next()
		}
		if want := at < len(keys); found != want {
			m.t.Fatalf("range %q to %q at %d of %q: %v, want %v", start, limit, at, keys, found, want)
		}
		if found {
			wantAt(m.t, it, keys[at]+"="+m.table[keys[at]])
		} else {
			wantAt(m.t, it, "")
		}
	}
	must(m.t, it.Err())
}
