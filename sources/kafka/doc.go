// Package kafka is a source of Apache Kafka's topics.
//
//	hits := pipeline.From(p, "hits", kafka.JSON[Hit](kafka.Config{
//		Brokers: []string{"localhost:9092"},
//		Topics:  []string{"hits"},
//	}), pipeline.BoundedDisorder(Hit.Time, 10*time.Second).IdleAfter(time.Minute))
//
// [JSON] decodes values, [JSONRecords] has their keys, headers and coordinates
// besides, [Protobuf] and [ProtobufRecords] do the same for generated messages,
// [Raw] leaves them as they are, and with [Decode] a program brings a decoder of
// its own. [RegisteredJSON], [RegisteredProtobuf] and [Registered] read values in
// the wire format of Confluent's schema registry. Event times are the timestamps of the records, unless the
// watermark strategy takes them from the decoded value.
//
// # Splits
//
// Every partition is a split, named topic/partition, with a watermark generator
// of its own. The subtasks divide the partitions among themselves by a rule that
// depends on topic, partition and parallelism only: there is no consumer group,
// and no rebalancing. A source with more subtasks than partitions has some that
// read nothing.
//
// Partitions that are added while the job runs are read from their beginning by
// the subtask that the rule says, at the latest after Config.Refresh. So are new
// topics that Config.Pattern matches. The same goes for those that were added
// while the job was down.
//
// A partition that is quiet holds back the watermark, like any split: use
// IdleAfter. With MaxDrift, partitions that are ahead are not fetched until the
// others have caught up; give it to a job that reads an old topic from its
// beginning.
//
// # Offsets
//
// The job's checkpoints hold the offsets, nothing else does: a position is the
// offset to be read next, and with it come the leader epoch and the topic's id,
// by which it is noticed that the log was cut or that the topic is another one of
// the same name. Config.Start is for partitions without a position. Without
// checkpoints, every start is a first one.
//
// An offset that the brokers do not have any more, or never had, stops the job
// with an error that names both. Kafka's own clients go on elsewhere, which is a
// silent loss; Config.Reset allows it.
//
// # Consumer group
//
// With Config.Group the offsets of each complete checkpoint are also committed to a
// consumer group, so that the usual monitors of lag see the job. They say what would
// be read again after a crash, not what was read, and nothing depends on them: if
// brokers don't take them, that is logged every 30 seconds and counted, and the next
// checkpoint commits them all again. Only rights that are missing stop the job, since
// they would never come.
//
// The group must be nobody else's. At the start, one with members is refused; members
// that join later keep the offsets from being committed. A group in which a sink
// records checkpoints (exactly-once delivery of package sinks/kafka) is refused, also
// later: to write over it would leave that job without a place to go on from. Such a
// job's own group has the sources' offsets anyway, so leave Config.Group out there.
//
// # Transactions
//
// Only records of committed transactions are read, in the order of their
// offsets, and a transaction that is open holds up what is behind it.
// Config.ReadUncommitted turns that off.
//
// # Bounded reading
//
// With Config.Bounded the source ends where the partitions ended when the job
// started. That is the last stable offset: what is in or behind a transaction
// that was open then is left out. Markers of transactions have offsets, too, so
// numbers of records and differences of offsets are not the same.
//
// # Ordered replay
//
// Bounded reading takes partitions in turns, as they come, so the order in which
// a job sees records of different partitions is another one each time. Results
// are the same all the same as long as no record is later than the disorder
// bound plus the allowed lateness. With Config.Ordered so are the records that
// are too late, and the results that correct earlier ones:
//
//	cfg := kafka.Config{Brokers: brokers, Topics: []string{"hits"}, Bounded: true, Ordered: true}
//	hits := pipeline.From(p, "hits", kafka.JSON[Hit](cfg).OrderedBy(Hit.Time),
//		pipeline.BoundedDisorder(Hit.Time, 10*time.Second), pipeline.Parallelism(1))
//
// Of the next records of all partitions, the one with the lowest time always
// goes first; where times are equal, topic, partition and offset decide. The
// order within a partition stays as it is. Sizes of batches and fetches, speeds
// of partitions and brokers, and restarts from a checkpoint have no part in it.
// The times are the timestamps of the records, or what [Source.OrderedBy] says.
// One far in the future holds up its partition until the others are at their
// ends, and makes what is behind it late.
//
// The source has one subtask, and waits for its slowest partition. It holds at
// most two or three fetches of each, that is Config.PartitionBytes, which should
// be small where there are hundreds. A batch holds records of one partition, so
// where partitions alternate in time from record to record, batches have one
// record each and a job that does little else takes about three times as long.
//
// What the watermark strategy does by the clock would take the effect away, so
// IdleAfter and AdvanceWhenIdle are refused, and so is MaxDrift, which there is no
// need for. The engine sends the watermark before each late record, but otherwise
// when it sees fit, which windows do not depend on; an operator of your own that
// compares the watermark with records that are not late does. So does one behind
// a second exchange between several subtasks.
//
// # Bad input
//
// A record whose decoder returns an error or panics is rejected: it goes to the
// job's dead-letter output with the partition as Split, its Offset, its timestamp
// as Time, and its key, headers and value. Reading goes on with the next one.
//
// # Memory
//
// A subtask holds what it took from the client, at most a fetch for every broker
// it reads from, and the client fetches as much ahead, on the wire, and stops
// then. A fetch has at most Config.FetchBytes, which compression multiplies.
//
// Records lie in the memory they were fetched into. Decoders read them there,
// without a copy, and what [JSON], [JSONRecords] and [Raw] return has no part of
// it: state that keeps a record does not keep a fetch. A decoder given to
// [Decode] must see to that itself.
//
// # When brokers are away
//
// At the start, brokers that don't answer or refuse, and topics that are missing,
// are errors. Later the source waits for brokers, for ever, and logs it every 30
// seconds; what it has read is safe. A topic that is deleted, or deleted and made
// again, stops the job.
//
// # Metrics
//
// Counters: records, bytes_read (keys and values, decompressed), skipped
// ([ErrSkip]); with Config.Group, offset_commits and offset_commit_failures. Gauges:
// partitions (read by this subtask), lag (records between what was read and the end
// of the log when it was last fetched), for the subtask and, as a figure of its split,
// for each partition.
package kafka
