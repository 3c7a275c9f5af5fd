package redis_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/redis"
	"github.com/millrace/millrace/sources/memory"
)

type pageCount struct {
	Page   string
	Visits int64
}

var counts = []pageCount{{"/", 1}, {"/docs", 1}, {"/", 2}, {"/", 3}, {"/blog", 1}, {"/docs", 2}}

// The pages with the most visits, in a sorted set.
func ExampleSortedSets() {
	server := miniredis.NewMiniRedis() // in the place of a real one
	if err := server.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	p := pipeline.New(pipeline.DefaultParallelism(1))
	in := pipeline.From(p, "counts", memory.From(counts))
	pipeline.To(in, "top", redis.SortedSets(redis.Config{URL: "redis://" + server.Addr()},
		func(c pageCount) (key, member string, score float64) { return "top", c.Page, float64(c.Visits) }))
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}

	client := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	for _, z := range client.ZRevRangeWithScores(context.Background(), "top", 0, -1).Val() {
		fmt.Println(z.Member, z.Score)
	}
	// Output:
	// / 3
	// /docs 2
	// /blog 1
}

// Several commands for a record: a live count that never goes back, and a stream.
func ExampleEncode() {
	p := pipeline.New(pipeline.Checkpoints("checkpoints"))
	in := pipeline.From(p, "counts", memory.From(counts))
	live := redis.Config{URL: "redis://localhost:6379", Delivery: redis.AtLeastOnce}
	pipeline.To(in, "live", redis.Encode(live, func(c pageCount, out *redis.Commands) error {
		out.Version(c.Visits)
		out.HSet("visits:live", c.Page, c.Visits)
		out.Set("seen:"+c.Page, c.Visits, 24*time.Hour)
		return nil
	}))
	exact := redis.Config{URL: "redis://localhost:6379"}
	pipeline.To(in, "log", redis.Streams(exact, 100_000, func(c pageCount) (string, []any) {
		return "visits", []any{"page", c.Page, "visits", c.Visits}
	}))
}
