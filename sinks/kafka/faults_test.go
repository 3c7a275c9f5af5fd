package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/kafka"
)

func kmsgFault(key kmsg.Key, err *kerr.Error, count int) kfake.Fault {
	return kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: count}
}

// gate holds requests of a kind back.
type gate struct {
	arrived chan struct{} // one for each request
	opened  chan struct{}
	once    sync.Once
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (w *world) hold(key kmsg.Key) *gate {
	g := &gate{arrived: make(chan struct{}, 1000), opened: make(chan struct{})}
	w.t.Cleanup(g.open)
	c := w.broker.Cluster()
	c.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		select {
		case <-g.opened:
		default:
			g.arrived <- struct{}{}
			c.SleepControl(func() { <-g.opened })
		}
		return nil, nil, false
	})
	return g
}

// What coordinators can't do just now is tried again.
func TestRetried(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.InitProducerID} {
		for _, refusal := range []*kerr.Error{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable} {
			t.Run(fmt.Sprint(key.Name(), "/", refusal.Message), func(t *testing.T) {
				t.Parallel()
				w := outWorld(t)
				h := w.broker.Cluster().Fault(kmsgFault(key, refusal, 3))
				p, out := feedJobWith(ended(20), w.config(), encodeNumber, asked(t.TempDir()))
				mustRun(t, p)
				w.wantNumbers(20)
				if h.Hits() != 3 {
					t.Errorf("the broker has refused %d times", h.Hits())
				}
				if s := out.Stats(); s.Commits != 1 || s.LastCommit <= 0 || s.LongestCommit != s.LastCommit {
					t.Errorf("stats: %+v", s)
				}
			})
		}
	}
}

// TestCutAtCommit cuts the connection when the transaction is to end, before or
// after the broker has done it: whether the job goes on or ends, results are exact.
func TestCutAtCommit(t *testing.T) {
	for name, cut := range map[string]func(*world){
		"before": func(w *world) {
			w.broker.Cluster().ControlKey(kmsg.EndTxn.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, io.EOF, true })
		},
		"before, and a new connection too": func(w *world) {
			var cuts atomic.Int32
			w.broker.Cluster().ControlKey(kmsg.EndTxn.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.broker.Cluster().KeepControl()
				return nil, io.EOF, cuts.Add(1) <= 3
			})
		},
		"after, answered with an error": func(w *world) {
			w.broker.Cluster().Fault(kmsgFault(kmsg.EndTxn, kerr.UnknownServerError, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := outWorld(t)
			dir := t.TempDir()
			f := newFeed(40)
			job := start(t, feedJob(f, w.config(), asked(dir)))
			job.out(40)
			cut(w)
			if err := job.checkpoint(); err != nil && strings.HasPrefix(name, "before") {
				t.Fatal(err) // nothing is known to be wrong: try again
			} else if err != nil {
				wantError(t, job.wait(), "checkpoints: commit checkpoint chk-0000000001: end transaction")
			} else {
				job.kill()
			}
			f.allow(60)
			f.end()
			mustRun(t, feedJob(f, w.config(), asked(dir)))
			w.wantNumbers(60)
		})
	}
}

// firewall is in front of the brokers.
type firewall struct {
	mu    sync.Mutex
	shut  bool       // guarded by mu
	conns []net.Conn // guarded by mu
}

// dial does not get through while the wall is shut. It fails in a way after which
// clients give up at once, as they otherwise do after a few attempts.
func (g *firewall) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.EACCES)}
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		g.conns = append(g.conns, c)
	}
	return c, err
}

// shutFor cuts all connections, and lets none through for a while.
func (g *firewall) shutFor(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for _, c := range g.conns {
		_ = c.Close() // some are closed
	}
	time.AfterFunc(d, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.shut = false
	})
}

// TestAwayAtCommit has no broker be there when the transaction is to end, before or
// after one has done it. The job waits, and goes on with what it has.
func TestAwayAtCommit(t *testing.T) {
	for name, arrives := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			w := outWorld(t)
			var g firewall
			cfg := w.config()
			cfg.Client = quick(kgo.Dialer(g.dial))
			f := newFeed(40)
			p, out := feedJobWith(f, cfg, encodeNumber, asked(t.TempDir()))
			job := start(t, p)
			job.out(40)
			job.complete()
			f.allow(60)
			job.out(60)
			var once sync.Once // one that lets a request pass is asked again
			w.broker.Cluster().ControlKey(kmsg.EndTxn.Int16(), func(kmsg.Request) (_ kmsg.Response, err error, handled bool) {
				once.Do(func() {
					g.shutFor(300 * time.Millisecond)
					err, handled = io.EOF, !arrives
				})
				return nil, err, handled
			})
			job.complete()
			f.allow(80)
			f.end()
			if err := job.wait(); err != nil {
				t.Fatal(err)
			}
			w.wantNumbers(80)
			if n := out.Stats().Commits; n < 3 {
				t.Errorf("%d commits, want at least three", n)
			}
		})
	}
}

// TestBrokerRestarts stops the broker for a while, in the middle of the job.
func TestBrokerRestarts(t *testing.T) {
	for name, delivery := range map[string]kafka.Delivery{"exactly once": kafka.ExactlyOnce, "at least once": kafka.AtLeastOnce} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := devkafka.Options{Dir: t.TempDir(), Topics: []devkafka.Topic{{Name: "out"}}}
			w := newWorldWith(t, o)
			if _, err := fmt.Sscanf(w.broker.Addr(), "127.0.0.1:%d", &o.Port); err != nil {
				t.Fatal(err)
			}
			cfg, dir := w.config(), t.TempDir()
			cfg.Delivery = delivery
			f := newFeed(50)
			job := start(t, feedJob(f, cfg, asked(dir)))
			job.out(50)
			job.complete()
			f.allow(80)
			job.out(80)
			w.broker.Close()
			f.allow(100) // how many of them come before the broker is back is up to a flush that may wait for it
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- job.Checkpoint(ctx) }()
			b, err := devkafka.Start(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(b.Close)
			f.allow(120)
			if err := <-done; err != nil {
				t.Log(err, job.wait())
				f.end()
				mustRun(t, feedJob(f, cfg, asked(dir)))
			} else {
				f.end()
				if err := job.wait(); err != nil && !errors.Is(err, pipeline.ErrKilled) {
					t.Fatal(err)
				}
			}
			w.wantNumbers(120)
		})
	}
}
