//go:build integration

package redis_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realserver"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/redis"
	"github.com/millrace/millrace/sources/generator"
	"github.com/millrace/millrace/state"
)

func realWorld(t *testing.T, options ...string) (*world, *realserver.Redis) {
	t.Helper()
	r := realserver.NewRedis(t, options...)
	return connect(t, r.URL()), r
}

// TestIntegrationReal runs the fast tests on a real server.
func TestIntegrationReal(t *testing.T) {
	w, _ := realWorld(t, "--appendfsync", "everysec")
	t.Run("conformance", func(t *testing.T) { conformance(t, w) })
	t.Run("commands", func(t *testing.T) { testCommands(t, w) })
	t.Run("rejected", func(t *testing.T) { testRejected(t, w) })
}

// TestIntegrationOutOfMemory has a server without memory: commands wait until there is
// some.
func TestIntegrationOutOfMemory(t *testing.T) {
	w, _ := realWorld(t)
	for _, delivery := range []redis.Delivery{redis.ExactlyOnce, redis.AtLeastOnce} {
		w.FlushDB(t.Context())
		w.Set(t.Context(), "before", 1, 0)
		cfg := w.config()
		cfg.Delivery = delivery
		o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
		set := func(c *redis.Commands) { c.Set("n", 1, 0) }
		write := func() error {
			b := &pipeline.Records[run]{Values: []run{set}, Times: []int64{1}}
			return errors.Join(o.w.Write(context.Background(), b), o.w.(pipeline.Flusher).Flush(context.Background()))
		}
		if c, ok := o.w.(pipeline.Committer); ok {
			o.write(set, func(c *redis.Commands) { c.IncrBy("sum", 1) })
			waiting := o.prepare(1)
			write = func() error { return c.Commit(context.Background(), waiting) }
		}
		w.ConfigSet(t.Context(), "maxmemory", "1")
		done := make(chan error, 1)
		go func() { done <- write() }()
		select {
		case err := <-done:
			t.Errorf("a server without memory took the commands: %v", err)
		case <-time.After(300 * time.Millisecond):
			w.want("0", "EXISTS", "n")
			w.ConfigSet(t.Context(), "maxmemory", "0")
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		w.want("1", "GET", "n")
		if delivery == redis.ExactlyOnce {
			w.want("1", "GET", "sum")
		}
		o.wantLetters()
	}
}

// TestIntegrationCutFile has the server's file end in the middle of a commit, as after
// a kill while it was written. What is left of the commit must not count, not when the
// file is read a second time either.
func TestIntegrationCutFile(t *testing.T) {
	w, server := realWorld(t)
	first := mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	first.write(slices.Repeat([]run{func(c *redis.Commands) {
		c.ZIncrBy("top", "a", 1)
		c.XAdd("log", 0, "n", 1)
		c.IncrBy("sum", 1)
	}}, 10)...)
	waiting := first.prepare(1)
	first.commit(waiting)
	server.Kill()
	if err := server.CutFile("INCRBY"); err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if n := w.Exists(t.Context(), "sum", "top", "log").Val(); n != 0 {
		t.Errorf("after the cut %d of the keys are there", n)
	}
	second := mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "b", Checkpoints: true, Prepared: [][]byte{waiting}})
	second.commit(waiting)
	server.Kill()
	again()
	w.want("10", "GET", "sum")
	w.want("10", "ZSCORE", "top", "a")
	w.want("10", "XLEN", "log")
}

// TestIntegrationSettings has a start warn of settings that are no good.
func TestIntegrationSettings(t *testing.T) {
	for warning, options := range map[string][]string{
		"":                   nil,
		"maxmemory-policy":   {"--maxmemory-policy", "allkeys-lru"},
		"aof-load-truncated": {"--aof-load-truncated", "yes"},
	} {
		w, _ := realWorld(t, options...)
		var log bytes.Buffer
		warnings := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "a", Logger: warnings})
		want := 0 // lines
		if warning != "" {
			want = 1
		}
		if said := log.String(); !strings.Contains(said, warning) || strings.Count(said, "\n") != want {
			t.Errorf("with %q a start says\n%s", options, said)
		}
	}
}

// These tests run a job in a process of its own: by visitor it writes how many visits
// there were, as a score, as a field, and by adding up, so that whatever is lost,
// doubled or taken from a wrong state shows.

// jobSpec is what a job's process is told.
type jobSpec struct {
	URL, Dir    string
	Visits      int64
	Rate        float64 // of visits a second; 0: as fast as it goes
	Interval    time.Duration
	Parallelism int
}

// jobVariable is the environment variable that makes a test process a job's.
const jobVariable = "MILLRACE_TEST_REDIS_JOB"

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

// visitorOf makes some visitors far more frequent than others.
func visitorOf(id int64) int64 { return (id * id) % 997 % (1 + id%997) }

type visitor struct {
	visitor, visit, visits int64
}

func visitsJob(s jobSpec) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("visits"), pipeline.DefaultParallelism(s.Parallelism),
		pipeline.Checkpoints(s.Dir, pipeline.CheckpointInterval(s.Interval)),
		pipeline.Logger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	options := []generator.Option{generator.Splits(4)}
	if s.Rate > 0 {
		options = append(options, generator.Rate(s.Rate))
	}
	visits := pipeline.From(p, "visits", generator.Func(s.Visits, func(_ *rand.Rand, i int64) int64 { return i }, options...))
	counted := pipeline.Process(pipeline.KeyBy(visits, visitorOf), "count", func() *counting { return &counting{} })
	pipeline.To(counted, "exactly", redis.Encode(redis.Config{URL: s.URL}, func(v visitor, c *redis.Commands) error {
		c.ZAdd("top", v.visitor, float64(v.visits))
		c.HSet("visits", v.visitor, v.visits)
		c.ZIncrBy("summed", v.visitor, 1)
		c.IncrBy("all", 1)
		c.PFAdd("uv", v.visitor)
		if v.visit%10 == 0 {
			c.XAdd("log", 0, "visit", v.visit)
		}
		return nil
	}))
	pipeline.To(counted, "at-least", redis.Encode(redis.Config{URL: s.URL, Delivery: redis.AtLeastOnce}, func(v visitor, c *redis.Commands) error {
		c.Version(v.visits)
		c.ZAdd("top-now", v.visitor, float64(v.visits))
		return nil
	}))
	return p
}

