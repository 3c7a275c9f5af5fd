package operators_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

var batchSizes = []int{1, 3, 256}

// numbered makes records with IDs from 0 and event times of their own, in
// runs that watermarks cut into batches of uneven length.
func numbered(n int) []event {
	var events []event
	for i := range n {
		events = append(events, event{rec: rec{Key: "k", Time: int64(7*i + i%3), ID: i}})
		if i%41 == 40 {
			events = append(events, mark(int64(7*i-100))...)
		}
	}
	return events
}

// refusals are sets of records that a function refuses.
var refusals = map[string]func(id int) bool{
	"none":      func(int) bool { return false },
	"some":      func(id int) bool { return id%7 == 3 || id%41 == 0 || id%41 == 40 },
	"pairs":     func(id int) bool { return id%10 == 0 || id%10 == 1 },
	"all":       func(int) bool { return true },
	"first":     func(id int) bool { return id == 0 },
	"last":      func(id int) bool { return id == 699 },
	"by chance": func(id int) bool { return rand.New(rand.NewPCG(uint64(id), 1)).IntN(2) == 0 },
}

// checkRefusals runs a verb over records some of which its function refuses,
// by a panic or an error that says "refused ID". The verb gives the record's
// ID for each that it keeps, times times.
func checkRefusals(t *testing.T, verb func(in pipeline.Stream[rec], refuse func(rec) bool) pipeline.Stream[int], want func(id int) []int) {
	t.Helper()
	const n = 700
	for name, refuse := range refusals {
		for _, size := range batchSizes {
			j := newJob(shape{1, size}, numbered(n))
			out := verb(j.in, func(r rec) bool { return refuse(r.ID) })
			results, dead := gather(out, "results"), gather(pipeline.DeadLetters(j.Pipeline), "dead")
			j.run(t)
			var wantResults []timed[int]
			var wantDead []string
			for i := range n {
				time := int64(7*i + i%3)
				if refuse(i) {
					wantDead = append(wantDead, fmt.Sprintf("verb refused %d at %d", i, time))
					continue
				}
				for _, v := range want(i) {
					wantResults = append(wantResults, timed[int]{v, time})
				}
			}
			var gotDead []string
			for _, d := range dead.got {
				what := d.Value.Error[strings.Index(d.Value.Error, "refused"):]
				gotDead = append(gotDead, fmt.Sprintf("%s %s at %d", d.Value.Operator, what, d.Time))
				if d.Value.Time != d.Time {
					t.Errorf("letter of %d at %d", d.Value.Time, d.Time)
				}
			}
			if !slices.Equal(results.got, wantResults) {
				t.Errorf("%s refused, batches of %d: got %v\nwant %v", name, size, results.got, wantResults)
			}
			if !slices.Equal(gotDead, wantDead) {
				t.Errorf("%s refused, batches of %d: letters %v\nwant %v", name, size, gotDead, wantDead)
			}
		}
	}
}

func refusing(refuse func(rec) bool, r rec) {
	if refuse(r) {
		panic(fmt.Sprintf("refused %d", r.ID))
	}
}

func self(id int) []int { return []int{id} }

func TestMapRefusals(t *testing.T) {
	checkRefusals(t, func(in pipeline.Stream[rec], refuse func(rec) bool) pipeline.Stream[int] {
		return operators.Map(in, "verb", func(r rec) int {
			refusing(refuse, r)
			return r.ID
		})
	}, self)
}

func TestTryMapRefusals(t *testing.T) {
	checkRefusals(t, func(in pipeline.Stream[rec], refuse func(rec) bool) pipeline.Stream[int] {
		return operators.TryMap(in, "verb", func(r rec) (int, error) {
			if refuse(r) && r.ID%2 == 0 {
				return -1, fmt.Errorf("refused %d", r.ID)
			}
			refusing(refuse, r)
			return r.ID, nil
		})
	}, self)
}

func TestFilterRefusals(t *testing.T) {
	checkRefusals(t, func(in pipeline.Stream[rec], refuse func(rec) bool) pipeline.Stream[int] {
		kept := operators.Filter(in, "verb", func(r rec) bool {
			refusing(refuse, r)
			return r.ID%4 != 1
		})
		return operators.Map(kept, "id", func(r rec) int { return r.ID })
	}, func(id int) []int {
		if id%4 != 1 {
			return []int{id}
		}
		return nil
	})
}

func TestFlatMapRefusals(t *testing.T) {
	checkRefusals(t, func(in pipeline.Stream[rec], refuse func(rec) bool) pipeline.Stream[int] {
		return operators.FlatMap(in, "verb", func(r rec, emit func(int)) {
			refusing(refuse, r)
			for i := range r.ID % 3 {
				emit(10*r.ID + i)
			}
		})
	}, func(id int) (want []int) {
		for i := range id % 3 {
			want = append(want, 10*id+i)
		}
		return want
	})
}

// TestFlatMapKeepsWhatWasEmitted documents what becomes of the results of a
// record that is refused half-way.
func TestFlatMapKeepsWhatWasEmitted(t *testing.T) {
	for _, size := range batchSizes {
		j := newJob(shape{1, size}, at(1, 2, 3))
		out := operators.FlatMap(j.in, "twice", func(r rec, emit func(int)) {
			emit(r.ID)
			if r.ID == 2 {
				panic("half-way")
			}
			emit(10 * r.ID)
		})
		results, dead := gather(out, "results"), gather(pipeline.DeadLetters(j.Pipeline), "dead")
		j.run(t)
		expect(t, results.lines(), "1", "10", "2", "3", "30")
		if len(dead.got) != 1 {
			t.Errorf("%d letters, want 1", len(dead.got))
		}
	}
}

