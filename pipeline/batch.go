package pipeline

// NoKey is the key type of a stream that has no key.
type NoKey struct{}

// Batch is a run of records in the order they were emitted: the unit that
// travels between operators.
//
// A batch belongs to whoever handed it over. The receiver may read it until it
// returns; it must not change, keep or share its slices, which are reused for
// the next batch. Values themselves may be kept, as far as their source allows
// (see the source's documentation for memory that a value refers to).
type Batch[K comparable, T any] struct {
	// Values are the records.
	Values []T
	// Times are the records' event times in milliseconds since the epoch, one
	// for each value.
	Times []int64
	// Keys and Hashes are the records' keys and their stable hashes, one for
	// each value on a keyed stream, and nil on a stream without a key.
	Keys   []K
	Hashes []uint64
	// Cursor is the index of the record in hand. See [BatchProcessor], which
	// explains how it names the record when user code fails.
	Cursor int
}

// Records is a batch of a stream without a key.
type Records[T any] = Batch[NoKey, T]

// Len returns the number of records.
func (b *Batch[K, T]) Len() int { return len(b.Values) }

// receiver is the typed entrance of an operator, of an exchange, or of a fan-out:
// what an output hands its batches and signals to. A receiver that fails
// records it with its task; the loop of the task looks after every message.
type receiver[K comparable, T any] interface {
	process(b *Batch[K, T])
	control(s signal)
}

// signalKind says what a signal announces.
type signalKind uint8

const (
	// sigWatermark announces that no record with an event time at or before
	// signal.ts is to be expected.
	sigWatermark signalKind = iota
	// sigIdle takes a channel out of its receiver's watermark.
	sigIdle
	// sigActive takes it in again.
	sigActive
	// sigEnd is the last thing a channel carries. It comes after a watermark of
	// MaxWatermark when the input really ended or was drained, and without one
	// when the job was stopped, so that windows stay open.
	sigEnd
	// sigBarrier separates the records that belong to checkpoint signal.ts, a
	// number, from those that don't.
	sigBarrier
)

// signal travels between batches, in the channels that carry them.
type signal struct {
	kind signalKind
	ts   int64 // the watermark, or the checkpoint
}
