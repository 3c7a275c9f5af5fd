package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/files"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// A job that is killed half-way and run again, by the same program with the same
// directory, gives the results of one that was not. Nothing else has to be done.
func ExampleCheckpoints() {
	dir, err := os.MkdirTemp("", "orders")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	job := func(accident func(p *pipeline.Pipeline, customer string)) error {
		p := pipeline.New(pipeline.Name("orders"), pipeline.DefaultParallelism(1),
			pipeline.Checkpoints(filepath.Join(dir, "checkpoints")))
		orders := pipeline.From(p, "orders", memory.From([]string{"Ann", "Bob", "Ann", "Eve", "Ann", "Bob"}))
		seen := operators.Map(orders, "seen", func(customer string) string {
			accident(p, customer)
			return customer
		})
		byCustomer := pipeline.KeyBy(seen, func(customer string) string { return customer })
		counts := operators.Aggregate(byCustomer, "count", window.Global(), operators.Count[string]())
		lines := operators.Map(counts, "format", func(r operators.Result[string, int64]) string {
			return fmt.Sprintf("%s has ordered %d times", r.Key, r.Value)
		})
		pipeline.To(lines, "out", files.Lines(filepath.Join(dir, "out.txt")))
		return p.Run(context.Background())
	}

	err = job(func(p *pipeline.Pipeline, customer string) {
		if customer == "Eve" {
			p.Kill() // as kill -9 would
		}
	})
	fmt.Println("killed:", errors.Is(err, pipeline.ErrKilled))

	err = job(func(*pipeline.Pipeline, string) {})
	fmt.Println("and again:", err)

	out, err := os.ReadFile(filepath.Join(dir, "out.txt"))
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range slices.Sorted(strings.Lines(string(out))) {
		fmt.Print(line)
	}
	// Output:
	// killed: true
	// and again: <nil>
	// Ann has ordered 3 times
	// Bob has ordered 2 times
	// Eve has ordered 1 times
}
