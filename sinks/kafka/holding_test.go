package kafka_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/pipeline"
)

// large makes records of a kilobyte.
func large(n int, r *kgo.Record) error {
	r.Key = strconv.AppendInt(nil, int64(n), 10)
	r.Value = bytes.Repeat([]byte{'x'}, 1000)
	return nil
}

// TestHolding has a commit take long: records behind the barrier are held, up to
// what the configuration allows, then the job waits; nobody sees them before their
// own commit.
func TestHolding(t *testing.T) {
	w := outWorld(t)
	cfg := w.config()
	cfg.BufferBytes = 1 << 16
	f := newFeed(10)
	p, _ := feedJobWith(f, cfg, large, asked(t.TempDir()), pipeline.BatchSize(4))
	job := start(t, p)
	job.out(10)
	gate := w.hold(kmsg.EndTxn)
	done := make(chan error, 1)
	go func() { done <- job.Checkpoint(t.Context()) }()
	<-gate.arrived
	f.allow(10_000)
	job.out(10 + 55) // 64 KiB of them
	const most = 10 + 65 + 4
	gave := 0
	await(t, "the job to wait", func() bool { // what is given stays where it is
		before := gave
		gave = f.given()
		return gave == before && gave > most
	})
	if got := counterOf(p, "records"); got > most {
		t.Errorf("the sink has taken %d records", got)
	}
	if gave > 10_000/2 {
		t.Errorf("the source has read %d", gave)
	}
	if got := w.read("out"); len(got) != 0 {
		t.Errorf("%d records are visible before the commit", len(got))
	}
	gate.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	job.out(1000)
	if got := w.read("out"); len(got) != 10 {
		t.Errorf("%d records are visible after the first commit, want 10", len(got))
	}
	f.end()
	if err := job.wait(); err != nil {
		t.Fatal(err)
	}
	if got := w.read("out"); len(got) != 10_000 || len(slices.Compact(got)) != 10_000 {
		t.Errorf("%d records", len(got))
	}
}

// TestAbandoned has checkpoints fail since their directory can't be written to: the
// job goes on, and what belonged to them is committed with the next.
func TestAbandoned(t *testing.T) {
	var broken atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "MANIFEST") {
			return errors.New("no space left")
		}
		return nil
	}))
	w := outWorld(t)
	f := newFeed(50)
	opts := asked("/job", pipeline.CheckpointFiles(fs), pipeline.ToleratedFailures(10))
	job := start(t, feedJob(f, w.config(), opts, pipeline.DefaultParallelism(1)))
	job.out(50)
	job.complete()
	broken.Store(true)
	for i := 1; i <= 3; i++ {
		f.allow(50 + i*20)
		job.out(50 + i*20)
		wantError(t, job.checkpoint(), "no space left")
	}
	w.wantNumbers(50)
	broken.Store(false)
	f.allow(130)
	job.out(130)
	job.complete()
	w.wantNumbers(130)
	job.kill()
	f.allow(150)
	f.end()
	mustRun(t, feedJob(f, w.config(), opts))
	w.wantNumbers(150)
}
