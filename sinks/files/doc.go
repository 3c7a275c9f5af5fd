// Package files is a sink that writes records to files, a line each:
//
//	pipeline.To(counts, "counts", files.JSON[Count]("out/counts.jsonl"))
//
// The folder is made if it is not there. A file that is there already stops the
// start, unless [Overwrite] or [Append] says what to do with it.
//
// With one subtask the file has the given name. With several, each subtask
// writes a part of its own: out/counts-00000.jsonl, out/counts-00001.jsonl and
// so on, see [PartPath]. For one file, give the sink pipeline.Parallelism(1).
//
// # What is safe when
//
// Lines are gathered and written when the input runs dry, or after a linger at
// a busy sink; the file ends in a whole line between two such writes. It is
// synced to disk when the job ends. A job that restarts from a checkpoint, with
// Append, writes the records since once more: delivery is at least once. A
// write that fails, on a full disk for example, stops the job with an error
// that names the file.
package files
