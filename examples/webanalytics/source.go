package main

import (
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/files"
)

// events reads the input, whatever its format, with event times and watermarks
// by the newest event of each file.
//
// Lines become events while they are decoded, so that implausible times are
// rejected before they reach the watermark, and a dead letter says where the
// line is.
func (c *config) events(p *pipeline.Pipeline) pipeline.Stream[Event] {
	if c.demo {
		return c.demoEvents(p)
	}
	return pipeline.From(p, sourceName, c.source(), pipeline.BoundedDisorder(Event.Time, c.outOfOrderness))
}

func (c *config) source() pipeline.Source[Event] {
	if c.around != nil {
		return c.around(c.inputFiles())
	}
	return c.inputFiles()
}

func (c *config) inputFiles() *files.Source[Event] {
	switch c.format {
	case "accesslog":
		return files.DecodeAccessLog(c.input, c.accessLogEvent)
	case "tsv":
		return files.DecodeTSV(c.input, c.rowEvent, files.RequireColumns(requiredColumns...))
	default:
		return files.Decode(c.input, c.times.decodeEvent)
	}
}
