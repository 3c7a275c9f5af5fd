package gokastore_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/lovoo/goka/storage"

	"github.com/millrace/millrace/state/gokastore"
)

// BenchmarkStorage is what goka does with a storage, beside the one that goka
// brings: recover reads a table's topic, view follows it, and process looks up
// each key before it sets it. Values have 100 bytes; an operation is a record.
func BenchmarkStorage(b *testing.B) {
	for _, kind := range []string{"pebble", "leveldb"} {
		for _, keys := range []int{1_000, 1_000_000} {
			for _, phase := range []string{"recover", "view", "process"} {
				b.Run(fmt.Sprintf("%s/%s/keys=%d", phase, kind, keys), func(b *testing.B) {
					build := gokastore.Builder(b.TempDir())
					if kind == "leveldb" {
						build = storage.DefaultBuilder(b.TempDir())
					}
					benchmark(b, build, phase, keys)
				})
			}
		}
	}
}

func benchmark(b *testing.B, build storage.Builder, phase string, keys int) {
	s := open(b, build)
	if phase != "recover" {
		must(b, s.MarkRecovered())
	}
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 100)
	b.ReportAllocs()
	offset := int64(0)
	for b.Loop() {
		key := fmt.Sprintf("key-%d", rng.IntN(keys))
		if phase == "process" {
			if _, err := s.Get(key); err != nil {
				b.Fatal(err)
			}
		}
		value[offset%100] = byte(offset)
		must(b, s.Set(key, value))
		offset++
		must(b, s.SetOffset(offset))
	}
	if phase == "recover" {
		must(b, s.MarkRecovered())
	}
}
