package kafka_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	"github.com/millrace/millrace/sources/memory"
)

// Visit is a page view.
type Visit struct {
	Page string `json:"page"`
	At   int64  `json:"at"`
}

func (v Visit) Key() string { return v.Page }

var visits = memory.From([]Visit{{"/", 1000}, {"/pay", 2000}, {"", 3000}})

// broker starts one for the examples, and directory is where jobs keep their
// checkpoints.
func broker(topics ...string) (b *devkafka.Broker, directory string, stop func()) {
	var o devkafka.Options
	for _, name := range topics {
		o.Topics = append(o.Topics, devkafka.Topic{Name: name})
	}
	b, err := devkafka.Start(o)
	if err == nil {
		directory, err = os.MkdirTemp("", "example")
	}
	if err != nil {
		log.Fatal(err)
	}
	return b, directory, func() {
		b.Close()
		_ = os.RemoveAll(directory) // nobody needs it
	}
}

// show prints n committed records of a topic.
func show(b *devkafka.Broker, topic string, n int) {
	c, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for n > 0 {
		for _, r := range c.PollFetches(context.Background()).Records() {
			fmt.Printf("%s: %s\n", r.Key, r.Value)
			n--
		}
	}
}

// Every visit is in the topic once, whatever happens to the job.
func ExampleJSON() {
	b, dir, stop := broker("visits")
	defer stop()
	p := pipeline.New(pipeline.Name("visits"), pipeline.Checkpoints(dir), pipeline.Logger(quiet))
	in := pipeline.From(p, "in", visits)
	out := kafka.NewProducer(kafka.Config{Brokers: []string{b.Addr()}})
	pipeline.To(in, "out", kafka.JSON(out, "visits", Visit.Key))
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	show(b, "visits", 3)
	// Output:
	// /: {"page":"/","at":1000}
	// /pay: {"page":"/pay","at":2000}
	// : {"page":"","at":3000}
}

// What the encoder rejects goes to a topic of dead letters, by the same
// transactions.
func ExampleDeadLetters() {
	b, dir, stop := broker("times", "rejected")
	defer stop()
	p := pipeline.New(pipeline.Name("times"), pipeline.Checkpoints(dir), pipeline.Logger(quiet))
	in := pipeline.From(p, "in", visits)
	out := kafka.NewProducer(kafka.Config{Brokers: []string{b.Addr()}})
	pipeline.To(in, "out", kafka.Encode(out, "times", func(v Visit, r *kgo.Record) error {
		if v.Page == "" {
			return fmt.Errorf("a visit of no page")
		}
		r.Key, r.Value = []byte(v.Page), strconv.AppendInt(nil, v.At, 10)
		return nil
	}))
	pipeline.To(pipeline.DeadLetters(p), "dead", kafka.DeadLetters(out, "rejected"))
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	show(b, "times", 2)
	show(b, "rejected", 1)
	// Output:
	// /: 1000
	// /pay: 2000
	// : {Page: At:3000}
}
