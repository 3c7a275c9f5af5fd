package discard_test

import (
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/sources/memory"
)

func TestEngineCounts(t *testing.T) {
	p := pipeline.New()
	pipeline.To(pipeline.From(p, "in", memory.From([]int{1, 2, 3})), "nowhere", discard.Sink[int]())
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, s := range p.Stats() {
		if s.Operator == "nowhere" {
			n += s.In
		}
	}
	if n != 3 {
		t.Errorf("%d records counted, want 3", n)
	}
}
