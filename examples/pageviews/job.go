package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

const (
	viewsTopic    = "pageviews"
	countsTopic   = "pageviews-per-minute"
	rejectedTopic = "pageviews-rejected"
)

// view is a record of the topic pageviews.
type view struct {
	Page    string `json:"page"` // with its query
	Visitor string `json:"visitor"`
	At      int64  `json:"at"` // milliseconds since the epoch
	Bot     bool   `json:"bot,omitempty"`
}

func (v view) time() int64  { return v.At }
func (v view) path() string { return v.Page }

// count is a record of the topic pageviews-per-minute.
type count struct {
	Minute time.Time `json:"minute"`
	Page   string    `json:"page"`
	Views  int64     `json:"views"`
}

// newJob makes the job. With the embedded broker it ends where the topic ends.
func newJob(cfg config) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("pageviews"),
		pipeline.Checkpoints(filepath.Join(cfg.data, "checkpoints"), pipeline.CheckpointInterval(cfg.interval)))
	in := source.Config{Brokers: cfg.brokers, Topics: []string{viewsTopic}, Bounded: cfg.embedded}
	out := sink.NewProducer(sink.Config{Brokers: cfg.brokers})

	views := pipeline.From(p, "views", source.JSON[view](in), pipeline.BoundedDisorder(view.time, 10*time.Second).IdleAfter(time.Minute))
	cleaned := operators.TryMap(views, "clean", clean)
	people := operators.Filter(cleaned, "people", func(v view) bool { return !v.Bot })
	byPage := pipeline.KeyBy(people, view.path)
	perMinute := operators.Aggregate(byPage, "count", window.Tumbling(time.Minute), operators.Count[view]())
	counts := operators.Map(perMinute, "row", func(r operators.Result[string, int64]) count {
		return count{time.UnixMilli(r.Window.Start).UTC(), r.Key, r.Value}
	})
	pipeline.To(counts, "counts", sink.JSON(out, countsTopic, func(c count) string { return c.Page }))
	pipeline.To(pipeline.DeadLetters(p), "rejected", sink.DeadLetters(out, rejectedTopic))
	return p
}

// clean leaves of a page what is before its query, and refuses what is no page.
func clean(v view) (view, error) {
	v.Page, _, _ = strings.Cut(v.Page, "?")
	switch {
	case !strings.HasPrefix(v.Page, "/"):
		return v, fmt.Errorf("page %q does not begin with /", v.Page)
	case v.At <= 0:
		return v, fmt.Errorf("the view of %s has no time", v.Page)
	}
	return v, nil
}
