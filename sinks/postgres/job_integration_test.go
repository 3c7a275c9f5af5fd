//go:build integration

package postgres_test

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

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/postgres"
	"github.com/millrace/millrace/sources/generator"
	"github.com/millrace/millrace/state"
)

// These tests run a job in a process of its own: it writes each visit, and by key how
// many a visitor has made, so that whatever is lost, doubled or taken from a wrong
// state shows in the tables.

// jobSpec is what a job's process is told.
type jobSpec struct {
	URL, Dir    string
	Visits      int64
	Rate        float64 // of visits a second; 0: as fast as it goes
	Interval    time.Duration
	Parallelism int
}

// jobVariable is the environment variable that makes a test process a job's.
const jobVariable = "MILLRACE_TEST_POSTGRES_JOB"

// TestIntegrationJobProcess is the process of the other tests' jobs.
func TestIntegrationJobProcess(t *testing.T) {
	raw := os.Getenv(jobVariable)
	if raw == "" {
		t.Skip("the other tests start it as a process of its own")
	}
	var spec jobSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		t.Fatal(err)
	}
	if err := visitsJob(spec).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

type visit struct {
	ID      int64
	Visitor int64
	At      time.Time
}

// visitorOf makes some visitors far more frequent than others.
func visitorOf(id int64) int64 { return (id * id) % 997 % (1 + id%997) }

type visitor struct {
	Visitor int64
	Visits  int64
}

func visitsJob(s jobSpec) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("visits"), pipeline.DefaultParallelism(s.Parallelism),
		pipeline.Checkpoints(s.Dir, pipeline.CheckpointInterval(s.Interval)),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	options := []generator.Option{generator.Splits(4)}
	if s.Rate > 0 {
		options = append(options, generator.Rate(s.Rate))
	}
	visits := pipeline.From(p, "visits", generator.Func(s.Visits, func(_ *rand.Rand, i int64) visit {
		return visit{i, visitorOf(i), time.UnixMilli(1_700_000_000_000 + i).UTC()}
	}, options...))
	pipeline.To(visits, "log", postgres.Structs[visit](postgres.Config{URL: s.URL, Table: "visits"}))
	byVisitor := pipeline.KeyBy(visits, func(v visit) int64 { return v.Visitor })
	counted := pipeline.Process(byVisitor, "count", func() *counting { return &counting{} })
	pipeline.To(counted, "counts", postgres.Structs[visitor](postgres.Config{URL: s.URL, Table: "visitors", Key: []string{"visitor"}}))
	return p
}

type counting struct{ n *state.Value[int64, int64] }

func (o *counting) Open(c *pipeline.Context[int64, visitor]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

func (o *counting) Process(c *pipeline.Context[int64, visitor], v visit) error {
	n := o.n.Upsert()
	*n++
	c.Emit(visitor{v.Visitor, *n})
	return nil
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
	if err != nil {
		t.Fatal(err)
	}
	p := &jobProcess{Cmd: exec.Command(os.Args[0], "-test.run=^TestIntegrationJobProcess$", "-test.timeout=15m"), ended: make(chan error, 1)}
	p.Env = append(os.Environ(), jobVariable+"="+string(raw))
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.ended <- p.Wait()
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-over
		if t.Failed() {
			t.Logf("what a job said:\n%s", p.out.String())
		}
	})
	return p
}

// mustEnd waits for the end of a job that has nothing more to do.
func (p *jobProcess) mustEnd(t *testing.T) {
	t.Helper()
	if err := <-p.ended; err != nil {
		t.Fatalf("%v\n%s", err, p.out.String())
	}
}

func newSpec(t *testing.T, d *database) jobSpec {
	d.exec(`CREATE TABLE visits (id bigint, visitor bigint, at timestamptz NOT NULL);
		CREATE TABLE visitors (visitor bigint PRIMARY KEY, visits bigint NOT NULL CHECK (visits > 0))`)
	return jobSpec{URL: d.url, Dir: t.TempDir(), Visits: 400_000, Rate: 5_000, Interval: 100 * time.Millisecond, Parallelism: 2}
}

