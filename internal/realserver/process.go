package realserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long a server may take until it answers, on a machine that is
// busy with others. On an idle one it takes less than a second.
const startTimeout = time.Minute

// UniqueName returns a name that begins with base and that nobody else has, of small
// letters, digits and underscores.
func UniqueName(base string) string {
	return base + "_" + strings.ToLower(rand.Text()[:10])
}

// server is a process with a folder, which can be killed and run again.
type server struct {
	name    string
	dir     string
	command []string
	as      *syscall.Credential // nil: as ourselves
	end     syscall.Signal      // ends it at once, as a crash would
	ready   func(ctx context.Context) error

	process *os.Process   // nil when there is none
	exited  chan struct{} // closed when process is gone
	remover io.Closer     // see removeAtExit
}

func (s *server) logFile() string { return filepath.Join(s.dir, "server.log") }

// makeDir makes the server's folder, which belongs to the user it runs as.
func (s *server) makeDir() (err error) {
	if s.dir, err = os.MkdirTemp("", "millrace-"+s.name+"-"); err != nil {
		return err
	}
	if s.as != nil {
		return os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid))
	}
	return nil
}

func (s *server) attributes(end syscall.Signal) *syscall.SysProcAttr {
	// A group of its own, or a terminal's interrupt would reach it before the test.
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: end, Credential: s.as}
}

// run starts the process, and waits until it answers.
func (s *server) run(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.SysProcAttr = s.attributes(s.end)
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel ends the child with the thread that made it, so the thread must
		// live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // whoever waits for the server tells from its log why
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.exited = cmd.Process, exited
	return s.await(ctx)
}

// await waits until the server answers.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended, its log ends with\n%s", s.name, s.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w: %w, its log ends with\n%s", s.name, ctx.Err(), err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the server at once, as a crash would: nothing is written out any more,
// and its clients' connections break. When it returns, the process is gone.
func (s *server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Signal(s.end) // fails when it is gone already
	<-s.exited
	s.process = nil
}

// Restart starts the server again, which was killed, on its port and data, and waits
// until it answers.
func (s *server) Restart(ctx context.Context) error {
	s.Kill() // when it ended by itself
	return s.run(ctx)
}

// Stop ends the server and removes its data. A second call does nothing.
func (s *server) Stop() {
	s.Kill()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // of a temporary folder; nobody could do anything about it
	}
	if s.remover != nil {
		_ = s.remover.Close()
	}
}

// Log returns the end of the server's log.
func (s *server) Log() string {
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	const lines = 40
	at := len(log)
	for range lines + 1 {
		if at = bytes.LastIndexByte(log[:at], '\n'); at < 0 {
			return string(log)
		}
	}
	return string(log[at+1:])
}

// removeAtExit has the server's folder removed when this process is gone without a
// Stop: by a shell that waits for the end of a pipe that only we hold open.
func (s *server) removeAtExit() error {
	remover := exec.Command("sh", "-c", `read -r _; until rm -rf -- "$1"; do sleep 0.1; done`, "sh", s.dir)
	remover.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us
	pipe, err := remover.StdinPipe()
	if err != nil {
		return err
	}
	s.remover = pipe
	if err := remover.Start(); err != nil {
		return err
	}
	go func() { _ = remover.Wait() }() // it ends when it will
	return nil
}

// freePort returns a port that nobody listens on. It lies below those that the kernel
// gives to outgoing connections, one of which would otherwise take the port of a
// killed server before it is back.
func freePort() (int, error) {
	const first, last = 15000, 32000
	var errs []error
	for range 100 {
		port := first + mathrand.IntN(last-first)
		ln, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return port, ln.Close()
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
