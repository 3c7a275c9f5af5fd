package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
)

// Hit is a page view in the examples.
type Hit struct {
	User, Page string
	At         int64 // ms
}

func (h Hit) Time() int64 { return h.At }
func (h Hit) Who() string { return h.User }

var hits = []Hit{{"ann", "/home", 1000}, {"bob", "/home", 2000}, {"ann", "/shop", 3000}, {"ann", "/pay", 7000}}

// show runs a job and prints what a sink collected, sorted, since subtasks
// finish in any order.
func show[T any](p *pipeline.Pipeline, out *sink.Sink[T]) {
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	var lines []string
	for _, v := range out.Values() {
		lines = append(lines, fmt.Sprint(v))
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

// visits counts a user's page views as they come.
type visits struct{ n *state.Value[string, int] }

func (v *visits) Open(c *pipeline.Context[string, string]) error {
	v.n = state.NewValue[int](c.State(), "n")
	return nil
}

func (v *visits) Process(c *pipeline.Context[string, string], h Hit) error {
	n := v.n.Upsert()
	*n++
	c.Emit(fmt.Sprintf("%s's view %d is %s", c.Key(), *n, h.Page))
	return nil
}

// An operator with state of its own.
func ExampleProcess() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits))
	numbered := pipeline.Process(pipeline.KeyBy(views, Hit.Who), "visits", func() *visits { return &visits{} })
	show(p, sink.Collect(numbered, "out"))
	// Output:
	// ann's view 1 is /home
	// ann's view 2 is /shop
	// ann's view 3 is /pay
	// bob's view 1 is /home
}

// absent reports a user who has been away for five seconds of event time.
type absent struct {
	last   *state.Value[string, int64]
	timers *pipeline.Timers[string]
}

func (a *absent) Open(c *pipeline.Context[string, string]) error {
	a.last = state.NewValue[int64](c.State(), "last")
	a.timers = c.Timers("away")
	return nil
}

func (a *absent) Process(c *pipeline.Context[string, string], _ Hit) error {
	if last, ok := a.last.Get(); ok {
		a.timers.Delete(last + 5000)
	}
	a.last.Set(c.Time())
	a.timers.Set(c.Time() + 5000)
	return nil
}

func (a *absent) OnTimer(c *pipeline.Context[string, string], t pipeline.Timer) error {
	c.Emit(fmt.Sprintf("%s was away at %d ms", c.Key(), t.Time))
	a.last.Clear()
	return nil
}

// Timers follow event time: a user is away when the watermark says so.
func ExampleTimerHandler() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits), pipeline.BoundedDisorder(Hit.Time, 0))
	away := pipeline.Process(pipeline.KeyBy(views, Hit.Who), "away", func() *absent { return &absent{} })
	show(p, sink.Collect(away, "out"))
	// Output:
	// ann was away at 12000 ms
	// bob was away at 7000 ms
}

// Stateless operators are a function.
func ExampleFunc() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits))
	pages := pipeline.Process(views, "pages", pipeline.Func(
		func(c *pipeline.Context[pipeline.NoKey, string], h Hit) error {
			if h.Page != "/home" {
				c.Emit(h.Page)
			}
			return nil
		}))
	show(p, sink.Collect(pages, "out"))
	// Output:
	// /pay
	// /shop
}

var bots = pipeline.NewTag[Hit]("bots")

// split sends bots to a side output.
type split struct{ bots *pipeline.SideEmitter[Hit] }

func (s *split) Open(c *pipeline.Context[pipeline.NoKey, Hit]) error {
	s.bots = pipeline.Side(c, bots)
	return nil
}

func (s *split) Process(c *pipeline.Context[pipeline.NoKey, Hit], h Hit) error {
	if h.User == "bob" {
		s.bots.Emit(h, c.Time())
		return nil
	}
	c.Emit(h)
	return nil
}

func ExampleSideOutput() {
	p := pipeline.New()
	people := pipeline.Process(pipeline.From(p, "views", memory.From(hits)), "split", func() *split { return &split{} })
	sink.Collect(people, "people")
	show(p, sink.Collect(pipeline.SideOutput(people, bots), "robots"))
	// Output:
	// {bob /home 2000}
}

func ExampleUnion() {
	p := pipeline.New()
	old := pipeline.From(p, "old", memory.From(hits[:1]))
	recent := pipeline.From(p, "recent", memory.From(hits[3:]))
	show(p, sink.Collect(pipeline.Union(old, recent), "out"))
	// Output:
	// {ann /home 1000}
	// {ann /pay 7000}
}

// What a user function rejects goes to the dead letters, and the job goes on.
func ExampleDeadLetters() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits))
	checked := pipeline.Process(views, "check", pipeline.Func(
		func(c *pipeline.Context[pipeline.NoKey, Hit], h Hit) error {
			if h.User == "bob" {
				return errors.New("bob is not welcome")
			}
			c.Emit(h)
			return nil
		}))
	sink.Collect(checked, "out")
	show(p, sink.Collect(pipeline.DeadLetters(p), "dead"))
	// Output:
	// check: {User:bob Page:/home At:2000}: bob is not welcome
}