// wantVisits compares the tables with what has to be there.
func (d *database) wantVisits(s jobSpec) {
	d.t.Helper()
	perVisitor := map[int64]int64{}
	for id := range s.Visits {
		perVisitor[visitorOf(id)]++
	}
	var checksum int64
	for v, n := range perVisitor {
		checksum += v * n
	}
	d.want("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM visits", fmt.Sprintf("%d %d 0 %d", s.Visits, s.Visits, s.Visits-1))
	d.want("SELECT count(*), sum(visits)::bigint, sum(visitor * visits)::bigint FROM visitors", fmt.Sprintf("%d %d %d", len(perVisitor), s.Visits, checksum))
	d.want("SELECT count(*) FROM (SELECT visitor, count(*) FROM visits GROUP BY visitor EXCEPT SELECT visitor, visits FROM visitors) wrong", "0")
}

// TestIntegrationRule26_KilledProcess kills the job's process 30 times while it works.
func TestIntegrationRule26_KilledProcess(t *testing.T) {
	d := newDatabase(t)
	spec := newSpec(t, d)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	const kills = 30
	for i := range kills {
		spec.Parallelism = 1 + i%3
		before := d.rows("SELECT count(*) FROM visits")[0]
		p := startJob(t, spec)
		if i%3 == 2 { // on a busy machine, too, some get as far as a commit
			for deadline := time.Now().Add(time.Minute); before == d.rows("SELECT count(*) FROM visits")[0] && len(p.ended) == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("a job commits nothing:\n%s", p.out.String())
				}
			}
		}
		select {
		case <-time.After(time.Duration(50+rng.IntN(500)) * time.Millisecond):
			_ = p.Process.Signal(syscall.SIGKILL)
			if err := <-p.ended; err == nil {
				t.Log("a job ended before it was killed")
			}
		case err := <-p.ended:
			t.Fatalf("after %d kills the job ended: %v\n%s", i, err, p.out.String())
		}
	}
	t.Log("visits before the last start:", d.rows("SELECT count(*) FROM visits"))
	spec.Rate = 0
	p := startJob(t, spec)
	p.mustEnd(t)
	if !strings.Contains(p.out.String(), "starting from a checkpoint") {
		t.Error("the last start was not from a checkpoint")
	}
	d.wantVisits(spec)
}

// TestIntegrationServerKilled kills the server again and again while the job works,
// and has it away at the start.
func TestIntegrationServerKilled(t *testing.T) {
	server := realserver.NewPostgres(t)
	url := server.NewDatabase(t)
	spec := newSpec(t, connect(t, url))
	spec.Visits, spec.Rate = 150_000, 25_000
	server.Kill()
	p := startJob(t, spec)
	outages := 0
	for running := true; running && outages < 8; outages++ {
		time.Sleep(300 * time.Millisecond) // away for as long as clients notice
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			running = false
		case <-time.After(1500 * time.Millisecond):
			server.Kill()
		}
	}
	t.Log(outages, "times away")
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(t)
	for _, said := range []string{"the database is away", "the database is back"} {
		if !strings.Contains(p.out.String(), said) {
			t.Errorf("the job does not say that %s:\n%s", said, p.out.String())
		}
	}
	connect(t, url).wantVisits(spec)
}

// TestIntegrationTwoCopies starts a job twice, each with checkpoints of its own. The
// first stands still meanwhile, as on a machine that hangs, in the middle of
// transactions.
func TestIntegrationTwoCopies(t *testing.T) {
	d := newDatabase(t)
	spec := newSpec(t, d)
	spec.Visits, spec.Rate, spec.Interval = 30_000, 3_000, 0 // nothing is committed before the end
	first := startJob(t, spec)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if len(d.rows("SELECT 1 WHERE to_regclass('millrace.stages') IS NOT NULL")) > 0 && d.rows("SELECT count(DISTINCT sink) FROM millrace.stages")[0] == "2" {
			break // both sinks write
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first copy does not start:\n%s", first.out.String())
		}
	}
	_ = first.Process.Signal(syscall.SIGSTOP)
	second := spec
	second.Dir, second.Rate = filepath.Join(t.TempDir(), "second"), 0
	winner := startJob(t, second)
	winner.mustEnd(t)
	_ = first.Process.Signal(syscall.SIGCONT)
	if err := <-first.ended; err == nil || !strings.Contains(first.out.String(), "fenced") {
		t.Errorf("the first copy was not fenced: %v\n%s", err, first.out.String())
	}
	d.wantVisits(spec)
	// A third one has neither checkpoints nor a reason to fence anybody.
	third := spec
	third.Dir = filepath.Join(t.TempDir(), "third")
	loser := startJob(t, third)
	if err := <-loser.ended; err == nil || !strings.Contains(loser.out.String(), "it would write rows again") {
		t.Errorf("a copy without the checkpoints started: %v\n%s", err, loser.out.String())
	}
	d.wantVisits(spec)
}
