package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestTableAgainstMap compares a table with Go's map under random operations
// that make it grow, empty and grow again.
func TestTableAgainstMap(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		maxParallelism := []int{1, 7, 128, 1024}[rng.IntN(4)]
		hash := weakOrStrong(rng.IntN(2) == 0)
		table := newTable[int, int](maxParallelism, Range{0, maxParallelism - 1})
		model := map[int]int{}
		keys := 1 + rng.IntN(2000)
		for step := range 20_000 {
			k := rng.IntN(keys)
			deleting := (step/4000)%2 == 1
			if rng.IntN(4) == 0 != deleting {
				_, known := model[k]
				if table.delete(k, hash(k)) != known {
					t.Fatalf("seed %d step %d: delete(%d) is not %v", seed, step, k, known)
				}
				delete(model, k)
				continue
			}
			p, created := table.upsert(k, hash(k))
			if want, known := model[k]; created == known || *p != want {
				t.Fatalf("seed %d step %d: upsert(%d) gives %d, created %v; want %d, %v", seed, step, k, *p, created, want, !known)
			}
			*p = step
			model[k] = step
		}
		compareTable(t, seed, table, model, hash)
	}
}

// weakOrStrong returns a good hash, or one that collides most of the time.
func weakOrStrong(weak bool) func(int) uint64 {
	if weak {
		return func(k int) uint64 { return uint64(k%3) << 32 }
	}
	h, _ := HasherFor[int]()
	return h
}

func compareTable(t *testing.T, seed uint64, table *table[int, int], model map[int]int, hash func(int) uint64) {
	t.Helper()
	if table.entries != len(model) {
		t.Fatalf("seed %d: %d entries, want %d", seed, table.entries, len(model))
	}
	for k, want := range model {
		if p := table.get(k, hash(k)); p == nil || *p != want {
			t.Fatalf("seed %d: get(%d) = %v, want %d", seed, k, p, want)
		}
	}
	seen := 0
	table.each(func(k int, v *int) bool {
		if model[k] != *v {
			t.Fatalf("seed %d: each gives %d=%d, want %d", seed, k, *v, model[k])
		}
		seen++
		return true
	})
	if seen != len(model) {
		t.Fatalf("seed %d: each gives %d entries, want %d", seed, seen, len(model))
	}
}

// TestTableGivesMemoryBack is rule 30 at the lowest level: keys that come and
// go leave a table as small as it was.
func TestTableGivesMemoryBack(t *testing.T) {
	hash, _ := HasherFor[int]()
	table := newTable[int, int64](8, Range{0, 7})
	for k := range 100_000 {
		table.upsert(k, hash(k))
	}
	for k := range 100_000 {
		table.delete(k, hash(k))
	}
	for k := range 200_000 { // life goes on with one key at a time
		table.upsert(k, hash(k))
		table.delete(k, hash(k))
	}
	for i := range table.groups {
		if n := len(table.groups[i].slots); n > minSlots {
			t.Errorf("group %d keeps %d slots", i, n)
		}
	}
}

// BenchmarkUpdate counts records by key. The stream's keys lie one after
// another in memory, as those of freshly decoded records do; what misses the
// cache is the state.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		keys, hashes := stream(1<<20, n)
		b.Run(fmt.Sprintf("map/keys=%d", n), func(b *testing.B) {
			m := map[string]int64{}
			for i := 0; b.Loop(); i++ {
				m[keys[i%len(keys)]]++
			}
		})
		b.Run(fmt.Sprintf("single/keys=%d", n), func(b *testing.B) {
			backend, v := counter()
			for i := 0; b.Loop(); i++ {
				j := i % len(keys)
				backend.SetKey(keys[j], hashes[j])
				*v.Upsert()++
			}
		})
		b.Run(fmt.Sprintf("batches/keys=%d", n), func(b *testing.B) {
			backend, v := counter()
			for i := 0; b.Loop(); i++ {
				j := i % len(keys)
				if j%256 == 0 {
					v.Prefetch(keys[j:j+256], hashes[j:j+256])
				}
				backend.SetKey(keys[j], hashes[j])
				*v.Upsert()++
			}
		})
	}
}

func counter() (*Backend[string], *Value[string, int64]) {
	backend := NewBackend[string](DefaultMaxParallelism, Range{0, DefaultMaxParallelism - 1})
	return backend, NewValue[int64](backend, "n")
}

func stream(n, keys int) (all []string, hashes []uint64) {
	hash, _ := HasherFor[string]()
	rng := rand.New(rand.NewPCG(1, 1))
	for range n {
		k := fmt.Sprintf("user-%08d", rng.IntN(keys))
		all, hashes = append(all, k), append(hashes, hash(k))
	}
	return all, hashes
}

// BenchmarkUpdateByKey compares types of key: one that is in the slot as it is, a
// string that is packed into it, and one that is too long for that.
func BenchmarkUpdateByKey(b *testing.B) {
	benchUpdate(b, "number", func(i int) int64 { return int64(i) })
	benchUpdate(b, "packed", func(i int) string { return fmt.Sprintf("user-%08d", i) })
	benchUpdate(b, "long", func(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", i, i) })
}

func benchUpdate[K comparable](b *testing.B, what string, key func(int) K) {
	hash, _ := HasherFor[K]()
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("key=%s/keys=%d", what, n), func(b *testing.B) {
			backend := NewBackend[K](DefaultMaxParallelism, Range{0, DefaultMaxParallelism - 1})
			v := NewValue[int64](backend, "n")
			rng := rand.New(rand.NewPCG(1, 1))
			keys, hashes := make([]K, 1<<18), make([]uint64, 1<<18)
			for i := range keys {
				keys[i] = key(rng.IntN(n))
				hashes[i] = hash(keys[i])
			}
			for i := 0; b.Loop(); i++ {
				j := i % len(keys)
				backend.SetKey(keys[j], hashes[j])
				*v.Upsert()++
			}
		})
	}
}

// BenchmarkLengthen is the pause with the first key that is too long.
func BenchmarkLengthen(b *testing.B) {
	keys, hashes := stream(1<<20, 1<<20)
	entries := 0
	for b.Loop() {
		b.StopTimer()
		backend, v := counter()
		for i := range keys {
			backend.SetKey(keys[i], hashes[i])
			*v.Upsert()++
		}
		entries += v.short.entries
		b.StartTimer()
		v.lengthen()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
}
