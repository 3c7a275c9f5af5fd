package kafka_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
)

func TestBadConfig(t *testing.T) {
	w := outWorld(t)
	good := w.config()
	for _, c := range []struct {
		want   string
		change func(*kafka.Config)
	}{
		{"Brokers names none", func(c *kafka.Config) { c.Brokers = nil }},
		{"Delivery is 7, which is none", func(c *kafka.Config) { c.Delivery = 7 }},
		{"are for ExactlyOnce", func(c *kafka.Config) { c.Delivery, c.Group = kafka.AtLeastOnce, "g" }},
		{"TransactionTimeout is negative", func(c *kafka.Config) { c.TransactionTimeout = -1 }},
		{"BufferBytes is 9, must be at least", func(c *kafka.Config) { c.BufferBytes = 9 }},
		{"Linger is negative", func(c *kafka.Config) { c.Linger = -1 }},
		{"StartTimeout is negative", func(c *kafka.Config) { c.StartTimeout = -1 }},
		{"TransactionTimeout is 1s and checkpoints are taken every 10s: the brokers would abort each transaction",
			func(c *kafka.Config) { c.TransactionTimeout = time.Second }},
	} {
		cfg := good
		c.change(&cfg)
		err := feedJob(ended(1), cfg, pipeline.Checkpoints(t.TempDir())).Run(t.Context())
		wantError(t, err, "invalid config: ", c.want)
	}
	rare := pipeline.Checkpoints(t.TempDir(), pipeline.CheckpointInterval(20*time.Minute))
	wantError(t, feedJob(ended(1), good, rare).Run(t.Context()), "TransactionTimeout is 15m0s and checkpoints are taken every 20m0s")
}

func TestBadSinks(t *testing.T) {
	w := outWorld(t)
	job := func(topic string, encode func(int, *kgo.Record) error) error {
		p := pipeline.New(pipeline.Name("bad"), asked(t.TempDir()))
		pipeline.To(pipeline.From(p, "feed", ended(1)), "out", kafka.Encode(kafka.NewProducer(w.config()), topic, encode))
		return p.Run(t.Context())
	}
	wantError(t, job("", encodeNumber), "invalid sink: it has no topic")
	wantError(t, job("out", nil), "invalid sink: it has no encoder")
	wantError(t, job("missing", encodeNumber), `topic "missing" does not exist`)
}

// Mistakes of the graph name the line of the user's program.
func TestMistakes(t *testing.T) {
	p := pipeline.New(pipeline.Name("mistaken"))
	in := pipeline.From(p, "feed", ended(1))
	pipeline.To(in, "without checkpoints", kafka.JSON[int](kafka.NewProducer(kafka.Config{}), "out", nil))
	err := p.Validate()
	wantError(t, err, "config_test.go:", `sink "without checkpoints" delivers exactly once`, "set Checkpoints")
	if !errors.Is(err, pipeline.ErrInvalidGraph) {
		t.Errorf("%v is not ErrInvalidGraph", err)
	}
	p = pipeline.New(pipeline.Name("mistaken"), asked(t.TempDir()))
	in = pipeline.From(p, "feed", ended(1))
	shared := kafka.NewProducer(kafka.Config{})
	pipeline.To(in, "one", kafka.JSON[int](shared, "out", nil))
	pipeline.To(in, "the same", kafka.JSON[int](shared, "out", nil))
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	pipeline.To(in, "other", kafka.JSON[int](kafka.NewProducer(kafka.Config{}), "out", nil))
	wantError(t, p.Validate(), "config_test.go:", `sink "other" commits by another transaction`)
}

// The brokers allow shorter transactions only.
func TestTransactionTimeoutTooLong(t *testing.T) {
	w := newWorldWith(t, devkafka.Options{
		Topics: []devkafka.Topic{{Name: "out"}},
		Setup:  []kfake.Opt{kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "5000"})},
	})
	wantError(t, feedJob(ended(1), w.config(), asked(t.TempDir())).Run(t.Context()),
		"Config.TransactionTimeout is longer than the brokers allow", "transaction.max.timeout.ms")
	cfg := w.config()
	cfg.TransactionTimeout = 4 * time.Second
	mustRun(t, feedJob(ended(10), cfg, asked(t.TempDir())))
	w.wantNumbers(10)
}

// TestRefused has the brokers refuse one thing after another.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault kfake.Fault
		want  []string
	}{
		{"id", kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed},
			[]string{`transactional id "feeding": `, "allow WRITE and DESCRIBE on it"}},
		{"second id", kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TxnID: "feeding-offsets", Err: kerr.TransactionalIDAuthorizationFailed},
			[]string{`transactional id "feeding-offsets": `, "allow WRITE and DESCRIBE on it"}},
		{"group's members", kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Err: kerr.GroupAuthorizationFailed},
			[]string{`consumer group "feeding": `, "allow READ on it"}},
		{"group's offsets", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed},
			[]string{`consumer group "feeding": `, "allow READ on it"}},
		{"group's commits", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.GroupAuthorizationFailed},
			[]string{"checkpoints: commit checkpoint chk-0000000001", `consumer group "feeding"`, "allow READ on it"}},
		{"topic", kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "out", Err: kerr.TopicAuthorizationFailed},
			[]string{`topic "out": `, "allow WRITE and DESCRIBE"}},
		{"records", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.TopicAuthorizationFailed},
			[]string{`topic "out": `, "allow WRITE and DESCRIBE"}},
		{"metadata", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.OffsetMetadataTooLarge},
			[]string{"offset.metadata.max.bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := outWorld(t)
			c.fault.Count = -1
			h := w.broker.Cluster().Fault(c.fault)
			dir := t.TempDir()
			wantError(t, feedJob(ended(10), w.config(), asked(dir)).Run(t.Context()), c.want...)
			h.Remove()
			mustRun(t, feedJob(ended(10), w.config(), asked(dir)))
			w.wantNumbers(10)
		})
	}
}

// Who may not ask how large records may be takes the brokers' default.
func TestLimitsRefused(t *testing.T) {
	w := outWorld(t)
	w.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	mustRun(t, feedJob(ended(10), w.config(), asked(t.TempDir())))
	w.wantNumbers(10)
}

func TestNoBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	for _, d := range []kafka.Delivery{kafka.ExactlyOnce, kafka.AtLeastOnce} {
		cfg := kafka.Config{Brokers: []string{addr}, StartTimeout: time.Second, Client: quick(), Delivery: d}
		began := time.Now()
		err = feedJob(ended(1), cfg, asked(t.TempDir()), pipeline.DefaultParallelism(8)).Run(t.Context())
		wantError(t, err, fmt.Sprintf("none of the brokers [%q] answers", addr))
		if took := time.Since(began); took > 6*cfg.StartTimeout {
			t.Errorf("it took %v to say so: the subtasks have waited in turn", took)
		}
	}
}
