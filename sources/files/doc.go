// Package files is a source of files: JSON lines, CSV, TSV, access logs, or
// lines of any kind.
//
//	hits := pipeline.From(p, "hits", files.JSON[Hit]("logs/*.jsonl.gz"),
//		pipeline.BoundedDisorder(Hit.Time, time.Minute).MaxDrift(time.Hour))
//
// The pattern is that of [filepath.Match], or the name of one file. Files that
// are compressed with gzip or zstd are recognised by their first bytes,
// whatever they are called. Directories that a pattern matches are passed over.
//
// Every file is a split. The files of a subtask are read in turns, a batch
// each, so that time moves on in all of them alike; set MaxDrift where they
// cover different times, as daily logs do, or else the state of all those days
// is kept at once.
//
// # Bad input
//
// A record that can't be decoded, or whose decoder panics, is rejected: it goes
// to the job's dead-letter output with the path as Split, the line number as
// Offset, its bytes as Raw, and its byte offset in the error's text. So does a
// line over [MaxLine], with its first 64 KiB. Reading goes on with the next
// line. Empty lines are passed over, and a byte-order mark at the start of a
// file; a line may end in \r\n.
//
// What a line says may be wrong although its format is right: a time of the
// year 9999, a missing user. [DecodeCSV], [DecodeTSV] and [DecodeAccessLog] take
// a function that makes the program's own type of a record, or rejects it in
// the same way. In an operator behind the source it would be too late for that:
// there the file and the line are no longer known, and the record's time has
// reached the watermark.
//
// A compressed file that turns out damaged stops the job, with an error that
// says how far it could be read: nobody knows how many records are lost, so
// going on would be a silent drop. What came before has been delivered; of a
// bit that flipped, gzip knows only at its end, so some of that may be garbage.
// A file that shrinks while a bounded source reads it stops the job as well,
// with an error that says how long it was and is.
//
// A file that can't be opened, a directory in place of a file, or a pattern
// without matches stops the start.
//
// # Following
//
// With [Follow] the source does not end. It reads on as files grow, takes in
// new ones that the pattern matches, and follows them through rotation:
//
//   - Renamed, and a new file made (logrotate's create): what is left of the old
//     file is read first, then the new one, once it has content. The pattern may
//     match the rotated names as well; a file is known by its number and its
//     first bytes, and not read twice.
//   - Truncated in place (logrotate's copytruncate): the file is read from its
//     beginning. What was written between the last look and the truncation is
//     only in the copy, which is why copytruncate is the worse choice.
//   - Rotated while the job was down: the old file is looked for beside the new
//     one, by number or, compressed meanwhile, by its first bytes. If it is gone,
//     a warning says what was not read.
//
// A last line without a line end is left until its end is written; when the
// file is rotated or the source is bounded, it counts as it is. A compressed
// file is read once; one that ends too early is waited for. A file whose path
// has been missing for ten seconds is finished.
//
// A file that is quiet holds back the watermark, like any split: use IdleAfter.
//
// # Restart
//
// The position of a split is the offset behind its last record, and what the
// file is known by. Plain files are read on from there; compressed ones are
// decompressed up to there. A file that is not the one that was read, because
// it is shorter or begins differently, is read from its beginning.
//
// # Metrics
//
// Counters: bytes_read (from disk, those passed over at a restart included),
// records, skipped ([ErrSkip]), rotations, truncations. Gauges: bytes_total
// (on disk, so that bytes_read is a share of it), files_done.
package files
