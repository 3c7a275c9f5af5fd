package clickhouse_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/clickhouse"
	"github.com/millrace/millrace/sources/memory"
)

// Hit is a page view.
type Hit struct {
	At      time.Time `ch:"at"`
	Page    string    `ch:"page"`
	Visitor uint64    `ch:"visitor"`
	Seconds *float64  `ch:"seconds"`
}

var hits = memory.From([]Hit{{At: time.UnixMilli(1000), Page: "/", Visitor: 7}})

func Example() {
	out := clickhouse.Structs[Hit](clickhouse.Config{URL: "clickhouse://localhost:9000/default", Table: "hits"})
	if err := out.Create(context.Background(), clickhouse.TableOptions{OrderBy: []string{"page", "at"}}); err != nil {
		log.Fatal(err)
	}
	p := pipeline.New(pipeline.Name("hits"), pipeline.Checkpoints("/var/lib/hits"))
	pipeline.To(pipeline.From(p, "in", hits), "out", out)
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleColumns() {
	p := pipeline.New(pipeline.Name("hits"), pipeline.Checkpoints("/var/lib/hits"))
	pipeline.To(pipeline.From(p, "in", hits), "out", clickhouse.Columns(
		clickhouse.Config{URL: "clickhouse://localhost:9000/default?compress=lz4", Table: "hits"},
		clickhouse.Value("at", func(h *Hit) time.Time { return h.At }),
		clickhouse.Value("page", func(h *Hit) string { return h.Page }),
		clickhouse.Value("visitor", func(h *Hit) uint64 { return h.Visitor })))
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func ExampleSink_CreateTable() {
	out := clickhouse.Structs[Hit](clickhouse.Config{URL: "clickhouse://localhost:9000", Table: "stats.hits"})
	statement, err := out.CreateTable(clickhouse.TableOptions{
		OrderBy: []string{"page", "at"}, PartitionBy: "toYYYYMM(at)", TTL: "toDateTime(at) + INTERVAL 1 YEAR",
		Types: map[string]string{"page": "LowCardinality(String)"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(statement)
	// Output:
	// CREATE TABLE IF NOT EXISTS `stats`.`hits`
	// (
	// 	`at` DateTime64(3),
	// 	`page` LowCardinality(String),
	// 	`visitor` UInt64,
	// 	`seconds` Nullable(Float64)
	// )
	// ENGINE = MergeTree
	// PARTITION BY toYYYYMM(at)
	// ORDER BY (page, at)
	// TTL toDateTime(at) + INTERVAL 1 YEAR
	// SETTINGS non_replicated_deduplication_window = 10000
}
