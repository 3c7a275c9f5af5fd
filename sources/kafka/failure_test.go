package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/kafka"
)

func startError(t *testing.T, cfg kafka.Config, positions map[string]string) error {
	t.Helper()
	e := env(0, 1)
	for split, at := range positions {
		if e.Positions == nil {
			e.Positions = map[string][]byte{}
		}
		e.Positions[split] = []byte(at)
	}
	reader, err := text(cfg).Open(t.Context(), e)
	if err == nil {
		_ = reader.(pipeline.Closer).Close()
		t.Error("the start went well")
	}
	return err
}

func TestBadConfig(t *testing.T) {
	good := kafka.Config{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"hits"}}
	for want, change := range map[string]func(*kafka.Config){
		"Brokers names none":                func(c *kafka.Config) { c.Brokers = nil },
		"neither Topics nor Pattern":        func(c *kafka.Config) { c.Topics = nil },
		"both Topics and Pattern":           func(c *kafka.Config) { c.Pattern = "h.*" },
		"Pattern: error parsing regexp":     func(c *kafka.Config) { c.Topics, c.Pattern = nil, "(" },
		`Topics names "hits" twice`:         func(c *kafka.Config) { c.Topics = []string{"hits", "hits"} },
		"Refresh is negative":               func(c *kafka.Config) { c.Refresh = -1 },
		"StartTimeout is negative":          func(c *kafka.Config) { c.StartTimeout = -1 },
		"FetchBytes is -1":                  func(c *kafka.Config) { c.FetchBytes = -1 },
		"PartitionBytes is 9":               func(c *kafka.Config) { c.FetchBytes, c.PartitionBytes = 8, 9 },
		"Reset is 7":                        func(c *kafka.Config) { c.Reset = 7 },
		"Client sets a consumer group":      func(c *kafka.Config) { c.Client = []kgo.Opt{kgo.ConsumerGroup("g")} },
		"Client sets a consumer group or t": func(c *kafka.Config) { c.Client = []kgo.Opt{kgo.ConsumeTopics("t")} },
		"invalid config: Client: ":          func(c *kafka.Config) { c.Client = []kgo.Opt{kgo.MaxBufferedRecords(-1)} },
	} {
		cfg := good
		change(&cfg)
		wantError(t, startError(t, cfg, nil), "invalid config: ", want)
	}
	_, err := kafka.Decode[int](good, nil).Open(t.Context(), env(0, 1))
	wantError(t, err, "the decoder is nil")
}

func TestStartErrors(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	w.produce("hits", 0, "a", "b", "c")
	pattern := w.config()
	pattern.Pattern = "none.*"
	offsets := w.config("hits")
	offsets.Start = kafka.FromOffsets(map[string]map[int32]int64{"hits": {1: 0}})
	beyond := w.config("hits")
	beyond.Start = kafka.FromOffsets(map[string]map[int32]int64{"hits": {0: 4}})
	for _, c := range []struct {
		name      string
		cfg       kafka.Config
		positions map[string]string
		want      string
	}{
		{"missing topic", w.config("hits", "clicks"), nil, `topic "clicks": topic does not exist`},
		{"no match", pattern, nil, `no topic matches pattern "none.*"`},
		{"no such partition", offsets, nil, `Start names partition 1 of topic "hits", which has 1`},
		{"offset beyond the end", beyond, nil, "partition hits/0: offset 4 is out of range: the log ends at 3"},
		{"position beyond the end", w.config("hits"), map[string]string{"hits/0": `{"v":1,"offset":9}`}, "offset 9 is out of range: the log ends at 3"},
		{"other topic", w.config("hits"), map[string]string{"hits/0": `{"v":1,"offset":1,"topic":"000102030405060708090a0b0c0d0e0f"}`},
			`topic "hits" was deleted and made again`},
		{"fewer partitions", w.config("hits"), map[string]string{"hits/3": `{"v":1,"offset":1}`}, `it has 1 partitions, and the checkpoint a position in partition 3`},
		{"version", w.config("hits"), map[string]string{"hits/0": `{"v":2,"offset":1}`}, "version 2 is unknown, want 1"},
		{"foreign split", w.config("hits"), map[string]string{"a.log": `{"v":1}`}, `split "a.log" is no partition of a topic`},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, startError(t, c.cfg, c.positions), c.want) })
	}
}

