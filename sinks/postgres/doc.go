// Package postgres is a sink for PostgreSQL's tables, of version 12 and later.
//
//	type Count struct {
//		Page   string    // column page
//		Minute time.Time // column minute
//		Visits int64     `db:"n"`
//	}
//
//	pipeline.To(counts, "counts", postgres.Structs[Count](postgres.Config{
//		URL: "postgres://localhost/stats", Table: "counts", Key: []string{"page", "minute"},
//	}))
//
// [Structs] writes structs, [Encode] what a function makes of a record. Without a Key
// rows are inserted; with one, a row takes the place of the one with its key, and
// [Sink.Deletes] makes some delete it.
//
// The table must be there. A start compares it with what is to be written, and lists
// everything that does not fit, with the statements that mend it.
//
// # Exactly once
//
// It is the default. Rows go into a table of the sink's own by COPY, where they wait
// for the checkpoint that they belong to, and when it is complete, one transaction
// moves them to the destination and notes that it has:
//
//	BEGIN;
//	INSERT INTO counts SELECT … FROM millrace.counts_… ON CONFLICT (…) DO UPDATE …;
//	TRUNCATE millrace.counts_…;
//	UPDATE millrace.stages …; UPDATE millrace.sinks …;
//	COMMIT;
//
// So the rows of a subtask are in the table together with the note, or neither is. A
// commit that is repeated, as by a job that was killed, finds the note.
//
// Rows could go straight to the destination, in one transaction of the whole job that
// also records the checkpoint, as Kafka's sink does it. That writes them once rather
// than twice, and was decided against: the job could have no other sink of this kind,
// Kafka's above all; all subtasks would share a connection; a transaction could not
// outlive its connection, so that a restart of the server would cost all since the
// last checkpoint, and stop the job; and rows would be locked, against the database's
// other users, from when they are written until the checkpoint. Prepared transactions
// are off by default, and one that is forgotten stops VACUUM for the whole database.
//
// What this needs, and does not promise:
//
//   - Rows are visible with the checkpoint, so the interval of checkpoints is their
//     delay. Those of one subtask become visible at once, one subtask after the other.
//   - The last row of a key counts, by the order in which one subtask writes. Where
//     there is a Key, have the records of one come to one subtask: by pipeline.KeyBy
//     with the same, or pipeline.Parallelism(1).
//   - The user must be allowed to make Config.Schema, or to make tables in it.
//   - The database keeps what it has committed (fsync and synchronous_commit are on).
//   - A job without checkpoints has all its rows in the table when it ends, and none
//     before.
//
// A job that goes on while the server is away holds Config.BufferBytes of rows for each
// subtask, and then waits. It logs that it does. Connections that break, and servers
// that are killed and started again, cost nothing but time.
//
// A second process with the sink's ID fences the first, which ends with an error and
// none of whose waiting rows are committed; if the first stands still in the middle of a
// transaction, the second waits ten seconds for it. A process that would write again what
// was committed, because it does not have the checkpoint for it or starts from an earlier
// one, refuses to start, and says how to have it start all the same. A standby that has
// taken over without rows of a checkpoint stops the job, when these are to be moved.
//
// # At least once
//
// Rows are in the table within milliseconds, and after a failure those since the last
// checkpoint come again. With a Key that leaves the same rows, as soon as the job has
// come to where it was before.
//
// # Rows that the table refuses
//
// A row that the server refuses, because a value is out of range or too long, NULL
// where it must not be, or against a constraint, is found by bisection and goes to the
// job's dead-letter output with what the server says, while the others are written.
//
// With ExactlyOnce, what is wrong with a row by itself shows before its checkpoint.
// What shows only beside other rows, such as a key that is there already, a missing
// row of another table, or an error that a trigger raises, shows when rows are moved.
// Such rows are kept in the table rejected of Config.Schema, and go to the dead-letter
// output with the next checkpoint, exactly once, also when the job was killed in
// between. If there is no next one, because the job has ended, the job says so as it
// ends.
//
// # Metrics
//
// Counters: records, bytes_written, rejected.
package postgres
