package generator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/generator"
)

func dice(r *rand.Rand, i int64) string { return fmt.Sprint(i, ":", 1+r.IntN(6), r.IntN(1000)) }

// rolled returns what a job collects, sorted.
func rolled(t *testing.T, parallelism int, src *generator.Source[string]) []string {
	t.Helper()
	p := pipeline.New(pipeline.DefaultParallelism(parallelism))
	out := memory.Collect(pipeline.From(p, "dice", src), "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	values := out.Values()
	slices.Sort(values)
	return values
}

func TestSource(t *testing.T) {
	for _, splits := range []int{1, 3, 8} {
		t.Run(fmt.Sprint("splits=", splits), func(t *testing.T) {
			newSource := func(testing.TB) pipeline.Source[string] {
				return generator.Func(50, dice, generator.Splits(splits), generator.Seed(7))
			}
			pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
				New: newSource, Want: rolled(t, 1, newSource(t).(*generator.Source[string])),
			})
		})
	}
}

func TestSameRecordsWhateverTheParallelism(t *testing.T) {
	want := rolled(t, 1, generator.Func(1000, dice))
	if len(want) != 1000 {
		t.Fatalf("got %d records, want 1000", len(want))
	}
	for _, splits := range []int{1, 4, 9} {
		for parallelism := 1; parallelism <= 4; parallelism++ {
			if got := rolled(t, parallelism, generator.Func(1000, dice, generator.Splits(splits))); !slices.Equal(got, want) {
				t.Errorf("splits=%d par=%d: other records than with one", splits, parallelism)
			}
		}
	}
	if got := rolled(t, 1, generator.Func(1000, dice, generator.Seed(2))); slices.Equal(got, want) {
		t.Error("another seed makes the same records")
	}
}

// TestNeighboursAreUnrelated looks at the first numbers of consecutive
// records, which a weak seeding would make alike.
func TestNeighboursAreUnrelated(t *testing.T) {
	counts := make([]int, 16)
	const n = 16_000
	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := memory.Collect(pipeline.From(p, "n", generator.Func(n, func(r *rand.Rand, _ int64) int { return r.IntN(16) })), "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Values() {
		counts[v]++
	}
	for v, c := range counts {
		if c < 850 || c > 1150 { // 1000 expected, five standard deviations
			t.Errorf("%d came %d times of %d, want about %d", v, c, n, n/16)
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := generator.Func(0, dice, generator.Rate(1000))
		r, err := src.Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: 256})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var b pipeline.SourceBatch[string]
		n := 0
		for r.Read(ctx, &b) == nil {
			n += len(b.Values)
			b.Reset()
		}
		if n < 9990 || n > 10010 {
			t.Errorf("%d records in 10 s at a rate of 1000", n)
		}
		// Held up for a minute, it does not make up for it.
		time.Sleep(time.Minute)
		n = 0
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for r.Read(ctx, &b) == nil {
			n += len(b.Values)
			b.Reset()
		}
		if n > 1300 {
			t.Errorf("%d records in the second after a pause, want at most 1300", n)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, src := range []*generator.Source[string]{
		generator.Func(-1, dice), generator.Func[string](1, nil),
		generator.Func(1, dice, generator.Splits(0)), generator.Func(1, dice, generator.Rate(-1)),
	} {
		if _, err := src.Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1}); err == nil {
			t.Error("opened with an option out of range")
		}
	}
}

func BenchmarkFunc(b *testing.B) {
	r, err := generator.Func(0, func(r *rand.Rand, i int64) int64 { return i + r.Int64N(10) }).
		Open(b.Context(), &pipeline.SourceEnv{Parallelism: 1, BatchSize: 256})
	if err != nil {
		b.Fatal(err)
	}
	var batch pipeline.SourceBatch[int64]
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(batch.Values) {
		batch.Reset()
		if err := r.Read(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleFunc() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	rolls := generator.Func(5, func(r *rand.Rand, i int64) string {
		return fmt.Sprintf("roll %d: %d", i, 1+r.IntN(6))
	}, generator.Splits(1), generator.Seed(42))
	out := memory.Collect(pipeline.From(p, "rolls", rolls), "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	for _, roll := range out.Values() {
		fmt.Println(roll)
	}
	// Output:
	// roll 0: 3
	// roll 1: 5
	// roll 2: 4
	// roll 3: 5
	// roll 4: 1
}
