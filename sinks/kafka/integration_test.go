//go:build integration

package kafka_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/realkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
	source "github.com/millrace/millrace/sources/kafka"
	"github.com/millrace/millrace/state"
)

// These tests run a job in a process of its own, against Apache Kafka: it numbers
// the records of each key, so that whatever is lost, doubled or taken from a wrong
// state shows in what it writes.

// jobSpec is what a job's process is told.
type jobSpec struct {
	Name, In, Out string
	Brokers       []string
	Dir           string
	Interval      time.Duration
	Parallelism   int
	Endless       bool
}

// jobVariable is the environment variable that makes a test process a job's.
const jobVariable = "MILLRACE_TEST_KAFKA_JOB"

// TestIntegrationJobProcess is the process of the other tests' jobs.
func TestIntegrationJobProcess(t *testing.T) {
	raw := os.Getenv(jobVariable)
	if raw == "" {
		t.Skip("the other tests start it as a process of its own")
	}
	var spec jobSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		t.Fatal(err)
	}
	if err := numberJob(spec).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func numberJob(s jobSpec) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name(s.Name), pipeline.DefaultParallelism(s.Parallelism),
		pipeline.Checkpoints(s.Dir, pipeline.CheckpointInterval(s.Interval)),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	in := pipeline.From(p, "in", source.Raw(source.Config{Brokers: s.Brokers, Topics: []string{s.In}, Bounded: !s.Endless}))
	byKey := pipeline.KeyBy(in, func(r source.Record[[]byte]) string { return string(r.Key) })
	numbered := pipeline.Process(byKey, "number", func() *numbering { return &numbering{} })
	out := kafka.NewProducer(kafka.Config{Brokers: s.Brokers})
	pipeline.To(numbered, "out", kafka.Encode(out, s.Out, func(n number, r *kgo.Record) error {
		r.Key, r.Value = []byte(n.key), strconv.AppendInt(nil, n.n, 10)
		return nil
	}))
	return p
}

type number struct {
	key string
	n   int64
}

type numbering struct{ n *state.Value[string, int64] }

func (o *numbering) Open(c *pipeline.Context[string, number]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

func (o *numbering) Process(c *pipeline.Context[string, number], _ source.Record[[]byte]) error {
	n := o.n.Upsert()
	*n++
	c.Emit(number{c.Key(), *n})
	return nil
}

// jobProcess is a running process of a job.
type jobProcess struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func startJob(t *testing.T, s jobSpec) *jobProcess {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &jobProcess{Cmd: exec.Command(os.Args[0], "-test.run=^TestIntegrationJobProcess$", "-test.timeout=15m"), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), jobVariable+"="+string(raw))
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.ended <- p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-over
		if t.Failed() {
			t.Logf("what a job said:\n%s", p.out.String())
		}
	})
	return p
}

// written is the input of a test, and what has to come of it.
type written struct {
	perKey  map[string]int64
	records int
}

// writeNumbers writes records with keys of which some are far more frequent than
// others.
func writeNumbers(t *testing.T, brokers []string, topic string, records int) written {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := written{map[string]int64{}, records}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 10, 20_000)
	failed := make(chan error, 1)
	for i := range records {
		key := "user-" + strconv.FormatUint(zipf.Uint64(), 10)
		n.perKey[key]++
		c.Produce(t.Context(), &kgo.Record{Topic: topic, Key: []byte(key), Value: strconv.AppendInt(nil, int64(i), 10)}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	return n
}

// add takes in more of the input.
func (n *written) add(more written) {
	n.records += more.records
	for key, count := range more.perKey {
		n.perKey[key] += count
	}
}

// check compares what kcat reads, of committed transactions only, with what has to
// be there.
func (n written) check(t *testing.T, brokers []string, topic string) {
	t.Helper()
	seen := make(map[string][]bool, len(n.perKey))
	for key, count := range n.perKey {
		seen[key] = make([]bool, count)
	}
	wrong, lines := 0, realkafka.Kcat(t, brokers, topic, true)
	for _, l := range lines {
		i, err := strconv.Atoi(string(l.Value))
		all := seen[string(l.Key)]
		if err != nil || i < 1 || i > len(all) || all[i-1] {
			if wrong++; wrong <= 5 {
				t.Errorf("%s %s is not to be there, or is there twice", l.Key, l.Value)
			}
			continue
		}
		all[i-1] = true
	}
	if len(lines) != n.records || wrong > 0 {
		t.Errorf("%d results, %d of them wrong, want %d", len(lines), wrong, n.records)
	}
}

// wantNoOpenTransaction fails when a transaction is under way, or when one keeps
// readers from the end of a topic.
func wantNoOpenTransaction(t *testing.T, brokers []string, name, topic string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A broker that died after the decision writes it into the partitions when it is
	// back.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		stable, err := endOf(t, c, topic, 1)
		end, endErr := endOf(t, c, topic, 0)
		if err = errors.Join(err, endErr); err == nil && stable == end {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("readers of committed records of %s get to %d, it ends at %d: %v\n%s", topic, stable, end, err, openTransactions(t, c, topic))
		}
	}
	resp, err := kmsg.NewPtrListTransactionsRequest().RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range resp.TransactionStates {
		if strings.HasPrefix(s.TransactionalID, name) && s.TransactionState == "Ongoing" {
			t.Errorf("transaction %s is %s", s.TransactionalID, s.TransactionState)
		}
	}
}

