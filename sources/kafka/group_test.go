package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/kafka"
)

// monitored is a world whose consumer groups a foreign client looks at.
type monitored struct {
	*world
	admin *kadm.Client
	fs    vfs.FS // of the job's checkpoints
}

const monitors = "monitors" // the group

func newMonitored(t *testing.T) *monitored {
	t.Helper()
	w := newWorld(t, devkafka.Topic{Name: "hits", Partitions: 2})
	return &monitored{w, kadm.NewClient(w.newClient()), vfs.NewMem()}
}

func (w *monitored) config() kafka.Config {
	cfg := w.world.config("hits")
	cfg.Group = monitors
	return cfg
}

// offsets returns what is committed to the group.
func (w *monitored) offsets() map[int32]int64 {
	w.t.Helper()
	all, err := w.admin.FetchOffsets(context.Background(), monitors)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		w.t.Fatal(err)
	}
	at := map[int32]int64{}
	for p, o := range all["hits"] {
		at[p] = o.At
	}
	return at
}

func (w *monitored) awaitOffsets(want map[int32]int64) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("offsets %v in the group", want), func() bool { return maps.Equal(w.offsets(), want) })
}

// lag is what a monitor sees.
func (w *monitored) lag() int64 {
	w.t.Helper()
	lags, err := w.admin.Lag(context.Background(), monitors)
	if err = errors.Join(err, lags.Error()); err != nil {
		w.t.Fatal(err)
	}
	return lags[monitors].Lag.Total()
}

// alter commits an offset of partition 0 in the group's name.
func (w *monitored) alter(at int64, metadata string) {
	w.t.Helper()
	o := kadm.Offsets{}
	o.Add(kadm.Offset{Topic: "hits", At: at, LeaderEpoch: -1, Metadata: metadata})
	resp, err := w.admin.CommitOffsets(context.Background(), monitors, o)
	if err = errors.Join(err, resp.Error()); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * long); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// running is a job in the background.
type running struct {
	*pipeline.Pipeline
	t     *testing.T
	out   *memory.Sink[string]
	stop  context.CancelFunc
	ended chan error
}

// start starts a job that copies the topic, with checkpoints where the test asks
// and at its end.
func (w *monitored) start(t *testing.T, src pipeline.Source[string], opts ...pipeline.Option) *running {
	t.Helper()
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name("copies"), pipeline.DefaultParallelism(1), pipeline.Logger(slog.New(slog.DiscardHandler)),
		pipeline.Checkpoints("/job", pipeline.CheckpointFiles(w.fs), pipeline.CheckpointInterval(0)),
	}, opts...)...)
	r := &running{Pipeline: p, t: t, ended: make(chan error, 1)}
	r.out = memory.Collect(pipeline.From(p, "hits", src), "out")
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- p.Run(ctx) }()
	t.Cleanup(stop)
	return r
}

func (r *running) reads(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	if err := r.out.Wait(ctx, n); err != nil {
		r.t.Fatalf("%d records read, want %d: %v", r.out.Len(), n, err)
	}
}

func (r *running) checkpoint() {
	r.t.Helper()
	if err := r.Checkpoint(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// end returns what the job ended with.
func (r *running) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(2 * long):
		r.t.Fatal("the job does not end")
		return nil
	}
}

