package devclickhouse

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options says what server to start as a process of its own. The zero value is one on
// free ports, with its data in a temporary folder.
type Options struct {
	// Dir is where the data is kept. It is left there. Default: a temporary folder,
	// which [Process.Close] removes.
	Dir string
	// User and Password are what clients have to give. Default: "default", and no
	// password.
	User, Password string
	// Log is where the engine's and the server's own output goes besides the memory
	// that [Process.Log] returns the end of. Default: nowhere.
	Log io.Writer
}

// Process is a server in a process of its own. Its methods may be called by several
// goroutines: one that starts or ends it waits for another that does.
type Process struct {
	options      Options
	program      *os.File
	temporary    bool // whether Dir is ours to remove
	native, http string
	log          tailBuffer

	mu      sync.Mutex
	process *os.Process   // nil when there is none; guarded by mu, as what follows is
	exited  chan struct{} // closed when process is gone
}

// Start starts a server, which takes some tenths of a second, and what it takes to
// fetch the engine, build the program, or both, the first time. When it returns,
// clients may connect. The server ends with this process, however this process ends,
// unless it is paused then.
// The error is [ErrUnavailable] where there is no engine for the machine or no npm to
// fetch it with.
func Start(ctx context.Context, o Options) (*Process, error) {
	if _, err := Install(ctx, os.Stderr); err != nil {
		return nil, err
	}
	program, err := build()
	if err != nil {
		return nil, err
	}
	p := &Process{options: o, program: program}
	if p.native, err = freeAddr(); err == nil {
		p.http, err = freeAddr()
	}
	if err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if p.options.Dir, err = os.MkdirTemp("", "devclickhouse-"); err != nil {
			return nil, err
		}
		p.temporary = true
	}
	if err := p.start(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// freeAddr returns a loopback address that nobody listens on. Its port is below those
// that the kernel gives to clients' connections: one of them might have it while the
// server is down, and keep it from starting again.
func freeAddr() (string, error) {
	var last error
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(20_000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}

// build builds the server's program, once in a process. It is not the test binary
// itself: that may be slow for the race detector in it. The file has no name any more
// when it is returned, so that nothing is left behind, however the process ends.
var build = sync.OnceValues(func() (*os.File, error) {
	dir, err := os.MkdirTemp("", "devclickhouse-program-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the system's temporary folder
	name := filepath.Join(dir, "devclickhouse")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", name, "github.com/millrace/millrace/cmd/devclickhouse")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the development ClickHouse: %w\n%s", err, out)
	}
	return os.Open(name)
})

// start runs the program and waits until it says that it listens. The caller holds mu,
// unless nobody else has p yet.
func (p *Process) start(ctx context.Context) error {
	args := []string{"-dir", p.options.Dir, "-native", p.native, "-http", p.http}
	if p.temporary {
		args = append(args, "-remove")
	}
	if p.options.User != "" {
		args = append(args, "-user", p.options.User)
	}
	if p.options.Password != "" {
		args = append(args, "-password", p.options.Password)
	}
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.program.Fd()), args...)
	// A group of its own, or a terminal's interrupt would reach it before the test. When
	// this process ends, the server may still remove its data.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = &p.log
	if p.options.Log != nil {
		cmd.Stderr = io.MultiWriter(&p.log, p.options.Log)
	}
	says, into, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = into
	err = p.spawn(cmd)
	_ = into.Close() // the child has its own
	if err != nil {
		_ = says.Close()
		return err
	}
	return p.await(ctx, says)
}

// spawn starts the command. The caller holds mu.
func (p *Process) spawn(cmd *exec.Cmd) error {
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel kills the child with the thread that made it, so the thread
		// must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // whoever waits for the server tells from its log why
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the development ClickHouse: %w", err)
	}
	p.process, p.exited = cmd.Process, exited
	return nil
}

// await waits for what the server says last, and lets somebody go on reading, so that
// the server is never stopped by a full pipe.
func (p *Process) await(ctx context.Context, says io.ReadCloser) error {
	ready := make(chan struct{})
	go func() {
		defer func() { _ = says.Close() }()
		lines := bufio.NewScanner(says)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "http ") {
				close(ready)
			}
			fmt.Fprintln(&p.log, lines.Text())
		}
	}()
	select {
	case <-ready:
		return nil
	case <-p.exited:
		p.process = nil
		return fmt.Errorf("the development ClickHouse ended at its start:\n%s", p.Log())
	case <-ctx.Done():
		p.end(syscall.SIGKILL)
		return fmt.Errorf("the development ClickHouse has not started: %w\n%s", ctx.Err(), p.Log())
	}
}