type counting struct{ n *state.Value[int64, int64] }

func (o *counting) Open(c *pipeline.Context[int64, visitor]) error {
	o.n = state.NewValue[int64](c.State(), "n")
	return nil
}

func (o *counting) Process(c *pipeline.Context[int64, visitor], id int64) error {
	n := o.n.Upsert()
	*n++
	c.Emit(visitor{c.Key(), id, *n})
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

func newSpec(t *testing.T, url string) jobSpec {
	return jobSpec{URL: url, Dir: t.TempDir(), Visits: 150_000, Rate: 2_000, Interval: 100 * time.Millisecond, Parallelism: 2}
}

// wantVisits compares the keys with what has to be there.
func (w *world) wantVisits(s jobSpec) {
	w.t.Helper()
	visits := map[string]int64{}
	for id := range s.Visits {
		visits[strconv.FormatInt(visitorOf(id), 10)]++
	}
	for _, key := range []string{"top", "summed", "top-now"} {
		scores := map[string]int64{}
		for _, z := range w.ZRangeWithScores(context.Background(), key, 0, -1).Val() {
			scores[z.Member.(string)] = int64(z.Score)
		}
		w.wantCounts(key, scores, visits)
	}
	fields := map[string]int64{}
	for f, v := range w.HGetAll(context.Background(), "visits").Val() {
		fields[f], _ = strconv.ParseInt(v, 10, 64)
	}
	w.wantCounts("visits", fields, visits)
	w.want(fmt.Sprint(s.Visits), "GET", "all")
	w.want(fmt.Sprint((s.Visits+9)/10), "XLEN", "log")
	logged := map[any]bool{}
	for _, m := range w.XRange(context.Background(), "log", "-", "+").Val() {
		logged[m.Values["visit"]] = true
	}
	if n := int64(len(logged)); n != (s.Visits+9)/10 {
		w.t.Errorf("the stream has %d visits", n)
	}
	if n := w.PFCount(context.Background(), "uv").Val(); n < int64(len(visits)*95/100) || n > int64(len(visits)*105/100) {
		w.t.Errorf("the HyperLogLog counts %d visitors of %d", n, len(visits))
	}
}

func (w *world) wantCounts(key string, got, want map[string]int64) {
	w.t.Helper()
	wrong := 0
	for visitor, n := range want {
		if got[visitor] != n {
			wrong++
		}
	}
	if wrong > 0 || len(got) != len(want) {
		w.t.Errorf("%s: %d of %d visitors have wrong counts, and it has %d", key, wrong, len(want), len(got))
	}
}

// TestIntegrationRule26_KilledProcess kills the job's process 30 times while it works.
func TestIntegrationRule26_KilledProcess(t *testing.T) {
	w, _ := realWorld(t)
	spec := newSpec(t, w.url)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	const kills = 30
	for i := range kills {
		spec.Parallelism = 1 + i%3
		before := w.Get(t.Context(), "all").Val()
		p := startJob(t, spec)
		if i%3 == 2 { // on a busy machine, too, some get as far as a commit
			for deadline := time.Now().Add(time.Minute); before == w.Get(t.Context(), "all").Val() && len(p.ended) == 0; time.Sleep(10 * time.Millisecond) {
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
	t.Log("visits before the last start:", w.Get(t.Context(), "all").Val())
	spec.Rate = 0
	p := startJob(t, spec)
	p.mustEnd(t)
	if !strings.Contains(p.out.String(), "starting from a checkpoint") {
		t.Error("the last start was not from a checkpoint")
	}
	w.wantVisits(spec)
}

// TestIntegrationServerKilled kills the server again and again while the job works,
// and has it away at the start.
func TestIntegrationServerKilled(t *testing.T) {
	w, server := realWorld(t)
	spec := newSpec(t, w.url)
	spec.Visits, spec.Rate = 60_000, 10_000
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
	for _, said := range []string{"Redis does not take commands", "Redis takes commands again"} {
		if !strings.Contains(p.out.String(), said) {
			t.Errorf("the job does not say that %s:\n%s", said, p.out.String())
		}
	}
	w.wantVisits(spec)
}

// TestIntegrationTwoCopies starts a job twice, each with checkpoints of its own. The
// first stands still meanwhile, as on a machine that hangs.
func TestIntegrationTwoCopies(t *testing.T) {
	w, _ := realWorld(t)
	spec := newSpec(t, w.url)
	spec.Visits, spec.Rate, spec.Interval = 20_000, 2_000, 0 // nothing is committed before the end
	first := startJob(t, spec)
	for deadline := time.Now().Add(time.Minute); w.Exists(t.Context(), "top-now").Val() == 0; time.Sleep(10 * time.Millisecond) {
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
	w.wantVisits(spec)
	// A third one has neither checkpoints nor a reason to fence anybody.
	third := spec
	third.Dir = filepath.Join(t.TempDir(), "third")
	loser := startJob(t, third)
	if err := <-loser.ended; err == nil || !strings.Contains(loser.out.String(), "it would carry out commands again") {
		t.Errorf("a copy without the checkpoints started: %v\n%s", err, loser.out.String())
	}
}
