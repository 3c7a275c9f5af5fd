package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// ledger is a sink outside of the job, as a database is: it outlives the job's
// process. What is prepared shows once it is committed, and once only.
type ledger struct {
	mu        sync.Mutex
	prepared  map[string][]string
	committed map[string]bool
	lines     []string
}

func newLedger() *ledger {
	return &ledger{prepared: map[string][]string{}, committed: map[string]bool{}}
}

type ledgerSink[T any] struct{ l *ledger }

func (s ledgerSink[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return &ledgerWriter[T]{l: s.l, env: env}, nil
}

type ledgerWriter[T any] struct {
	l   *ledger
	env *pipeline.SinkEnv
	buf []string
}

func (w *ledgerWriter[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	for i, v := range b.Values {
		w.buf = append(w.buf, fmt.Sprintf("%s %+v @%d", w.env.Operator, v, b.Times[i]))
	}
	return nil
}

func (w *ledgerWriter[T]) Prepare(_ context.Context, checkpoint int64) ([]byte, error) {
	if len(w.buf) == 0 {
		return nil, nil
	}
	id := fmt.Sprintf("%s/%d/%s/%d", w.env.Operator, w.env.Subtask, w.env.Run, checkpoint)
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	w.l.prepared[id] = w.buf
	w.buf = nil
	return []byte(id), nil
}

func (w *ledgerWriter[T]) Commit(_ context.Context, prepared []byte) error {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	lines, ok := w.l.prepared[string(prepared)]
	if !ok {
		return fmt.Errorf("%s was never prepared", prepared)
	}
	if !w.l.committed[string(prepared)] {
		w.l.committed[string(prepared)] = true
		w.l.lines = append(w.l.lines, lines...)
	}
	return nil
}

func (l *ledger) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.lines))
}

// slow lets a job run for a while: it is a source of numbers that takes its
// time, with positions.
type numbersSource struct {
	splits, n int
	pause     time.Duration
}

func (s numbersSource) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int], error) {
	r := &numbersReader{numbersSource: s, at: map[int]int{}}
	for i := range s.splits {
		if env.Mine(i) {
			r.mine = append(r.mine, i)
			if p, ok := env.Positions[fmt.Sprint("split", i)]; ok {
				at, err := strconv.Atoi(string(p))
				if err != nil {
					return nil, err
				}
				r.at[i] = at
			}
		}
	}
	return r, nil
}

type numbersReader struct {
	numbersSource
	mine []int
	at   map[int]int
	next int
	told bool
}

func (r *numbersReader) Read(ctx context.Context, b *pipeline.SourceBatch[int]) error {
	if !r.told {
		r.told = true
		for _, i := range r.mine {
			b.AddSplit(fmt.Sprint("split", i))
		}
		return nil
	}
	if len(r.mine) == 0 {
		return pipeline.ErrEndOfInput
	}
	if r.pause > 0 {
		select {
		case <-time.After(r.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.next = (r.next + 1) % len(r.mine)
	i := r.mine[r.next]
	b.Split = fmt.Sprint("split", i)
	for range 20 {
		if r.at[i] < r.n {
			b.Values = append(b.Values, r.at[i]*r.splits+i)
			r.at[i]++
		}
	}
	b.Position = fmt.Append(nil, r.at[i])
	if r.at[i] == r.n {
		b.FinishSplit(b.Split)
		r.mine = slices.Delete(r.mine, r.next, r.next+1)
	}
	return nil
}

func countingJob(l *ledger, pause time.Duration, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.Name("counting"), pipeline.WatermarkInterval(time.Millisecond)}, opts...)...)
	n := pipeline.From(p, "numbers", numbersSource{3, 2000, pause}, pipeline.BoundedDisorder(func(n int) int64 { return int64(n) * 10 }, 100*time.Millisecond))
	unique := operators.Dedupe(n, "dedupe", func(n int) int { return n/6*3 + n%3 }, time.Second)
	byMod := pipeline.KeyBy(unique, func(n int) int { return n % 17 })
	counts := operators.Aggregate(byMod, "count", window.Tumbling(time.Second), operators.Count[int]())
	sums := operators.Aggregate(byMod, "sum", window.Sliding(2*time.Second, time.Second), operators.Sum(func(n int) int64 { return int64(n) }))
	sessions := operators.Aggregate(pipeline.KeyBy(unique, func(n int) int { return n % 400 }), "sessions", window.Session(3*time.Second), operators.Count[int]())
	pipeline.To(counts, "counts", ledgerSink[operators.Result[int, int64]]{l})
	pipeline.To(sums, "sums", ledgerSink[operators.Result[int, int64]]{l})
	pipeline.To(sessions, "sessions out", ledgerSink[operators.Result[int, int64]]{l})
	return p
}

func TestKilledAndRestored(t *testing.T) {
	straight := newLedger()
	if err := countingJob(straight, 0).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := straight.sorted()
	if len(want) < 100 {
		t.Fatalf("only %d results", len(want))
	}
	for _, mode := range []string{"pebble", "memory"} {
		t.Run(mode, func(t *testing.T) {
			fs := vfs.NewMem()
			l := newLedger()
			for attempt := 0; ; attempt++ {
				if attempt > 60 {
					t.Fatal("the job makes no progress")
				}
				opts := []pipeline.Option{
					pipeline.DefaultParallelism([]int{2, 1, 3}[attempt%3]),
					pipeline.Checkpoints("/job", pipeline.CheckpointFiles(fs), pipeline.CheckpointInterval(10*time.Millisecond)),
				}
				if mode == "memory" {
					opts = append(opts, pipeline.StateInMemory())
				}
				p := countingJob(l, 200*time.Microsecond, opts...)
				timer := time.AfterFunc(time.Duration(30+7*attempt)*time.Millisecond, p.Kill)
				err := p.Run(t.Context())
				timer.Stop()
				if err == nil {
					t.Logf("done after %d kills, %+v", attempt, p.CheckpointStats())
					break
				}
				if !errors.Is(err, pipeline.ErrKilled) {
					t.Fatal(err)
				}
			}
			if got := l.sorted(); !slices.Equal(got, want) {
				t.Errorf("%d results, want %d", len(got), len(want))
				for _, s := range got {
					if !slices.Contains(want, s) {
						t.Errorf("unexpected %s", s)
					}
				}
				for _, s := range want {
					if !slices.Contains(got, s) {
						t.Errorf("missing %s", s)
					}
				}
			}
		})
	}
}

// TestSinkNamedDeadLetters: the stream of dead letters is no operator of the
// user's, and takes no name from him.
func TestSinkNamedDeadLetters(t *testing.T) {
	fs, l := vfs.NewMem(), newLedger()
	for range 2 { // the second starts from what the first has left
		p := pipeline.New(pipeline.Checkpoints("/job", pipeline.CheckpointFiles(fs)))
		n := pipeline.From(p, "numbers", numbersSource{2, 50, 0})
		odd := operators.TryMap(n, "odd", func(n int) (int, error) {
			if n%2 == 0 {
				return 0, errors.New("even")
			}
			return n, nil
		})
		pipeline.To(odd, "out", ledgerSink[int]{l})
		letters := operators.Map(pipeline.DeadLetters(p), "letters", func(d pipeline.DeadLetter) string { return d.Record })
		pipeline.To(letters, "dead letters", ledgerSink[string]{l})
		if err := p.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.sorted(); len(got) != 100 {
			t.Fatalf("%d records, want 100", len(got))
		}
	}
}