// Addr returns the host and port of the native protocol. They stay the same when the
// server is started again.
func (p *Process) Addr() string { return p.native }

// HTTPAddr returns the host and port of the HTTP interface. They stay the same when
// the server is started again.
func (p *Process) HTTPAddr() string { return p.http }

// DSN returns what clickhouse-go's ParseDSN takes, for the native protocol.
func (p *Process) DSN() string { return p.dsn("clickhouse", p.native) }

// HTTPDSN returns what clickhouse-go's ParseDSN takes, for the HTTP interface.
func (p *Process) HTTPDSN() string { return p.dsn("http", p.http) }

func (p *Process) dsn(scheme, addr string) string {
	user := p.options.User
	if user == "" {
		user = defaultUser
	}
	u := url.URL{Scheme: scheme, User: url.UserPassword(user, p.options.Password), Host: addr, Path: "/default"}
	return u.String()
}

// Dir returns where the data is.
func (p *Process) Dir() string { return p.options.Dir }

// Log returns the end of what the server and the engine have written, for a test that
// has failed.
func (p *Process) Log() string { return p.log.String() }

// Kill ends the server as kill -9 does, and waits until it is gone. It can be started
// again. The one instant in which it is not killed is that between an insert's token
// and its rows, where ClickHouse itself loses the rows if the table is not Replicated.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.avoidLoss()
	p.end(syscall.SIGKILL)
}

// avoidLoss has the process stand still where it may be killed. It gives up if there is
// no such place: parts may have gone in another way.
func (p *Process) avoidLoss() {
	const attempts = 100
	for attempt := 0; p.process != nil && attempt < attempts; attempt++ {
		_ = p.process.Signal(syscall.SIGSTOP) // fails when it is gone already
		p.awaitStop()
		if lossy, err := tokenWithoutPart(p.options.Dir); !lossy || err != nil {
			return
		}
		_, _ = fmt.Fprintln(&p.log, "to be killed between a token and its rows; goes on for a moment") // into memory
		_ = p.process.Signal(syscall.SIGCONT)
		time.Sleep(time.Millisecond)
	}
}

// awaitStop waits until all threads of a process stand still that was told to, or it is
// gone.
func (p *Process) awaitStop() {
	for ; ; time.Sleep(100 * time.Microsecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.process.Pid))
		if !slices.ContainsFunc(threads, runs) {
			return
		}
	}
}

// runs says whether a thread, of which it gets the file in /proc, does not stand still.
// Its state is behind its name, which is in brackets and may have others.
func runs(thread string) bool {
	stat, err := os.ReadFile(thread)
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return !bytes.ContainsAny(state[:1], "TtZX")
}

// Stop ends the server and gives it the time it needs. It can be started again.
func (p *Process) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(syscall.SIGTERM)
}

// end is for a caller that holds mu.
func (p *Process) end(how syscall.Signal) {
	if p.process == nil {
		return
	}
	_ = p.process.Signal(how)             // fails when it is gone already
	_ = p.process.Signal(syscall.SIGCONT) // if it is paused
	<-p.exited
	p.process = nil
}

// Restart starts the server again, on the same addresses and data, and ends it before
// that as Stop does if it is running.
func (p *Process) Restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(syscall.SIGTERM)
	return p.start(ctx)
}

// Pause stops the server's process where it is, so that clients wait for answers, and
// Resume lets it go on. The system stops one thread after the other, so that the server
// may answer once more after Pause has returned.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return errors.New("the development ClickHouse is not running")
	}
	return p.process.Signal(s)
}

// Close kills the server and removes its data, if the folder is a temporary one.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(syscall.SIGKILL)
	if p.temporary {
		_ = os.RemoveAll(p.options.Dir) // in the system's temporary folder
	}
}

// tailBuffer keeps the last of what is written to it.
type tailBuffer struct {
	mu   sync.Mutex
	last []byte // guarded by mu
}

const tailSize = 16 << 10

// Write keeps p, or the end of it.
func (t *tailBuffer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last = t.last[over:]
	}
	return len(p), nil
}

// String returns what was kept.
func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}
