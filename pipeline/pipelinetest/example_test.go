package pipelinetest_test

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/state"
)

// Note is what the example's job reads.
type Note struct{ Author, Text string }

// A test of an operator that greets each author once. The function is the
// body of a TestXxx.
func ExampleTest() {
	TestGreeting := func(t *testing.T) {
		pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
			in := pipelinetest.Input[Note](k, "notes")
			byAuthor := pipeline.KeyBy(in.Stream(), func(n Note) string { return n.Author })
			out := pipelinetest.Output(k, pipeline.Process(byAuthor, "greet", func() *greeter { return &greeter{} }))

			in.Send(1000, Note{"Ada", "first"}, Note{"Grace", "hello"})
			out.WantAnyOrder(pipelinetest.At(1000, "hello Ada"), pipelinetest.At(1000, "hello Grace"))
			in.Send(2000, Note{"Ada", "second"})
			out.Want()
		})
	}
	fmt.Println(testing.RunTests(func(_, _ string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "TestGreeting", F: TestGreeting}}))
	// Output: true
}

type greeter struct{ known *state.Value[string, bool] }

func (g *greeter) Open(c *pipeline.Context[string, string]) error {
	g.known = state.NewValue[bool](c.State(), "known")
	return nil
}

func (g *greeter) Process(c *pipeline.Context[string, string], _ Note) error {
	if _, ok := g.known.Get(); !ok {
		g.known.Set(true)
		c.Emit("hello " + c.Key())
	}
	return nil
}
