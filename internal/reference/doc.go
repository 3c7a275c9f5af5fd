// Package reference compares the engine with slow, obvious programs on random
// graphs. It holds nothing but tests.
//
// A graph is drawn from a seed as plain data: operators, parameters, how they
// are connected, how they run. Two programs then read it. One builds the graph
// with the public packages and runs it with whatever parallelism, batch size,
// channel capacity and reading order the seed says. The other computes what
// must come out, with slices and maps, in one goroutine. Their results must be
// equal as multisets of values and event times.
//
// There are two families.
//
// In the first nothing is late, so the results follow from the records alone,
// and the reference evaluates one operator after another over all of its
// input, sorted or grouped as suits: a window is the records with its key and
// bounds. There may be several sources and splits, any parallelism, diamonds,
// joins.
//
// In the second there is one split whose disorder exceeds the bound, so that
// results depend on the watermark at each record. The reference goes record by
// record and advances the watermark after each; the engine sends far fewer
// watermarks, and must come to the same results and the same late records all
// the same.
//
// Graphs of both families also run with checkpoints: undisturbed; killed at
// random moments, of which some lose what was not synced, and started again, at
// other parallelisms; stopped with a savepoint and started from it. What was
// committed must be the same. -graph.kills says how many kills there are to be,
// and -graph.kills.seed which graphs.
//
// A failure prints its seed, and
//
//	go test ./internal/reference -graph.seed=123 -graph.family=late
//
// runs that graph alone. -graph.n runs more of them.
package reference