// stops ends the job well.
func (r *running) stops() {
	r.t.Helper()
	r.stop()
	if err := r.end(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) counter(name string) int64 {
	n := int64(0)
	for _, op := range r.Stats() {
		n += op.Counters[name]
	}
	return n
}

// lags returns the job's own figures of its partitions, and their sum as it has it.
func (r *running) lags() (splits map[string]int64, sum int64) {
	splits = map[string]int64{}
	for _, op := range r.Stats() {
		sum += op.Gauges["lag"]
		for _, s := range op.Splits {
			splits[s.Name] = s.Gauges["lag"]
		}
	}
	return splits, sum
}

// TestGroupHasTheCheckpointsOffsets and not those of what was read since.
func TestGroupHasTheCheckpointsOffsets(t *testing.T) {
	for parallelism := 1; parallelism <= 3; parallelism++ {
		w := newMonitored(t)
		w.produce("hits", 0, "a", "b", "c")
		w.produce("hits", 1, "d", "e")
		job := w.start(t, text(w.config()), pipeline.DefaultParallelism(parallelism))
		job.reads(5)
		job.checkpoint()
		w.awaitOffsets(map[int32]int64{0: 3, 1: 2})
		if lag := w.lag(); lag != 0 {
			t.Errorf("a monitor sees a lag of %d records behind a checkpoint of all", lag)
		}
		w.produce("hits", 0, "f", "g")
		job.reads(7)
		if lag := w.lag(); lag != 2 {
			t.Errorf("a monitor sees a lag of %d records, want 2: they are in no checkpoint", lag)
		}
		eventually(t, "the job's own lag is that of what it has read", func() bool {
			splits, sum := job.lags()
			return sum == 0 && maps.Equal(splits, map[string]int64{"hits/0": 0, "hits/1": 0})
		})
		job.checkpoint()
		w.awaitOffsets(map[int32]int64{0: 5, 1: 2})
		w.produce("hits", 1, "h")
		job.reads(8)
		job.stops() // with a last checkpoint
		if got, want := w.offsets(), map[int32]int64{0: 5, 1: 3}; !maps.Equal(got, want) {
			t.Errorf("after the job the group has %v, want %v", got, want)
		}
		if n := job.counter("offset_commits"); n < 3 || job.counter("offset_commit_failures") != 0 {
			t.Errorf("%d commits counted, and %d that failed", n, job.counter("offset_commit_failures"))
		}
	}
}

// TestGroupDecidesNothing: whatever somebody commits to the group, the job goes on
// from its checkpoint.
func TestGroupDecidesNothing(t *testing.T) {
	w := newMonitored(t)
	w.produce("hits", 0, "a", "b", "c")
	job := w.start(t, text(w.config()))
	job.reads(3)
	job.stops()
	w.awaitOffsets(map[int32]int64{0: 3, 1: 0})
	w.alter(1, "")
	w.produce("hits", 0, "d")
	job = w.start(t, text(w.config()))
	job.reads(1)
	job.checkpoint()
	w.awaitOffsets(map[int32]int64{0: 4, 1: 0})
	job.stops()
	if got := job.out.Values(); !slices.Equal(got, []string{"d"}) {
		t.Errorf("the second start read %q, want only what is behind its checkpoint", got)
	}
}

// TestOrderedSourceCommits what it has handed on, at the end all.
func TestOrderedSourceCommits(t *testing.T) {
	w := newMonitored(t)
	w.produce("hits", 0, "a", "b", "c")
	cfg := bounded(w.config())
	cfg.Ordered = true
	job := w.start(t, text(cfg))
	if err := job.end(); err != nil {
		t.Fatal(err)
	}
	if got, want := w.offsets(), map[int32]int64{0: 3, 1: 0}; !maps.Equal(got, want) {
		t.Errorf("the group has %v, want %v", got, want)
	}
}

// TestOffsetsAreRefusedForAWhile by brokers that are busy: the job goes on, and the
// next checkpoint commits all.
func TestOffsetsAreRefusedForAWhile(t *testing.T) {
	w, log := newMonitored(t), newLogBook()
	w.produce("hits", 0, "a")
	var quiet atomic.Bool
	respond(w.world, func(req *kmsg.OffsetCommitRequest) kmsg.Response {
		if quiet.Load() {
			return nil
		}
		return refusedCommit(req, kerr.UnknownMemberID)
	})
	job := w.start(t, text(w.config()), pipeline.Logger(slog.New(slog.NewTextHandler(log, nil))))
	job.reads(1)
	job.checkpoint()
	eventually(t, "the failure is counted", func() bool { return job.counter("offset_commit_failures") == 1 })
	log.await(t, "offsets are not committed")
	if got := w.offsets(); len(got) > 0 {
		t.Errorf("the group has %v", got)
	}
	quiet.Store(true)
	w.produce("hits", 0, "b")
	job.reads(2)
	job.checkpoint()
	w.awaitOffsets(map[int32]int64{0: 2, 1: 0})
	job.stops()
}

// refusedCommit answers a commit with an error for every partition.
func refusedCommit(req *kmsg.OffsetCommitRequest, err *kerr.Error) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, err.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// TestBrokerAwayAtACommit: neither the job nor its next checkpoint minds.
func TestBrokerAwayAtACommit(t *testing.T) {
	dir := t.TempDir()
	b, err := devkafka.Start(devkafka.Options{Dir: dir, Topics: []devkafka.Topic{{Name: "hits"}}})
	if err != nil {
		t.Fatal(err)
	}
	addr := b.Addr()
	var port int
	if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	w := &monitored{world: &world{t: t, broker: b}, fs: vfs.NewMem()}
	w.client = w.newClient()
	w.admin = kadm.NewClient(w.newClient())
	w.produce("hits", 0, "a")
	cfg := w.config()
	cfg.Client = append(cfg.Client, kgo.RequestRetries(1)) // or a commit tries for seconds
	job := w.start(t, text(cfg))
	job.reads(1)
	b.Close()
	job.checkpoint()
	eventually(t, "the failure is counted", func() bool { return job.counter("offset_commit_failures") == 1 })
	if w.broker, err = devkafka.Start(devkafka.Options{Dir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.broker.Close)
	w.produce("hits", 0, "b")
	job.reads(2)
	eventually(t, "a checkpoint's offsets are committed", func() bool {
		job.checkpoint()
		return job.counter("offset_commits") > 0
	})
	w.awaitOffsets(map[int32]int64{0: 2})
	job.stops()
}

// TestGroupOfSomebodyElse is refused before the job writes to it.
func TestGroupOfSomebodyElse(t *testing.T) {
	const pointer = `{"millrace":1,"job":"orders","number":7,"checkpoint":"7@run"}`
	w := newMonitored(t)
	w.alter(40, pointer)
	job := w.start(t, text(w.config()))
	wantError(t, job.end(), `consumer group "monitors": checkpoints are recorded in it, of the job "orders"`, "Config.Group")

	w.alter(40, "")
	job = w.start(t, text(w.config()))
	w.produce("hits", 0, "a")
	job.reads(1)
	w.alter(41, pointer) // while it runs
	job.checkpoint()
	wantError(t, job.end(), `acknowledge checkpoint 1: consumer group "monitors": checkpoints are recorded in it`)
	if got := w.offsets(); got[0] != 41 {
		t.Errorf("the group has %v, the other job's offset was 41", got)
	}
}

func TestGroupWithMembers(t *testing.T) {
	w := newMonitored(t)
	member := w.newClient(kgo.ConsumerGroup(monitors), kgo.ConsumeTopics("hits"))
	eventually(t, "the group has a member", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		member.PollFetches(ctx)
		groups, err := w.admin.DescribeGroups(context.Background(), monitors)
		return err == nil && len(groups[monitors].Members) == 1
	})
	wantError(t, w.start(t, text(w.config())).end(), `consumer group "monitors": it has 1 members`, "stop them", "Config.Group")
}

func TestGroupNotAllowed(t *testing.T) {
	w := newMonitored(t)
	var allowed atomic.Bool
	respond(w.world, func(req *kmsg.OffsetFetchRequest) kmsg.Response {
		if allowed.Load() {
			return nil
		}
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, kerr.GroupAuthorizationFailed.Code
			resp.Groups = append(resp.Groups, rg)
		}
		return resp
	})
	wantError(t, w.start(t, text(w.config())).end(), `consumer group "monitors": the brokers refuse`, "allow READ on the group")

	allowed.Store(true)
	respond(w.world, func(req *kmsg.OffsetCommitRequest) kmsg.Response {
		return refusedCommit(req, kerr.GroupAuthorizationFailed)
	})
	w.produce("hits", 0, "a")
	job := w.start(t, text(w.config()))
	job.reads(1)
	job.checkpoint()
	wantError(t, job.end(), `acknowledge checkpoint 1: consumer group "monitors"`, "allow READ on the group")
}

