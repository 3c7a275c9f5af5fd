package kafka_test

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
)

func TestTransactionsAreTimed(t *testing.T) {
	w := countWorld(t)
	p := countJob(w, w.config(), checkpointsIn(t.TempDir()))
	mustRun(t, p)
	for _, op := range p.Stats() {
		if op.Operator != "out" {
			continue
		}
		commits, transactions := op.Histograms["commit_duration"], op.Histograms["transaction_duration"]
		switch {
		case op.Subtask > 0 && commits.Count+transactions.Count > 0:
			t.Errorf("subtask %d has transactions too", op.Subtask)
		case op.Subtask > 0:
		case commits.Count != p.CheckpointStats().Completed:
			t.Errorf("%d commits, want one for each of %d checkpoints", commits.Count, p.CheckpointStats().Completed)
		case transactions.Count < 1 || transactions.Count > commits.Count || transactions.Sum <= 0:
			t.Errorf("%d transactions of %v together, with %d commits", transactions.Count, transactions.Sum, commits.Count)
		}
	}
}

// TestSourceCommitsToTheSinksGroup would write over where the job is to go on, so
// it is refused, at the first start when there is something to lose, and at the
// next one at once. The job is none the worse for it.
func TestSourceCommitsToTheSinksGroup(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "in"}, devkafka.Topic{Name: "out"})
	w.write("in", 1, 100, 0)
	dir := t.TempDir()
	copying := func(group string) *pipeline.Pipeline {
		p := pipeline.New(pipeline.Name("copying"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), asked(dir))
		in := pipeline.From(p, "in", source.Raw(source.Config{Brokers: w.brokers, Topics: []string{"in"}, Bounded: true, Group: group}))
		pipeline.To(in, "out", kafka.Encode(kafka.NewProducer(w.config()), "out", func(in source.Record[[]byte], out *kgo.Record) error {
			out.Key, out.Value = in.Key, in.Value
			return nil
		}))
		return p
	}
	wantError(t, copying("copying").Run(t.Context()), `acknowledge checkpoint 1: consumer group "copying": checkpoints are recorded in it, of the job "copying"`)
	wantError(t, copying("copying").Run(t.Context()), `consumer group "copying": checkpoints are recorded in it`, "Config.Group")
	w.write("in", 1, 100, 100)
	mustRun(t, copying("monitors"))
	if in, out := w.read("in"), w.read("out"); !slices.Equal(in, out) {
		t.Errorf("%d records came out of %d", len(out), len(in))
	}
}