// TestFlatMapExpands has records with more results than fit a batch, and
// results that panic behind it, in the middle of an emit.
func TestFlatMapExpands(t *testing.T) {
	for _, size := range batchSizes {
		j := newJob(shape{1, size}, at(1000, 2000))
		many := operators.FlatMap(j.in, "many", func(r rec, emit func(int)) {
			for i := range r.ID {
				emit(i)
			}
		})
		out := operators.Filter(many, "odd", func(i int) bool {
			if i == 500 {
				panic("500")
			}
			return i%2 == 1
		})
		results, dead := gather(out, "results"), gather(pipeline.DeadLetters(j.Pipeline), "dead")
		j.run(t)
		if len(results.got) != 500+1000 || len(dead.got) != 2 {
			t.Errorf("batches of %d: %d results and %d letters, want 1500 and 2", size, len(results.got), len(dead.got))
		}
		for i, g := range results.got {
			want := int64(1000)
			if i >= 500 {
				want = 2000
			}
			if g.Time != want {
				t.Fatalf("result %d has time %d, want %d", i, g.Time, want)
			}
		}
	}
}

// TestTransformsTogether chains all verbs, each refusing its share, over a
// stream that two consumers read.
func TestTransformsTogether(t *testing.T) {
	for _, s := range shapes {
		j := newJob(s, numbered(2000))
		twice := operators.FlatMap(j.in, "twice", func(r rec, emit func(int)) {
			if r.ID%11 == 0 {
				panic("11")
			}
			emit(r.ID)
			emit(-r.ID)
		})
		positive := operators.Filter(twice, "positive", func(i int) bool {
			if i%13 == 0 {
				panic("13")
			}
			return i > 0
		})
		text := operators.TryMap(positive, "text", func(i int) (string, error) {
			if i%17 == 0 {
				return "", errors.New("17")
			}
			return fmt.Sprint(i), nil
		})
		length := operators.Map(text, "length", func(s string) int { return len(s) })
		lengths, texts := gather(length, "lengths"), gather(text, "texts")
		dead := gather(pipeline.DeadLetters(j.Pipeline), "dead")
		j.run(t)
		var want []string
		var sum, letters int
		for i := range 2000 {
			switch {
			case i%11 == 0:
				letters++
			case i%13 == 0:
				letters += 2
			case i%17 == 0:
				letters++
			default:
				want = append(want, fmt.Sprint(i))
				sum += len(fmt.Sprint(i))
			}
		}
		got := texts.lines()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || len(dead.got) != letters {
			t.Errorf("%+v: %d texts and %d letters, want %d and %d", s, len(got), len(dead.got), len(want), letters)
		}
		for _, g := range lengths.got {
			sum -= g.Value
		}
		if sum != 0 {
			t.Errorf("%+v: the other branch differs by %d", s, sum)
		}
	}
}

func TestTransformMistakes(t *testing.T) {
	p := pipeline.New()
	in := pipeline.From(p, "fed", fed{})
	a := operators.Map[rec, rec](in, "map", nil)
	b := operators.TryMap[rec, rec](a, "trymap", nil)
	c := operators.Filter(b, "filter", nil)
	gather(operators.FlatMap[rec, rec](c, "flatmap", nil, operators.AllowedLateness(0)), "out")
	err := p.Validate()
	for _, want := range []string{
		`operator "map": the function is nil`, `operator "trymap": the function is nil`,
		`operator "filter": the function is nil`, `operator "flatmap": the function is nil`,
		`operator "flatmap": AllowedLateness is not an option of this operator`,
	} {
		if err == nil || !strings.Contains(err.Error(), "map_test.go:") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant in it %q", err, want)
		}
	}
}

// chain is a job of trivial operators: every third a filter that keeps all.
func chain(p *pipeline.Pipeline, n, ops int, look func(int)) {
	s := pipeline.From(p, "ids", ascending{n, look, max(n/2, 1)})
	for i := range ops {
		name := fmt.Sprint("op", i)
		if i%3 == 2 {
			s = operators.Filter(s, name, func(x int64) bool { return x >= 0 })
		} else {
			s = operators.Map(s, name, func(x int64) int64 { return x + 1 })
		}
	}
	pipeline.To(s, "out", &counting{})
}

// BenchmarkChain shows the cost of an operator by the difference between
// chains of different length.
func BenchmarkChain(b *testing.B) {
	for _, ops := range []int{0, 5, 20} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			b.ReportAllocs()
			p := pipeline.New(pipeline.DefaultParallelism(1))
			chain(p, b.N, ops, func(int) {})
			if err := p.Run(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkChainByHand is what BenchmarkChain is to be held against: the same
// functions called in loops over batches of 256, and nothing else.
func BenchmarkChainByHand(b *testing.B) {
	for _, ops := range []int{5, 20} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			var maps []func(int64) int64
			var filters []func(int64) bool
			for range ops {
				maps = append(maps, func(x int64) int64 { return x + 1 })
				filters = append(filters, func(x int64) bool { return x >= 0 })
			}
			in, out := make([]int64, 256), make([]int64, 256)
			times, kept := make([]int64, 256), make([]int64, 256)
			for n := 0; n < b.N; n += 256 {
				for op := range ops {
					if op%3 == 2 {
						k := 0
						for i, v := range in {
							if filters[op](v) {
								out[k], kept[k] = v, times[i]
								k++
							}
						}
					} else {
						f := maps[op]
						for i, v := range in {
							out[i] = f(v)
						}
					}
					in, out = out, in
				}
			}
		})
	}
}
