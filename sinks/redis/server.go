package redis

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/outage"
)

// server is a subtask's client.
type server struct {
	goredis.UniversalClient
	addrs []string
	wait  outage.Wait
}

func newServer(o *goredis.UniversalOptions, log *slog.Logger) *server {
	return &server{goredis.NewUniversalClient(o), o.Addrs, outage.Wait{
		Log: log, Away: "Redis does not take commands, waiting for it", Back: "Redis takes commands again",
		About: []any{"addrs", o.Addrs}, Passes: passes,
	}}
}

// do calls f until it succeeds, or fails in a way that no second attempt would change.
func (s *server) do(ctx context.Context, f func() error) error {
	return s.wait.Do(ctx, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f()
	})
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