// openTransactions describes the transactions that the brokers know of, and the
// producers that have one under way in a partition of a topic.
func openTransactions(t *testing.T, c *kgo.Client, topic string) string {
	t.Helper()
	var said strings.Builder
	list, err := kmsg.NewPtrListTransactionsRequest().RequestWith(t.Context(), c)
	if err != nil {
		return err.Error()
	}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	for _, s := range list.TransactionStates {
		describe.TransactionalIDs = append(describe.TransactionalIDs, s.TransactionalID)
	}
	described, err := describe.RequestWith(t.Context(), c)
	if err != nil {
		return err.Error()
	}
	for _, s := range described.TransactionStates {
		fmt.Fprintf(&said, "%+v\n", s)
	}
	producers := kmsg.NewPtrDescribeProducersRequest()
	of := kmsg.NewDescribeProducersRequestTopic()
	of.Topic = topic
	for p := range int32(partitions) {
		of.Partitions = append(of.Partitions, p)
	}
	producers.Topics = append(producers.Topics, of)
	active, err := producers.RequestWith(t.Context(), c)
	if err != nil {
		return err.Error()
	}
	for _, p := range active.Topics[0].Partitions {
		fmt.Fprintf(&said, "%s/%d: %+v\n", topic, p.Partition, p.ActiveProducers)
	}
	return said.String()
}

// endOf adds up where the partitions end, for an isolation level.
func endOf(t *testing.T, c *kgo.Client, topic string, isolation int8) (sum int64, err error) {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for p := range int32(outPartitions) {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		return 0, err
	}
	for _, rt := range resp.Topics {
		for _, p := range rt.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, err
			}
			sum += p.Offset
		}
	}
	return sum, nil
}

const (
	inPartitions  = 6
	outPartitions = 4
)

// newSpec makes topics and a place for checkpoints.
func newSpec(t *testing.T, brokers []string) jobSpec {
	t.Helper()
	name := realkafka.UniqueName("numbers")
	s := jobSpec{Name: name, In: name + "-in", Out: name + "-out", Brokers: brokers, Dir: t.TempDir(), Interval: 300 * time.Millisecond, Parallelism: 2}
	realkafka.MakeTopic(t, brokers, s.In, inPartitions)
	realkafka.MakeTopic(t, brokers, s.Out, outPartitions)
	return s
}

// fromEnv returns a number from the environment, for longer runs.
func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIntegrationRule26_KilledProcess kills the job's process 30 times while it
// works on two million records.
func TestIntegrationRule26_KilledProcess(t *testing.T) {
	records, kills := fromEnv(t, "MILLRACE_KAFKA_RECORDS", 2_000_000), fromEnv(t, "MILLRACE_KAFKA_KILLS", 30)
	brokers := realkafka.Shared(t)
	spec := newSpec(t, brokers)
	n := writeNumbers(t, brokers, spec.In, records)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	done := 0
	for done < kills {
		spec.Parallelism = []int{1, 2, 3, 2}[rng.IntN(4)]
		p := startJob(t, spec)
		select {
		case <-time.After(time.Duration(100+rng.IntN(1200)) * time.Millisecond):
			_ = p.Process.Signal(syscall.SIGKILL)
		case err := <-p.ended:
			p.ended <- err
		}
		if err := <-p.ended; p.ProcessState.ExitCode() > 0 {
			t.Fatalf("after %d kills: %v\n%s", done, err, p.out.String())
		} else if err == nil { // a fast machine: give it more to do
			n.add(writeNumbers(t, brokers, spec.In, records/4))
			continue
		}
		done++
	}
	restored := 0
	p := startJob(t, spec)
	if err := <-p.ended; err != nil {
		t.Fatalf("%v\n%s", err, p.out.String())
	}
	if strings.Contains(p.out.String(), "starting from a checkpoint") {
		restored++
	}
	if restored == 0 {
		t.Error("the last start was not from a checkpoint")
	}
	wantNoOpenTransaction(t, brokers, spec.Name, spec.Out)
	n.check(t, brokers, spec.Out)
}

