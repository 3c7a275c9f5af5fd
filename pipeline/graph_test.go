package pipeline_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
)

// TestMistakesAreReportedTogether builds a graph that is wrong in every way
// the verbs can see, and wants each mistake with this file's name.
func TestMistakesAreReportedTogether(t *testing.T) {
	p := pipeline.New(pipeline.BatchSize(0), pipeline.Linger(-1))
	other := pipeline.New()

	src := pipeline.From(p, "a", memory.From(events(1, 1)))
	pipeline.From(p, "a", memory.From(events(1, 1)))
	pipeline.From[event](p, "nil source", nil)
	pipeline.From(p, "wrong strategy", memory.From([]string{"x"}), pipeline.Monotonic(eventTime))
	pipeline.From(p, "bad strategy", memory.From(events(1, 1)), pipeline.BoundedDisorder(eventTime, -1).IdleAfter(0).Between(2, 1))
	each(src, "", pass)
	each(src, "too parallel", pass, pipeline.Parallelism(1000))
	each(src, "by watermark", pass, pipeline.NeedsEventTime())
	each(src, "given", pass, pipeline.Mistake(errors.New("size is negative")))
	pipeline.KeyBy(src, func(e event) *event { return &e })
	pipeline.Union(src, pipeline.From(other, "b", memory.From(events(1, 1))))
	pipeline.SideOutput(pipeline.Broadcast(src), pipeline.NewTag[int]("x"))
	pipeline.SideOutput(src, pipeline.NewTag[int]("late"))
	pipeline.SideOutput(src, pipeline.NewTag[string]("late"))
	pipeline.DeadLetters(p)
	pipeline.To(src, "nil sink", pipeline.Sink[event](nil))

	err := p.Validate()
	if !errors.Is(err, pipeline.ErrInvalidGraph) {
		t.Fatalf("error is %v, want ErrInvalidGraph", err)
	}
	for _, want := range []string{
		"BatchSize is 0, must be at least 1",
		"Linger is negative",
		`the name "a" is taken by the source at pipeline/graph_test.go:`,
		`source "nil source" is nil`,
		`source "wrong strategy": the watermark strategy is a pipeline.WatermarkStrategy[`,
		"disorder bound is negative", "idle time-out is not positive", "empty range",
		"the operator has no name",
		`operator "too parallel": parallelism 1000 is not between 1 and the maximum parallelism 128`,
		`operator "by watermark" works in event time, but its source "a" has no watermark strategy`,
		`operator "given": size is negative`,
		"KeyBy: unsupported key type: *pipeline_test.event: a ptr has no stable identity",
		"Union: the streams belong to different pipelines",
		`SideOutput "x": the stream is not the direct output of an operator`,
		`SideOutput "late" of "a" is asked for as int and as string`,
		`side output "late" of source "a" is not used`,
		`the output of operator "too parallel" is not used`,
		"the dead-letter stream is not used",
		`sink "nil sink" is nil`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no mistake %q", want)
		}
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "pipeline/graph_test.go:") && !strings.HasPrefix(line, "pipeline/kit_test.go:") {
			t.Errorf("mistake without the user's line: %s", line)
		}
	}
	if runErr := p.Run(t.Context()); runErr == nil || runErr.Error() != err.Error() {
		t.Error("Run does not report what Validate does")
	}
}

func TestEmptyGraph(t *testing.T) {
	wantError(t, pipeline.New().Run(t.Context()), "the graph is empty")
}

func TestRunTwice(t *testing.T) {
	p := pipeline.New()
	collect(from(p, events(1, 1)), "out")
	run(t, p)
	if err := p.Run(t.Context()); !errors.Is(err, pipeline.ErrAlreadyRun) {
		t.Errorf("second Run returns %v", err)
	}
}

// described is a graph with every kind of edge.
func described() *pipeline.Pipeline {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	src := from(p, events(1, 1))
	fast := each(src, "parse", pass)
	spread := each(pipeline.Rebalance(fast), "score", pass, pipeline.Parallelism(3))
	collect(count(pipeline.Union(fast, spread)), "counts")
	collect(each(pipeline.Broadcast(fast), "all", pass), "everywhere")
	pipeline.To(pipeline.DeadLetters(p), "rejects", &collector[pipeline.DeadLetter]{}, pipeline.Parallelism(1))
	return p
}

func TestGraphDescribesItself(t *testing.T) {
	got := described().Graph().String()
	want := `events → parse ×2
score ×3
count → counts ×2
all → everywhere ×2
dead letters → rejects ×1
  parse =rebalance=> score
  parse =hash=> count
  score =hash=> count
  parse =broadcast=> all
`
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	if n := strings.Count(got, "[dead letters] =forward=> dead letters"); n != 7 {
		t.Errorf("%d operators are connected to the dead letters, want 7:\n%s", n, got)
	}
}

func TestGraphAsMermaidAndJSON(t *testing.T) {
	g := described().Graph()
	mermaid := g.Mermaid()
	for _, want := range []string{"flowchart LR\n", `["score ×3"]`, "-->|hash|", "-->|chain|", "-->|dead letters, forward|"} {
		if !strings.Contains(mermaid, want) {
			t.Errorf("no %q in\n%s", want, mermaid)
		}
	}
	raw, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var back pipeline.Graph
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if back.String() != g.String() {
		t.Errorf("JSON gives back\n%s\nwant\n%s", back, g)
	}
}

// TestDescribingChangesNothing: a described graph still runs, and runs right.
func TestDescribingChangesNothing(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	out := collect(count(from(p, events(100, 4))), "out")
	collect(pipeline.DeadLetters(p), "rejects")
	p.Graph()
	p.Graph()
	run(t, p)
	if len(out.values) != 4 {
		t.Errorf("got %v", out.values)
	}
}