// greeting joins users with their names.
type greeting struct{ name *state.Value[string, string] }

func (g *greeting) Open(c *pipeline.Context[string, string]) error {
	g.name = state.NewValue[string](c.State(), "name")
	return nil
}

func (g *greeting) ProcessLeft(c *pipeline.Context[string, string], name [2]string) error {
	g.name.Set(name[1])
	c.Emit("hello " + name[1])
	return nil
}

func (g *greeting) ProcessRight(*pipeline.Context[string, string], Hit) error { return nil }

// Two inputs, one state.
func ExampleConnect() {
	p := pipeline.New()
	names := pipeline.From(p, "names", memory.From([][2]string{{"ann", "Ann"}, {"bob", "Bob"}}))
	views := pipeline.From(p, "views", memory.From(hits))
	out := pipeline.Connect(
		pipeline.KeyBy(names, func(n [2]string) string { return n[0] }),
		pipeline.KeyBy(views, Hit.Who),
		"greet", func() *greeting { return &greeting{} })
	show(p, sink.Collect(out, "out"))
	// Output:
	// hello Ann
	// hello Bob
}

// The graph describes itself: chains of operators, and the exchanges between.
func ExamplePipeline_Graph() {
	p := pipeline.New(pipeline.DefaultParallelism(4))
	views := pipeline.From(p, "views", memory.From(hits), pipeline.BoundedDisorder(Hit.Time, time.Second))
	numbered := pipeline.Process(pipeline.KeyBy(views, Hit.Who), "visits", func() *visits { return &visits{} })
	sink.Collect(pipeline.Rebalance(numbered), "out", pipeline.Parallelism(1))
	fmt.Print(p.Graph())
	// Output:
	// views ×4
	// visits ×4
	// out ×1
	//   views =hash=> visits
	//   visits =rebalance=> out
}

// All mistakes of a graph are reported together, with the lines they are on.
func ExamplePipeline_Validate() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits))
	sink.Collect(views, "views")
	sink.Collect(pipeline.Broadcast(views), "")
	for line := range strings.Lines(p.Validate().Error()) {
		_, mistake, _ := strings.Cut(line, ": ")
		fmt.Println(strings.Split(mistake, " at ")[0])
	}
	// Output:
	// the name "views" is taken by the source
	// the sink has no name
}

// page passes on the pages of hits, named by the subtask that saw them.
func page(c *pipeline.Context[pipeline.NoKey, string], h Hit) error {
	c.Emit(fmt.Sprintf("subtask %d: %s", c.Subtask(), h.Page))
	return nil
}

// Every subtask sees every record.
func ExampleBroadcast() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	views := pipeline.From(p, "views", memory.From(hits[:2]))
	everywhere := pipeline.Process(pipeline.Broadcast(views), "pages", pipeline.Func(page), pipeline.Parallelism(2))
	show(p, sink.Collect(everywhere, "out"))
	// Output:
	// subtask 0: /home
	// subtask 0: /home
	// subtask 1: /home
	// subtask 1: /home
}

// Batches of a source with a single split are dealt out to several subtasks.
func ExampleRebalance() {
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.BatchSize(2))
	views := pipeline.From(p, "views", memory.From(hits))
	spread := pipeline.Process(pipeline.Rebalance(views), "pages", pipeline.Func(page), pipeline.Parallelism(2))
	show(p, sink.Collect(spread, "out"))
	// Output:
	// subtask 0: /pay
	// subtask 0: /shop
	// subtask 1: /home
	// subtask 1: /home
}

// Records of one key meet the same state, whichever subtask owns it.
func ExampleKeyBy() {
	type visit struct{ User, Page string }
	p := pipeline.New(pipeline.DefaultParallelism(4))
	views := pipeline.From(p, "views", memory.From(hits))
	byVisit := pipeline.KeyBy(views, func(h Hit) visit { return visit{h.User, h.Page} })
	keys := pipeline.Process(byVisit, "keys", pipeline.Func(
		func(c *pipeline.Context[visit, visit], _ Hit) error {
			c.Emit(c.Key())
			return nil
		}))
	show(p, sink.Collect(keys, "out"))
	// Output:
	// {ann /home}
	// {ann /pay}
	// {ann /shop}
	// {bob /home}
}

// A source without disorder whose quiet splits must not hold time back, and
// that closes its last windows although traffic stops.
func ExampleMonotonic() {
	p := pipeline.New()
	views := pipeline.From(p, "views", memory.From(hits),
		pipeline.Monotonic(Hit.Time).IdleAfter(time.Minute).AdvanceWhenIdle(5*time.Minute))
	show(p, sink.Collect(views, "out"))
	// Output:
	// {ann /home 1000}
	// {ann /pay 7000}
	// {ann /shop 3000}
	// {bob /home 2000}
}
