package main

import (
	"path/filepath"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	sinkfiles "github.com/millrace/millrace/sinks/files"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/window"
)

// job is the pipeline, and what the terminal shows of it.
type job struct {
	*pipeline.Pipeline
	cfg *config

	// The totals are there when the job has come to its end in this process. They
	// are for the terminal alone, and no checkpoint keeps them.
	traffic  *memory.Sink[operators.Result[string, Traffic]]
	sessions *memory.Sink[operators.Result[string, SessionCounts]]
}

// The side output of Dedupe.
var duplicateEvents = pipeline.NewTag[Event]("duplicates")

// newJob is the whole graph, from events to result files.
func newJob(cfg *config) *job {
	p := pipeline.New(append(cfg.recoveryOptions(),
		pipeline.Name("webanalytics"),
		pipeline.DefaultParallelism(cfg.parallelism),
		pipeline.BatchSize(cfg.batchSize),
	)...)

	// Events, each once, and each in time.
	punctual := pipeline.Process(cfg.events(p), latenessName, newLateness(cfg.allowedLateness))
	revised := operators.AllowedLateness(cfg.allowedLateness)
	unique := operators.Dedupe(punctual, dedupeName, Event.ID, cfg.dedupeHorizon,
		operators.DuplicatesTo(duplicateEvents), revised)
	hits := pipeline.Process(unique, "enrich", newEnricher(cfg.countries))

	// Counts of every series, by the minute, five minutes and the hour.
	samples := operators.FlatMap(hits, "series", explode(cfg.breakdowns))
	counts := operators.Rollup(pipeline.KeyBy(samples, sample.key), "counts", granularities,
		counting(cfg.hllPrecision, sample.eventType, sample.user), revised)
	plain := operators.Filter(counts, "plain series", func(r SeriesResult) bool { return !r.Key.isPages() })

	// Of the many pages, the top ones of each window. Its results carry the last
	// millisecond of the window they are of. So those of windows that end together
	// meet in one minute here, and the key tells windows of different length apart.
	pages := operators.Filter(counts, "pages", func(r SeriesResult) bool { return r.Key.isPages() })
	top := operators.Aggregate(pipeline.KeyBy(pages, rankingOf), "top pages", window.Tumbling(time.Minute),
		topPages(cfg.topPages), revised)

	// Sessions, their metrics, and the ways visitors take. A session's result
	// carries the time at which it closed, and counts in that window.
	byVisitor := pipeline.KeyBy(operators.Filter(hits, "in time", Hit.inTime), Hit.visitor)
	closed := operators.Aggregate(byVisitor, "sessions", cfg.sessions(), visits(cfg.maxPath))
	sessions := operators.Map(closed, "session lines", sessionOf)
	bySite := pipeline.KeyBy(sessions, Session.trackingID)
	sessionCounts := operators.Rollup(bySite, "session counts", granularities, countSessions())
	transitions := operators.FlatMap(sessions, "transitions", transitionsOf)
	paths := operators.Aggregate(pipeline.KeyBy(transitions, Transition.itself), "paths", window.Tumbling(time.Hour),
		operators.Count[Transition]())

	write(cfg, "metrics.jsonl", pipeline.Union(
		operators.FlatMap(plain, "metric lines", metricsOf),
		operators.FlatMap(top, "top page lines", topPagesOf),
		operators.FlatMap(sessionCounts, "session metric lines", sessionMetricsOf),
	))
	write(cfg, "sessions.jsonl", sessions)
	write(cfg, "paths.jsonl", operators.Map(paths, "path lines", pathOf))
	write(cfg, "late.jsonl", pipeline.SideOutput(punctual, lateEvents))
	write(cfg, "duplicates.jsonl", pipeline.SideOutput(unique, duplicateEvents))
	write(cfg, "dead_letters.jsonl", operators.Map(pipeline.DeadLetters(p), "dead letter lines", deadLetterOf))
	if cfg.funnels != nil {
		write(cfg, "funnels.jsonl", funnelCounts(byVisitor, cfg))
	}

	// And the whole of it, for the terminal.
	traffic := operators.Aggregate(pipeline.KeyBy(hits, Hit.trackingID), "traffic", window.Global(), countTraffic(cfg.hllPrecision))
	all := operators.Aggregate(bySite, "all sessions", window.Global(), countSessions())
	return &job{
		Pipeline: p, cfg: cfg,
		traffic:  memory.Collect(traffic, "traffic total", pipeline.Parallelism(1)),
		sessions: memory.Collect(all, "session total", pipeline.Parallelism(1)),
	}
}

// Operators that the progress line and the summary ask about.
const (
	sourceName   = "source"
	latenessName = "lateness"
	dedupeName   = "dedupe"
)

// resultFiles are the names of all files that a job may write.
var resultFiles = []string{
	"metrics.jsonl", "sessions.jsonl", "paths.jsonl", "funnels.jsonl",
	"late.jsonl", "duplicates.jsonl", "dead_letters.jsonl",
}

// write ends a stream in a result file. A single subtask writes it, so that it
// is a single file; the sink has the file's name. Files of other runs are gone
// by now: one that is there and that no checkpoint knows is being written by
// another run, and stops this one.
func write[T any](cfg *config, name string, lines pipeline.Stream[T]) {
	sink := sinkfiles.JSON[T](filepath.Join(cfg.output, name))
	pipeline.To(lines, name, sink, pipeline.Parallelism(1))
}
