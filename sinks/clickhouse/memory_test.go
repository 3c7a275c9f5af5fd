package clickhouse

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// TestPiecesWithinWindow stops a delivery whose pieces would push the tokens of the
// first ones out of the table's memory: after it, a recovery would insert them twice.
func TestPiecesWithinWindow(t *testing.T) {
	f, cfg, fs := newFakeTable(hitColumns()...), newConfig(), vfs.NewMem()
	f.window, cfg.RecoveryBlocks = 8, 8
	f.refuse = func(row []any) error {
		if row[0].(uint64)%16 == 0 {
			return &exception{chproto.ErrViolatedConstraint, "no sixteenth"}
		}
		return nil
	}
	sink := func() *Sink[hit] { return attach(f, Structs[hit](cfg)) }
	a := mustOpen(t, sink(), fs, "a")
	p := a.prepareMore(hits(0, 256)...)
	wantError(t, a.commit(p), "more deduplication tokens", "ALTER TABLE `d`.`t` MODIFY SETTING non_replicated_deduplication_window = 1000")

	f.window = 1000 // mended, and started again
	f.after = func(n int) error {
		if n == len(f.attempts) && len(f.rows) == 240 { // the last one: killed before it is noted
			return &exception{chproto.ErrUnknownTable, "killed"}
		}
		return nil
	}
	b := mustOpen(t, sink(), fs, "b")
	wantError(t, b.commit(p), "killed")
	f.after = nil
	c := mustOpen(t, sink(), fs, "c")
	if err := c.commit(p); err != nil {
		t.Fatal(err)
	}
	var refused []uint64
	for i := uint64(0); i < 256; i += 16 {
		refused = append(refused, i)
	}
	wantIDs(t, f, without(256, refused...))
	if c.flush(); len(c.rejected) != 16 {
		t.Errorf("%d dead letters, want 16", len(c.rejected))
	}
}

// TestPiecesOfEveryCommit has each commit its own room: what was delivered for good
// does not count.
func TestPiecesOfEveryCommit(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	f.window, cfg.RecoveryBlocks = 16, 16
	f.refuse = func(row []any) error {
		if row[0].(uint64)%64 == 7 {
			return &exception{chproto.ErrViolatedConstraint, "it is seven"}
		}
		return nil
	}
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	for i := range 50 {
		if err := s.commit(s.prepareMore(hits(64*i, 64*i+64)...)); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	if got := len(f.all()); got != 50*63 {
		t.Errorf("%d rows, want %d", got, 50*63)
	}
	// Those that a recovery would deliver again together count together: of each, six
	// pieces are taken.
	one, two, three := s.prepareMore(hits(0, 64)...), s.prepareMore(hits(64, 128)...), s.prepareMore(hits(128, 192)...)
	if err := errors.Join(s.commit(one), s.commit(two)); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.commit(three), "more deduplication tokens")
}

// TestWindowOfViews counts by the table with the smallest memory, of those that the
// views fill too: a recovery sends them the same blocks.
func TestWindowOfViews(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	f.window, cfg.RecoveryBlocks, cfg.BlockRows = 1000, 5, 10
	f.views = []*view{{"d.v", &table{database: "d", name: "sums", engine: "SummingMergeTree", window: 20, partitioned: true}}}
	s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	s.write(hits(0, 50)...)
	err := s.Write(t.Context(), &pipeline.Records[hit]{Values: hits(50, 60), Times: make([]int64, 10)})
	wantError(t, err, "5 blocks wait", "table d.sums remembers 20 deduplication tokens", "ALTER TABLE `d`.`sums`")
	cfg.RecoveryBlocks = 6
	_, err = open(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "b")
	wantError(t, err, "table d.sums (filled by materialized view d.v) remembers 20 deduplication tokens, a recovery may need 24")
}

// TestWindowOfRestored refuses a table whose memory has become too small for what the
// checkpoint has.
func TestWindowOfRestored(t *testing.T) {
	f, cfg, fs := newFakeTable(hitColumns()...), newConfig(), vfs.NewMem()
	f.window, cfg.RecoveryBlocks, cfg.BlockRows = 100, 5, 1
	p := mustOpen(t, attach(f, Structs[hit](cfg)), fs, "a").prepareMore(hits(0, 20)...)
	f.window = 10
	env := testEnv(t, fs, "b")
	env.Prepared = [][]byte{p}
	_, err := attach(f, Structs[hit](cfg)).Open(t.Context(), env)
	wantError(t, err, "table d.t remembers 10 deduplication tokens, a recovery may need 20", "ALTER TABLE `d`.`t`")
}

