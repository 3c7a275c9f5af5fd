// Package pipeline builds and runs jobs: typed graphs of sources, operators
// and sinks that work in event time.
//
// A job reads as its graph. Functions make nodes, input first, name second:
//
//	p := pipeline.New()
//	hits := pipeline.From(p, "hits", files.JSON[Hit]("logs/*.json"),
//		pipeline.BoundedDisorder(Hit.Time, 10*time.Second))
//	byPage := pipeline.KeyBy(hits, Hit.Page)
//	views := operators.Aggregate(byPage, "views", window.Tumbling(time.Minute), operators.Count[Hit]())
//	pipeline.To(views, "out", stdout.JSON[operators.Result[string, int64]]())
//	err := p.Run(ctx)
//
// The name is the operator's identity in errors, metrics and checkpoints, so it
// is required, unique, and should not change between releases of a job.
//
// # Streams
//
// A [Stream] is the output of a node, still to be consumed; [KeyBy] makes it a
// [KeyedStream], on which operators have state. [Union], [Rebalance] and
// [Broadcast] redirect streams; [SideOutput] gives an operator's other outputs,
// and [DeadLetters] the records that were rejected. Mistakes of the graph do
// not panic: [Pipeline.Validate] and [Pipeline.Run] report all of them
// together, each with your file and line.
//
// # Operators
//
// Package operators has the usual ones. [Process] is the door they all go
// through, and yours too: implement [Processor], and declare state, timers and
// side outputs in Open.
//
//	type visits struct{ n *state.Value[string, int] }
//
//	func (v *visits) Open(c *pipeline.Context[string, Visit]) error {
//		v.n = state.NewValue[int](c.State(), "n")
//		return nil
//	}
//
//	func (v *visits) Process(c *pipeline.Context[string, Visit], h Hit) error {
//		n := v.n.Upsert()
//		*n++
//		c.Emit(Visit{User: c.Key(), Nth: *n})
//		return nil
//	}
//
//	visits := pipeline.Process(byUser, "visits", func() *visits { return &visits{} })
//
// One goroutine calls all methods of an instance, so operator code takes no
// lock. [Connect] is the same for two inputs.
//
// # Time
//
// Event time is in milliseconds since the epoch. A [WatermarkStrategy] reads it
// from records and says how late they may be; the watermark it makes flows with
// the records and fires timers. Every split of a source has its own generator,
// and an operator's watermark is the lowest of its inputs'. Idle splits are
// taken out ([WatermarkStrategy.IdleAfter]), fast ones held back
// ([WatermarkStrategy.MaxDrift]).
//
// A record is late if its time is at or before the watermark made from the
// records before it in its split. That does not depend on how records were
// batched: a source cuts its batch before a late record, and operators up to the
// first exchange behind it, the receiving side included, see the same watermark
// with the same record in every run. Behind a second exchange several subtasks'
// progress meets, and one of them may lag: a late record may then still be in
// time. A record that is not late never counts as one. Where late records must
// be the same in every run, judge them near the source, as examples/webanalytics
// does.
//
// # Order and parallelism
//
// An operator runs as [DefaultParallelism] subtasks, or [Parallelism] for one
// operator. Records of one key that come from one split are processed and
// emitted in order, through every exchange but [Rebalance]. Operators with the
// same partitioning are chained: they hand batches on by direct calls in one
// goroutine. [Pipeline.Graph] shows what was decided.
//
// # Checkpoints
//
// With [Checkpoints] a job writes down what it knows from time to time: the state
// of its operators, their timers and watermarks, and how far each split was read,
// all of one instant of the stream. Killed in whatever way, it goes on from there
// when the same program is started with the same directory; nothing has to be
// said or repaired. See the example of Checkpoints.
//
// What that means for results is for each sink to say. There are three kinds:
//
//   - A [Committer] shows every result exactly once: what it writes takes effect
//     with the checkpoint, so results come as often as checkpoints do. The file
//     sinks are of this kind.
//   - One that writes under a key, so that writing twice is writing once, shows
//     the right content, and for a moment after a restart an older one.
//   - Any other writes again what it wrote since the last checkpoint: at least
//     once. Functions and standard output are of this kind.
//
// A source takes part by a position with every batch; one that gives none can't
// be used with checkpoints.
//
// Operators are known by their names, so a job may change between two starts:
// operators come and go, parallelism is any up to [MaxParallelism], which itself
// is fixed. State that the new job has no place for stops the start
// ([ErrUnclaimedState], [AllowUnclaimed]). [Pipeline.Savepoint] keeps a checkpoint
// under a name, to go back to or to start another job from ([StartFrom]), and
// [Pipeline.StopWithSavepoint] ends the job with one.
//
// A checkpoint that fails, because the disk is full for example, is reported and
// the job goes on; [ToleratedFailures] in a row are the limit. A checkpoint that is
// damaged stops the start, with an error that names the file: an earlier one is
// never taken instead, since sinks may have shown what came after it. The command
// millrace lists, shows and verifies what is in a directory.
//
// State is kept on disk behind a cache of [StateMemory], so it may be larger than
// memory; [StateInMemory] keeps all of it there.
//
// # Errors
//
// A record that cannot be decoded, and one that user code rejects by an error
// or a panic, goes to [DeadLetters]; without a consumer of that stream it stops
// the job with an [OperatorError] that names operator, subtask and record.
// Nothing is dropped in silence.
//
// # Ending
//
// A job whose sources are bounded ends by itself, all windows fired.
// [Pipeline.Drain] ends any job that way. Cancelling the context of Run stops
// it without firing windows, after records in flight have reached their sinks.
// Each way ends with a last checkpoint, if the job takes any: after a stop, the
// next start goes on with the windows that were open; after the end of the input
// there is nothing left to do, and it ends at once.
package pipeline
