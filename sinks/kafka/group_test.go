package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/files"
	"github.com/millrace/millrace/sinks/kafka"
)

// committed is what a group has of a partition.
type committed struct {
	offset   int64
	metadata string
}

// offsets returns what a group has committed, by topic/partition.
func (w *world) offsets(group string) map[string]committed {
	w.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(w.t.Context(), w.client())
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]committed{}
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			all[t.Topic+"/"+strconv.Itoa(int(p.Partition))] = committed{p.Offset, *p.Metadata}
		}
	}
	return all
}

// commitOffset commits an offset as any other program might.
func (w *world) commitOffset(group, topic, metadata string) {
	w.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Metadata = &metadata
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	c := w.client(kgo.MaxVersions(kversion.V3_0_0()))
	resp, err := req.RequestWith(w.t.Context(), c)
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteGroup(group string) {
	w.t.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(w.t.Context(), w.client())
	if err == nil {
		err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// join joins a group until the test ends.
func (w *world) join(group, topic string, opts ...kgo.Opt) *kgo.Client {
	w.t.Helper()
	joined := make(chan struct{}, 10)
	c := w.client(append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, _ map[string][]int32) { joined <- struct{}{} }))...)
	go c.PollFetches(w.t.Context())
	select {
	case <-joined:
	case <-time.After(long):
		w.t.Fatal("nobody joins the group")
	}
	return c
}

// The offsets that a job leaves are those of its last checkpoint, for whoever
// watches the lag, and their metadata is as documented.
func TestCommittedOffsets(t *testing.T) {
	w := countWorld(t)
	w.write("in", 1, 7, perRun) // partition 0 is longer
	p := countJob(w, w.config(), checkpointsIn(t.TempDir()))
	mustRun(t, p)
	last := p.CheckpointStats().LastID
	all := w.offsets("counting")
	// On a busy machine the first checkpoints come before the source's first batch.
	if early, ok := all["out/0"]; ok && early.offset == 0 && !strings.Contains(early.metadata, fmt.Sprintf(`"number":%d,`, last)) {
		delete(all, "out/0")
	}
	if len(all) != partitions {
		t.Errorf("offsets of %d partitions, want %d: %v", len(all), partitions, all)
	}
	for split, c := range all {
		want := int64(perRun)
		if split == "in/0" {
			want += 7
		}
		if c.offset != want {
			t.Errorf("%s: offset %d, want %d", split, c.offset, want)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(c.metadata), &m); err != nil {
			t.Fatal(err)
		}
		name, _ := m["checkpoint"].(string)
		if m["millrace"] != 1.0 || m["job"] != "counting" || m["number"] != float64(last) || len(name) < 10 || len(m) != 4 {
			t.Errorf("%s: metadata %s, the last checkpoint is %d", split, c.metadata, last)
		}
	}
}

// A job without a Kafka source has its pointer at a partition of its output.
func TestCommittedWithoutSource(t *testing.T) {
	w := outWorld(t)
	mustRun(t, feedJob(ended(10), w.config(), asked(t.TempDir())))
	if all := w.offsets("feeding"); len(all) != 1 || all["out/0"].offset != 0 || all["out/0"].metadata == "" {
		t.Errorf("got %v", all)
	}
}

func TestGroupWithMembers(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{"classic": {kgo.Balancers(kgo.RangeBalancer())}, "consumer": {kgo.ServerSideBalancer()}} {
		t.Run(name, func(t *testing.T) {
			w := outWorld(t)
			member := w.join("feeding", "out", opts...)
			dir := t.TempDir()
			wantError(t, feedJob(ended(10), w.config(), asked(dir)).Run(t.Context()), `consumer group "feeding" has 1 members`, "set Config.Group")
			member.Close()
			mustRun(t, feedJob(ended(10), w.config(), asked(dir)))
			w.wantNumbers(10)
		})
	}
}

// A member that joins while the job runs does no harm: the job starts from its own
// positions, whatever the group has. Brokers may refuse the commit, which Apache Kafka
// does not (TestIntegrationMemberJoins); then the job ends, and its next start is
// refused until the member is gone.
func TestMemberJoins(t *testing.T) {
	w := outWorld(t)
	dir, f := t.TempDir(), newFeed(50)
	job := start(t, feedJob(f, w.config(), asked(dir)))
	job.out(50)
	job.complete()
	member := w.join("feeding", "out")
	f.allow(100)
	job.out(100)
	if err := job.checkpoint(); err != nil {
		wantError(t, job.wait(), "the consumer group has members")
	} else {
		job.kill()
	}
	wantError(t, feedJob(f, w.config(), asked(dir)).Run(t.Context()), "has 1 members")
	member.Close()
	f.end()
	mustRun(t, feedJob(f, w.config(), asked(dir)))
	w.wantNumbers(100)
}