// TestForgottenWhileWaiting gives up a block that the table may have, when it would not
// know it any more, and only then.
func TestForgottenWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"cut", errCut, true},
		{"not connected", &unsentError{errCut}, false},
		{"too many parts", &exception{chproto.ErrTooManyParts, "too many parts"}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, cfg := newFakeTable(hitColumns()...), newConfig()
			f.engine, f.seconds, cfg.RecoveryBlocks = "ReplicatedMergeTree", 3600, 10
			sink := attach(f, Structs[hit](cfg))
			sink.pause = pauseFor
			s := mustOpen(t, sink, vfs.NewMem(), "a")
			p := s.prepareMore(hits(0, 3)...)
			time.Sleep(2 * time.Hour) // nothing was sent yet
			began := time.Now()
			f.before = func(int) error {
				if time.Since(began) > 2*time.Hour {
					return nil
				}
				return c.err
			}
			err := s.commit(p)
			if !c.want && err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if c.want {
				wantError(t, err, "3 rows was sent, nobody knows whether it arrived", "replicated_deduplication_window_seconds", "DeliverLate")
			}
		})
	}
}

// TestSeveralAddresses refuses servers that don't share what they remember.
func TestSeveralAddresses(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.URL = "clickhouse://127.0.0.1:1,127.0.0.1:2/d"
	_, err := open(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
	wantError(t, err, "table d.t has engine MergeTree", "127.0.0.1:1, 127.0.0.1:2", "Replicated")
	cfg.Delivery = AtLeastOnce
	mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "b")
	cfg.Delivery, f.engine = ExactlyOnce, "ReplicatedMergeTree"
	mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "c")
}

// TestOldStatement delivers an INSERT … SELECT of an earlier program with the settings
// that make one block of it, though this program's has none.
func TestOldStatement(t *testing.T) {
	f, cfg, fs := newFakeTable(append(hitColumns(), tableColumn{"visitors", "AggregateFunction(uniq, UInt64)", ""})...), newConfig(), vfs.NewMem()
	with := cfg
	with.Expressions, with.Inputs = map[string]string{"visitors": "uniqState(id)"}, map[string]string{"id": "UInt64"}
	p := mustOpen(t, attach(f, Structs[hit](with)), fs, "a").prepareMore(hits(0, 2)...)
	var got map[string]string
	sink := attach(f, Structs[hit](cfg))
	sink.dial = func(*clickhouse.Options) server {
		return watchedServer{fakeServer{f}, func(in insertion) { got = in.settings }}
	}
	s := mustOpen(t, sink, fs, "b")
	if err := s.commit(p); err != nil {
		t.Fatal(err)
	}
	if got["max_insert_threads"] != "1" {
		t.Errorf("settings %v", got)
	}
}

type watchedServer struct {
	server
	saw func(in insertion)
}

func (s watchedServer) insert(ctx context.Context, in insertion, b *block) error {
	s.saw(in)
	return s.server.insert(ctx, in, b)
}

// TestManyLetters keeps many of them out of the checkpoint's own bytes, with AtLeastOnce
// as well.
func TestManyLetters(t *testing.T) {
	f, cfg, fs := newFakeTable(hitColumns()...), newConfig(), vfs.NewMem()
	cfg.Delivery = AtLeastOnce
	f.refuse = func([]any) error { return &exception{chproto.ErrViolatedConstraint, "none of them"} }
	s := mustOpen(t, attach(f, Structs[hit](cfg)), fs, "a")
	p := s.prepareMore(hits(0, 500)...)
	if len(p) > 2*lettersInline {
		t.Errorf("prepared %d bytes", len(p))
	}
	b := mustOpen(t, attach(f, Structs[hit](cfg)), fs, "b")
	if err := b.commit(p); err != nil {
		t.Fatal(err)
	}
	if b.flush(); len(b.rejected) != 500 || b.rejected[499].Record == "" {
		t.Errorf("%d dead letters, want 500", len(b.rejected))
	}
}

// TestWithoutCheckpoints inserts at the end, whatever the sinks are called, and takes the
// rows of two sinks for different ones.
func TestWithoutCheckpoints(t *testing.T) {
	f := newFakeTable(hitColumns()...)
	for _, operator := range []string{"a/b", `a\b`, "a-b"} {
		env := testEnv(t, vfs.NewMem(), "run")
		env.Operator, env.Staging, env.Checkpoints = operator, nil, false
		w, err := attach(f, Structs[hit](newConfig())).Open(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		s := &subtask[hit]{Writer: w, t: t}
		if err := errors.Join(s.commit(s.prepareMore(newHit(1))), w.(pipeline.Closer).Close()); err != nil {
			t.Error(err)
		}
	}
	wantIDs(t, f, []uint64{1, 1, 1})
}
