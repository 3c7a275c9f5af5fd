package realkafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// node is one broker, which is a controller too. A killed one can be run again.
type node struct {
	id                        int
	port, control, securePort int
	lib, dir                  string // the jars; properties, data and log

	process *os.Process   // nil when there is none
	exited  chan struct{} // closed when process is gone
}

func (n *node) addr() string       { return loopback(n.port) }
func (n *node) properties() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) logFile() string    { return filepath.Join(n.dir, "broker.log") }

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// java returns a command that runs one of Kafka's programs. Tests run for seconds,
// hence a compiler that is quick rather than thorough, and a collector that does
// without threads.
func (n *node) java(ctx context.Context, class string, args ...string) *exec.Cmd {
	args = append([]string{
		"-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Djava.net.preferIPv4Stack=true", "-Dlog4j2.configurationFile=" + filepath.Join(n.lib, "logging.xml"),
		"-cp", filepath.Join(n.lib, "*"), class,
	}, args...)
	cmd := exec.CommandContext(ctx, "java", args...)
	cmd.Dir = n.dir
	// A group of its own, or a terminal's interrupt would reach it before the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// format writes the properties and prepares the data folder.
func (n *node) format(ctx context.Context, properties, clusterID string, extra []string) error {
	if err := os.WriteFile(n.properties(), []byte(properties), 0o600); err != nil {
		return err
	}
	args := append([]string{"format", "--cluster-id", clusterID, "--config", n.properties()}, extra...)
	if out, err := n.java(ctx, "kafka.tools.StorageTool", args...).CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w (Debian's package is openjdk-17-jre-headless)", err)
	} else if err != nil {
		return fmt.Errorf("format storage: %w\n%s", err, tail(out))
	}
	return nil
}

// run starts the process. It does not wait until the broker answers.
func (n *node) run() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := n.java(context.Background(), "kafka.Kafka", n.properties())
	cmd.Stdout, cmd.Stderr = log, log
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel kills the child with the thread that made it, so the thread
		// must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // whoever waits for the broker tells from its log why
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	n.process, n.exited = cmd.Process, exited
	return nil
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (n *node) kill() {
	if n.process == nil {
		return
	}
	_ = n.process.Kill() // fails when it is gone already
	<-n.exited
	n.process = nil
}

// logTail returns the end of the broker's log.
func (n *node) logTail() []byte {
	log, err := os.ReadFile(n.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return tail(log)
}

// tail returns the last lines of a log.
func tail(log []byte) []byte {
	const lines = 40
	at := len(log)
	for range lines + 1 {
		if at = bytes.LastIndexByte(log[:at], '\n'); at < 0 {
			return log
		}
	}
	return log[at+1:]
}
