package clickhouse

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// stuckServer takes a block and does not answer before it is told to, or given up.
type stuckServer struct {
	server
	taken chan struct{}
	go_   chan struct{}
}

func (s stuckServer) insert(ctx context.Context, in insertion, b *block) error {
	s.taken <- struct{}{}
	select {
	case <-s.go_:
		return s.server.insert(ctx, in, b)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dueRows opens a writer whose one connection is stuck with row 1, while the time of row
// 2 is up.
func dueRows(t *testing.T) (*fakeTable, stuckServer, *subtask[hit]) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.Delivery, cfg.Inserts, cfg.BlockTime = AtLeastOnce, 1, time.Second
	sink := attach(f, Structs[hit](cfg))
	stuck := stuckServer{fakeServer{f}, make(chan struct{}, 10), make(chan struct{})}
	sink.dial = func(*clickhouse.Options) server { return stuck }
	s := mustOpen(t, sink, vfs.NewMem(), "a")
	s.write(newHit(1))
	<-stuck.taken
	s.write(newHit(2))
	time.Sleep(2 * time.Second)
	return f, stuck, s
}

// TestAtLeastOnceStops ends a job although the server has taken all connections for
// blocks whose time was up, and more rows wait.
func TestAtLeastOnceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, s := dueRows(t)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 1)
		var once sync.Once
		go func() {
			for {
				err := s.Write(ctx, &pipeline.Records[hit]{Values: []hit{newHit(3)}, Times: []int64{1}})
				if err == nil {
					_, err = s.Writer.(pipeline.Committer).Prepare(ctx, 1)
				}
				if err != nil {
					once.Do(func() { errs <- err })
					return
				}
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-errs:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		default:
			t.Fatal("the writer waits although its context has ended")
		}
		_ = s.Writer.(pipeline.Closer).Close()
	})
}

// TestDueRows inserts rows whose time was up while there was no connection, as soon as
// there is one.
func TestDueRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stuck, s := dueRows(t)
		s.write(newHit(3))
		close(stuck.go_)
		synctest.Wait()
		wantIDs(t, f, []uint64{1, 2, 3})
		_ = s.Writer.(pipeline.Closer).Close()
	})
}

// TestBlockTimeBesideRejected has rows wait no longer because others beside them are
// rejected.
func TestBlockTimeBesideRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, cfg := newFakeTable(hitColumns()...), newConfig()
		cfg.Delivery, cfg.BlockTime = AtLeastOnce, time.Second
		s := mustOpen(t, attach(f, Structs[hit](cfg)), vfs.NewMem(), "a")
		bad := newHit(0)
		bad.Kind = "none"
		for i := range 3 {
			s.write(newHit(i), bad, bad, bad, bad)
			time.Sleep(400 * time.Millisecond)
		}
		synctest.Wait()
		wantIDs(t, f, []uint64{0, 1, 2})
		_ = s.Writer.(pipeline.Closer).Close()
	})
}

// gatheringServer refuses what it gathers with the rows of others.
type gatheringServer struct{ server }

func (s gatheringServer) insert(ctx context.Context, in insertion, b *block) error {
	if in.settings["async_insert"] == "1" {
		return &exception{chproto.ErrViolatedConstraint, "of somebody else's row"}
	}
	return s.server.insert(ctx, in, b)
}

// TestAsyncInsertRefused loses no row because the server has refused another's together
// with it.
func TestAsyncInsertRefused(t *testing.T) {
	f, cfg := newFakeTable(hitColumns()...), newConfig()
	cfg.Delivery, cfg.AsyncInsert = AtLeastOnce, true
	f.refuse = func(row []any) error {
		if row[0].(uint64) == 3 {
			return &exception{chproto.ErrViolatedConstraint, "no three"}
		}
		return nil
	}
	sink := attach(f, Structs[hit](cfg))
	sink.dial = func(*clickhouse.Options) server { return gatheringServer{fakeServer{f}} }
	s := mustOpen(t, sink, vfs.NewMem(), "a")
	if err := s.commit(s.prepareMore(hits(0, 10)...)); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, f, without(10, 3))
	if s.flush(); len(s.rejected) != 1 || s.rejected[0].Error != "no three" {
		t.Errorf("rejected %+v", s.rejected)
	}
}
