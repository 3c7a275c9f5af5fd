// Package discard is a sink that throws records away, for measurements and for
// streams of which only the counters matter.
//
//	pipeline.To(hits, "nowhere", discard.Sink[Hit]())
package discard