func TestUnreachableBroker(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	err := startError(t, kafka.Config{Brokers: []string{addr}, Topics: []string{"hits"}, StartTimeout: 100 * time.Millisecond, Client: quick()}, nil)
	wantError(t, err, addr, "connection refused")
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// TestBrokerComesLater starts the job first.
func TestBrokerComesLater(t *testing.T) {
	port := freePort(t)
	book := newLogBook()
	e := env(0, 1)
	e.Logger = slog.New(slog.NewTextHandler(book, nil))
	cfg := kafka.Config{Brokers: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Topics: []string{"hits"}, StartTimeout: long, Client: quick()}
	opened := make(chan error, 1)
	go func() {
		reader, err := text(cfg).Open(context.Background(), e)
		if err == nil {
			err = reader.(pipeline.Closer).Close()
		}
		opened <- err
	}()
	book.await(t, "no connection to broker, waiting for it")
	b, err := devkafka.Start(devkafka.Options{Port: port, Topics: []devkafka.Topic{{Name: "hits"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := <-opened; err != nil && !strings.Contains(err.Error(), "topic does not exist") { // it may be a moment ahead of the topic
		t.Error(err)
	}
}

// TestSilentBroker connects to something that never answers.
func TestSilentBroker(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	err = startError(t, kafka.Config{Brokers: []string{ln.Addr().String()}, Topics: []string{"hits"}, StartTimeout: 50 * time.Millisecond, Client: quick()}, nil)
	wantError(t, err, ln.Addr().String(), "no answer within 50ms")
}

func TestAuthentication(t *testing.T) {
	user := scram.Auth{User: "job", Pass: "right"}
	w := newWorldWith(t, devkafka.Options{
		Topics: []devkafka.Topic{{Name: "hits"}}, Client: []kgo.Opt{kgo.SASL(user.AsSha256Mechanism())},
		Setup: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "job", "right")},
	})
	w.produce("hits", 0, "a")
	cfg := bounded(w.config("hits"))
	began := time.Now()
	wrong := scram.Auth{User: "job", Pass: "wrong"}
	cfg.Client = quick(kgo.SASL(wrong.AsSha256Mechanism()))
	// This broker closes the connection; others say why.
	wantError(t, startError(t, cfg, nil), w.broker.Addr(), "refuses the authentication")
	respond(w, func(req *kmsg.SASLAuthenticateRequest) kmsg.Response {
		if !strings.Contains(string(req.SASLAuthBytes), "n=who") {
			return nil
		}
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		resp.ErrorMessage = kmsg.StringPtr("no such user")
		return resp
	})
	wrong.User = "who"
	cfg.Client = quick(kgo.SASL(wrong.AsSha256Mechanism()))
	if err := startError(t, cfg, nil); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("got %v, want that authentication failed", err)
	}
	if took := time.Since(began); took > long/2 {
		t.Errorf("it took %v to say so", took)
	}
	cfg.Client = quick(kgo.SASL(user.AsSha256Mechanism()))
	r := open(t, text(cfg), env(0, 1))
	r.toEnd()
	if r.count() != 1 {
		t.Errorf("got %v", r.values)
	}
}

func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	trusting := []kgo.Opt{kgo.DialTLSConfig(&tls.Config{RootCAs: roots})}
	server := &tls.Config{Certificates: certified.TLS.Certificates}
	w := newWorldWith(t, devkafka.Options{
		Topics: []devkafka.Topic{{Name: "hits"}}, Setup: []kfake.Opt{kfake.TLS(server)}, Client: trusting,
	})
	w.produce("hits", 0, "a")
	cfg := bounded(w.config("hits"))
	cfg.Client = quick(trusting...)
	r := open(t, text(cfg), env(0, 1))
	r.toEnd()
	if r.count() != 1 {
		t.Errorf("got %v", r.values)
	}
	cfg.StartTimeout = time.Second
	cfg.Client = quick(kgo.DialTLS())
	wantError(t, startError(t, cfg, nil), w.broker.Addr(), "certificate")
}

// TestWrongProtocol speaks TLS to a broker that does not.
func TestWrongProtocol(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	cfg := w.config("hits")
	cfg.StartTimeout = 100 * time.Millisecond
	cfg.Client = quick(kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true}), kgo.DialTimeout(50*time.Millisecond))
	wantError(t, startError(t, cfg, nil), w.broker.Addr())
}

