package redis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/redis"
)

var quiet = slog.New(slog.DiscardHandler)

// world is a server and what a test does with it.
type world struct {
	t testing.TB
	*goredis.Client
	url string
}

func newWorld(t testing.TB) (*world, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.RunT(t)
	return connect(t, "redis://"+m.Addr()), m
}

func connect(t testing.TB, url string) *world {
	t.Helper()
	o, err := goredis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return &world{t, c, url}
}

func (w *world) config() redis.Config { return redis.Config{URL: w.url} }

// want compares what a command returns, as fmt prints it.
func (w *world) want(want string, command ...any) {
	w.t.Helper()
	got, err := w.Do(context.Background(), command...).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		w.t.Errorf("%v: %v", command, err)
		return
	}
	if text := fmt.Sprint(got); text != want {
		w.t.Errorf("%v\ngot  %s\nwant %s", command, text, want)
	}
}

// one is a sink with one subtask, without a job around it.
type one[T any] struct {
	t       testing.TB
	w       pipeline.Writer[T]
	letters []pipeline.DeadLetter
}

func open[T any](t testing.TB, sink pipeline.Sink[T], env pipeline.SinkEnv) (*one[T], error) {
	t.Helper()
	o := &one[T]{t: t}
	env.Operator, env.Parallelism, env.Logger, env.Metrics = "sink", 1, cmp.Or(env.Logger, quiet), &pipeline.Metrics{}
	env.Reject = func(d pipeline.DeadLetter) { o.letters = append(o.letters, d) }
	var err error
	if o.w, err = sink.Open(t.Context(), &env); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = o.w.(pipeline.Closer).Close() })
	return o, nil
}

func mustOpen[T any](t testing.TB, sink pipeline.Sink[T], env pipeline.SinkEnv) *one[T] {
	t.Helper()
	o, err := open(t, sink, env)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *one[T]) write(values ...T) {
	o.t.Helper()
	b := &pipeline.Records[T]{Values: values}
	for i := range values {
		b.Times = append(b.Times, int64(1000+i))
	}
	if err := errors.Join(o.w.Write(o.t.Context(), b), o.w.(pipeline.Flusher).Flush(o.t.Context())); err != nil {
		o.t.Fatal(err)
	}
}

func (o *one[T]) prepare(checkpoint int64) []byte {
	o.t.Helper()
	p, err := o.w.(pipeline.Committer).Prepare(o.t.Context(), checkpoint)
	if err != nil {
		o.t.Fatal(err)
	}
	return p
}

func (o *one[T]) commit(prepared []byte) {
	o.t.Helper()
	if err := o.w.(pipeline.Committer).Commit(o.t.Context(), prepared); err != nil {
		o.t.Fatal(err)
	}
}

func (o *one[T]) wantLetters(parts ...string) {
	o.t.Helper()
	if len(o.letters) != len(parts) {
		o.t.Errorf("got %d dead letters, want %d: %+v", len(o.letters), len(parts), o.letters)
		return
	}
	for i, part := range parts {
		if d := o.letters[i]; !strings.Contains(d.Record+": "+d.Error, part) {
			o.t.Errorf("dead letter %d is %+v, want %q in it", i, d, part)
		}
	}
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v\nwant %q in it", err, part)
		}
	}
}

// conformance runs the suite that all sinks pass, on sorted sets.
func conformance(t *testing.T, w *world) {
	type item struct{ N int }
	for _, c := range []struct {
		name string
		cfg  redis.Config
	}{
		{"exactly once", redis.Config{}},
		{"exactly once, in small chunks", redis.Config{BatchCommands: 2, HashTag: "tag"}},
		{"at least once", redis.Config{Delivery: redis.AtLeastOnce, BatchCommands: 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.TestSink(t, pipelinetest.SinkCase[item]{
				New: func(t testing.TB) (pipeline.Sink[item], func() []item) {
					if err := w.FlushDB(context.Background()).Err(); err != nil {
						t.Fatal(err)
					}
					cfg := c.cfg
					cfg.URL = w.url
					sink := redis.Encode(cfg, func(v item, c *redis.Commands) error {
						if v.N < 0 {
							return errors.New("negative")
						}
						c.ZAdd("items", fmt.Sprint("item ", v.N), float64(v.N))
						return nil
					})
					return sink, func() []item {
						members, err := w.ZRangeWithScores(context.Background(), "items", 0, -1).Result()
						if err != nil {
							t.Fatal(err)
						}
						var all []item
						for _, z := range members {
							all = append(all, item{int(z.Score)})
						}
						sort.Slice(all, func(i, j int) bool { return all[i].N < all[j].N })
						return all
					}
				},
				Value: func(i int) item { return item{i} },
				Bad:   func() item { return item{-1} },
			})
		})
	}
}
