// Package gokastore keeps the tables of goka's processors and views
// (github.com/lovoo/goka) in Pebble, in place of goka's own LevelDB:
//
//	build := gokastore.Builder("tables")
//	goka.NewProcessor(brokers, graph, goka.WithStorageBuilder(build))
//	goka.NewView(brokers, table, codec, goka.WithViewStorageBuilder(build))
//
// Every partition of every topic has a directory of its own under the given one,
// named as by goka's DefaultBuilder: topic.partition. The formats differ: a
// directory that LevelDB wrote is refused. Remove it, and the table is recovered
// from Kafka.
//
// # What is promised
//
// A storage does what goka's LevelDB storage does, and what goka's own tests ask
// of a storage. The offset is not among the keys: no iterator shows it, and any
// key may be used. An iterator shows the table as it was when the iterator was
// made. What is given to a storage is copied, as is what it returns.
//
// Where goka's storages differ among themselves:
//
//   - A nil value is refused, as by the one in memory. In the topic it is a
//     deletion, so a table that kept it would not survive its recovery.
//   - IteratorWithRange without a limit shows the keys that begin with start, as
//     LevelDB and memory do.
//   - Seek stands on the pair it found, and Next goes on from there.
//   - All calls are safe after and during Close, and return [ErrClosed].
//
// # What is safe when
//
// Writes gather in memory until their offset is set, and then go to disk with it,
// all or none. Whatever ends the process, a storage never has an offset whose
// records it lacks; goka goes on from the offset and reads the rest from Kafka
// again. A kill loses what was written since the offset was last set and what
// Pebble's log had not handed on, some 32 KB for each partition. A failure of the
// machine can lose more, as nothing is synced, except at the end of a recovery
// and in Close. During a recovery about a megabyte at a time goes to disk.
//
// goka sets the offset of a view after each record, so a view's records and its
// offset agree even where its update callback adds up values. A key that was
// taken out with View.Evict may come back when the process is killed.
//
// A disk that is full or fails is an error, and the storage takes no more writes
// until it is opened again. Where Pebble's own work in the background
// meets it first and has no way back, the process ends with a panic.
package gokastore
