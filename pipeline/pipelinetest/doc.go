// Package pipelinetest tests pieces of a graph: records and watermarks are fed
// in by hand, the clock is virtual, and outputs are read at any moment.
//
//	func TestPageViews(t *testing.T) {
//		pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
//			in := pipelinetest.Input[Hit](k, "hits")
//			views := operators.Aggregate(pipeline.KeyBy(in.Stream(), Hit.Page), "views",
//				window.Tumbling(time.Second), operators.Count[Hit]())
//			out := pipelinetest.Output(k, views)
//
//			in.Send(100, Hit{Page: "/a"}, Hit{Page: "/b"})
//			in.Send(900, Hit{Page: "/a"})
//			out.Want() // nothing yet
//			in.Watermark(999)
//			fmt.Println(out.Values())
//		})
//	}
//
// # Settling
//
// What runs is the real engine, with its goroutines, batches and exchanges, in
// a bubble of testing/synctest. [Kit.Settle] hands the sources what was sent
// and returns when the job has nothing left to do until the clock moves. All
// that reads a result settles first, so a test has nothing to wait for and
// never sleeps. Between two settlings, what is sent makes batches as full as a
// busy source would make them, and what is sent on splits of different subtasks
// is read in parallel: settle where the order between them matters.
//
// The clock moves with [Kit.Advance] only (and while [Kit.Finish], [Kit.Drain]
// and [Kit.Stop] wait for the job to end): idle time-outs, linger and
// processing-time timers happen when the test says so, and take no real time.
//
// # Inputs and outputs
//
// An [Input] is a source whose splits are fed by hand, an [Output] records all
// that reaches it. An output sees watermarks as well: [Tap.Transcript] tells
// records and watermarks in order, which is how a test shows that a window
// fired before its watermark went on.
//
// # Crashes
//
// [Survive] runs a job undisturbed and again and again with kills at random
// moments, some of which lose what was not synced, and compares what was
// committed. In a [World] a test says itself when the job is killed or stopped.
// What runs is the real job, checkpoints and all, against a file system in
// memory; its sinks are a [Ledger] each, its sources [Watched].
//
// # Conformance
//
// Whoever writes a source or a sink runs [TestSource] or [TestSink] on it: they
// check what the engine relies on.
//
// # Parallelism
//
// Operators run at parallelism 1 unless options passed to [Test] say
// otherwise. [Vary] runs one test at several parallelisms and batch sizes, on
// which no result should depend.
package pipelinetest
