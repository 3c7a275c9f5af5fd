//go:build integration

package kafka_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millrace/millrace/internal/realkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
)

// secured is a broker that wants TLS and a password and asks for rights, with a job
// that copies records from topic in to topic out.
type secured struct {
	*world  // on the listener where everything is allowed
	cluster *realkafka.Cluster
	dir     string
	written []string // what out has to hold
}

// The broker allows less than others do, so that what is too much for it is easy to
// come by.
var tight = map[string]string{"transaction.max.timeout.ms": "60000", "offset.metadata.max.bytes": "300"}

func newSecured(t *testing.T) *secured {
	t.Helper()
	cluster := realkafka.NewSecure(t, tight)
	s := &secured{world: &world{t: t, brokers: cluster.Addrs()}, cluster: cluster, dir: t.TempDir()}
	for _, topic := range []string{"in", "out", "dead", "small", "least"} {
		realkafka.MakeTopic(t, s.brokers, topic, 2)
	}
	return s
}

func allow(op kmsg.ACLOperation, on kmsg.ACLResourceType, name string) realkafka.Right {
	return realkafka.Right{Operation: op, Resource: on, Name: name}
}

// documented are the rights that the package's documentation and the source's name
// for the job.
func documented() []realkafka.Right {
	return []realkafka.Right{
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, "out"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "copy"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "copy-offsets"),
		allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, "copy"),
		allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, "in"),
	}
}

// config is how the job connects, and what it asks for.
func (s *secured) config() kafka.Config {
	return kafka.Config{
		Brokers: s.cluster.SecureAddrs(), Client: quick(s.cluster.SecureClient()...),
		TransactionTimeout: 30 * time.Second, StartTimeout: long,
	}
}

func (s *secured) copyJob(cfg kafka.Config, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name("copy"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), asked(s.dir),
	}, opts...)...)
	in := pipeline.From(p, "in", source.Raw(source.Config{
		Brokers: cfg.Brokers, Topics: []string{"in"}, Bounded: true, Client: cfg.Client, StartTimeout: cfg.StartTimeout,
	}))
	pipeline.To(in, "out", kafka.Encode(kafka.NewProducer(cfg), "out", func(c source.Record[[]byte], r *kgo.Record) error {
		r.Key, r.Value = c.Key, c.Value
		return nil
	}))
	return p
}

// produce gives the job records to copy.
func (s *secured) produce(t *testing.T) {
	t.Helper()
	c := s.client()
	for range 10 {
		n := len(s.written)
		r := &kgo.Record{Topic: "in", Partition: int32(n % 2), Key: []byte("n"), Value: strconv.AppendInt(nil, int64(n), 10)}
		if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s.written = append(s.written, fmt.Sprintf("n=%d", n))
	}
}

// wantCopied runs the job, which has to end well, and compares the topics.
func (s *secured) wantCopied(t *testing.T) {
	t.Helper()
	mustRun(t, s.copyJob(s.config()))
	s.wantCommitted(t, "out", s.written)
}

// wantCommitted waits until a topic shows so many records, as a broker may do so a
// moment after it has decided on the transaction, and compares them.
func (s *secured) wantCommitted(t *testing.T, topic string, want []string) {
	t.Helper()
	var got []string
	await(t, fmt.Sprintf("%d records in %s", len(want), topic), func() bool {
		got = s.read(topic)
		return len(got) >= len(want)
	})
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("topic %s: got %d records, want %d\n%q\n%q", topic, len(got), len(want), got, want)
	}
}

func (s *secured) wantRefused(t *testing.T, cfg kafka.Config, parts ...string) {
	t.Helper()
	err := s.copyJob(cfg).Run(t.Context())
	wantError(t, err, parts...)
	t.Log(err)
}

// TestIntegrationSecure runs a job with exactly the rights that it is documented to
// need, and shows what it says when one of them, or something else, is not as it has
// to be. However often it is refused, its output stays exact.
func TestIntegrationSecure(t *testing.T) {
	s := newSecured(t)
	s.cluster.Grant(t, documented()...)
	s.produce(t)
	s.wantCopied(t)
	t.Run("rights", s.testRights)
	t.Run("half of a right", s.testHalfRights)
	t.Run("without source", s.testWithoutSource)
	t.Run("at least once", s.testLeastOnce)
	t.Run("connections", s.testConnections)
	t.Run("limits", s.testLimits)
	t.Run("missing topic", s.testMissingTopic)
	t.Run("too large", s.testTooLarge)
}

