package realkafka

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options says what cluster to start. The zero value is one broker.
type Options struct {
	// Brokers is how many there are, at most 3. Records are kept on all of them, and
	// with three, two suffice (min.insync.replicas). Default 1.
	Brokers int
	// Config holds settings of the brokers, over those that this package makes: for
	// instance transaction.max.timeout.ms, or min.insync.replicas. Default: none.
	Config map[string]string
	// Secure adds a listener that wants TLS and a password, SCRAM-SHA-256, see
	// [Cluster.SecureAddrs] and [Cluster.SecureClient]. The plain one stays. Whoever
	// gets in may do everything, unless the brokers have an authorizer, as those of
	// [NewSecure]. Default: off.
	Secure bool
}

// Cluster is running brokers. Its methods are for one goroutine at a time.
type Cluster struct {
	dir         string
	nodes       []*node
	certificate *x509.Certificate
	remover     io.Closer // see removeAtExit
}

// startTimeout is how long a broker may take until it answers. On an idle machine
// it takes about four seconds.
const startTimeout = 2 * time.Minute

// Start starts a cluster and waits until its brokers answer and know each other.
// Stop ends it, and so does the end of the process, of whatever kind. The first
// start on a machine downloads Kafka.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	lib, err := install(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	if c.dir, err = os.MkdirTemp("", "millrace-kafka-"); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	if err := c.start(ctx, lib, o); err != nil {
		c.Stop()
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, lib string, o Options) error {
	if err := c.removeAtExit(); err != nil {
		return err
	}
	if err := c.makeNodes(lib, o); err != nil {
		return err
	}
	var extra []string
	if o.Secure {
		var err error
		if c.certificate, err = certify(c.nodes); err != nil {
			return err
		}
		extra = formatSecure()
	}
	id := clusterID()
	formatted := make(chan error, len(c.nodes))
	for _, n := range c.nodes {
		go func() {
			formatted <- n.format(ctx, properties(o, c.nodes, n), id, extra)
		}()
	}
	var errs []error
	for range c.nodes {
		errs = append(errs, <-formatted)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.run(); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.ready(ctx, len(c.nodes)); err != nil {
			return err
		}
	}
	return nil
}

// clusterID returns an id that does not begin with a dash, which would look like an
// option.
func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func (c *Cluster) makeNodes(lib string, o Options) error {
	brokers := max(o.Brokers, 1)
	if brokers > 3 {
		return fmt.Errorf("invalid options: %d brokers, 3 are the most", brokers)
	}
	ports, err := freePorts(3 * brokers)
	if err != nil {
		return err
	}
	for i := range brokers {
		n := &node{id: i + 1, lib: lib, dir: filepath.Join(c.dir, fmt.Sprint(i+1))}
		n.port, n.control, n.securePort = ports[3*i], ports[3*i+1], ports[3*i+2]
		if err := os.Mkdir(n.dir, 0o755); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	return nil
}

// freePorts returns ports that nobody listens on. They lie below those that the
// kernel gives to outgoing connections, one of which would otherwise take the port
// of a killed broker before it is back.
func freePorts(n int) ([]int, error) {
	const first, last = 15000, 32000
	var ports []int
	var open []net.Listener
	defer func() {
		for _, ln := range open {
			_ = ln.Close()
		}
	}()
	for tries := 0; len(ports) < n; tries++ {
		port := first + mathrand.IntN(last-first)
		ln, err := net.Listen("tcp", loopback(port))
		if err == nil {
			ports, open = append(ports, port), append(open, ln)
		} else if tries > 100 {
			return nil, err
		}
	}
	return ports, nil
}

// ready waits until the broker takes part, and knows so many that do.
func (n *node) ready(ctx context.Context, brokers int) error {
	for {
		known, err := n.knownBrokers(ctx)
		if err == nil && known >= brokers {
			return nil
		}
		select {
		case <-n.exited:
			return fmt.Errorf("broker %d ended, its log ends with\n%s", n.id, n.logTail())
		case <-ctx.Done():
			return fmt.Errorf("broker %d: %w: knows %d of %d brokers: %w, its log ends with\n%s",
				n.id, context.Cause(ctx), known, brokers, err, n.logTail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// knownBrokers asks the broker how many there are, itself included. It is none when
// the broker does not count itself, which it does not before it may serve.
func (n *node) knownBrokers(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.addr()), kgo.DisableClientMetrics())
	if err != nil {
		return 0, err
	}
	defer client.Close()
	resp, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client.SeedBrokers()[0])
	if err != nil {
		return 0, err
	}
	for _, b := range resp.Brokers {
		if int(b.NodeID) == n.id {
			return len(resp.Brokers), nil
		}
	}
	return 0, errors.New("it is not ready to serve")
}

// Addrs returns the brokers' addresses, host and port, of those that were killed
// too.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, n.addr())
	}
	return addrs
}

// SecureAddrs returns the addresses of the listeners that Options.Secure adds.
func (c *Cluster) SecureAddrs() []string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, loopback(n.securePort))
	}
	return addrs
}

// Kill ends broker i, counted from 0, as kill -9 does. When it returns, the process
// is gone. A leader among three is replaced some three seconds later.
func (c *Cluster) Kill(i int) { c.nodes[i].kill() }

// Launch starts broker i again, which was killed, on its ports and data, and does
// not wait for it. Use [Cluster.Restart] unless a majority of the brokers is away:
// they need each other to become ready.
func (c *Cluster) Launch(i int) error {
	n := c.nodes[i]
	n.kill() // when it ended by itself
	if err := n.run(); err != nil {
		return fmt.Errorf("launch broker %d: %w", n.id, err)
	}
	return nil
}

// Restart starts broker i again, which was killed, on its ports and data, and waits
// until it answers.
func (c *Cluster) Restart(ctx context.Context, i int) error {
	if err := c.Launch(i); err != nil {
		return err
	}
	return c.Await(ctx, i)
}

// Await waits until broker i, launched before, answers and may serve.
func (c *Cluster) Await(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	return c.nodes[i].ready(ctx, 1)
}

// NodeID returns the id by which clients know broker i, as in a partition's leader.
func (c *Cluster) NodeID(i int) int32 { return int32(c.nodes[i].id) }

// Stop ends the brokers and removes their data. A second call does nothing.
func (c *Cluster) Stop() {
	for _, n := range c.nodes {
		n.kill()
	}
	_ = os.RemoveAll(c.dir) // of a temporary folder; nobody could do anything about it
	if c.remover != nil {
		_ = c.remover.Close()
	}
}

// removeAtExit has the cluster's folder removed when this process is gone without
// a Stop: by a shell that waits for the end of a pipe that only we hold open. A test
// binary that is killed, or out of time, has no other place for it. The kernel kills
// the brokers at the same moment, which may still write while it removes.
func (c *Cluster) removeAtExit() error {
	remover := exec.Command("sh", "-c", `read -r _; until rm -rf -- "$1"; do sleep 0.1; done`, "sh", c.dir)
	remover.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us
	pipe, err := remover.StdinPipe()
	if err != nil {
		return err
	}
	c.remover = pipe
	if err := remover.Start(); err != nil {
		return err
	}
	go func() { _ = remover.Wait() }() // it ends when it will
	return nil
}

// Logs returns the ends of the brokers' logs.
func (c *Cluster) Logs() string {
	s := ""
	for _, n := range c.nodes {
		s += fmt.Sprintf("--- broker %d\n%s\n", n.id, n.logTail())
	}
	return s
}
