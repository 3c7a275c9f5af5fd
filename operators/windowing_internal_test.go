package operators

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// numbers is a source of event times, which are the records too.
type numbers struct{ n int }

func (s numbers) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[int64], error) {
	return &s, nil
}

func (s *numbers) Read(_ context.Context, b *pipeline.SourceBatch[int64]) error {
	if s.n == 0 {
		return pipeline.ErrEndOfInput
	}
	b.Split = "numbers"
	for len(b.Values) < 10 && s.n > 0 {
		s.n--
		b.Values = append(b.Values, int64(1000-s.n))
	}
	return nil
}

type nowhere[T any] struct{}

func (nowhere[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return nowhere[T]{}, nil
}
func (nowhere[T]) Write(context.Context, *pipeline.Records[T]) error { return nil }

// operator is what all window operators implement. The way of batches that some
// have besides is not taken here: a record in hand does the same.
type operator interface {
	pipeline.Processor[int64, int64, Result[int64, int]]
	pipeline.Opener[int64, Result[int64, int]]
	pipeline.TimerHandler[int64, Result[int64, int]]
}

// spied is an operator whose table can be looked at when the job has ended.
type spied struct {
	operator
	state *state.Backend[int64]
	most  int
}

func (s *spied) Open(c *pipeline.Context[int64, Result[int64, int]]) error {
	s.state = c.State()
	return s.operator.Open(c)
}

func (s *spied) OnTimer(c *pipeline.Context[int64, Result[int64, int]], t pipeline.Timer) error {
	s.most = max(s.most, s.state.Len())
	return s.operator.OnTimer(c, t)
}

// TestRule30_TablesAreEmptyInTheEnd looks for keys that are left without a
// window.
func TestRule30_TablesAreEmptyInTheEnd(t *testing.T) {
	shared := windowing[int64, int64, int, int]{agg: Aggregation[int64, int, int]{
		Add: func(acc *int, v int64) {
			if v%17 == 0 {
				panic("seventeen") // nor may a record that was rejected leave a key
			}
			*acc++
		},
		Merge:  func(acc, other *int) { *acc += *other },
		Result: func(acc *int) int { return *acc },
	}}
	for _, allowed := range []time.Duration{0, 20 * time.Millisecond} {
		shared.allowed = allowed
		ops := []operator{
			newWindowOperator(shared, window.Tumbling(7*time.Millisecond)),
			newWindowOperator(shared, window.Sliding(7*time.Millisecond, 3*time.Millisecond)),
			&sliceOperator[int64, int64, int, int]{windowing: shared, by: window.Sliding(7*time.Millisecond, 3*time.Millisecond)},
			&sessionOperator[int64, int64, int, int]{windowing: shared, by: window.Session(3 * time.Millisecond)},
			&rollupOperator[int64, int64, int, int]{windowing: shared, levels: []window.TumblingAssigner{
				window.Tumbling(7 * time.Millisecond), window.Tumbling(14 * time.Millisecond),
			}},
		}
		if shared.firesOnce() {
			ops = append(ops, &onceOperator[int64, int64, int, int]{windowing: shared, by: window.Tumbling(7 * time.Millisecond)})
		}
		for _, op := range ops {
			s := &spied{operator: op}
			p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.WatermarkInterval(0))
			src := pipeline.From(p, "numbers", numbers{1000},
				pipeline.BoundedDisorder(func(v int64) int64 { return v }, 5*time.Millisecond))
			// Most keys come once, so that what they leave adds up.
			out := pipeline.Process(pipeline.KeyBy(src, func(v int64) int64 { return v / 2 }), "op", func() *spied { return s })
			pipeline.To(out, "out", nowhere[Result[int64, int]]{})
			pipeline.To(pipeline.DeadLetters(p), "dead", nowhere[pipeline.DeadLetter]{})
			if err := p.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%T, lateness %v", op, allowed)
			if n := s.state.Len(); n != 0 {
				t.Errorf("%s: %d entries are left", name, n)
			}
			if s.most == 0 || s.most > 60 {
				t.Errorf("%s: up to %d entries, want a few", name, s.most)
			}
		}
	}
}
