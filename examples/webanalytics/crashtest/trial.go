package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// config is what the flags say.
type config struct {
	events   int64
	kills    int
	seed     uint64
	interval time.Duration
	cache    string
	keep     bool
}

// trial is one crash test: the programs, and the folder it works in.
type trial struct {
	config
	log   io.Writer
	rand  *rand.Rand
	start time.Time

	dir          string
	webanalytics string
	millrace     string
	input        string
	expected     int64 // bytes of results of the undisturbed run

	starts, kills, verified int
	killed                  map[moment]int
	restored                map[string]int // how often, by checkpoint
	anew                    int            // starts without a checkpoint
	tooEarly                int            // starts killed before they had opened one
	parallelism             map[int]int
}

// The folders of results and checkpoints in the trial's.
const (
	undisturbed = "undisturbed"
	disturbed   = "killed"
	checkpoints = "checkpoints"
)

const funnels = `[{"name": "purchase", "steps": [
	{"name": "product", "page_url": "/products/*"}, {"name": "cart", "page_url": "/cart"},
	{"name": "checkout", "page_url": "/checkout"}, {"name": "bought", "page_url": "/thanks"}]}]`

// run makes a trial and removes what it leaves, unless there is something to
// look at.
func (c config) run(ctx context.Context, log io.Writer) error {
	dir, err := os.MkdirTemp("", "millrace-crashtest-")
	if err != nil {
		return err
	}
	t := &trial{
		config: c, log: log, rand: rand.New(rand.NewPCG(c.seed, 0)), start: time.Now(), dir: dir,
		killed: map[moment]int{}, restored: map[string]int{}, parallelism: map[int]int{},
	}
	t.say("seed %d, %d events, %d kills, a checkpoint every %v, in %s", c.seed, c.events, c.kills, c.interval, dir)
	if err = t.run(ctx); err != nil {
		return fmt.Errorf("%w\n(seed %d; see %s)", err, c.seed, dir)
	}
	if c.keep {
		return nil
	}
	return os.RemoveAll(dir)
}

func (t *trial) run(ctx context.Context) error {
	if err := t.prepare(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := t.finish(ctx, t.arguments(undisturbed, 2)); err != nil {
		return fmt.Errorf("undisturbed run: %w", err)
	}
	var err error
	if t.expected, err = size(filepath.Join(t.dir, undisturbed)); err != nil {
		return err
	}
	t.say("undisturbed run: %v, %.1f MB of results", time.Since(began).Round(time.Millisecond), float64(t.expected)/1e6)

	began = time.Now()
	if err := t.disturb(ctx); err != nil {
		return err
	}
	t.report(time.Since(began))
	if err := t.compare(); err != nil {
		return err
	}
	// A run that has ended and is started again changes nothing.
	if err := t.finish(ctx, t.recovering(4)); err != nil {
		return fmt.Errorf("the finished run, started again: %w", err)
	}
	if err := t.compare(); err != nil {
		return fmt.Errorf("the finished run, started again: %w", err)
	}
	return t.verify(ctx)
}

// prepare builds the programs and sees to the input.
func (t *trial) prepare(ctx context.Context) error {
	t.webanalytics, t.millrace = filepath.Join(t.dir, "webanalytics"), filepath.Join(t.dir, "millrace")
	for path, of := range map[string]string{t.webanalytics: "examples/webanalytics", t.millrace: "cmd/millrace"} {
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "github.com/millrace/millrace/"+of)
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", of, err, text)
		}
	}
	if err := os.WriteFile(t.funnels(), []byte(funnels), 0o666); err != nil {
		return err
	}
	t.input = filepath.Join(t.cache, fmt.Sprintf("events-%d.jsonl", t.events))
	if _, err := os.Stat(t.input); err == nil {
		return nil
	}
	if err := os.MkdirAll(t.cache, 0o777); err != nil {
		return err
	}
	made := filepath.Join(t.dir, "events.jsonl")
	text, err := exec.CommandContext(ctx, t.webanalytics, "-generate", made, "-events", fmt.Sprint(t.events)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("generate: %w\n%s", err, text)
	}
	t.say("generated %s", t.input)
	if os.Rename(made, t.input) != nil { // the cache is on another disk
		t.input = made
	}
	return nil
}

func (t *trial) funnels() string { return filepath.Join(t.dir, "funnels.json") }

func (t *trial) arguments(output string, parallelism int) []string {
	return []string{
		"-input", t.input, "-output", filepath.Join(t.dir, output), "-funnel", t.funnels(),
		"-parallelism", fmt.Sprint(parallelism),
	}
}

// recovering are the arguments of every start of the run that is killed.
func (t *trial) recovering(parallelism int) []string {
	return append(t.arguments(disturbed, parallelism),
		"-checkpoints", filepath.Join(t.dir, checkpoints), "-checkpoint-interval", t.interval.String())
}

// finish runs the program to its end.
func (t *trial) finish(ctx context.Context, args []string) error {
	text, err := exec.CommandContext(ctx, t.webanalytics, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// verify has the checkpoints checked by the tool that users have.
func (t *trial) verify(ctx context.Context) error {
	t.verified++
	text, err := exec.CommandContext(ctx, t.millrace, "checkpoint", "verify", filepath.Join(t.dir, checkpoints)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("millrace checkpoint verify, after %d kills: %w\n%s", t.kills, err, text)
	}
	return nil
}

func (t *trial) say(format string, args ...any) {
	fmt.Fprintf(t.log, "%7.1fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}

func (t *trial) report(took time.Duration) {
	restores := 0
	for _, n := range t.restored {
		restores += n
	}
	t.say("killed run: %v, %d kills (%d at work, %d at the start, %d in a checkpoint, %d at the end), %d starts",
		took.Round(time.Millisecond), t.kills, t.killed[atWork], t.killed[atStart], t.killed[atCommit], t.killed[atEnd], t.starts)
	t.say("%d starts went on from %d different checkpoints, %d had none, %d were killed before they had looked; verified %d times",
		restores, len(t.restored), t.anew, t.tooEarly, t.verified)
	t.say("starts by parallelism: %v", t.parallelism)
}

var errTooFewKills = errors.New("the run ended before it was killed often enough: try more -events")
