package main

import "testing"

func BenchmarkCount(b *testing.B) {
	x := countBench(100_000)
	for b.Loop() {
		x.ours()
	}
}
func BenchmarkCount1k(b *testing.B) {
	x := countBench(1_000)
	for b.Loop() {
		x.ours()
	}
}
