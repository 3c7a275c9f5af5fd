package reference

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	graphs = flag.Int("graph.n", 1000/share, "how many random graphs to run")
	seed   = flag.Uint64("graph.seed", 0, "run the graph of this seed alone; 0 runs -graph.n others")
	family = flag.String("graph.family", "", "in time or late; both where empty")
	repeat = flag.Int("graph.repeat", 1, "how often to run each graph")
)

func TestGraphsWithoutLateRecords(t *testing.T) { runFamily(t, "in time", false, *graphs*2/3) }

func TestGraphsWithLateRecords(t *testing.T) { runFamily(t, "late", true, *graphs/3) }

func runFamily(t *testing.T, name string, late bool, n int) {
	if *family != "" && *family != name {
		t.Skip("not asked for")
	}
	if *seed != 0 {
		for range *repeat {
			check(t, *seed, late, true)
		}
		return
	}
	if testing.Short() {
		n /= 5
	}
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for s := next.Add(1); s <= uint64(n) && !t.Failed(); s = next.Add(1) {
				for range *repeat {
					check(t, s, late, false)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d graphs, %d records compared, %d too large", n, compared.Load(), tooLarge.Load())
}

var compared, tooLarge atomic.Int64

// limit is the number of records above which an output, by joins of joins, is
// not worth the time.
const limit = 3000

// patience is how long a graph may run; it takes milliseconds.
const patience = time.Minute

func check(t *testing.T, seed uint64, late, verbose bool) {
	p := draw(seed, late)
	want := whole
	if late {
		want = steps
	}
	expected := want(p)
	if expected == nil {
		tooLarge.Add(1)
		return
	}
	if verbose {
		t.Logf("\n%v", p)
	}
	b := build(p, nil)
	if err := run(b); err != nil {
		t.Errorf("%s\nrun: %v\n%v", rerun(p), err, p)
		return
	}
	for _, sink := range p.sinks {
		if d := compare(b.results[sink].all, expected[stream{sink.id, false}]); d != "" {
			t.Errorf("%s\nresults of %s differ from the reference:\n%s\n%v\n%v", rerun(p), sink.name(), d, p, b.p.Graph())
			return
		}
		compared.Add(int64(len(b.results[sink].all)))
	}
}

func rerun(p *plan) string {
	family := "in time"
	if p.late {
		family = "late"
	}
	return fmt.Sprintf("seed %d: rerun with -graph.seed=%d -graph.family=%q -graph.repeat=100", p.seed, p.seed, family)
}

func run(b *builder) error {
	done := make(chan error, 1)
	go func() { done <- b.p.Run(context.Background()) }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) // best effort, on the way to a failure
		return fmt.Errorf("has not ended after %v\n%s", patience, stats(b))
	}
}

func stats(b *builder) string {
	var s strings.Builder
	for _, o := range b.p.Stats() {
		fmt.Fprintf(&s, "%-20s %d: in %d out %d watermark %d\n", o.Operator, o.Subtask, o.In, o.Out, o.Watermark)
	}
	return s.String()
}

// compare returns how two multisets differ, or nothing.
func compare(got, want []timed) string {
	count := map[timed]int{}
	for _, t := range want {
		count[t]++
	}
	for _, t := range got {
		count[t]--
	}
	var lines []string
	for t, n := range count {
		switch {
		case n > 0:
			lines = append(lines, fmt.Sprintf("  missing  %d× %v", n, t))
		case n < 0:
			lines = append(lines, fmt.Sprintf("  unwanted %d× %v", -n, t))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	slices.Sort(lines)
	more := ""
	if len(lines) > 20 {
		more = fmt.Sprintf("\n  and %d more", len(lines)-20)
		lines = lines[:20]
	}
	return fmt.Sprintf("got %d records, want %d\n%s%s", len(got), len(want), strings.Join(lines, "\n"), more)
}
