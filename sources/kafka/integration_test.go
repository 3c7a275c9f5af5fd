//go:build integration

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millrace/millrace/internal/realkafka"
	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/kafka"
)

// realWorld is a world on real brokers. What is promoted from world works on its
// client alone.
type realWorld struct {
	*world
	brokers []string
}

func newRealWorld(t testing.TB, brokers []string) *realWorld {
	t.Helper()
	w := &realWorld{&world{t: t}, brokers}
	w.client = w.newClient()
	return w
}

// sharedWorld is one on the broker of all tests.
func sharedWorld(t testing.TB) *realWorld {
	t.Helper()
	return newRealWorld(t, realkafka.Shared(t))
}

func (w *realWorld) newClient(opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.DisableClientMetrics(),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *realWorld) config(topics ...string) kafka.Config {
	return kafka.Config{Brokers: w.brokers, Topics: topics, Client: quick(), StartTimeout: long, Refresh: 50 * time.Millisecond}
}

// topic makes one that no other test has.
func (w *realWorld) topic(base string, partitions int32) string {
	w.t.Helper()
	name := realkafka.UniqueName(base)
	realkafka.MakeTopic(w.t, w.brokers, name, partitions)
	return name
}

// grow adds partitions and waits until the broker admits it.
func (w *realWorld) grow(topic string, n int32) {
	w.t.Helper()
	w.addPartitions(topic, n)
	deadline := time.Now().Add(long)
	for have := 0; have < int(n); {
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(w.t.Context(), w.client)
		if err != nil || time.Now().After(deadline) {
			w.t.Fatalf("%d of %d partitions, error %v", have, n, err)
		}
		have = len(resp.Topics[0].Partitions)
	}
}

// fillMixed writes n values to each partition: half of them plainly, half in
// transactions, between others that are aborted. It returns all but those.
func (w *realWorld) fillMixed(topic string, partitions int32, n int) []string {
	w.t.Helper()
	want := w.fill(topic, partitions, n-n/2)
	c := w.newClient(kgo.TransactionalID(realkafka.UniqueName("writer")))
	for p := range partitions {
		var values []string
		for i := range n / 2 {
			values = append(values, fmt.Sprintf("%s %d committed %d", topic, p, i))
		}
		w.transaction(c, kgo.TryAbort, topic, p, "never", "never")
		w.transaction(c, kgo.TryCommit, topic, p, values...)
		w.transaction(c, kgo.TryAbort, topic, p, "never")
		want = append(want, values...)
	}
	return want
}

func TestIntegrationSource(t *testing.T) {
	w := sharedWorld(t)
	hits, users, empty := w.topic("hits", 3), w.topic("users", 1), w.topic("empty", 1)
	want := append(w.fillMixed(hits, 3, 13), w.fillMixed(users, 1, 6)...)
	for name, cfg := range map[string]kafka.Config{
		"bounded": bounded(w.config(hits, users, empty)),
		"endless": w.config(users, hits, empty),
	} {
		t.Run(name, func(t *testing.T) {
			pipelinetest.TestSource(t, pipelinetest.SourceCase[string]{
				New: func(testing.TB) pipeline.Source[string] { return text(cfg) }, Want: want, Endless: !cfg.Bounded,
			})
		})
	}
}

