package devclickhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

const defaultUser = "default"

// ServerOptions says what server to run in this process. All but Library and Dir may
// be left out.
type ServerOptions struct {
	// Library is the path of libchdb.so, as [Install] returns it.
	Library string
	// Dir is where the data is kept, so that a later server goes on with it, even
	// after a kill of the process. It is made if it isn't there. Two servers can't use
	// one at the same time.
	Dir string
	// HTTP and Native are the addresses to listen on. Default: free ports of the
	// loopback interface.
	HTTP, Native string
	// User and Password are what clients have to give. Default: "default", and no
	// password.
	User, Password string
}

// Server is ClickHouse in this process, of which there can be one. Tests start one in
// another process with [New] or [Shared].
type Server struct {
	options      ServerOptions
	engine       *engine
	http, native net.Listener
	timezone     string
	version      string

	mu    sync.Mutex
	conns map[net.Conn]struct{} // native ones, guarded by mu
	done  sync.WaitGroup
	held  heldSessions
}

// Listen starts the engine and listens. Clients are answered once Serve runs.
func Listen(o ServerOptions) (*Server, error) {
	if o.User == "" {
		o.User = defaultUser
	}
	s := &Server{options: o, conns: map[net.Conn]struct{}{}}
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if s.http, err = listen(o.HTTP); err != nil {
		return nil, fmt.Errorf("HTTP interface: %w", err)
	}
	if s.native, err = listen(o.Native); err != nil {
		_ = s.http.Close() // nobody has it
		return nil, fmt.Errorf("native protocol: %w", err)
	}
	if err := s.start(dir); err != nil {
		return nil, errors.Join(err, s.http.Close(), s.native.Close())
	}
	return s, nil
}

// listen listens on an address, which has to be a loopback one: there is no TLS, and
// the password may be empty.
func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not an address of the loopback interface, the only one to offer a development server on", addr)
	}
	return listenPatiently(addr)
}

// listenPatiently waits a little for an address that is in use. A client's connection
// may have taken a port while the server was down, or the server before still holds it.
func listenPatiently(addr string) (net.Listener, error) {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
	}
}

func (s *Server) start(dir string) (err error) {
	if s.engine, err = startEngine(s.options.Library, dir); err != nil {
		return err
	}
	out, err := s.engine.control.exec("SELECT version(), timezone() FORMAT TabSeparated")
	if err != nil {
		return err
	}
	s.version, s.timezone, _ = strings.Cut(strings.TrimSpace(string(out)), "\t")
	return nil
}

// HTTPAddr returns the host and port of the HTTP interface.
func (s *Server) HTTPAddr() string { return s.http.Addr().String() }

// NativeAddr returns the host and port of the native protocol.
func (s *Server) NativeAddr() string { return s.native.Addr().String() }

// Serve answers clients until the context ends. Then it cuts their connections, waits
// for what the engine is still doing and stops it.
func (s *Server) Serve(ctx context.Context) error {
	web := &http.Server{Handler: http.HandlerFunc(s.serveHTTP)} //nolint:gosec // loopback only, inserts may take their time
	failed := make(chan error, 2)
	s.done.Go(func() { failed <- web.Serve(s.http) })
	s.done.Go(func() { failed <- s.acceptNative() })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	_ = web.Close() // what it cuts is told by the clients
	_ = s.native.Close()
	s.cutNative()
	s.done.Wait()
	s.held.close()
	s.engine.stop()
	return err
}

func (s *Server) acceptNative() error {
	for {
		conn, err := s.native.Accept()
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.done.Go(func() {
			s.serveNative(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *Server) cutNative() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close() // it is gone either way
	}
}

// info is how the server introduces itself.
func (s *Server) info() proto.ServerHello {
	hello := proto.ServerHello{Name: "ClickHouse", DisplayName: "devclickhouse", Revision: revision, Timezone: s.timezone}
	_, _ = fmt.Sscanf(s.version, "%d.%d.%d", &hello.Major, &hello.Minor, &hello.Patch) // zeros otherwise
	return hello
}
