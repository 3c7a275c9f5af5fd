package memory

import (
	"context"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/internal/pause"
	"github.com/millrace/millrace/pipeline"
)

// Source yields given values and then ends. It is made by [From]; its methods
// return a refined copy.
type Source[T any] struct {
	splits [][]T
	time   func(T) int64
}

// From returns a source of the given values. Each slice is a split: its values
// are read in order, and splits are read in turns, by one subtask or several.
// The slices are not copied and must not change while the job runs.
func From[T any](splits ...[]T) Source[T] { return Source[T]{splits: splits} }

// Times gives every record the event time that time returns, in milliseconds,
// as a source does whose records carry one of their own. A watermark strategy
// with a timestamp function goes over it. Default: no event times.
func (s Source[T]) Times(time func(T) int64) Source[T] {
	s.time = time
	return s
}

// Divide cuts the values, all slices one after another, into n splits of equal
// length, so that several subtasks have something to read.
func (s Source[T]) Divide(n int) Source[T] {
	var all []T
	for _, values := range s.splits {
		all = append(all, values...)
	}
	n = max(n, 1)
	s.splits = make([][]T, n)
	for i := range n {
		s.splits[i] = all[i*len(all)/n : (i+1)*len(all)/n]
	}
	return s
}

// Open implements [pipeline.Source].
func (s Source[T]) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[T], error) {
	r := &reader[T]{batch: max(env.BatchSize, 1), time: s.time}
	for i, values := range s.splits {
		if !env.Mine(i) {
			continue
		}
		sp := &split[T]{name: strconv.Itoa(i), values: values}
		if at, ok := env.Positions[sp.name]; ok {
			if err := sp.seek(at); err != nil {
				return nil, err
			}
		}
		r.splits = append(r.splits, sp)
	}
	return r, nil
}

// split is one of the slices and how far it has been read. Its position is the
// index of the next value in decimal.
type split[T any] struct {
	name   string
	values []T
	next   int
}

func (s *split[T]) seek(position []byte) error {
	n, err := strconv.Atoi(string(position))
	if err != nil {
		return fmt.Errorf("split %s: position %q: %w", s.name, position, err)
	}
	if n < 0 || n > len(s.values) {
		return fmt.Errorf("split %s: position %d is outside its %d values", s.name, n, len(s.values))
	}
	s.next = n
	return nil
}

type reader[T any] struct {
	pause.Set
	batch     int
	time      func(T) int64
	splits    []*split[T] // those not yet finished
	turn      int
	announced bool
}

func (r *reader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.announced {
		r.announced = true
		for _, s := range r.splits {
			b.AddSplit(s.name)
		}
	}
	if len(r.splits) == 0 {
		return pipeline.ErrEndOfInput
	}
	i, err := r.Choose(ctx, r.turn, len(r.splits), func(i int) string { return r.splits[i].name })
	if err != nil {
		return err
	}
	s := r.splits[i]
	r.fill(s, b)
	r.turn = i + 1
	if s.next == len(s.values) {
		b.FinishSplit(s.name)
		r.splits = append(r.splits[:i], r.splits[i+1:]...)
		r.turn = i
	}
	return nil
}

func (r *reader[T]) fill(s *split[T], b *pipeline.SourceBatch[T]) {
	n := min(r.batch, len(s.values)-s.next)
	values := s.values[s.next : s.next+n]
	b.Split = s.name
	b.Values = append(b.Values, values...)
	if r.time != nil {
		for _, v := range values {
			b.Times = append(b.Times, r.time(v))
		}
	}
	s.next += n
	b.Position = strconv.AppendInt(nil, int64(s.next), 10)
}
