package operators_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	sinkdiscard "github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// TestStateOfOtherWindowsIsRefused: where only the starts of windows are kept,
// another size would leave windows that never fire.
func TestStateOfOtherWindowsIsRefused(t *testing.T) {
	once := func(by window.Assigner, opts ...pipeline.OperatorOption) func(pipeline.Stream[int]) {
		return func(in pipeline.Stream[int]) {
			byAll := pipeline.KeyBy(in, func(int) int { return 0 })
			counts := operators.Aggregate(byAll, "op", by, operators.Count[int](), opts...)
			pipeline.To(counts, "out", sinkdiscard.Sink[operators.Result[int, int64]]())
		}
	}
	dedupe := func(horizon time.Duration) func(pipeline.Stream[int]) {
		return func(in pipeline.Stream[int]) {
			unique := operators.Dedupe(in, "op", func(n int) int { return n }, horizon)
			pipeline.To(unique, "out", sinkdiscard.Sink[int]())
		}
	}
	minutes := window.Tumbling(time.Minute)
	for name, c := range map[string]struct {
		before, after func(pipeline.Stream[int])
		want          []string
	}{
		"size":     {once(minutes), once(window.Tumbling(time.Hour)), []string{"Tumbling(1h0m0s)", "Tumbling(1m0s)"}},
		"lateness": {once(minutes), once(minutes, operators.AllowedLateness(time.Hour)), []string{"allowed lateness 1h0m0s"}},
		"sliding":  {once(window.Sliding(time.Hour, time.Minute)), once(window.Sliding(2*time.Hour, time.Minute)), []string{"Sliding(1h0m0s", "Sliding(2h0m0s"}},
		"gap":      {once(window.Session(time.Minute)), once(window.Session(time.Hour)), []string{"Session(1h0m0s)", "Session(1m0s)"}},
		"horizon":  {dedupe(time.Hour), dedupe(2 * time.Hour), []string{"ids within 1h0m0s", "ids within 2h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			run := func(job func(pipeline.Stream[int])) error {
				p := pipeline.New(pipeline.Checkpoints("/job", pipeline.CheckpointFiles(fs)))
				job(pipeline.From(p, "in", memory.From([]int{1, 2, 3}), pipeline.Monotonic(func(n int) int64 { return int64(n) })))
				return p.Run(t.Context())
			}
			if err := run(c.before); err != nil {
				t.Fatal(err)
			}
			if err := run(c.before); err != nil {
				t.Fatalf("unchanged: %v", err)
			}
			err := run(c.after)
			for _, want := range append(c.want, `operator "op"`, "chk-0000000002") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want it to mention %q", err, want)
				}
			}
		})
	}
}
