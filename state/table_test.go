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
	for i := range table.groups {
		if n := len(table.groups[i].slots); n > minSlots {
			t.Errorf("group %d keeps %d slots", i, n)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		keys := make([]string, n)
		hashes := make([]uint64, n)
		hash, _ := HasherFor[string]()
		for i := range keys {
			keys[i] = fmt.Sprintf("user-%08d", i)
			hashes[i] = hash(keys[i])
		}
		order := rand.New(rand.NewPCG(1, 1)).Perm(n)
		b.Run(fmt.Sprintf("map/keys=%d", n), func(b *testing.B) {
			m := map[string]int64{}
			for i := 0; b.Loop(); i++ {
				m[keys[order[i%n]]]++
			}
		})
		b.Run(fmt.Sprintf("table/keys=%d", n), func(b *testing.B) {
			backend := NewBackend[string](DefaultMaxParallelism, Range{0, DefaultMaxParallelism - 1})
			v := NewValue[int64](backend, "n")
			for i := 0; b.Loop(); i++ {
				j := order[i%n]
				backend.SetKey(keys[j], hashes[j])
				*v.Upsert()++
			}
		})
	}
}
