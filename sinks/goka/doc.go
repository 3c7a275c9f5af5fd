// Package goka is a sink that keeps a group table of goka (github.com/lovoo/goka)
// up to date, so that a goka.View in any Go service holds a live copy of a job's
// results:
//
//	type total struct{ User string; Sum int64 }
//
//	pipeline.To(totals, "totals", goka.Table(goka.Config{
//		Brokers: []string{"localhost:9092"},
//		Group:   "totals",
//	}, new(codec.Int64), func(t total) (key string, value any) { return t.User, t.Sum }))
//
// and elsewhere
//
//	view, err := goka.NewView(brokers, goka.GroupTable("totals"), new(codec.Int64))
//	sum, err := view.Get("alice")
//
// where the second goka is goka itself. No processor of that group may run: the
// job takes its place.
//
// # The table
//
// The table is the compacted topic <group>-table. Keys are strings, values are
// what the codec makes of them, and a nil value takes the key out. A key's
// partition is the one goka would choose: FNV-1a, as Sarama takes its remainder.
//
// The topic must be there when the job starts, and be compacted, unless
// Config.Create has it made. A topic that is deleted, or gets more partitions,
// while the job runs stops the job once the client hears of it, which for
// partitions takes up to five minutes (kgo.MetadataMaxAge): every key has one
// place, which more partitions would change for most.
//
// # What is promised
//
// The table holds what the job has written last for a key, also after a kill.
// Records are written again after a restart from a checkpoint, so a view may show
// an older value of a key for a moment, until the job has caught up; values are to
// be absolute, not differences. What came before a checkpoint is in Kafka, on as
// many replicas as acks=all asks for, before the checkpoint is complete.
//
// Values of one key keep their order if they come from one subtask: the stream
// must be keyed by what makes up the key, or the sink have pipeline.Parallelism(1).
//
// # Bad input
//
// A record is rejected, and goes to the job's dead-letter output, if the function
// panics, if the codec returns an error, or if the topic's max.message.bytes is
// too small for it, uncompressed. The table then keeps the key's former value.
//
// # When brokers are away
//
// At the start, brokers that don't answer are an error once Config.StartTimeout
// is over. Later the sink waits for them, for ever; it holds at most 32 MiB of
// records for each subtask, and then the job stands still. It logs that it waits.
//
// # Metrics
//
// Counters: records, tombstones (those of them that take a key out),
// bytes_written (keys and values, before compression).
package goka