func TestGroupOfAnotherJob(t *testing.T) {
	w := outWorld(t)
	cfg := w.config()
	cfg.Group = "shared"
	mustRun(t, feedJob(ended(10), cfg, asked(t.TempDir())))
	err := feedJob(ended(10), cfg, asked(t.TempDir()), pipeline.Name("other")).Run(t.Context())
	wantError(t, err, `consumer group "shared"`, `the group is that of the job "feeding", and this is job "other"`, "set Config.Group")
	w.wantNumbers(10)
}

// Metadata of other programs says nothing.
func TestForeignMetadata(t *testing.T) {
	for _, m := range []string{"", "x", "{}", "[1]", `{"millrace":"no"}`, `{"checkpoint":"3@x"}`} {
		w := outWorld(t)
		w.commitOffset("feeding", "out", m)
		mustRun(t, feedJob(ended(10), w.config(), asked(t.TempDir())))
		w.wantNumbers(10)
	}
	w := outWorld(t)
	w.commitOffset("feeding", "out", `{"millrace":2}`)
	wantError(t, feedJob(ended(1), w.config(), asked(t.TempDir())).Run(t.Context()), "out/0: metadata", "is of version 2, this program knows version 1")
}

// TestGroupForgotten removes what the group knows, as brokers do after a week: the
// job can't tell what it has delivered.
func TestGroupForgotten(t *testing.T) {
	for name, forget := range map[string]func(*world){
		"deleted":     func(w *world) { w.deleteGroup("feeding") },
		"overwritten": func(w *world) { w.commitOffset("feeding", "out", "") },
	} {
		t.Run(name, func(t *testing.T) {
			w := outWorld(t)
			dir := t.TempDir()
			mustRun(t, feedJob(ended(10), w.config(), asked(dir)))
			forget(w)
			for range 2 {
				err := feedJob(ended(20), w.config(), asked(dir)).Run(t.Context())
				wantError(t, err, dir, "holds checkpoints that were committed", `consumer group "feeding"`, "give the job an empty directory")
			}
			w.wantNumbers(10)
		})
	}
}

// toFile is the job without the Kafka sink.
func toFile(f *feed, path string, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.Name("feeding"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet)}, opts...)...)
	pipeline.To(pipeline.From(p, "feed", f), "file", files.JSON[int](path))
	return p
}

// TestSinkDropped takes the Kafka sink away, and keeps the directory.
func TestSinkDropped(t *testing.T) {
	w := outWorld(t)
	dir := t.TempDir()
	mustRun(t, feedJob(ended(10), w.config(), asked(dir)))
	err := toFile(ended(10), t.TempDir()+"/out", asked(dir)).Run(t.Context())
	wantError(t, err, dir, `consumer group "feeding"`, "keep such a sink, or give the job another directory")
}

// TestNeverCommitted kills the job after its first checkpoint was written, and
// before it was committed: it starts anew, with or without the sink.
func TestNeverCommitted(t *testing.T) {
	for _, drop := range []bool{false, true} {
		w := outWorld(t)
		dir, gate := t.TempDir(), w.hold(kmsg.EndTxn)
		job := start(t, feedJob(newFeed(50), w.config(), asked(dir)))
		job.out(50)
		go func() { _ = job.Checkpoint(t.Context()) }()
		<-gate.arrived
		job.Kill()
		w.broker.Cluster().Fault(kmsgFault(kmsg.EndTxn, kerr.InvalidTxnState, 1)) // it never took effect
		gate.open()
		if err := job.wait(); !errors.Is(err, pipeline.ErrKilled) {
			t.Fatal(err)
		}
		if drop {
			mustRun(t, toFile(ended(60), t.TempDir()+"/out", asked(dir)))
			w.wantNumbers(0)
			continue
		}
		mustRun(t, feedJob(ended(60), w.config(), asked(dir)))
		w.wantNumbers(60)
	}
}

// TestSinkAdded gives a job that has checkpoints its first Kafka sink: it goes on
// from them, however often it dies before it commits there.
func TestSinkAdded(t *testing.T) {
	w := outWorld(t)
	dir, path := t.TempDir(), t.TempDir()+"/out"
	mustRun(t, toFile(ended(30), path, asked(dir)))
	both := func(f *feed) *pipeline.Pipeline {
		p := pipeline.New(pipeline.Name("feeding"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), asked(dir))
		in := pipeline.From(p, "feed", f)
		pipeline.To(in, "file", files.JSON[int](path))
		pipeline.To(in, "out", kafka.Encode(kafka.NewProducer(w.config()), "out", encodeNumber))
		return p
	}
	for range 2 {
		job := start(t, both(newFeed(50)))
		job.out(20)
		job.kill()
	}
	mustRun(t, both(ended(50)))
	if got := w.read("out"); len(got) != 20 {
		t.Errorf("%d records, want those from 30 to 49: %q", len(got), got)
	}
}