func TestIntegrationTransactions(t *testing.T) {
	w := sharedWorld(t)
	hits := w.topic("hits", 1)
	c := w.newClient(kgo.TransactionalID(realkafka.UniqueName("writer")))
	w.transaction(c, kgo.TryCommit, hits, 0, "a", "b")
	w.transaction(c, kgo.TryAbort, hits, 0, "never")
	w.produce(hits, 0, "plain")
	w.transaction(c, kgo.TryCommit, hits, 0, "c")
	w.transaction(c, kgo.TryAbort, hits, 0, "never")
	check := func(name string, cfg kafka.Config, want ...string) {
		t.Helper()
		r := open(t, text(bounded(cfg)), env(0, 1))
		r.toEnd()
		if got := r.values[hits+"/0"]; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	uncommitted := w.config(hits)
	uncommitted.ReadUncommitted = true
	check("committed", w.config(hits), "a", "b", "plain", "c")
	check("uncommitted", uncommitted, "a", "b", "never", "plain", "c", "never")

	w.begin(c, hits, 0, "open")
	w.produce(hits, 0, "behind it")
	check("open, committed", w.config(hits), "a", "b", "plain", "c")
	check("open, uncommitted", uncommitted, "a", "b", "never", "plain", "c", "never", "open", "behind it")

	// An endless reader waits for the transaction, and goes on when it ends.
	r := open(t, text(w.config(hits)), env(0, 1))
	r.records(4)
	if err := c.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	r.records(6)
	if got, want := r.values[hits+"/0"], []string{"a", "b", "plain", "c", "open", "behind it"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIntegrationStart(t *testing.T) {
	w := sharedWorld(t)
	hits := w.topic("hits", 2)
	at := time.UnixMilli
	for i, v := range []string{"a", "b", "c", "d"} {
		w.write(&kgo.Record{Topic: hits, Value: []byte(v), Timestamp: at(int64(1000 * i))})
	}
	w.write(&kgo.Record{Topic: hits, Partition: 1, Value: []byte("x"), Timestamp: at(0)})
	for _, c := range []struct {
		name        string
		start       kafka.Start
		first, then []string
	}{
		{"earliest", kafka.Earliest(), []string{"a", "b", "c", "d"}, []string{"x"}},
		{"time", kafka.FromTime(at(1500)), []string{"c", "d"}, nil},
		{"offsets", kafka.FromOffsets(map[string]map[int32]int64{hits: {0: 3}}), []string{"d"}, []string{"x"}},
		{"latest", kafka.Latest(), nil, []string{"later"}}, // last, since it writes
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := w.config(hits)
			cfg.Start = c.start
			r := open(t, text(cfg), env(0, 1))
			r.placed(2)
			if c.name == "latest" {
				w.produce(hits, 1, "later")
			}
			r.records(len(c.first) + len(c.then))
			if got := r.values[hits+"/0"]; !slices.Equal(got, c.first) {
				t.Errorf("partition 0: got %q, want %q", got, c.first)
			}
			if got := r.values[hits+"/1"]; !slices.Equal(got, c.then) {
				t.Errorf("partition 1: got %q, want %q", got, c.then)
			}
		})
	}
}

// TestIntegrationNewPartitions adds partitions and a topic while the reader runs,
// and again while it is down.
func TestIntegrationNewPartitions(t *testing.T) {
	w := sharedWorld(t)
	base := realkafka.UniqueName("hits")
	a, b := base+"-a", base+"-b"
	realkafka.MakeTopic(t, w.brokers, a, 1)
	w.produce(a, 0, "before")
	cfg := w.config()
	cfg.Pattern, cfg.Start = base+"-.*", kafka.Latest()
	first := open(t, text(cfg), env(0, 1))
	first.placed(1)
	w.grow(a, 3)
	w.produce(a, 2, "two")
	realkafka.MakeTopic(t, w.brokers, b, 1)
	w.produce(b, 0, "b")
	first.records(2)
	first.placed(4)
	first.close()
	if first.values[a+"/2"][0] != "two" || first.values[b+"/0"][0] != "b" {
		t.Errorf("got %q", first.values)
	}
	w.grow(a, 4)
	w.produce(a, 3, "three")
	e := env(0, 1)
	e.Positions = first.positions
	second := open(t, text(cfg), e)
	second.records(1)
	if got := second.values[a+"/3"]; !slices.Equal(got, []string{"three"}) {
		t.Errorf("got %q", second.values)
	}
}

func TestIntegrationTopicDeleted(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again=%v", again), func(t *testing.T) {
			w := sharedWorld(t)
			hits := w.topic("hits", 1)
			w.produce(hits, 0, "a")
			r := open(t, text(w.config(hits)), env(0, 1))
			r.records(1)
			w.deleteTopic(hits)
			if again {
				realkafka.MakeTopic(t, w.brokers, hits, 1)
			}
			wantError(t, r.failure(), fmt.Sprintf("topic %q", hits))
			if !again {
				return
			}
			_, err := text(w.config(hits)).Open(t.Context(), &pipeline.SourceEnv{Parallelism: 1, Positions: r.positions})
			wantError(t, err, fmt.Sprintf("topic %q was deleted and made again", hits))
		})
	}
}

// TestIntegrationOutOfRange removes records that a checkpoint has a position in.
func TestIntegrationOutOfRange(t *testing.T) {
	w := sharedWorld(t)
	hits := w.topic("hits", 1)
	w.produce(hits, 0, "a")
	first := open(t, text(w.config(hits)), env(0, 1))
	first.records(1)
	first.close()
	w.produce(hits, 0, "b", "c", "d")
	w.deleteRecords(hits, 3)
	e := env(0, 1)
	e.Positions = first.positions
	_, err := text(w.config(hits)).Open(t.Context(), e)
	wantError(t, err, "offset 1 is out of range: retention has removed the records up to 3, 2 of them unread")
	cfg := w.config(hits)
	cfg.Reset = kafka.ResetEarliest
	r := open(t, text(cfg), e)
	r.records(1)
	if got := r.values[hits+"/0"]; !slices.Equal(got, []string{"d"}) {
		t.Errorf("got %q, want what is left", got)
	}
}

// TestIntegrationBrokerRestart kills the only broker under a reader.
func TestIntegrationBrokerRestart(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{})
	w := newRealWorld(t, cluster.Addrs())
	hits := w.topic("hits", 2)
	want := w.fillMixed(hits, 2, 20)
	book := newLogBook()
	e := env(0, 1)
	e.Logger = slog.New(slog.NewTextHandler(book, nil))
	cfg := w.config(hits)
	cfg.StartTimeout = time.Second // what it waits for later is not bounded by it
	r := open(t, text(cfg), e)
	r.records(len(want))
	cluster.Kill(0)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if err := r.read(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	book.await(t, "no connection to broker, waiting for it")
	if err := cluster.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	want = append(want, w.fill(hits, 2, 20)...)
	r.records(len(want))
	book.await(t, "connected to broker again")
	r.wantValues(want)
}

