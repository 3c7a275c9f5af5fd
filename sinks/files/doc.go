// Package files is a sink that writes records to files, as lines, in a format
// of your own, or as Parquet:
//
//	pipeline.To(counts, "counts", files.JSON[Count]("out/counts.jsonl"))
//	pipeline.To(views, "views", files.Parquet[View]("out/views"))
//
// There are two kinds, and both make folders that are not there. What is there
// already stops the start of a new job, unless [Overwrite] or [Append] says what
// to do with it; a job that goes on from a checkpoint goes on with its files.
//
// # A file that grows
//
// [JSON], [Lines] and [Encode] write one file, and records can be read soon
// after they were written: when the input runs dry, or after a linger at a busy
// sink. The file ends in a whole line between two such writes. With one subtask
// the file has the given name. With several, each writes a part of its own:
// out/counts-00000.jsonl, out/counts-00001.jsonl and so on, see [PartPath]. For
// one file, give the sink pipeline.Parallelism(1).
//
// # Part files
//
// [JSONParts], [LineParts], [EncodeParts] and [Parquet] write many files into a
// folder, each of which appears whole and never changes. Until their checkpoint
// is complete they are hidden: their names begin with a dot. A folder belongs to
// one sink; a second one is refused. A job without checkpoints shows its files
// when it ends; one that should run for ever shows none, so give it checkpoints.
//
// # What is safe when
//
// With checkpoints both kinds are exactly-once. Part files are so at every
// moment: nobody sees a record before its checkpoint is complete, nor twice.
//
// A growing file shows records earlier. When the job starts again from a
// checkpoint, the file is cut back to the length it had then and written on from
// there; so its content is exactly-once, but a reader that has read further than
// the last checkpoint may find other records there later. Where that matters,
// use part files. The file must be a regular one, since others can't be cut. A
// job that is killed before its first checkpoint is complete starts with what
// the file had before it, thanks to a hidden file beside it. When the number of
// subtasks changes, the files of those that are no more stay, and are part of the
// output.
//
// Without checkpoints a growing file is synced when the job ends, and a job that
// is killed and started again, with Append, writes its records once more.
//
// A write that fails, on a full disk for example, stops the job with an error
// that names the file; started again, the job loses and doubles nothing. What a
// checkpoint has and the disk has not, because somebody removed or changed a
// file, stops the start with an error that says what is missing.
package files
