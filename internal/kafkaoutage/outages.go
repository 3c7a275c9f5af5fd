// Package kafkaoutage logs brokers that are away, for Kafka's sinks.
package kafkaoutage

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Outages logs brokers that are away. The client itself retries for ever without
// a word, and somebody who wonders why a job stands still looks into its log.
type Outages struct {
	log *slog.Logger

	mu     sync.Mutex
	logged map[string]time.Time // when, by broker; guarded by mu
}

// logInterval is how often the log repeats what has not changed.
const logInterval = 30 * time.Second

// New returns a hook for kgo.WithHooks. A nil logger is slog.Default().
func New(log *slog.Logger) *Outages {
	if log == nil {
		log = slog.Default()
	}
	return &Outages{log: log, logged: map[string]time.Time{}}
}

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (o *Outages) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return // the job's end
	}
	addr := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))
	o.mu.Lock()
	defer o.mu.Unlock()
	last, away := o.logged[addr]
	switch {
	case err == nil && away:
		o.log.Info("connected to broker again", "broker", addr)
		delete(o.logged, addr)
	case err != nil && time.Since(last) >= logInterval:
		o.logged[addr] = time.Now()
		o.log.Warn("no connection to broker, waiting for it", "broker", addr, "error", err)
	}
}
