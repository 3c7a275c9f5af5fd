package nexmark

import "math/bits"

// random is a SplitMix64 generator (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, 2014). Every event has one of its own, so it has to be quick to
// make: math/rand/v2 would allocate two objects for each.
type random uint64

// randomOf returns the random numbers of one event.
func randomOf(seed uint64, n int64) random {
	return random(mix(seed ^ mix(uint64(n)+gamma)))
}

const gamma = 0x9e3779b97f4a7c15

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r *random) next() uint64 {
	*r += gamma
	return mix(uint64(*r))
}

// below returns a number from 0 to n-1. It prefers some by less than n in 2^64.
func (r *random) below(n int64) int64 {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int64(hi)
}

// fraction returns a number from 0 to 1, without 1.
func (r *random) fraction() float64 { return float64(r.next()>>11) / (1 << 53) }
