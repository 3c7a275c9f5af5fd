package operators_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// TestRule03_OneSplitHasTheSameLateRecordsAtAnyParallelism, run after run: the
// watermark behind the first exchange is that of the split, however the
// subtasks without splits are scheduled.
func TestRule03_OneSplitHasTheSameLateRecordsAtAnyParallelism(t *testing.T) {
	for _, par := range []int{1, 2, 4} {
		for round := range 100 {
			var recs []rec
			for i, ts := range []int64{0, 1000, 0, 2000, 1000, 3000, 2000} {
				recs = append(recs, rec{Key: "k", Time: ts, ID: i})
			}
			p := pipeline.New(pipeline.DefaultParallelism(par))
			in := pipeline.From(p, "in", memory.From(recs), pipeline.Monotonic(rec.time))
			tag := pipeline.NewTag[rec]("late")
			out := operators.Aggregate(pipeline.KeyBy(in, rec.key), "n", window.Tumbling(100*ms), operators.Count[rec](), operators.LateTo(tag))
			gather(out, "out")
			late := gather(pipeline.SideOutput(out, tag), "late")
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(late.got) != 3 {
				t.Fatalf("parallelism %d, round %d: %d late records, want 3", par, round, len(late.got))
			}
		}
	}
}

// TestRule30_OneFarRecordDoesNotGrowFilters: a record of the year 9999 in a split
// that is ahead must not keep one generation of filters open for all ids that
// follow.
func TestRule30_OneFarRecordDoesNotGrowFilters(t *testing.T) {
	tooLargeForRace(t)
	peak := func(far bool) (most int64) {
		steady := make([]rec, 400_000) // 400 s, of which ids are kept for one
		for i := range steady {
			steady[i] = rec{Key: fmt.Sprint("id", i), Time: int64(i), ID: i}
		}
		ahead := []rec{{Key: "x"}, {Key: "y", Time: 50_000}}
		if far {
			ahead = append(ahead, rec{Key: "far", Time: 253402300799000})
		}
		p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.MaxParallelism(1),
			pipeline.WatermarkInterval(0), pipeline.BatchSize(1))
		in := pipeline.From(p, "in", memory.From(steady, ahead), pipeline.Monotonic(rec.time).MaxDrift(time.Second))
		unique := operators.Dedupe(in, "dedupe", rec.key, time.Second)
		n := 0
		gather(operators.Map(unique, "watch", func(r rec) rec {
			if n++; n%1000 == 0 {
				for _, s := range p.Stats() {
					most = max(most, s.Gauges["bloom_bytes"])
				}
			}
			return r
		}), "out")
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return most
	}
	without, with := peak(false), peak(true)
	t.Logf("filters take up to %d bytes, %d with the record", without, with)
	if without == 0 || with > 2*without {
		t.Errorf("filters take up to %d bytes, and %d with one record of the year 9999", without, with)
	}
}
