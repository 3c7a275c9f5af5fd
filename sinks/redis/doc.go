// Package redis is a sink for Redis: strings, hashes, sorted sets, sets,
// HyperLogLogs and streams.
//
//	pipeline.To(counts, "top", redis.SortedSets(redis.Config{URL: "redis://localhost:6379"},
//		func(c Count) (key, member string, score float64) { return "top", c.Page, float64(c.Visits) }))
//
// [Encode] makes a sink of whatever commands a record is to have carried out, and
// [Strings], [Hashes], [SortedSets], [HyperLogLogs] and [Streams] are short for it.
//
// # Exactly once
//
// It is the default. Commands wait in a list in Redis until the checkpoint they belong
// to is complete, and are carried out then, in chunks, each by a script that in the
// same instant notes how far it has come. So no command is carried out twice, however
// often the job is killed and started again: increments count exactly, entries of
// streams are there once, and no value goes back to an earlier one. It works beside
// sinks of every other kind in the job. It is Redis that keeps what waits: the job
// goes on however long Redis is away, and its own memory holds one chunk.
//
// What this needs, and does not promise:
//
//   - Results are visible with the checkpoint, so the interval of checkpoints is their
//     delay. A chunk becomes visible at once, a checkpoint chunk by chunk.
//   - Commands of one subtask are carried out in their order, those of several in any.
//     Where several records write one key, have them come to one subtask: by
//     pipeline.KeyBy, or pipeline.Parallelism(1).
//   - It is as safe as Redis keeps its data: without the append-only file
//     (appendonly yes), or with one that is written every second, a crash of the
//     server may lose what was carried out, or what waits. The latter is noticed, and
//     that the server has lost everything: the job stops with an error. A server that evicts keys (maxmemory-policy allkeys-…)
//     may lose it as well, of which a start warns.
//   - An append-only file can end in the middle of a script's commands, when the server
//     is killed or the machine fails while it is written. With aof-load-truncated yes,
//     the default, Redis cuts off only the last of them (7.0 does, and its sources of
//     October 2024; valkey-io/valkey#4342 mends it for Valkey). The others wait in the
//     file, and count when it is read the next time: increments and entries of streams
//     are then there twice. Set aof-load-truncated no. The server then refuses to start
//     with such a file until redis-check-aof --fix has cut off the whole script, which
//     the sink carries out again. A start warns of the default.
//   - A job without checkpoints has its commands carried out when it ends.
//   - In a cluster, all keys of the sink have to be in one slot: see Config.HashTag.
//
// The sink's own keys begin with millrace: and its ID. A second process with the same
// ID fences the first, which ends with an error, and none of whose waiting commands
// are carried out. A process that would carry out again what was committed, because it
// does not have the checkpoint for it or starts from an earlier one, refuses to start,
// and says how to have it start all the same.
//
// # At least once
//
// Commands are carried out as records come, within milliseconds. After a failure those
// since the last checkpoint come again. All commands but increments and
// [Commands.XAdd] leave the same content when they are repeated, so once the job has
// come to where it was before, everything is right, if a record writes what is so far
// (a count) rather than what is new (one more). Until then a key may show an earlier
// value again; [Commands.Version] keeps it from that, by a script that compares
// versions. A HyperLogLog and a set do not mind repetition. For streams,
// [Commands.XAddID] leaves out what is there.
//
// Two copies of a job are not kept from each other.
//
// # Records that can't be written
//
// What encode rejects, and records whose commands need a key to hold something else
// than it does, go to the job's dead-letter output; with ExactlyOnce, none of such a
// record's commands is carried out. What shows only as a command is carried out, for
// instance an increment of a text, goes there with the next checkpoint, also when the
// job was killed in between. If there is no next one, because the job has ended, the
// job says so as it ends.
//
// A server that is away, still loads its data, has no memory left (OOM) or no replicas
// is waited for, and the log says so. The client logs failures to connect as well, see
// SetLogger of go-redis. A wrong password, missing rights (NOPERM), and keys of several
// slots stop the job.
//
// # Metrics
//
// Counters: records, commands, rejected.
package redis