// TestIntegrationBrokersKilled kills one of three brokers after another, also those
// that lead the transaction, while the job works.
func TestIntegrationBrokersKilled(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{Brokers: 3})
	brokers := cluster.Addrs()
	spec := newSpec(t, brokers)
	n := writeNumbers(t, brokers, spec.In, fromEnv(t, "MILLRACE_KAFKA_BROKER_RECORDS", 500_000))
	p := startJob(t, spec)
	awaitGroup(t, brokers, spec.Name) // a start is not to wait for more than its time-out
	kills := 0
	for running := true; running; {
		select {
		case err := <-p.ended:
			if err != nil {
				t.Fatalf("%v\n%s", err, p.out.String())
			}
			running = false
		case <-time.After(300 * time.Millisecond):
			i := kills % 3
			cluster.Kill(i)
			kills++
			time.Sleep(500 * time.Millisecond) // long enough for elections
			if err := cluster.Restart(t.Context(), i); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(cluster.AwaitInSync(t.Context(), spec.In), cluster.AwaitInSync(t.Context(), spec.Out)); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Log(kills, "brokers killed")
	if kills == 0 {
		t.Error("no broker was killed")
	}
	wantNoOpenTransaction(t, brokers, spec.Name, spec.Out)
	n.check(t, brokers, spec.Out)
}

// TestIntegrationBrokerAway takes the only broker away: before the job starts, for
// a minute while it works, and again and again until it has ended.
func TestIntegrationBrokerAway(t *testing.T) {
	cluster := realkafka.New(t, realkafka.Options{})
	brokers := cluster.Addrs()
	spec := newSpec(t, brokers)
	n := writeNumbers(t, brokers, spec.In, fromEnv(t, "MILLRACE_KAFKA_BROKER_RECORDS", 250_000))
	cluster.Kill(0)
	p := startJob(t, spec)
	outage := time.Duration(fromEnv(t, "MILLRACE_KAFKA_OUTAGE", 60)) * time.Second
	for _, away := range []time.Duration{2 * time.Second, outage} {
		time.Sleep(away)
		if err := cluster.Restart(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		awaitGroup(t, brokers, spec.Name)
		cluster.Kill(0)
	}
	outages := 2
	for running := true; running; outages++ {
		if err := cluster.Restart(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-p.ended:
			if err != nil {
				t.Fatalf("%v\n%s", err, p.out.String())
			}
			running = false
		case <-time.After(time.Second):
			cluster.Kill(0)
		}
	}
	t.Log(outages, "times away")
	if out := p.out.String(); !strings.Contains(out, "no connection to broker") {
		t.Errorf("the job does not say that brokers are away:\n%s", out)
	}
	wantNoOpenTransaction(t, brokers, spec.Name, spec.Out)
	n.check(t, brokers, spec.Out)
}

// TestIntegrationTwoCopies starts a job twice, each with checkpoints of its own.
func TestIntegrationTwoCopies(t *testing.T) {
	brokers := realkafka.Shared(t)
	spec := newSpec(t, brokers)
	n := writeNumbers(t, brokers, spec.In, 300_000)
	spec.Interval = 0 // nothing is committed before the end
	first := startJob(t, spec)
	awaitGroup(t, brokers, spec.Name)
	second := spec
	second.Dir = filepath.Join(t.TempDir(), "second")
	winner := startJob(t, second)
	if err := <-first.ended; err == nil {
		t.Fatalf("the first copy was not fenced:\n%s", first.out.String())
	} else if out := first.out.String(); !strings.Contains(out, "fenced") {
		t.Errorf("the first copy does not say that it was fenced:\n%s", out)
	}
	if err := <-winner.ended; err != nil {
		t.Fatalf("%v\n%s", err, winner.out.String())
	}
	n.check(t, brokers, spec.Out)
	// A third one has neither checkpoints nor a reason to fence anybody.
	third := spec
	third.Dir = filepath.Join(t.TempDir(), "third")
	loser := startJob(t, third)
	if err := <-loser.ended; err == nil || !strings.Contains(loser.out.String(), "does not hold") {
		t.Errorf("a copy without the checkpoints started: %v\n%s", err, loser.out.String())
	}
	n.check(t, brokers, spec.Out)
}

// awaitGroup waits until a transactional id is in use.
func awaitGroup(t *testing.T, brokers []string, id string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		resp, err := kmsg.NewPtrListTransactionsRequest().RequestWith(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range resp.TransactionStates {
			if s.TransactionalID == id && s.TransactionState == "Ongoing" {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("transactional id %q: %w", id, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
