package main

import (
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/files"
)

// events reads the input, whatever its format, with event times and watermarks
// by the newest event of each file.
//
// Implausible times must not reach the watermark. Lines of JSON with such are
// rejected while they are decoded; log formats are decoded by the library, and
// their records get the oldest plausible time, which moves nothing, until they
// are rejected as events.
func (c *config) events(p *pipeline.Pipeline) pipeline.Stream[Event] {
	switch {
	case c.demo:
		return c.demoEvents(p)
	case c.format == "accesslog":
		lines := pipeline.From(p, sourceName, files.AccessLog(c.input),
			pipeline.BoundedDisorder(func(l files.AccessLogEntry) int64 { return c.times.orFirst(l.Time) }, c.outOfOrderness))
		return operators.TryMap(lines, "events", c.accessLogEvent)
	case c.format == "tsv":
		rows := pipeline.From(p, sourceName, files.TSV(c.input),
			pipeline.BoundedDisorder(func(r files.Row) int64 { t, _ := rowTime(r); return c.times.orFirst(t) }, c.outOfOrderness))
		return operators.TryMap(rows, "events", c.rowEvent)
	default:
		return pipeline.From(p, sourceName, files.Decode(c.input, c.times.decodeEvent),
			pipeline.BoundedDisorder(Event.Time, c.outOfOrderness))
	}
}
