package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

const batchSize = 512

// keys makes the keys of events, freshly allocated as a decoder would.
type keys struct {
	n    int
	next func() int
	buf  []byte
	all  []string
}

func newKeys(pattern string, n int, seed uint64) *keys {
	rng := rand.New(rand.NewPCG(seed, 4))
	k := &keys{n: n}
	switch pattern {
	case "fill":
		i := -1
		k.next = func() int { i++; return i }
	case "uniform":
		k.next = func() int { return rng.IntN(n) }
	case "zipf":
		// Of rank r with a chance of log((r+1)/r)/log(n+1), which is 1/r but for the
		// first few. The ranks are scattered over the keys.
		k.next = func() int {
			rank := int(math.Exp(rng.Float64() * math.Log(float64(n+1))))
			return int(uint64(min(rank, n)) * 7_368_787 % uint64(n)) // a prime
		}
	default:
		panic("no such pattern: " + pattern)
	}
	return k
}

func (k *keys) batch(size int) []string {
	k.all = k.all[:0]
	for range size {
		k.buf = fmt.Appendf(k.buf[:0], "user-%08d", k.next())
		k.all = append(k.all, string(k.buf))
	}
	return k.all
}

// value is a count and 16 bytes more, which do not compress.
type value = [3]int64

func fresh(key string) value {
	h := rand.NewPCG(xxhash.Sum64String(key), 1)
	return value{0, int64(h.Uint64()), int64(h.Uint64())}
}