func TestGroupNeedsCheckpoints(t *testing.T) {
	w := newMonitored(t)
	wantError(t, startError(t, w.config(), nil), "invalid config: Group is set, and the job takes no checkpoints")
}

// TestLagOfPartitions is there from the start, and ends with a partition.
func TestLagOfPartitions(t *testing.T) {
	w := newMonitored(t)
	w.produce("hits", 0, "a", "b", "c")
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(slog.New(slog.DiscardHandler)))
	started, gate := make(chan struct{}), make(chan struct{})
	src := kafka.Decode(bounded(w.world.config("hits")), func(r *kgo.Record) (string, error) {
		if r.Offset == 0 {
			close(started)
			<-gate
		}
		return string(r.Value), nil
	})
	memory.Collect(pipeline.From(p, "hits", src), "out")
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	<-started
	job := &running{Pipeline: p, t: t}
	if splits, sum := job.lags(); sum != 3 || splits["hits/0"] != 3 {
		t.Errorf("before the first record, the lag is %d, %v", sum, splits)
	}
	close(gate)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, op := range p.Stats() {
		for _, s := range op.Splits {
			if !s.Finished || len(s.Gauges) > 0 {
				t.Errorf("at the end of input: %+v", s)
			}
		}
	}
	if _, sum := job.lags(); sum != 0 {
		t.Errorf("at the end of input the lag is %d", sum)
	}
}
