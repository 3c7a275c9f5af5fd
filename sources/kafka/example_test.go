package kafka_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/window"
)

// startBroker starts a broker with a few records, and returns its address.
func startBroker(topic string, records ...*kgo.Record) (addr string, stop func()) {
	broker, err := devkafka.Start(devkafka.Options{Topics: []devkafka.Topic{{Name: topic}}})
	if err != nil {
		log.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		log.Fatal(err)
	}
	return broker.Addr(), broker.Close
}

// Views of pages are counted by the minute. The source is bounded, so that the
// job ends with what is in the topic; without that it goes on.
func ExampleJSON() {
	type view struct {
		Page string
		Time int64
	}
	addr, stop := startBroker("views",
		kgo.StringRecord(`{"Page":"/","Time":1000}`),
		kgo.StringRecord(`{"Page":"/about","Time":2000}`),
		kgo.StringRecord(`{"Page":"/","Time":59000}`),
		kgo.StringRecord(`{"Page":"/","Time":61000}`),
	)
	defer stop()

	p := pipeline.New(pipeline.DefaultParallelism(1))
	views := pipeline.From(p, "views", kafka.JSON[view](kafka.Config{
		Brokers: []string{addr},
		Topics:  []string{"views"},
		Bounded: true,
	}), pipeline.BoundedDisorder(func(v view) int64 { return v.Time }, time.Second))
	byPage := pipeline.KeyBy(views, func(v view) string { return v.Page })
	counts := operators.Aggregate(byPage, "count", window.Tumbling(time.Minute), operators.Count[view]())
	out := memory.Collect(counts, "out")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	var lines []string
	for _, r := range out.Values() {
		lines = append(lines, fmt.Sprintf("minute %d: %s %d", r.Window.Start/60_000, r.Key, r.Value))
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
	// Output:
	// minute 0: / 2
	// minute 0: /about 1
	// minute 1: / 1
}

// A compacted topic says what was deleted by records without a value.
func ExampleJSONRecords() {
	type user struct{ Name string }
	addr, stop := startBroker("users",
		&kgo.Record{Key: []byte("17"), Value: []byte(`{"Name":"Ann"}`)},
		&kgo.Record{Key: []byte("18"), Value: []byte(`{"Name":"Bob"}`)},
		&kgo.Record{Key: []byte("17")},
	)
	defer stop()

	p := pipeline.New(pipeline.DefaultParallelism(1))
	users := pipeline.From(p, "users", kafka.JSONRecords[user](kafka.Config{
		Brokers: []string{addr}, Topics: []string{"users"}, Bounded: true,
	}))
	out := memory.Collect(users, "out")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	for _, r := range out.Values() {
		if r.Tombstone {
			fmt.Printf("%s is gone\n", r.Key)
		} else {
			fmt.Printf("%s is %s\n", r.Key, r.Value.Name)
		}
	}
	// Output:
	// 17 is Ann
	// 18 is Bob
	// 17 is gone
}

// A decoder of the program's own reads the record in place, and copies what it
// keeps: converting bytes to a string is a copy.
func ExampleDecode() {
	addr, stop := startBroker("readings", &kgo.Record{Key: []byte("kitchen"), Value: []byte("21.5")}, &kgo.Record{Key: []byte("cellar"), Value: []byte("wet")})
	defer stop()

	type reading struct {
		Room    string
		Degrees float64
	}
	decode := func(r *kgo.Record) (reading, error) {
		v := reading{Room: string(r.Key)}
		if _, err := fmt.Sscanf(string(r.Value), "%g", &v.Degrees); err != nil {
			return v, fmt.Errorf("degrees: %w", err)
		}
		return v, nil
	}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	readings := pipeline.From(p, "readings", kafka.Decode(kafka.Config{
		Brokers: []string{addr}, Topics: []string{"readings"}, Bounded: true,
	}, decode))
	out := memory.Collect(readings, "out")
	rejected := memory.Collect(pipeline.DeadLetters(p), "rejected")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.Values())
	for _, d := range rejected.Values() {
		fmt.Printf("%s at offset %d: %s: %s\n", d.Split, d.Offset, d.Raw, d.Error)
	}
	// Output:
	// [{kitchen 21.5}]
	// readings/0 at offset 1: wet: degrees: strconv.ParseFloat: parsing "": invalid syntax
}