// wantValues compares all that was read, in any order.
func (r *reading[T]) wantValues(want []T) {
	r.t.Helper()
	got, wanted := []string{}, []string{}
	for _, values := range r.values {
		for _, v := range values {
			got = append(got, fmt.Sprint(v))
		}
	}
	for _, v := range want {
		wanted = append(wanted, fmt.Sprint(v))
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t := r.t
		t.Errorf("got %d values\n%.1000q\nwant %d\n%.1000q", len(got), got, len(wanted), wanted)
	}
}

// TestIntegrationElections has the partitions' leaders killed, one after the other,
// while records are written: none is lost or read twice, and no log looks cut.
func TestIntegrationElections(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{Brokers: 3})
	w := newRealWorld(t, cluster.Addrs())
	hits := w.topic("hits", 6)
	r := open(t, text(w.config(hits)), env(0, 1))
	var want []string
	for i := range 3 {
		if err := cluster.AwaitInSync(t.Context(), hits); err != nil {
			t.Fatal(err)
		}
		want = append(want, w.fill(hits, 6, 50)...)
		cluster.Kill(i)
		want = append(want, w.fill(hits, 6, 50)...)
		r.records(len(want))
		if err := cluster.Restart(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	r.wantValues(want)
}

// TestIntegrationJob kills a job a few times, and the broker once, and compares
// what the job delivered with what was written.
func TestIntegrationJob(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{})
	w := newRealWorld(t, cluster.Addrs())
	hits := w.topic("hits", jobPartitions)
	want := w.fillMixed(hits, jobPartitions, 300)
	pw := pipelinetest.NewWorld(t)
	pw.CheckpointEvery(6)
	for _, n := range []int{40, 150, 200} {
		pw.KillAt(pipelinetest.AtRead, n)
	}
	brokerKill := sync.OnceFunc(func() { cluster.Kill(0) })
	back := make(chan error, 1)
	seen := 0
	err := pw.Run(func(opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(1), pipeline.BatchSize(8)}, opts...)...)
		cfg := bounded(w.config(hits))
		cfg.PartitionBytes = 1 << 10 // or all would have been fetched before the kill
		in := pipeline.From(p, "hits", pipelinetest.Watched(pw, text(cfg)))
		out := operators.Map(in, "upper", func(s string) string {
			if seen++; seen == 500 {
				brokerKill()
				go func() { back <- cluster.Restart(context.Background(), 0) }()
			}
			return strings.ToUpper(s)
		})
		pipeline.To(out, "out", pipelinetest.NewLedger[string](pw, "out"))
		return p
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-back; err != nil {
		t.Error(err)
	}
	if n := pw.Kills()[pipelinetest.AtRead]; n != 3 {
		t.Errorf("%d kills, want 3", n)
	}
	var got []string
	for _, r := range pipelinetest.NewLedger[string](pw, "out").Records() {
		got = append(got, r.Value)
	}
	for i, v := range want {
		want[i] = strings.ToUpper(v)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d records, want %d", len(got), len(want))
	}
}

// TestIntegrationSecure is refused for its password, for its rights, and for its
// trust, and then reads.
func TestIntegrationSecure(t *testing.T) {
	cluster := realkafka.NewSecure(t, nil)
	w := newRealWorld(t, cluster.Addrs())
	hits := w.topic("hits", 1)
	w.produce(hits, 0, "a")
	cfg := bounded(w.config(hits))
	cfg.Brokers = cluster.SecureAddrs()
	cfg.StartTimeout = 5 * time.Second
	refused := func(want string, opts ...kgo.Opt) {
		t.Helper()
		cfg.Client = quick(opts...)
		_, err := text(cfg).Open(t.Context(), env(0, 1))
		wantError(t, err, want)
		t.Log(err)
	}
	wrong := scram.Auth{User: realkafka.User, Pass: "guess"}
	refused(kerr.SaslAuthenticationFailed.Message, kgo.DialTLSConfig(cluster.TLS()), kgo.SASL(wrong.AsSha256Mechanism()))
	refused("certificate", kgo.DialTLS())
	refused("allow READ and DESCRIBE", cluster.SecureClient()...)
	cluster.Grant(t,
		realkafka.Right{Operation: kmsg.ACLOperationRead, Resource: kmsg.ACLResourceTypeTopic, Name: hits},
		realkafka.Right{Operation: kmsg.ACLOperationDescribe, Resource: kmsg.ACLResourceTypeTopic, Name: hits})
	cfg.Client = quick(cluster.SecureClient()...)
	r := open(t, text(cfg), env(0, 1))
	r.toEnd()
	r.wantValues([]string{"a"})
}
