// Package kafka is a sink for Apache Kafka's topics.
//
//	out := kafka.NewProducer(kafka.Config{Brokers: []string{"localhost:9092"}})
//	pipeline.To(counts, "counts", kafka.JSON(out, "counts", Count.Key))
//
// [JSON] and [Encode] make sinks of a [Producer], which is the connection to one
// cluster that all of a job's sinks there share.
//
// # Exactly once
//
// It is the default, and needs a job with checkpoints. All records that the
// producer's sinks write between two checkpoints are one transaction, which also
// commits the offsets of the sources, to a consumer group of the job's own, and
// with them, as metadata, the name of the checkpoint. So the transaction is the
// instant at which a checkpoint counts: records, offsets and checkpoint are there
// together or not at all. A job that is killed at any instruction goes on from the
// checkpoint that the group names, and nobody who reads with
// isolation.level=read_committed sees a record twice, or misses one.
//
// Results are visible with the checkpoint, so the interval of checkpoints is
// their delay. While a transaction commits, records of the next one are held in
// memory, at most Config.BufferBytes for each subtask, then the job waits.
//
// A second process with the job's name fences the first: the first ends with an
// error that says so, and none of its records become visible. If the second does
// not have the checkpoints that the group names, it refuses to start and leaves
// the first alone.
//
// Kafka forgets a group's offsets after a week without commits
// (offsets.retention.minutes). A job that was down for longer refuses to start,
// rather than to deliver everything again.
//
// Apache Kafka 4.3.0 and 4.3.1 forget to tell a partition that a transaction was
// committed if it has no leader at that moment (KAFKA-20734): its results are there, and
// readers of committed records wait in front of them for ever. A broker that is killed
// within moments of a commit does that to partitions of which it holds the only replica
// in sync. 4.2.1 does not.
//
// No other program may be a member of the group: the start refuses a group that has
// members. One that joins later does no harm to the results while the job runs,
// whichever group protocol it speaks, as each checkpoint commits all offsets again;
// the next start is refused until it has left. If it has written over all offsets
// after the job's last checkpoint, no start knows where to go on, and is refused.
//
// Where brokers ask for rights (ACLs), the job needs WRITE on the topics and on the
// transactional ids (Config.TransactionalID, and the same with "-offsets" behind it,
// for checkpoints with nothing to write), READ on the group, and READ on the topics
// that it reads from this cluster, as their offsets are what it commits. A job that
// reads none commits an offset of its first sink's topic, and needs READ on that one.
// READ and WRITE include DESCRIBE, and IDEMPOTENT_WRITE is not needed. With
// DESCRIBE_CONFIGS on the topics of its sinks, the job knows how large their records
// may be; without, it takes 1,000,000 bytes for the limit, and a topic that takes
// less stops the job.
//
// # At least once
//
// Records are visible as soon as they are written, and a checkpoint is complete
// only when all before it are. After a failure, those since the last checkpoint
// come again.
//
// # Records that can't be written
//
// What the encoder rejects, and records that are larger than their topic takes,
// go to the job's dead-letter output. Any other refusal of the brokers stops the
// job. Brokers that are away are waited for, with ExactlyOnce at most until the
// transaction times out: then the job ends, and goes on exactly when it is started
// again.
//
// [DeadLetters] is a sink for dead letters, of this job's sources, operators and
// sinks: the original records, with headers that say what happened.
//
// # Metrics
//
// Counters: records, bytes_written (keys and values), rejected. With exactly-once
// delivery, subtask 0 of one of the producer's sinks, the first in the graph, also
// has histograms: commit_duration, which is how much longer results wait than the
// checkpoint itself takes, and transaction_duration, from a transaction's first
// record to its commit, which Config.TransactionTimeout has to exceed.
// [Producer.Stats] has the figures of commits, too.
package kafka
