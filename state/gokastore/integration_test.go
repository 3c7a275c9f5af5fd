//go:build integration

package gokastore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/internal/realkafka"
	"github.com/millrace/millrace/state/gokastore"
)

// processorSpec is what a processor's process is told.
type processorSpec struct {
	Brokers   []string
	In, Group string
	Dir       string
}

// processorVariable is the environment variable that makes a test process a
// processor's.
const processorVariable = "MILLRACE_TEST_GOKA_PROCESSOR"

// TestIntegrationProcessorProcess is the process of the other test's processors.
func TestIntegrationProcessorProcess(t *testing.T) {
	raw := os.Getenv(processorVariable)
	if raw == "" {
		t.Skip("the other test starts it as a process of its own")
	}
	var s processorSpec
	must(t, json.Unmarshal([]byte(raw), &s))
	var recovered atomic.Int64
	cfg := goka.DefaultConfig()
	cfg.Consumer.Offsets.Initial = -2 // from the oldest
	graph := goka.DefineGroup(goka.Group(s.Group), goka.Input(goka.Stream(s.In), new(codec.Int64), sumOnce), goka.Persist(new(codec.String)))
	p, err := goka.NewProcessor(s.Brokers, graph, goka.WithStorageBuilder(gokastore.Builder(s.Dir)), goka.WithLogger(silent),
		goka.WithTopicManagerBuilder(topicManager()), goka.WithConsumerGroupBuilder(goka.ConsumerGroupBuilderWithConfig(cfg)),
		goka.WithUpdateCallback(func(ctx goka.UpdateContext, st storage.Storage, key string, value []byte) error {
			recovered.Add(1)
			return goka.DefaultUpdate(ctx, st, key, value)
		}))
	must(t, err)
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	must(t, p.Run(ctx))
	fmt.Println("recovered by", recovered.Load())
}

// sumOnce sums up numbers by key. goka hands records over again after a kill, so each
// value says up to which offset it counts; and it is written again then, as the
// storage may have had it and the table's topic not.
func sumOnce(ctx goka.Context, msg any) {
	next, sum := int64(0), int64(0)
	if v, ok := ctx.Value().(string); ok {
		next, sum = parseSum(v)
	}
	if ctx.Offset() >= next {
		next, sum = ctx.Offset()+1, sum+msg.(int64)
	}
	ctx.SetValue(fmt.Sprintf("%d %0256d", next, sum))
}

func parseSum(value string) (next, sum int64) {
	a, b, _ := strings.Cut(value, " ")
	next, _ = strconv.ParseInt(a, 10, 64)
	sum, _ = strconv.ParseInt(b, 10, 64)
	return next, sum
}

// processorProcess is a running process of a processor.
type processorProcess struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func startProcessor(t *testing.T, s processorSpec) *processorProcess {
	t.Helper()
	raw, err := json.Marshal(s)
	must(t, err)
	p := &processorProcess{Cmd: exec.Command(os.Args[0], "-test.run=^TestIntegrationProcessorProcess$"), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), processorVariable+"="+string(raw))
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, p.Start())
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// stop sends a signal and waits until the process is gone.
func (p *processorProcess) stop(t *testing.T, sig os.Signal) error {
	t.Helper()
	_ = p.Process.Signal(sig)
	select {
	case err := <-p.ended:
		return err
	case <-time.After(long):
		_ = p.Process.Kill()
		t.Fatalf("the processor does not stop:\n%s", p.out.String())
		return nil
	}
}

