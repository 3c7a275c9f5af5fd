package postgres

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/internal/outage"
)

// server is a subtask's connection, which is made again when it is lost.
type server struct {
	cfg  *pgx.ConnConfig
	conn *pgx.Conn // nil while there is none
	wait outage.Wait
}

func newServer(cfg *pgx.ConnConfig, log *slog.Logger) *server {
	return &server{cfg: cfg, wait: outage.Wait{
		Log: log, Away: "the database is away, waiting for it", Back: "the database is back",
		About: []any{"host", cfg.Host, "database", cfg.Database}, Passes: passes,
	}}
}

// do calls f with a connection until it succeeds, or fails in a way that no second
// attempt would change. A failed attempt's connection is closed, and whatever
// transaction it was in with it.
func (s *server) do(ctx context.Context, f func(c *pgx.Conn) error) error {
	return s.wait.Do(ctx, func() error {
		err := s.attempt(ctx, f)
		if err != nil {
			s.drop()
		}
		return err
	})
}

func (s *server) attempt(ctx context.Context, f func(c *pgx.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, s.cfg.Copy())
		if err != nil {
			return err
		}
		s.conn = conn
	}
	return f(s.conn)
}

func (s *server) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // it is no use any more
	s.conn = nil
}

// passing are the server's errors, by class or whole code, that are over some day
// without anything being done about the job.
var passing = []string{
	"08",                               // the connection broke
	"53",                               // out of connections, memory or disk
	"58",                               // its system failed it
	"57P01", "57P02", "57P03", "57P05", // it shuts down, or starts
	"57014",          // a time-out of its own
	"40",             // deadlock, or another transaction was first
	"55P03", "55006", // something is locked
	"25P03", // it waited for us for too long, see standstill
	"25006", // read-only: a standby that has not taken over yet
}

// passes says whether a second attempt may succeed.
func passes(err error) bool {
	var of *pgconn.PgError
	if errors.As(err, &of) {
		return slices.ContainsFunc(passing, func(code string) bool { return len(of.Code) == 5 && of.Code[:len(code)] == code })
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err)
}

// aboutRows are the server's errors that are about a row rather than about the
// statement.
var aboutRows = []string{
	"22",    // a value that the column does not take
	"23",    // a constraint
	"44",    // a view's check
	"54",    // too large, for an index for example
	"P0001", // raised by a trigger
}

// isAboutRow says whether the server refuses a row.
func isAboutRow(err error) bool {
	var of *pgconn.PgError
	return errors.As(err, &of) && slices.ContainsFunc(aboutRows, func(code string) bool { return len(of.Code) == 5 && of.Code[:len(code)] == code })
}

// refusal returns what the server says of a row it refuses.
func refusal(err error) string {
	var of *pgconn.PgError
	if !errors.As(err, &of) {
		return err.Error()
	}
	text := of.Message
	if of.Detail != "" {
		text += ": " + of.Detail
	}
	return text + " (SQLSTATE " + of.Code + ")"
}
