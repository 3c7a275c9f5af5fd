package kafka

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// health hears of the client's connections. The client itself retries for ever
// without a word, and somebody who wonders why a job stands still looks into
// its log.
type health struct {
	log *slog.Logger

	mu      sync.Mutex
	brokers map[string]*outage // by address, those that don't answer; guarded by mu
	last    error              // why the last connection failed; guarded by mu
}

type outage struct{ since, logged time.Time }

// logInterval is how often the log repeats what has not changed.
const logInterval = 30 * time.Second

func newHealth(log *slog.Logger) *health {
	return &health{log: log, brokers: map[string]*outage{}}
}

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (h *health) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return // the job's end
	}
	addr := net.JoinHostPort(meta.Host, itoa(meta.Port))
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.brokers[addr]
	if err == nil {
		if o != nil {
			h.log.Info("connected to broker again", "broker", addr, "after", now.Sub(o.since).Round(time.Millisecond))
			delete(h.brokers, addr)
		}
		return
	}
	h.last = err
	if o == nil {
		o = &outage{since: now}
		h.brokers[addr] = o
	}
	if now.Sub(o.logged) >= logInterval {
		o.logged = now
		h.log.Warn("no connection to broker, waiting for it", "broker", addr, "for", now.Sub(o.since).Round(time.Millisecond), "error", err)
	}
}

// lastError returns why the last connection failed that did, or nil.
func (h *health) lastError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// seldom logs at most once an interval. It is for one goroutine.
type seldom struct{ logged time.Time }

func (s *seldom) warn(log *slog.Logger, msg string, args ...any) {
	if now := time.Now(); now.Sub(s.logged) >= logInterval {
		s.logged = now
		log.Warn(msg, args...)
	}
}
