//go:build integration

package kafka_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/realkafka"
)

// TestIntegrationMemberJoins has somebody else's consumer join the group of a job
// that runs, with either protocol, and commit offsets of its own over the job's. The
// results stay exact. The job's next start is refused while the consumer is there,
// and when the group, by the consumer's doing, names no checkpoint any more.
func TestIntegrationMemberJoins(t *testing.T) {
	for name, protocol := range map[string]kgo.Opt{
		"classic": kgo.Balancers(kgo.CooperativeStickyBalancer()), "consumer": kgo.ServerSideBalancer(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, brokers: realkafka.Shared(t)}
			spec := newSpec(t, w.brokers)
			spec.Endless = true
			n := writeNumbers(t, w.brokers, spec.In, 2_000)
			job := startJob(t, spec)
			w.awaitResults(spec.Out, n.records)

			member := w.join(spec.Name, spec.In, protocol, kgo.DisableAutoCommit())
			w.commitAs(member, spec.In)
			n.add(writeNumbers(t, w.brokers, spec.In, 2_000))
			w.awaitResults(spec.Out, n.records)
			w.commitAs(member, spec.In)
			w.awaitPointer(spec.Name)

			_ = job.Process.Signal(syscall.SIGKILL)
			if err := <-job.ended; err == nil {
				t.Error("a process that was killed ended well")
			}
			n.add(writeNumbers(t, w.brokers, spec.In, 1_000))
			wantRefusal(t, spec, "has 1 members, and is to be the job's own")
			member.Close()
			spec.Endless = false
			job = startJob(t, spec)
			if err := <-job.ended; err != nil {
				t.Fatalf("%v\n%s", err, job.out.String())
			}
			wantNoOpenTransaction(t, w.brokers, spec.Name, spec.Out)
			n.check(t, w.brokers, spec.Out)

			member = w.join(spec.Name, spec.In, protocol, kgo.DisableAutoCommit())
			w.commitAs(member, spec.In)
			member.Close()
			wantRefusal(t, spec, "holds checkpoints that were committed, and nothing is known of them any more")
			n.check(t, w.brokers, spec.Out)
		})
	}
}

// wantRefusal starts a job whose start has to fail.
func wantRefusal(t *testing.T, spec jobSpec, want string) {
	t.Helper()
	job := startJob(t, spec)
	if err := <-job.ended; err == nil || !strings.Contains(job.out.String(), want) {
		t.Errorf("got %v, want %q in\n%s", err, want, job.out.String())
	}
}

// commitAs commits the offset 1 of every partition as a member of a group.
func (w *world) commitAs(member *kgo.Client, topic string) {
	w.t.Helper()
	all := map[string]map[int32]kgo.EpochOffset{topic: {}}
	for p := range int32(inPartitions) {
		all[topic][p] = kgo.EpochOffset{Epoch: -1, Offset: 1}
	}
	var refused error
	await(w.t, "the member's offsets", func() bool { // it may be in the middle of a rebalance
		member.CommitOffsetsSync(w.t.Context(), all, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			refused = err
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					refused = errors.Join(refused, kerr.ErrorForCode(p.ErrorCode))
				}
			}
		})
		return refused == nil
	})
}

// awaitResults waits until so many records of a topic are committed.
func (w *world) awaitResults(topic string, n int) {
	w.t.Helper()
	await(w.t, "results", func() bool { return len(w.read(topic)) >= n })
}

// awaitPointer waits until all offsets of a group are a job's.
func (w *world) awaitPointer(group string) {
	w.t.Helper()
	await(w.t, "a checkpoint", func() bool {
		all := w.offsets(group)
		for _, c := range all {
			if !strings.HasPrefix(c.metadata, `{"millrace":`) {
				return false
			}
		}
		return len(all) == inPartitions
	})
}
