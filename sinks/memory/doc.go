// Package memory is a sink that keeps what it is given, for tests and
// examples:
//
//	out := memory.Collect(counts, "out")
//	if err := p.Run(ctx); err != nil { ... }
//	for _, c := range out.Values() { ... }
//
// Values arrive in order per subtask; set Parallelism(1) on it, or sort, where
// a test compares with a list. Nothing is bounded: it is no place for an
// endless stream.
package memory
