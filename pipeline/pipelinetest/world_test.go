package pipelinetest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// noteCounts counts notes by author in a world of its own.
func noteCounts(w *pipelinetest.World, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(2), pipeline.BatchSize(4)}, opts...)...)
	var notes []Note
	for i := range 120 {
		notes = append(notes, Note{fmt.Sprint("author ", i%5), fmt.Sprint(i)})
	}
	at := func(n Note) int64 {
		var i int64
		_, _ = fmt.Sscan(n.Text, &i) // they are all numbers
		return i
	}
	in := pipeline.From(p, "notes", pipelinetest.Watched(w, memory.From(notes).Divide(3)), pipeline.Monotonic(at))
	counts := operators.Aggregate(pipeline.KeyBy(in, func(n Note) string { return n.Author }), "count",
		window.Tumbling(10*time.Millisecond), operators.Count[Note]())
	pipeline.To(counts, "counts", pipelinetest.NewLedger[operators.Result[string, int64]](w, "counts"))
	return p
}

func TestSurvive(t *testing.T) {
	if kills := pipelinetest.Survive(t, pipelinetest.Ordeal{Kills: 12}, noteCounts); kills < 12 {
		t.Errorf("%d kills, want at least 12", kills)
	}
}

// TestEveryMomentIsMet kills at each kind of moment, and at one that never comes.
func TestEveryMomentIsMet(t *testing.T) {
	build := func(w *pipelinetest.World) func(opts ...pipeline.Option) *pipeline.Pipeline {
		return func(opts ...pipeline.Option) *pipeline.Pipeline { return noteCounts(w, opts...) }
	}
	straight := pipelinetest.NewWorld(t)
	if err := straight.Run(build(straight)); err != nil {
		t.Fatal(err)
	}
	w := pipelinetest.NewWorld(t)
	w.CheckpointEvery(4)
	w.LosePower()
	for at := pipelinetest.AtRead; at <= pipelinetest.AtState; at++ {
		w.KillAt(at, 1)
	}
	w.KillAt(pipelinetest.AtRead, 1_000_000)
	if err := w.Run(build(w)); err != nil {
		t.Fatal(err)
	}
	for at := pipelinetest.AtRead; at <= pipelinetest.AtState; at++ {
		if w.Kills()[at] != 1 {
			t.Errorf("%d kills at %v, want 1", w.Kills()[at], at)
		}
	}
	if d := w.Diff(straight); d != "" {
		t.Error(d)
	}
}

func TestStopAt(t *testing.T) {
	w := pipelinetest.NewWorld(t)
	w.StopAt(pipelinetest.AtRead, 20)
	w.StopAt(pipelinetest.AtRead, 30)
	if err := w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline { return noteCounts(w, opts...) }); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, r := range pipelinetest.NewLedger[operators.Result[string, int64]](w, "counts").Records() {
		total += r.Value.Value
	}
	if total != 120 {
		t.Errorf("%d notes were counted, want 120", total)
	}
}

// TestDiffTells has two worlds differ.
func TestDiffTells(t *testing.T) {
	worlds := make([]*pipelinetest.World, 2)
	for i := range worlds {
		w := pipelinetest.NewWorld(t)
		worlds[i] = w
		err := w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline {
			p := pipeline.New(opts...)
			in := pipeline.From(p, "numbers", memory.From([]int{1, 2, 3 + i}))
			pipeline.To(in, "out", pipelinetest.NewLedger[int](w, "out"))
			return p
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "out: got 3 records, want 3\n  missing  1× 3@0\n  unwanted 1× 4@0\n"
	if got := worlds[1].Diff(worlds[0]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A job that is killed as it is about to commit, and started again: its ledger
// holds every record once.
func ExampleWorld() {
	TestKilled := func(t *testing.T) {
		w := pipelinetest.NewWorld(t)
		w.KillAt(pipelinetest.BeforeCommit, 1)
		err := w.Run(func(opts ...pipeline.Option) *pipeline.Pipeline {
			p := pipeline.New(opts...)
			words := pipeline.From(p, "words", pipelinetest.Watched(w, memory.From([]string{"once", "only"})))
			pipeline.To(words, "out", pipelinetest.NewLedger[string](w, "out"))
			return p
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range pipelinetest.NewLedger[string](w, "out").Records() {
			fmt.Println(r.Value)
		}
		fmt.Println(w.Starts(), "starts")
	}
	testing.RunTests(func(_, _ string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "TestKilled", F: TestKilled}})
	// Output:
	// once
	// only
	// 2 starts
}