// respond lets the broker answer requests of a kind with what f makes of them.
func respond[R kmsg.Request](w *world, f func(R) kmsg.Response) {
	var r R
	w.broker.Cluster().ControlKey(r.Key(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.broker.Cluster().KeepControl()
		resp := f(req.(R))
		return resp, nil, resp != nil
	})
}

func TestTopicRefused(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	respond(w, func(req *kmsg.MetadataRequest) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode = t.Topic, kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
	wantError(t, startError(t, w.config("hits"), nil), `topic "hits"`, "allow READ and DESCRIBE")
}

// deleteRecords removes what is before an offset, as retention does.
func (w *world) deleteRecords(topic string, before int64) {
	w.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rt.Topic, rp.Offset = topic, before
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if _, err := req.RequestWith(context.Background(), w.client); err != nil {
		w.t.Fatal(err)
	}
}

func TestOutOfRangeAtStart(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	w.produce("hits", 0, "a", "b", "c", "d")
	w.deleteRecords("hits", 2)
	at := map[string]string{"hits/0": `{"v":1,"offset":1,"epoch":0}`}
	wantError(t, startError(t, w.config("hits"), at), "partition hits/0", "offset 1 is out of range", "retention has removed the records up to 2, 1 of them unread")

	for reset, want := range map[kafka.Reset][]string{kafka.ResetEarliest: {"c", "d", "e"}, kafka.ResetLatest: {"e"}} {
		w := newWorld(t, devkafka.Topic{Name: "hits"})
		w.produce("hits", 0, "a", "b", "c", "d")
		w.deleteRecords("hits", 2)
		cfg := w.config("hits")
		cfg.Reset = reset
		e := env(0, 1)
		e.Positions = map[string][]byte{"hits/0": []byte(at["hits/0"])}
		r := open(t, text(cfg), e)
		r.placed(1)
		w.produce("hits", 0, "e")
		r.records(len(want))
		if got := r.values["hits/0"]; !slices.Equal(got, want) {
			t.Errorf("reset %d: got %q, want %q", reset, got, want)
		}
	}
}

// What the broker answers to fetches, see heldFetches.
const (
	answers = iota
	holds
	outOfRange
)

// heldFetches lets the broker hold back what it has, and then say that it is not
// there any more. It returns the switch, and a notice of a fetch that was held.
func heldFetches(w *world) (mode *atomic.Int32, held chan struct{}) {
	mode, held = &atomic.Int32{}, make(chan struct{}, 1)
	respond(w, func(req *kmsg.FetchRequest) kmsg.Response {
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		switch mode.Load() {
		case answers:
			return nil
		case holds:
			select {
			case held <- struct{}{}:
			default:
			}
			return resp
		}
		mode.Store(answers)
		for _, t := range req.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.ErrorCode = kerr.OffsetOutOfRange.Code
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
	return mode, held
}

// TestOutOfRangeWhileReading has retention overtake a reader that is slow.
func TestOutOfRangeWhileReading(t *testing.T) {
	for _, reset := range []kafka.Reset{kafka.ResetRefused, kafka.ResetEarliest} {
		w := newWorld(t, devkafka.Topic{Name: "hits"})
		w.produce("hits", 0, "a")
		mode, held := heldFetches(w)
		cfg := w.config("hits")
		cfg.Reset = reset
		cfg.Client = quick(kgo.DisableFetchSessions())
		r := open(t, text(cfg), env(0, 1))
		r.records(1)
		mode.Store(holds)
		<-held
		w.produce("hits", 0, "b", "c", "d")
		w.deleteRecords("hits", 3)
		mode.Store(outOfRange)
		if reset == kafka.ResetRefused {
			wantError(t, r.failure(), "partition hits/0: offset 1 is out of range", "up to 3, 2 of them unread")
			continue
		}
		want := []string{"a", "d", "e"}
		w.produce("hits", 0, "e")
		r.records(len(want))
		if got := r.values["hits/0"]; !slices.Equal(got, want) {
			t.Errorf("reset %d: got %q, want %q", reset, got, want)
		}
	}
}

// TestLogCut has the broker say that the log was cut before the position, as
// after an unclean election.
func TestLogCut(t *testing.T) {
	for _, reset := range []kafka.Reset{kafka.ResetRefused, kafka.ResetEarliest} {
		w := newWorld(t, devkafka.Topic{Name: "hits"})
		w.produce("hits", 0, "a", "b", "c", "d")
		respond(w, func(req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rt.Topic, rp.EndOffset, rp.LeaderEpoch = "hits", 1, 0
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp
		})
		cfg := w.config("hits")
		cfg.Reset = reset
		e := env(0, 1)
		e.Positions = map[string][]byte{"hits/0": []byte(`{"v":1,"offset":3,"epoch":0}`)}
		r := open(t, text(cfg), e)
		if reset == kafka.ResetRefused {
			wantError(t, r.failure(), "partition hits/0: the log was cut")
			continue
		}
		r.records(3)
		if got, want := r.values["hits/0"], []string{"b", "c", "d"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestTopicDeleted ends the job instead of waiting for ever.
func TestTopicDeleted(t *testing.T) {
	for _, again := range []bool{false, true} {
		w := newWorld(t, devkafka.Topic{Name: "hits"})
		w.produce("hits", 0, "a")
		cfg := w.config("hits")
		cfg.Refresh = 10 * time.Millisecond
		r := open(t, text(cfg), env(0, 1))
		r.records(1)
		w.deleteTopic("hits")
		if again {
			w.addTopic("hits")
		}
		wantError(t, r.failure(), `topic "hits"`)
	}
}

// TestBrokerAway stops the broker for a while: the reader waits, says so, and
// goes on.
func TestBrokerAway(t *testing.T) {
	dir := t.TempDir()
	o := devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits", Partitions: 2}}}
	w := newWorldWith(t, o)
	w.fill("hits", 2, 20)
	if _, err := fmt.Sscanf(w.broker.Addr(), "127.0.0.1:%d", &o.Port); err != nil {
		t.Fatal(err)
	}
	book := newLogBook()
	e := env(0, 1)
	e.Logger = slog.New(slog.NewTextHandler(book, nil))
	cfg := w.config("hits")
	cfg.Refresh = 10 * time.Millisecond
	cfg.StartTimeout = time.Second
	r := open(t, text(cfg), e)
	r.records(40)
	w.broker.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		book.await(t, "no connection to broker, waiting for it")
	}()
	for ctx.Err() == nil {
		if err := r.read(ctx); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(book.String(), "no connection to broker"); n > 3 {
		t.Errorf("it said so %d times:\n%s", n, book)
	}
	b, err := devkafka.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	w.fill("hits", 2, 20)
	r.records(80)
	book.await(t, "connected to broker again")
	for split, values := range r.values {
		if split != "" && len(values) != 40 {
			t.Errorf("split %s: %d records, want 40", split, len(values))
		}
	}
}

// TestCloseWhileBrokerIsAway ends at once.
func TestCloseWhileBrokerIsAway(t *testing.T) {
	w := newWorld(t, devkafka.Topic{Name: "hits"})
	w.produce("hits", 0, "a")
	cfg := w.config("hits")
	cfg.Refresh = 5 * time.Millisecond
	r := open(t, text(cfg), env(0, 1))
	r.records(1)
	w.broker.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	began := time.Now()
	r.close()
	if took := time.Since(began); took > long/2 {
		t.Errorf("it took %v", took)
	}
}
