package postgres_test

import (
	"errors"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/postgres"
	"github.com/millrace/millrace/sources/memory"
)

type pageCount struct {
	Page   string
	Minute time.Time
	Visits int64 `db:"n"`
}

// Counts by page and minute, of which later ones take the place of earlier ones:
//
//	CREATE TABLE counts (page text, minute timestamptz, n bigint NOT NULL, PRIMARY KEY (page, minute))
func ExampleStructs() {
	p := pipeline.New(pipeline.Name("counts"), pipeline.Checkpoints("checkpoints"))
	counts := pipeline.From(p, "counts", memory.From([]pageCount{{"/", time.Now(), 1}}))
	pipeline.To(counts, "counts-out", postgres.Structs[pageCount](postgres.Config{
		URL:   "postgres://localhost/stats",
		Table: "counts",
		Key:   []string{"page", "minute"},
	}))
}

// Rows from a function, as soon as they come about. The table may have columns that
// are not named; they get their defaults.
func ExampleEncode() {
	p := pipeline.New(pipeline.Checkpoints("checkpoints"))
	counts := pipeline.From(p, "counts", memory.From([]pageCount{{"/", time.Now(), 1}}))
	cfg := postgres.Config{URL: "postgres://localhost/stats", Table: "log", Delivery: postgres.AtLeastOnce}
	pipeline.To(counts, "log", postgres.Encode(cfg, []string{"at", "page", "detail"}, func(c pageCount, row []any) ([]any, error) {
		if c.Page == "" {
			return nil, errors.New("a count without a page") // a dead letter
		}
		return append(row, c.Minute, c.Page, map[string]any{"visits": c.Visits}), nil
	}))
}
