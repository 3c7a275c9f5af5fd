//go:build !race

package operators_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

// The race detector makes every batch allocate, so this says nothing under it.

func TestTransformsDoNotAllocate(t *testing.T) {
	const n = 1_000_000
	p := pipeline.New(pipeline.DefaultParallelism(1))
	var mallocs []uint64
	chain(p, n, 5, func(int) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		mallocs = append(mallocs, m.Mallocs)
	})
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := mallocs[1] - mallocs[0]; got > n/2/256/4 {
		t.Errorf("%d allocations for %d records", got, n/2)
	}
}