// testRights takes one right after another away.
func (s *secured) testRights(t *testing.T) {
	for i, want := range [][]string{
		{`topic "out": `, "allow WRITE"},
		{`transactional id "copy": `, "allow WRITE"},
		{`transactional id "copy-offsets": `, "allow WRITE"},
		{`consumer group "copy": `, "allow READ on it"},
		{`consumer group "copy" of`, "which tells those who may READ the job's topics"},
	} {
		right := documented()[i]
		t.Run("without "+right.String(), func(t *testing.T) {
			s.produce(t)
			s.cluster.Revoke(t, right)
			s.wantRefused(t, s.config(), want...)
			s.cluster.Grant(t, right)
			s.wantCopied(t)
		})
	}
}

// testHalfRights gives DESCRIBE in place of a right, with which more of the start
// succeeds.
func (s *secured) testHalfRights(t *testing.T) {
	for i, want := range map[int][]string{ // of the documented ones
		0: {`topic "out": `, "allow WRITE"},
		3: {`consumer group "copy"`, "allow READ on it"},
		4: {`topic "in": `, "allow READ"},
	} {
		right := documented()[i]
		t.Run(right.String(), func(t *testing.T) {
			half := right
			half.Operation = kmsg.ACLOperationDescribe
			s.produce(t)
			s.cluster.Revoke(t, right)
			s.cluster.Grant(t, half)
			s.wantRefused(t, s.config(), want...)
			s.cluster.Revoke(t, half)
			s.cluster.Grant(t, right)
			s.wantCopied(t)
		})
	}
}

// testWithoutSource has a job that reads nothing of Kafka's: it commits an offset of
// its output, which brokers take from readers only.
func (s *secured) testWithoutSource(t *testing.T) {
	s.cluster.Grant(t,
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, "small"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "feeding"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "feeding-offsets"),
		allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, "feeding"))
	run := func() error {
		p := pipeline.New(pipeline.Name("feeding"), pipeline.Logger(quiet), asked(t.TempDir()))
		pipeline.To(pipeline.From(p, "feed", ended(10)), "out", kafka.Encode(kafka.NewProducer(s.config()), "small", encodeNumber))
		return p.Run(t.Context())
	}
	err := run()
	wantError(t, err, `topic "small"`, "allow READ")
	t.Log(err)
	s.cluster.Grant(t, allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, "small"))
	if err := run(); err != nil {
		t.Error(err)
	}
	s.wantCommitted(t, "small", numbers(10))
}

// testLeastOnce has a job that needs no right but to write.
func (s *secured) testLeastOnce(t *testing.T) {
	s.cluster.Grant(t, allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, "least"))
	cfg := s.config()
	cfg.Delivery, cfg.TransactionTimeout = kafka.AtLeastOnce, 0
	p := pipeline.New(pipeline.Name("least"), pipeline.Logger(quiet))
	pipeline.To(pipeline.From(p, "feed", ended(10)), "out", kafka.Encode(kafka.NewProducer(cfg), "least", encodeNumber))
	mustRun(t, p)
	s.wantCommitted(t, "least", numbers(10))
}

// testConnections has the client and the listener misunderstand each other.
func (s *secured) testConnections(t *testing.T) {
	wrong := scram.Auth{User: realkafka.User, Pass: "guess"}
	for _, c := range []struct {
		name    string
		brokers []string
		client  []kgo.Opt
		want    string
	}{
		{"wrong password", s.cluster.SecureAddrs(), []kgo.Opt{kgo.DialTLSConfig(s.cluster.TLS()), kgo.SASL(wrong.AsSha256Mechanism())}, "invalid credentials"},
		{"no password", s.cluster.SecureAddrs(), []kgo.Opt{kgo.DialTLSConfig(s.cluster.TLS())}, "SASL is required"},
		{"unknown certificate", s.cluster.SecureAddrs(), []kgo.Opt{kgo.DialTLS()}, "certificate"},
		{"plain to TLS", s.cluster.SecureAddrs(), nil, "plaintext connection"},
		{"TLS to plain", s.cluster.Addrs(), s.cluster.SecureClient(), "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most wait for StartTimeout
			cfg := s.config()
			cfg.Brokers, cfg.Client, cfg.StartTimeout = c.brokers, quick(c.client...), 5*time.Second
			p := pipeline.New(pipeline.Name("copy"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), asked(t.TempDir()))
			pipeline.To(pipeline.From(p, "feed", ended(1)), "out", kafka.Encode(kafka.NewProducer(cfg), "out", encodeNumber))
			err := p.Run(t.Context())
			wantError(t, err, c.brokers[0], c.want)
			t.Log(err)
		})
	}
}

