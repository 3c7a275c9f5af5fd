//go:build integration

package kafka_test

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/kafka"
)

// realReplay is a topic on Apache Kafka that is replayed, with what the fast tests
// replay on the embedded broker.
type realReplay struct {
	*realWorld
	topic    string
	embedded *world
	brake    *brake
}

func newRealReplay(t *testing.T, latest time.Duration) *realReplay {
	t.Helper()
	embedded, brake := replayWorld(t, latest)
	r := &realReplay{realWorld: sharedWorld(t), embedded: embedded, brake: brake}
	r.topic = r.realWorld.topic("hits", int32(len(replaySizes)))
	r.copy()
	return r
}

// copy writes the records of the embedded broker, few in a batch, so that partitions
// take more fetches than one.
func (r *realReplay) copy() {
	r.t.Helper()
	plain := open(r.t, kafka.Raw(bounded(r.embedded.config("hits"))), env(0, 1))
	plain.toEnd()
	for _, records := range plain.values {
		var some []*kgo.Record
		for i, rec := range records {
			some = append(some, &kgo.Record{Topic: r.topic, Partition: rec.Partition, Timestamp: time.UnixMilli(rec.Time), Value: rec.Value})
			if len(some) == 20 || i == len(records)-1 {
				r.write(some...)
				some = nil
			}
		}
	}
}

// config is how to read it, as the brake has been set.
func (r *realReplay) config(how replay) kafka.Config {
	cfg := bounded(r.realWorld.config(r.topic))
	cfg.PartitionBytes, cfg.FetchBytes = how.partitionBytes, how.fetchBytes
	cfg.Client = append(cfg.Client, kgo.DisableFetchSessions(), kgo.Dialer(r.brake.dial))
	return cfg
}

// dial makes connections on which the brake is applied to what is sent, as Apache
// Kafka does not let itself be slowed down.
func (b *brake) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &brakedConn{conn, b}, nil
}

type brakedConn struct {
	net.Conn
	brake *brake
}

// Write sends a request, which the client writes at once: its length, its key and
// version, a correlation id and the client's name come first.
func (c *brakedConn) Write(request []byte) (int, error) {
	const key, version = 4, 6
	if len(request) < 14 || kmsg.Key(binary.BigEndian.Uint16(request[key:])) != kmsg.Fetch {
		return c.Conn.Write(request)
	}
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(int16(binary.BigEndian.Uint16(request[version:])))
	header := kbin.Reader{Src: request[12:]}
	name := header.NullableString()
	if req.IsFlexible() {
		kmsg.SkipTags(&header)
	}
	if err := req.ReadFrom(header.Src); err != nil {
		return 0, err
	}
	c.brake.apply(req)
	opts := []kmsg.RequestFormatterOpt{}
	if name != nil {
		opts = append(opts, kmsg.FormatterClientID(*name))
	}
	correlation := int32(binary.BigEndian.Uint32(request[8:]))
	if _, err := c.Conn.Write(kmsg.NewRequestFormatter(opts...).AppendRequest(nil, req, correlation)); err != nil {
		return 0, err
	}
	return len(request), nil
}

// run runs the job that counts, killed after so many records.
func (r *realReplay) run(t *testing.T, how replay, src func(kafka.Config) pipeline.Source[hit], strategy pipeline.WatermarkStrategy[hit], parallelism int, kills ...int) *pipelinetest.World {
	t.Helper()
	r.brake.set(how)
	pw := pipelinetest.NewWorld(t)
	if len(kills) > 0 {
		pw.CheckpointEvery(20)
	}
	for _, n := range kills {
		pw.KillAt(pipelinetest.AtRead, n)
	}
	if err := pw.Run(countReplay(pw, src(r.config(how)), strategy, how.batch, parallelism)); err != nil {
		t.Fatal(err)
	}
	if n := pw.Kills()[pipelinetest.AtRead]; n != len(kills) {
		t.Errorf("%d kills, want %d", n, len(kills))
	}
	r.brake.mu.Lock()
	defer r.brake.mu.Unlock()
	if r.brake.round < len(how.every) {
		t.Errorf("replay %v: there were only %d fetches to brake", how, r.brake.round)
	}
	return pw
}

// TestIntegrationReplay reads one topic five times, each time with other partitions
// slow. The counts are those of a count by hand.
func TestIntegrationReplay(t *testing.T) {
	r := newRealReplay(t, replayDisorder+replayLateness)
	want := r.embedded.truth()
	plain := func(cfg kafka.Config) pipeline.Source[hit] { return kafka.JSON[hit](cfg) }
	strategy := pipeline.BoundedDisorder(byTime, replayDisorder).MaxDrift(5 * time.Second).IdleAfter(time.Minute)
	for i, how := range replays {
		pw := r.run(t, how, plain, strategy, 1+i%3)
		if late := pipelinetest.NewLedger[hit](pw, "late").Records(); len(late) > 0 {
			t.Errorf("replay %v: %d records are late, the first is %v", how, len(late), late[0])
		}
		wantSame(t, "replay "+how.String(), last(pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts").Records()), want)
	}
}

// TestIntegrationOrderedReplay does so with records that are too late, and kills the
// job in two of the replays: all results and all late records are those that the
// embedded broker leads to.
func TestIntegrationOrderedReplay(t *testing.T) {
	r := newRealReplay(t, 3*(replayDisorder+replayLateness))
	want := orderedReplay(t, r.embedded, r.brake, replays[0])
	if n := len(want.late); n < 20 {
		t.Fatalf("only %d records are late, so there is little to compare", n)
	}
	ordered := func(cfg kafka.Config) pipeline.Source[hit] {
		cfg.Ordered = true
		return kafka.JSON[hit](cfg).OrderedBy(byTime)
	}
	for i, how := range replays {
		var kills []int
		if i == 1 || i == 4 {
			kills = []int{200 + 50*i, 300, 400}
		}
		pw := r.run(t, how, ordered, pipeline.BoundedDisorder(byTime, replayDisorder), 1, kills...)
		wantSame(t, "results of replay "+how.String(), sortedLines(pipelinetest.NewLedger[operators.Result[string, int64]](pw, "counts").Records()), want.results)
		wantSame(t, "late records of replay "+how.String(), sortedLines(pipelinetest.NewLedger[hit](pw, "late").Records()), want.late)
	}
}
