package goka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/goka"
	"github.com/millrace/millrace/sinks/memory"
	source "github.com/millrace/millrace/sources/memory"
)

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got error %v\nwant %q in it", err, part)
		}
	}
}

func TestInvalidConfig(t *testing.T) {
	for _, c := range []struct {
		cfg  sink.Config
		want string
	}{
		{sink.Config{Group: "g"}, "Brokers names none"},
		{sink.Config{Brokers: []string{"b"}}, "Group is not set"},
		{sink.Config{Brokers: []string{"b"}, Group: "g", Create: true}, "Create is set, and Partitions is not"},
		{sink.Config{Brokers: []string{"b"}, Group: "g", Partitions: -1}, "Partitions is negative: -1"},
		{sink.Config{Brokers: []string{"b"}, Group: "g", Replication: -2}, "Replication is negative: -2"},
		{sink.Config{Brokers: []string{"b"}, Group: "g", StartTimeout: -1}, "StartTimeout is negative"},
		{sink.Config{Brokers: []string{"b"}, Group: "g", Client: []kgo.Opt{kgo.TransactionalID("t")}}, `Client sets the transactional id "t"`},
	} {
		wantError(t, write(t, c.cfg, entry{Key: "a"}), "invalid config: "+c.want)
	}
}

func TestTopicMustFit(t *testing.T) {
	b := start(t, devkafka.Options{Topics: []devkafka.Topic{{Name: "plain-table", Partitions: 2}}})
	missing := config(b, "missing", 3)
	missing.Create = false
	wantError(t, write(t, missing, entry{Key: "a"}), `topic "missing-table" does not exist`, "Config.Create")
	plain := config(b, "plain", 0)
	plain.Create = false
	wantError(t, write(t, plain, entry{Key: "a"}), `topic "plain-table"`, `cleanup.policy is "delete"`, "set it to compact")
	set(t, b, "plain", "cleanup.policy", "compact,delete")
	wantError(t, write(t, plain, entry{Key: "a"}), `cleanup.policy is "compact,delete"`)
	set(t, b, "plain", "cleanup.policy", "compact")
	must(t, write(t, plain, entry{Key: "a"}))
	wantError(t, write(t, config(b, "plain", 3), entry{Key: "a"}), `topic "plain-table" has 2 partitions, and Config.Partitions says 3`)
}

// set changes the configuration of a table's topic.
func set(t *testing.T, b *devkafka.Broker, group, name, value string) {
	t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, group+"-table"
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = name, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	must(t, err)
	defer client.Close()
	resp, err := req.RequestWith(t.Context(), client)
	must(t, err)
	if code := resp.Resources[0].ErrorCode; code != 0 {
		t.Fatalf("set %s: error %d", name, code)
	}
}

func TestBrokersAreAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	must(t, l.Close())
	cfg := sink.Config{Brokers: []string{addr}, Group: "g", StartTimeout: 300 * time.Millisecond, Client: quick()}
	wantError(t, write(t, cfg, entry{Key: "a"}), `topic "g-table"`, addr, "connect")
}

// TestTooLarge rejects what the topic has no room for, and writes the rest.
func TestTooLarge(t *testing.T) {
	const limit = 5000
	b := start(t, devkafka.Options{Topics: []devkafka.Topic{{Name: "small-table", Partitions: 2}}})
	set(t, b, "small", "cleanup.policy", "compact")
	set(t, b, "small", "max.message.bytes", fmt.Sprint(limit))
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(slog.New(slog.DiscardHandler)))
	var all []entry
	want := map[string]string{}
	for i := range 300 {
		// Around the limit by single bytes, and many that together exceed it.
		e := entry{Key: fmt.Sprintf("key-%03d", i), Value: strings.Repeat("x", limit-200+i)}
		if i%3 == 0 {
			e.Value = e.Value[:100]
		}
		if all = append(all, e); len(e.Key)+len(e.Value) <= limit-80 {
			want[e.Key] = e.Value
		}
	}
	pipeline.To(pipeline.From(p, "in", source.From(all)), "table", sink.Table(config(b, "small", 2), new(codec.String), entry.split))
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	must(t, p.Run(t.Context()))
	wantTable(t, view(t, b, "small"), want)
	if dead.Len() != len(all)-len(want) || dead.Len() == 0 {
		t.Errorf("%d dead letters, want %d", dead.Len(), len(all)-len(want))
	}
	for _, d := range dead.Values() {
		if d.Operator != "table" || !strings.Contains(d.Error, "larger than max.message.bytes of topic \"small-table\" allows, which is 5000") || d.Record == "" {
			t.Fatalf("dead letter %v", d)
		}
	}
}

// open opens a sink's only writer.
func open(t *testing.T, cfg sink.Config) (pipeline.Writer[entry], pipeline.Flusher) {
	t.Helper()
	w, f := openWith(t, cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { must(t, w.(pipeline.Closer).Close()) })
	return w, f
}

func openWith(t *testing.T, cfg sink.Config, log *slog.Logger) (pipeline.Writer[entry], pipeline.Flusher) {
	t.Helper()
	w, err := sink.Table(cfg, new(codec.String), entry.split).Open(t.Context(), &pipeline.SinkEnv{
		Operator: "table", Parallelism: 1, Logger: log, Metrics: &pipeline.Metrics{},
		Reject: func(d pipeline.DeadLetter) { t.Errorf("rejected: %v", d) },
	})
	must(t, err)
	return w, w.(pipeline.Flusher)
}

