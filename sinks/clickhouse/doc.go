// Package clickhouse is a sink for tables of ClickHouse.
//
//	type Count struct {
//		Page  string    `ch:"page"`
//		Start time.Time `ch:"start"`
//		Views uint64    `ch:"views"`
//	}
//
//	out := clickhouse.Structs[Count](clickhouse.Config{
//		URL: "clickhouse://user:password@localhost:9000/stats", Table: "page_views"})
//	pipeline.To(counts, "counts", out)
//
// [Structs] writes structs by their ch tags, [Columns] the values of functions. Both
// encode a row once, when it comes, into the blocks that the server gets, over the
// native protocol or HTTP, as the URL says. [Sink.CreateTable] writes the statement of
// a table that fits.
//
// # Exactly once
//
// It is the default. Rows are gathered into blocks, and these are kept in files that
// become part of the checkpoint ([pipeline.Staging]). Once the checkpoint is complete,
// each block is one INSERT with an insert_deduplication_token of its own, which no
// other block ever has: "millrace/" and the file's name, "/" and the block's number.
// What is not sure to have arrived, because a connection broke or the job was killed,
// is sent again, the same bytes with the same token, until the server says that it
// has it; and a server that has it already leaves it at that. So each row is in the
// table once, with the checkpoint that it belongs to: the interval of checkpoints is
// the delay. A job without checkpoints inserts at its end.
//
// This rests on the table's memory of tokens. ClickHouse ignores tokens, without a
// word, where that is off, which it is by default on plain MergeTree tables
// (non_replicated_deduplication_window). So the start looks at it, refuses a table
// that remembers fewer tokens than Config.RecoveryBlocks says, and tells the ALTER
// TABLE that mends it. Each part that an insert makes takes a place, so a block that
// touches several partitions takes several: Config.PartitionsPerBlock. Other writers
// take places as well. While the job runs, a checkpoint that would have more blocks
// than the table remembers stops it, and so does a commit that has to cut blocks into
// more pieces than that, see below. The tables behind materialized views count too.
//
// Replicated tables also forget by time (replicated_deduplication_window_seconds, an
// hour or a week by default). A job that was down for longer does not start, if rows
// wait in its checkpoint, since nobody knows whether they were inserted; and one that
// runs stops when a block that may have arrived could not be sent again for so long. See
// Config.DeliverLate.
//
// The table is to be of the MergeTree family, and reached where it is stored:
// Distributed, Buffer and others do not keep the promise and are refused. With several
// addresses in the URL, these must be replicas of one another: tables that are not
// Replicated are refused then.
//
// What it does not promise:
//
//   - ClickHouse knows nothing of checkpoints. A job that starts anew, or from an earlier
//     checkpoint or savepoint than its last, inserts again what came after it.
//   - Rows are as safe as the server keeps them. A replica that is lost before others
//     have its parts takes acknowledged rows with it: set insert_quorum in the URL.
//   - A table that is not Replicated notes a token an instant before it has the rows. A
//     server that is killed just then, within some microseconds, takes the block for one
//     that it has when it comes again. Replicated tables do both at once, in Keeper.
//   - PartitionsPerBlock is believed.
//   - A process that was stopped in the middle of an insert, and goes on after another
//     one has taken the job over and the table has forgotten the token, inserts it again.
//
// # Materialized views
//
// Views that the table feeds get each row once as well. A server that was killed
// between the table and a view is sent the block again, and brings it to those views
// that have not got it (deduplicate_blocks_in_dependent_materialized_views, which the
// sink sets). For that, the tables behind the views have to remember tokens too, and
// the start checks them. An error in a view's query stops the job: the table has the
// block by then, so the row that is to blame can't be taken out of it. Mend or drop
// the view and start the job again.
//
// # At least once
//
// A block is inserted when it is full or Config.BlockTime has passed, beside the
// writing, and a checkpoint waits for what is under way. After a failure, rows since
// the last checkpoint come again. Tables of any engine will do.
//
// # A server that is away or slow
//
// is waited for. Connections that break, time-outs, too many parts, too little memory
// or disk, a table that is read-only, a replica without Keeper: the block is sent
// again after a pause that grows to some seconds, and the log says so every now and
// then. Meanwhile the job stands still up to its sources. All else that the server
// says stops the job, with the table, the statement and the server's words.
//
// # Rows that can't be inserted
//
// What the sink sees goes to the dead-letter output at once: a name that an enum has
// not, NULL for a column that is not Nullable, text too long for a FixedString, a number
// or time out of range, also within arrays, maps and tuples, a row larger than
// Config.RowBytes. Digits of a decimal that are behind the column's last are cut off, as
// by the server itself.
//
// What only the server sees, a CONSTRAINT or an expression, fails a whole block. The
// block is then cut in halves, and these again, until the rows are found and all
// others are in. Each piece takes a place in the table's memory of tokens, some ten for
// a row that is refused; a block of which more than 1000 rows are refused, and pieces
// that are more than the table remembers, stop the job. With
// ExactlyOnce this happens after the checkpoint, and the rows go to the dead-letter
// output with the next records; until then they are part of the checkpoints, so that
// none is lost. A job whose last commit finds such rows ends with an error that says
// so, and tells of them when it is started again. A job that is killed in between
// finds the same rows again, cuts the same pieces, with the same tokens, and may
// report a row twice, but inserts none twice. That holds if the server refuses the
// same rows as before: don't change a table's constraints while a job is down that was
// stopped in the middle of this. Nor can a block be taken apart of which the table has
// some partitions already: an expression of a skip index, projection or TTL that fails
// for some rows is to be mended.
//
// # Aggregate functions
//
// Columns of type AggregateFunction are filled by expressions of the server:
//
//	clickhouse.Config{
//		Expressions: map[string]string{"visitors": "uniqState(visitor)"},
//		Inputs:      map[string]string{"visitor": "UInt64"},
//	}
//
// The block is inserted by INSERT … SELECT … FROM input(…), grouped by its other
// columns.
//
// # Metrics
//
// Counters: records, bytes_written (of blocks, before compression), rejected, blocks
// (inserted), retries.
package clickhouse
