package goka_test

import (
	"context"
	"fmt"
	"io"
	"log"

	lovoo "github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/goka"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"
)

// A job sums up orders by user, and another service looks the sums up in a view,
// which is a local copy.
func ExampleTable() {
	type order struct {
		User  string
		Cents int64
	}
	type total = operators.Result[string, int64]
	broker, err := devkafka.Start(devkafka.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	brokers := []string{broker.Addr()}

	p := pipeline.New()
	orders := pipeline.From(p, "orders", memory.From([]order{{"alice", 1200}, {"bob", 300}, {"alice", 99}}))
	byUser := pipeline.KeyBy(orders, func(o order) string { return o.User })
	totals := operators.Aggregate(byUser, "total", window.Global(), operators.Sum(func(o order) int64 { return o.Cents }))
	pipeline.To(totals, "table", goka.Table(goka.Config{
		Brokers:    brokers,
		Group:      "totals",
		Create:     true,
		Partitions: 4,
	}, new(codec.Int64), func(t total) (key string, value any) { return t.Key, t.Value }))
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}

	view, err := lovoo.NewView(brokers, lovoo.GroupTable("totals"), new(codec.Int64),
		lovoo.WithViewStorageBuilder(storage.MemoryBuilder()), lovoo.WithViewLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- view.Run(ctx) }()
	<-view.WaitRunning()
	for _, user := range []string{"alice", "bob", "carol"} {
		cents, err := view.Get(user)
		fmt.Println(user, cents, err)
	}
	cancel()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// alice 1299 <nil>
	// bob 300 <nil>
	// carol <nil> <nil>
}