// TestIntegrationProcessorKilled kills a processor several times while it works, and
// lets the next one recover from what is left of its storage. The table that a view
// shows, which is on such a storage too, and the one in the processor's own storage
// are in the end those that the numbers lead to.
func TestIntegrationProcessorKilled(t *testing.T) {
	c := newRealCluster(t)
	s := processorSpec{Brokers: c.addr, In: realkafka.UniqueName("numbers"), Group: realkafka.UniqueName("sums"), Dir: t.TempDir()}
	table := string(goka.GroupTable(goka.Group(s.Group)))
	realkafka.MakeTopic(t, c.addr, s.In, partitions)
	const kills, step = 4, 2000
	for i := range kills {
		c.write(s.In, i*step, (i+1)*step)
		before := realkafka.End(t, c.addr, table)
		p := startProcessor(t, s)
		await(t, "the processor to work", func() bool {
			if len(p.ended) > 0 {
				t.Fatalf("it ended: %v\n%s", <-p.ended, p.out.String())
			}
			return realkafka.End(t, c.addr, table) >= before+int64(100+300*i)
		})
		_ = p.stop(t, syscall.SIGKILL)
		c.removeMembers(s.Group)
	}
	c.write(s.In, kills*step, kills*step+100)
	p := startProcessor(t, s)
	view := c.viewOnPebble(s.Group)
	await(t, "the view to show all sums", func() bool { return c.differs(view.Get) == "" })
	if err := p.stop(t, syscall.SIGTERM); err != nil {
		t.Fatalf("%v\n%s", err, p.out.String())
	}
	_, said, _ := strings.Cut(p.out.String(), "recovered by ")
	var recovered int64
	_, err := fmt.Sscan(said, &recovered)
	must(t, err)
	// Most of the table has to come from what the killed ones have left.
	all := realkafka.End(t, c.addr, table)
	if recovered > all/2 {
		t.Errorf("the last processor read %d of the table's %d records to recover", recovered, all)
	}
	t.Logf("the last processor recovered by %d of the table's %d records", recovered, all)
	if differs := c.differs(openTable(t, s)); differs != "" {
		t.Errorf("the processor's storage: %s", differs)
	}
}

func newRealCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, addr: realkafka.Shared(t), sums: map[string]int64{}}
	var err error
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.addr...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(fnv1a))))
	must(t, err)
	t.Cleanup(c.client.Close)
	return c
}

// differs says which key has another sum than it has to have, empty for none.
func (c *cluster) differs(get func(string) (any, error)) string {
	c.t.Helper()
	for key, want := range c.sums {
		got, err := get(key)
		must(c.t, err)
		text, _ := got.(string)
		if _, sum := parseSum(text); sum != want {
			return fmt.Sprintf("%s is %q, want the sum %d", key, text, want)
		}
	}
	return ""
}

// openTable returns the look-up of the storage that a processor has left.
func openTable(t *testing.T, s processorSpec) func(string) (any, error) {
	t.Helper()
	build := gokastore.Builder(s.Dir)
	var tables []storage.Storage
	for p := range int32(partitions) {
		table, err := build(string(goka.GroupTable(goka.Group(s.Group))), p)
		must(t, err)
		must(t, table.Open())
		t.Cleanup(func() { must(t, table.Close()) })
		tables = append(tables, table)
	}
	return func(key string) (any, error) {
		for _, table := range tables {
			if value, err := table.Get(key); err != nil || value != nil {
				return string(value), err
			}
		}
		return nil, nil
	}
}

// viewOnPebble starts a view of a group's table.
func (c *cluster) viewOnPebble(group string) *goka.View {
	c.t.Helper()
	v, err := goka.NewView(c.addr, goka.GroupTable(goka.Group(group)), new(codec.String),
		goka.WithViewStorageBuilder(gokastore.Builder(c.t.TempDir())), goka.WithViewLogger(silent), goka.WithViewTopicManagerBuilder(topicManager()))
	must(c.t, err)
	r := run(c.t, v.Run)
	c.t.Cleanup(r.stop)
	select {
	case <-v.WaitRunning():
	case <-time.After(long):
		c.t.Fatal("the view never catches up")
	}
	return v
}

// removeMembers takes the members of a group out, which were killed: the group would
// wait for them for several seconds.
func (c *cluster) removeMembers(group string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), long)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, c.client)
	must(c.t, err)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range resp.Groups[0].Members {
		gone := kmsg.NewLeaveGroupRequestMember()
		gone.MemberID = m.MemberID
		leave.Members = append(leave.Members, gone)
	}
	left, err := leave.RequestWith(ctx, c.client)
	must(c.t, err)
	must(c.t, kerr.ErrorForCode(left.ErrorCode))
}
