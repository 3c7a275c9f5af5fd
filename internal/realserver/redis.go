package realserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Redis is a running Redis that wants [Password], and that has written each command to
// its append-only file before it answers. It does not start with a file that ends in
// the middle of a transaction: by default it would cut off only the last command, and
// a half of the transaction would count once another has followed. Its methods are for
// one goroutine at a time.
type Redis struct {
	server
	port int
}

// StartRedis starts a server with options over those that this package makes, such as
// "--maxmemory", "64mb", and waits until it answers. Stop ends it, and so does the end
// of the process, of whatever kind.
func StartRedis(ctx context.Context, options ...string) (*Redis, error) {
	r := &Redis{server: server{name: "redis", end: syscall.SIGKILL}}
	if err := r.start(ctx, options); err != nil {
		r.Stop()
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	return r, nil
}

func (r *Redis) start(ctx context.Context, options []string) (err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("%w (Debian's package is redis-server)", err)
	}
	if r.port, err = freePort(); err != nil {
		return err
	}
	if err := r.makeDir(); err != nil {
		return err
	}
	if err := r.removeAtExit(); err != nil {
		return err
	}
	r.command = append([]string{
		program, "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir, "--requirepass", Password,
		"--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "no", "--save", "",
	}, options...)
	r.ready = r.answers
	return r.run(ctx)
}

// Restart starts the server again, which was killed, on its port and data, and waits
// until it answers. A file that the kill has left incomplete is mended first, as an
// operator would.
func (r *Redis) Restart(ctx context.Context) error {
	err := r.server.Restart(ctx)
	if err == nil || !strings.Contains(r.Log(), "Unexpected end of file reading the append only file") {
		return err
	}
	fix := exec.CommandContext(ctx, "redis-check-aof", "--fix", r.manifest())
	fix.Stdin = strings.NewReader("y\n")
	if said, err := fix.CombinedOutput(); err != nil {
		return fmt.Errorf("redis-check-aof: %w\n%s", err, said)
	}
	return r.server.Restart(ctx)
}

func (r *Redis) manifest() string {
	return filepath.Join(r.dir, "appendonlydir", "appendonly.aof.manifest")
}

// CutFile cuts off the append-only file of a killed server behind the last place where
// text stands, as the end of a file may be lost with a machine.
func (r *Redis) CutFile(text string) error {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(r.manifest()), "*.incr.aof"))
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("of append-only files there is not one but %q", files)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	at := bytes.LastIndex(data, []byte(text))
	if at < 0 {
		return fmt.Errorf("%s has no %q", files[0], text)
	}
	return os.Truncate(files[0], int64(at+len(text)))
}

// answers asks as a client would, in the protocol's short form. A server that still
// reads its file says so.
func (r *Redis) answers(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", r.Addr())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c, "AUTH %s\r\nPING\r\n", Password); err != nil {
		return err
	}
	answers := bufio.NewReader(c)
	for _, want := range []string{"+OK", "+PONG"} {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != want {
			return fmt.Errorf("it says %s", line)
		}
	}
	return nil
}

// Addr returns the address, host and port.
func (r *Redis) Addr() string { return loopback(r.port) }

// URL returns how to connect.
func (r *Redis) URL() string { return fmt.Sprintf("redis://:%s@%s/0", Password, r.Addr()) }

// NewRedis starts a server for one test, which it ends with. When the test fails, the
// end of the server's log is in its output.
func NewRedis(t testing.TB, options ...string) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + r.Log())
		}
		r.Stop()
	})
	return r
}

// SharedRedis returns the server that all tests of a binary use, so none must kill it,
// and each needs keys of its own.
func SharedRedis(t testing.TB) *Redis {
	t.Helper()
	r, err := sharedRedis()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sharedRedis starts the server of this test binary. It ends with it.
var sharedRedis = sync.OnceValues(func() (*Redis, error) { return StartRedis(context.Background()) })
