//go:build integration

package goka_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/realkafka"
	"github.com/millrace/millrace/pipeline"
	sink "github.com/millrace/millrace/sinks/goka"
	"github.com/millrace/millrace/sources/kafka"
)

const tablePartitions = 3

// jobSpec is what a job's process is told.
type jobSpec struct {
	Brokers   []string
	In, Group string
	Dir       string
	Endless   bool
}

// jobVariable is the environment variable that makes a test process a job's.
const jobVariable = "MILLRACE_TEST_GOKA_JOB"

// TestIntegrationJobProcess is the process of the other test's jobs.
func TestIntegrationJobProcess(t *testing.T) {
	raw := os.Getenv(jobVariable)
	if raw == "" {
		t.Skip("the other test starts it as a process of its own")
	}
	var s jobSpec
	must(t, json.Unmarshal([]byte(raw), &s))
	p := pipeline.New(pipeline.Name("counting"), pipeline.DefaultParallelism(2), pipeline.BatchSize(8),
		pipeline.Checkpoints(s.Dir, pipeline.CheckpointInterval(50*time.Millisecond)),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	in := pipeline.From(p, "numbers", kafka.JSON[number](kafka.Config{Brokers: s.Brokers, Topics: []string{s.In}, Bounded: !s.Endless, Client: quick()}))
	counts := pipeline.Process(pipeline.KeyBy(in, func(n number) int { return n.Key }), "count", func() *counter { return &counter{} })
	pipeline.To(counts, "table", sink.Table(sink.Config{
		Brokers: s.Brokers, Group: s.Group, Create: true, Partitions: tablePartitions, Replication: 1, Client: quick(),
	}, new(codec.String), entry.split))
	must(t, p.Run(t.Context()))
}

// jobProcess is a running process of a job.
type jobProcess struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan error
}

func startJob(t *testing.T, s jobSpec) *jobProcess {
	t.Helper()
	raw, err := json.Marshal(s)
	must(t, err)
	p := &jobProcess{Cmd: exec.Command(os.Args[0], "-test.run=^TestIntegrationJobProcess$"), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), jobVariable+"="+string(raw))
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, p.Start())
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// numbersTopic is a job's input, and what the table has to be after it.
type numbersTopic struct {
	t      *testing.T
	client *kgo.Client
	name   string
	rng    *rand.Rand
	counts map[int]int
}

func (n *numbersTopic) write(records int) {
	n.t.Helper()
	var all []*kgo.Record
	for range records {
		v := number{Key: n.rng.IntN(300)}
		n.counts[v.Key]++
		value, err := json.Marshal(v)
		must(n.t, err)
		all = append(all, &kgo.Record{Topic: n.name, Key: fmt.Append(nil, v.Key), Value: value})
	}
	must(n.t, n.client.ProduceSync(n.t.Context(), all...).FirstErr())
}

// table is what the jobs write by now, and the keys that they take out.
func (n *numbersTopic) table() (want map[string]string, gone []string) {
	want = map[string]string{}
	for k, c := range n.counts {
		key := fmt.Sprintf("key-%d", k)
		if c%20 == 0 {
			gone = append(gone, key)
		} else {
			want[key] = fmt.Sprint(c)
		}
	}
	return want, gone
}

// TestIntegrationViewSeesKilledJob kills the process of a job several times while it
// works. A view that runs all the while, and one that comes later, have in the end
// what a job would have written that nothing happened to.
func TestIntegrationViewSeesKilledJob(t *testing.T) {
	brokers := realkafka.Shared(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	must(t, err)
	t.Cleanup(client.Close)
	s := jobSpec{Brokers: brokers, In: realkafka.UniqueName("numbers"), Group: realkafka.UniqueName("counts"), Dir: t.TempDir(), Endless: true}
	table := s.Group + "-table"
	realkafka.MakeTopic(t, brokers, s.In, 4)
	n := &numbersTopic{t: t, client: client, name: s.In, rng: rand.New(rand.NewPCG(1, 1)), counts: map[int]int{}}

	var early *goka.View
	restored := 0
	for kills := range 5 {
		n.write(3000)
		before := realkafka.End(t, brokers, table)
		p := startJob(t, s)
		written := func() bool { return realkafka.End(t, brokers, table) >= before+int64(200+500*kills) }
		kept := func() bool { // so that later ones go on from a checkpoint
			all, _ := filepath.Glob(filepath.Join(s.Dir, "chk-*"))
			return len(all) > 0
		}
		for end := time.Now().Add(long); !written() || kills > 0 && !kept(); time.Sleep(20 * time.Millisecond) {
			if len(p.ended) > 0 || time.Now().After(end) {
				_ = p.Process.Kill()
				t.Fatalf("the job does not write: %v\n%s", <-p.ended, p.out.String())
			}
		}
		_ = p.Process.Signal(syscall.SIGKILL)
		if err := <-p.ended; err == nil {
			t.Error("a process that was killed ended well")
		}
		if strings.Contains(p.out.String(), "starting from a checkpoint") {
			restored++
		}
		if early == nil {
			early = viewAt(t, brokers, s.Group)
		}
	}
	if restored == 0 {
		t.Error("no job went on from a checkpoint")
	}
	s.Endless = false
	n.write(500)
	last := startJob(t, s)
	if err := <-last.ended; err != nil {
		t.Fatalf("%v\n%s", err, last.out.String())
	}
	want, gone := n.table()
	if len(gone) == 0 {
		t.Error("no key was taken out, choose others")
	}
	wantTable(t, early, want, gone...)
	wantTable(t, viewAt(t, brokers, s.Group), want, gone...)
	t.Logf("%d of 5 killed jobs went on from a checkpoint; %d keys, %d taken out, %d records in the table's topic",
		restored, len(want), len(gone), realkafka.End(t, brokers, table))
}
