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
// structures that many keys share, such as a Bloom filter; one that implements
// [Parts] writes with a checkpoint only the parts that have changed.
//
// # Where state is kept
//
// A job without checkpoints keeps its state in memory. With a [Storage], which
// the engine makes of the options pipeline.Checkpoints and pipeline.StateMemory,
// memory is a cache: a record reads and changes decoded values there, what has
// changed is encoded and written to disk when a checkpoint is taken or when
// memory runs short, and what was not asked for lately is read back when it is.
// So state may be far larger than memory, and a checkpoint costs what has
// changed. The disk belongs to the process; what outlives it are snapshots
// ([Backend.Snapshot]), from which a backend starts again ([Backend.Attach]), at
// the same parallelism or another.
//
// Values are therefore encoded. [CodecFor] has an encoding for most types, which
// for structs lets fields come and go between releases; give [Encoding] where it
// has none, or where a better one is known. What could not be read back as it was
// is refused when the state is declared, and not when it is read.
//
// # Change
//
// A state is known by its name, and each value is stored with a [Version]. When
// the meaning of the bytes changes, raise it, and say with [Migrate] how the old
// ones are read: they are rewritten when they next change. A version that nobody
// reads stops the start with an error that matches [ErrVersion]. [Inspect] reads
// a snapshot without the program; the command millrace state dump is made of it.
//
// # Forgetting
//
// State that is never cleared grows for ever. With [TTL] a value goes when it has
// not been written for some time, of the watermark or of the clock, whether or
// not somebody asks for its key again.
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
