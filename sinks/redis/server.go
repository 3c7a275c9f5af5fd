package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// server is a subtask's client.
type server struct {
	goredis.UniversalClient
	addrs  []string
	log    *slog.Logger
	away   time.Time // since when it has not done what it should; zero if it does
	logged time.Time
}

// logInterval is how often the log repeats what has not changed.
const logInterval = 30 * time.Second

// longestPause is the most that is waited between two attempts.
const longestPause = time.Second

// do calls f until it succeeds, or fails in a way that no second attempt would change.
func (s *server) do(ctx context.Context, f func() error) error {
	pause := 20 * time.Millisecond
	var last error // that was not for the end of ctx
	for {
		err := ctx.Err()
		if err == nil {
			err = f()
		}
		switch {
		case err == nil:
			s.answered()
			return nil
		case ctx.Err() != nil:
			return ended(ctx, err, last)
		case !passes(err):
			return err
		}
		last = err
		s.missed(err)
		select {
		case <-ctx.Done():
			return ended(ctx, err, last)
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, longestPause)
	}
}

// ended returns what came of attempts whose context has ended: the error that is not
// about that says more.
func ended(ctx context.Context, err, last error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		last = err
	}
	if last == nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ctx.Err(), last)
}

func (s *server) missed(err error) {
	now := time.Now()
	if s.away.IsZero() {
		s.away = now
	}
	if now.Sub(s.logged) >= logInterval {
		s.logged = now
		s.log.Warn("Redis does not take commands, waiting for it", "addrs", s.addrs, "error", err)
	}
}

func (s *server) answered() {
	if !s.away.IsZero() {
		s.log.Info("Redis takes commands again", "addrs", s.addrs, "after", time.Since(s.away).Round(time.Millisecond))
	}
	s.away, s.logged = time.Time{}, time.Time{}
}

// passing begin the errors of a server that are over some day without anything being
// done about the job: it starts, is a replica, has no memory or disk, or no replicas.
var passing = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "OOM", "NOREPLICAS", "MISCONF",
	"ERR max number of clients reached", "MOVED", "ASK",
}

// passes says whether a second attempt may succeed.
func passes(err error) bool {
	if errors.Is(err, goredis.ErrClosed) {
		return false
	}
	var said goredis.Error
	if errors.As(err, &said) && !errors.Is(err, goredis.ErrPoolTimeout) && !errors.Is(err, goredis.ErrPoolExhausted) {
		text := said.Error()
		return slices.ContainsFunc(passing, func(begins string) bool { return strings.HasPrefix(text, begins) }) || isOutOfMemory(text)
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, goredis.ErrPoolTimeout) || errors.Is(err, goredis.ErrPoolExhausted)
}

// isOutOfMemory recognizes what a script makes of the error, too.
func isOutOfMemory(text string) bool {
	return strings.Contains(text, "OOM command not allowed")
}
