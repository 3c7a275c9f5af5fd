// Package state keeps what an operator remembers, one entry for each key.
//
// An operator on a keyed stream declares its state once, when it opens, and
// from then on every call speaks of the key of the record (or timer) in hand:
//
//	type visits struct{ seen *state.Value[string, int64] }
//
//	func (v *visits) Open(c *pipeline.Context[string, Visit]) error {
//		v.seen = state.NewValue[int64](c.State(), "seen")
//		return nil
//	}
//
//	func (v *visits) Process(c *pipeline.Context[string, Visit], hit Hit) error {
//		n := v.seen.Upsert()
//		*n++
//		c.Emit(Visit{User: c.Key(), Nth: *n})
//		return nil
//	}
//
// Three forms share one table of decoded values: [Value] holds one value a
// key, [List] a list, [Map] a map. [Group] holds one value a key group, for
// structures that many keys share, such as a Bloom filter.
//
// # Key groups
//
// A key belongs to the key group hash(key) % max parallelism for the life of
// a job. A subtask owns a contiguous [Range] of groups, and every table here is
// divided by group, so state moves between subtasks by whole groups when a
// job is restored at another parallelism. The hash is stable: the same key
// hashes to the same group in every process and every release.
//
// # Ownership
//
// A [Backend] and everything declared on it belong to one goroutine, that of
// their subtask. Nothing here locks.
package state
