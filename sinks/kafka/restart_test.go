package kafka_test

import (
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

// A source of another kind: its positions are in the checkpoint, which Kafka names.
func TestOtherSourceSurvives(t *testing.T) {
	w := outWorld(t)
	dir, f := t.TempDir(), newFeed(0)
	for i := range 4 {
		job := start(t, feedJob(f, w.config(), asked(dir), pipeline.DefaultParallelism(1+i%2)))
		f.allow(100*i + 50)
		await(t, "records", func() bool { return f.given() == 100*i+50 })
		if i > 0 {
			job.complete()
		}
		f.allow(100 * (i + 1))
		await(t, "records", func() bool { return f.given() == 100*(i+1) })
		job.kill()
	}
	f.end()
	mustRun(t, feedJob(f, w.config(), asked(dir)))
	w.wantNumbers(400)
}

// TestSavepoint stops a job with a savepoint, and starts it from there in another
// directory: which is right if nothing was committed since, and else refused.
func TestSavepoint(t *testing.T) {
	w := outWorld(t)
	dir, moved := t.TempDir(), t.TempDir()
	f := newFeed(50)
	job := start(t, feedJob(f, w.config(), asked(dir)))
	job.out(50)
	await(t, "the job", func() bool { return job.Stats() != nil })
	if err := job.Savepoint(t.Context(), "early"); err != nil {
		t.Fatal(err)
	}
	f.allow(80)
	job.out(80)
	if err := job.StopWithSavepoint(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	if err := job.wait(); err != nil {
		t.Fatal(err)
	}
	w.wantNumbers(80)
	from := func(name string) pipeline.Option {
		return asked(moved, pipeline.StartFrom(filepath.Join(dir, "savepoints", name)))
	}
	wantError(t, feedJob(f, w.config(), from("early")).Run(t.Context()), "the last committed checkpoint is 2@", moved, "deliver its results again")
	f.allow(100)
	died := start(t, feedJob(f, w.config(), from("late")))
	died.out(20)
	died.kill()
	f.end()
	mustRun(t, feedJob(f, w.config(), from("late")))
	w.wantNumbers(100)
	f.allow(120) // from the directory's own checkpoint; the savepoint stays mentioned
	mustRun(t, feedJob(f, w.config(), from("late")))
	w.wantNumbers(120)
	wantError(t, feedJob(f, w.config(), asked(dir)).Run(t.Context()), "which "+dir+" does not hold")
	// Another name starts from any savepoint, and delivers what came after it again.
	mustRun(t, feedJob(f, w.config(), asked(t.TempDir(), pipeline.StartFrom(filepath.Join(dir, "savepoints", "early"))), pipeline.Name("again")))
	if got := w.read("out"); len(got) != 120+70 {
		t.Errorf("%d records, want 190", len(got))
	}
}
