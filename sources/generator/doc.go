// Package generator is a source of made-up records: for demonstrations, load
// tests and benchmarks.
//
//	visits := generator.Func(0, func(r *rand.Rand, i int64) Visit {
//		return Visit{User: r.IntN(1000), Time: start + i*10}
//	}, generator.Rate(5000))
//	stream := pipeline.From(p, "visits", visits, pipeline.BoundedDisorder(Visit.EventTime, time.Second))
//
// What it makes depends on the seed and on each record's index, and on nothing
// else, so a test that uses it can be repeated, and a job that restarts from a
// position gets the records it would have got.
package generator