// testLimits asks for more than the broker allows.
func (s *secured) testLimits(t *testing.T) {
	s.produce(t)
	cfg := s.config()
	cfg.TransactionTimeout = 0
	s.wantRefused(t, cfg, "Config.TransactionTimeout is longer than the brokers allow", "transaction.max.timeout.ms")
	s.wantCopied(t)

	long := strings.Repeat("long", 60) // the job's name is in the metadata
	s.cluster.Grant(t, allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, long),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, long+"-offsets"),
		allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, long))
	err := s.copyJob(s.config(), pipeline.Name(long), asked(t.TempDir())).Run(t.Context())
	wantError(t, err, "offset.metadata.max.bytes")
	t.Log(err)
	if got := s.read("out"); len(got) != len(s.written) {
		t.Errorf("%d records, want %d: a job that could not commit shows some", len(got), len(s.written))
	}
}

func (s *secured) testMissingTopic(t *testing.T) {
	sink := func(brokers []string, client []kgo.Opt) error {
		cfg := s.config()
		cfg.Brokers, cfg.Client = brokers, quick(client...)
		p := pipeline.New(pipeline.Name("copy"), pipeline.Logger(quiet), asked(s.dir))
		pipeline.To(pipeline.From(p, "feed", ended(1)), "out", kafka.Encode(kafka.NewProducer(cfg), "missing", encodeNumber))
		return p.Run(t.Context())
	}
	wantError(t, sink(s.brokers, nil), `topic "missing" does not exist`)
	// Brokers do not tell those without rights whether it exists.
	wantError(t, sink(s.cluster.SecureAddrs(), s.cluster.SecureClient()), `topic "missing": `, "allow WRITE")
}

// testTooLarge writes records that are larger than the topic takes: they are dead
// letters if the job may ask how much that is.
func (s *secured) testTooLarge(t *testing.T) {
	s.topicLimit("small", 2000)
	ask := allow(kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeTopic, "small")
	rights := []realkafka.Right{
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, "dead"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTopic, "small"), allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeTopic, "small"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "large"),
		allow(kmsg.ACLOperationWrite, kmsg.ACLResourceTypeTransactionalId, "large-offsets"),
		allow(kmsg.ACLOperationRead, kmsg.ACLResourceTypeGroup, "large"),
	}
	s.cluster.Grant(t, rights...)
	const before = 10 // of the job without source
	run := func() error {
		p := pipeline.New(pipeline.Name("large"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), asked(t.TempDir()))
		out := kafka.NewProducer(s.config())
		pipeline.To(pipeline.From(p, "feed", ended(10)), "out", kafka.Encode(out, "small", encodeLarge))
		pipeline.To(pipeline.DeadLetters(p), "dead", kafka.DeadLetters(out, "dead"))
		return p.Run(t.Context())
	}
	err := run()
	wantError(t, err, `topic "small": a batch is larger than the brokers take: raise max.message.bytes`, "DESCRIBE_CONFIGS")
	t.Log(err)
	if got := s.read("small"); len(got) != before {
		t.Errorf("a failed job shows %d records", len(got)-before)
	}
	s.cluster.Grant(t, ask)
	if err := run(); err != nil {
		t.Fatal(err)
	}
	want := numbers(before)
	for n := range 10 {
		if n != 7 {
			want = append(want, fmt.Sprintf("n-%d=v", n))
		}
	}
	s.wantCommitted(t, "small", want)
	letters := s.records("dead", 1)
	h := headers(letters[0])
	if len(letters) != 1 || string(letters[0].Key) != "n-7" || len(letters[0].Value) != 5000 || h[kafka.HeaderOperator] != "out" ||
		!strings.Contains(h[kafka.HeaderError], "the topic takes 2000 (max.message.bytes)") {
		t.Errorf("%d letters: %s %d bytes, %q", len(letters), letters[0].Key, len(letters[0].Value), h)
	}
}

// encodeLarge makes the seventh number too large for topic small, whatever
// compression does.
func encodeLarge(n int, r *kgo.Record) error {
	r.Key, r.Value = fmt.Appendf(nil, "n-%d", n), []byte("v")
	if n == 7 {
		r.Value = make([]byte, 5000)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range r.Value {
			r.Value[i] = byte(rng.Uint32())
		}
	}
	return nil
}
