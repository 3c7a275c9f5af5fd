// Package operators holds the operators that jobs are made of, each a function
// from a stream to a stream:
//
//	result := operators.Verb(input, "name", what, options...)
//
// The name identifies the operator in metrics and errors and is unique in the
// job. Mistakes in the arguments are reported together, with the line they were
// made on, when the job is validated or run.
//
// # A job
//
// Page views and visitors for each page and minute, from a stream in which some
// hits come twice:
//
//	p := pipeline.New(pipeline.Name("pages"))
//	hits := pipeline.From(p, "hits", source, pipeline.BoundedDisorder(Hit.Time, 10*time.Second))
//
//	unique := operators.Dedupe(hits, "dedupe", Hit.EventID, 24*time.Hour)
//	byPage := pipeline.KeyBy(unique, Hit.Page)
//	rows := operators.Aggregate(byPage, "views", window.Tumbling(time.Minute), operators.Combine2(
//		operators.Count[Hit](), operators.Distinct(Hit.Visitor),
//		func(views, visitors int64) Row { return Row{views, visitors} }))
//
//	pipeline.To(rows, "rows", sink)
//	err := p.Run(ctx)
//
// # One record at a time
//
// [Map] and [TryMap] replace a record, [Filter] drops it or not, [FlatMap]
// makes any number of records of it. They keep order and event times, cost
// about as much as the loop one would write by hand, and allocate nothing.
//
// The functions passed to them are called by all subtasks at once, so they must
// not share anything they write to. One that panics, or returns an error to
// TryMap, rejects the record: it goes to the job's dead-letter output, and where
// there is none the job stops and names it.
//
// [Dedupe] drops records whose id was seen within a horizon of event time. It
// remembers every id, and forgets it when only a late record could repeat it;
// with [Approximate] it keeps Bloom filters instead.
//
// # Windows
//
// [Aggregate] gathers the records of each key by windows of event time and
// gives a [Result] for each; package window has the windows. [TopN] is short
// for the most frequent case of a ranking.
//
// What becomes of the records is an [Aggregation]: how to add a record to an
// accumulator, how to merge two, and how to make a result. These come with the
// package:
//
//	Count                              records
//	Sum, Mean, Min, Max                of a number each record has
//	MinBy, MaxBy                       the record with the smallest or largest value,
//	                                   by event time the first or last one
//	Distinct, HLL, HLLHash             different values, estimated
//	Quantiles, QuantilesWithin         of a number each record has, estimated
//	HeavyHitters                       the most frequent values, estimated
//	TopCounts                          the most frequent values, counted
//	Top, TopFunc                       the first records by a score or an order
//	Collect, CollectN                  the records themselves
//	Combine2, Combine3, Combine4       several of these in one pass
//
// Those that estimate say how far they may be off, take memory that does not
// grow with the number of records, and lose nothing by being merged.
//
// # More than this
//
// Operators here are made with [pipeline.Process] and what else package
// pipeline exports, and so is one of your own.
package operators