func records(values ...entry) *pipeline.Records[entry] {
	return &pipeline.Records[entry]{Values: values, Times: make([]int64, len(values))}
}

// TestTopicChanges has the topic change under a job, which is never to lose
// records or to put them where no view looks.
func TestTopicChanges(t *testing.T) {
	b := start(t, devkafka.Options{})
	for _, c := range []struct {
		group  string
		change func()
		want   string
	}{
		{"smaller", func() { set(t, b, "smaller", "max.message.bytes", "1000") }, "max.message.bytes was made smaller while the job ran"},
		{"grown", func() { grow(t, b, "grown-table", 5) }, "it had 2 partitions when the job started and has 5 now"},
		{"deleted", func() { remove(t, b, "deleted-table") }, "it was deleted"},
	} {
		t.Run(c.group, func(t *testing.T) {
			cfg := config(b, c.group, 2)
			cfg.Client = append(cfg.Client, kgo.MetadataMaxAge(20*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()))
			w, f := open(t, cfg)
			must(t, w.Write(t.Context(), records(entry{Key: "a", Value: "1"})))
			must(t, f.Flush(t.Context()))
			c.change()
			var err error
			for end := time.Now().Add(long); err == nil && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				if err = w.Write(t.Context(), records(entry{Key: "a", Value: strings.Repeat("2", 2000)})); err == nil {
					err = f.Flush(t.Context())
				}
			}
			wantError(t, err, fmt.Sprintf("topic %q", c.group+"-table"), c.want)
			wantError(t, w.Write(t.Context(), records(entry{Key: "a"})), c.want)
		})
	}
}

func grow(t *testing.T, b *devkafka.Broker, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	r := kmsg.NewCreatePartitionsRequestTopic()
	r.Topic, r.Count = topic, partitions
	req.Topics = append(req.Topics, r)
	ask(t, b, req)
}

func remove(t *testing.T, b *devkafka.Broker, topic string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	r := kmsg.NewDeleteTopicsRequestTopic()
	r.Topic = &topic
	req.Topics, req.TopicNames = append(req.Topics, r), []string{topic}
	ask(t, b, req)
}

// ask sends a request, the effect of which the test will see.
func ask(t *testing.T, b *devkafka.Broker, req kmsg.Request) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	must(t, err)
	defer client.Close()
	_, err = client.Request(t.Context(), req)
	must(t, err)
}

func TestRefused(t *testing.T) {
	b := start(t, devkafka.Options{})
	cfg := config(b, "refused", 1)
	must(t, write(t, cfg, entry{Key: "a"})) // makes the topic
	b.Cluster().ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		r := kmsg.NewDescribeConfigsResponseResource()
		r.ErrorCode = kerr.TopicAuthorizationFailed.Code
		resp.Resources = append(resp.Resources, r)
		return resp, nil, true
	})
	wantError(t, write(t, cfg, entry{Key: "a"}), `topic "refused-table"`, "allow DESCRIBE_CONFIGS")
	b.Cluster().ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	wantError(t, write(t, cfg, entry{Key: "a"}), `topic "refused-table"`, "allow WRITE and DESCRIBE")
}

// TestBrokerComesBack stops the broker under a writer, which waits for it, and
// says so.
func TestBrokerComesBack(t *testing.T) {
	dir := t.TempDir()
	b := start(t, devkafka.Options{Dir: dir})
	var log strings.Builder
	cfg := config(b, "away", 2)
	w, f := openWith(t, cfg, slog.New(slog.NewTextHandler(&log, nil)))
	must(t, w.Write(t.Context(), records(entry{Key: "a", Value: "1"})))
	must(t, f.Flush(t.Context()))
	_, port, _ := net.SplitHostPort(b.Addr())
	b.Close()
	must(t, w.Write(t.Context(), records(entry{Key: "a", Value: "2"}, entry{Key: "b", Value: "3"})))
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := f.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush without a broker: %v", err)
	}
	n, err := strconv.Atoi(port)
	must(t, err)
	again := start(t, devkafka.Options{Dir: dir, Port: n})
	must(t, f.Flush(t.Context()))
	must(t, w.(pipeline.Closer).Close())
	wantTable(t, view(t, again, "away"), map[string]string{"a": "2", "b": "3"})
	for _, part := range []string{"no connection to broker, waiting for it", "connected to broker again"} {
		if n := strings.Count(log.String(), part); n != 1 {
			t.Errorf("the log says %q %d times, want once:\n%s", part, n, log.String())
		}
	}
}

// TestFlushWaitsForBroker holds back the broker's answers: Flush, with which the
// engine begins a checkpoint, does not return while records may still be lost.
func TestFlushWaitsForBroker(t *testing.T) {
	b := start(t, devkafka.Options{})
	cfg := config(b, "held", 1)
	must(t, write(t, cfg, entry{Key: "first", Value: "1"})) // makes the topic
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	b.Cluster().ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster().KeepControl()
		b.Cluster().SleepControl(func() {
			arrived <- struct{}{}
			<-release
		})
		return nil, nil, false
	})
	w, f := open(t, cfg)
	must(t, w.Write(t.Context(), records(entry{Key: "held", Value: "2"})))
	flushed := make(chan error, 1)
	go func() { flushed <- f.Flush(context.Background()) }()
	<-arrived
	select {
	case err := <-flushed:
		t.Fatalf("flushed before the broker has answered: %v", err)
	default:
	}
	close(release)
	must(t, <-flushed)
	wantTable(t, view(t, b, "held"), map[string]string{"first": "1", "held": "2"})
}
