package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// moment is when a process is killed.
type moment int

const (
	atWork   moment = iota // once it has come some way further
	atStart                // soon after its start, while it restores
	atCommit               // while there is a checkpoint under way, or just complete
	atEnd                  // when nearly all results are there, or all
)

// attempt is one start of the program and its end.
type attempt struct {
	parallelism int
	moment      moment
	// after is how far the results must have come, in bytes; unused at the start.
	after int64
	// delay is how much longer it may live, so that no moment is left out.
	delay time.Duration
	last  bool // is not killed
}

// disturb runs the program until it ends by itself, however often it is killed.
func (t *trial) disturb(ctx context.Context) error {
	parallelism, reached := 2, int64(0)
	for {
		if t.rand.IntN(2) == 0 {
			parallelism = []int{1, 2, 4, 8}[t.rand.IntN(4)]
		}
		a := t.plan(parallelism, reached)
		ended, err := t.attempt(ctx, a)
		if err != nil {
			return err
		}
		if ended {
			break
		}
		t.kills++
		t.killed[a.moment]++
		here, err := size(filepath.Join(t.dir, disturbed))
		if err != nil {
			return err
		}
		reached = max(reached, here)
		if t.kills%10 == 0 {
			t.say("%d kills, %d %% of the results", t.kills, 100*reached/t.expected)
		}
		if complete, _ := t.checkpoints(); t.kills%5 == 0 && complete > 0 {
			if err := t.verify(ctx); err != nil {
				return err
			}
		}
	}
	if t.kills < t.config.kills {
		return fmt.Errorf("%w: %d of %d", errTooFewKills, t.kills, t.config.kills)
	}
	return t.verify(ctx)
}

// endKills is how many kills are tried beyond those that were asked for, at the
// end of the run: a process may well be faster, and then the run is over.
const endKills = 5

// plan decides when to kill the next process. The kills that are left are spread
// over the results that are: each comes when the process has done its share,
// more or less. What is done again after a restart counts once, so however
// little survives a kill, the next one lets the process get further.
func (t *trial) plan(parallelism int, reached int64) attempt {
	a := attempt{parallelism: parallelism, last: t.kills >= t.config.kills+endKills}
	if t.kills >= t.config.kills {
		a.moment, a.delay = atEnd, upTo(t.rand, 100*time.Millisecond)
		a.after = t.expected - int64(float64(t.expected)*t.rand.Float64()/10)
		return a
	}
	switch n := t.rand.IntN(10); {
	case n < 2:
		a.moment = atStart
		a.delay = upTo(t.rand, time.Second)
		return a
	case n < 5:
		a.moment = atCommit
		a.delay = upTo(t.rand, 30*time.Millisecond)
	default:
		a.moment = atWork
		a.delay = upTo(t.rand, t.interval)
	}
	// What is open at the end of the input closes all at once, too fast to be met.
	end := t.expected * 8 / 10
	share := float64(max(end-reached, 0)) / float64(max(t.config.kills-t.kills, 1))
	a.after = min(reached+int64(share*1.2*t.rand.Float64()), end)
	if reached >= end {
		a.moment, a.delay = atWork, upTo(t.rand, 20*time.Millisecond)
	}
	return a
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }

// attempt starts the program and kills it, unless it ends by itself before.
func (t *trial) attempt(ctx context.Context, a attempt) (ended bool, err error) {
	t.starts++
	t.parallelism[a.parallelism]++
	complete, _ := t.checkpoints()
	fresh := complete == 0
	var text bytes.Buffer
	cmd := exec.Command(t.webanalytics, t.recovering(a.parallelism)...)
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return false, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	ended, err = t.wait(ctx, a, exited)
	if !ended {
		signal := syscall.SIGKILL
		if errors.Is(err, errStuck) {
			signal = syscall.SIGQUIT // for the stacks
		}
		_ = cmd.Process.Signal(signal) // it may have ended this very moment
		if werr := <-exited; werr == nil {
			ended = true
		} else if err == nil && !wasKilled(werr) {
			err = werr
		}
	}
	t.noteStart(text.String(), fresh)
	if err != nil {
		return ended, fmt.Errorf("start %d, after %d kills: %w\n%s", t.starts, t.kills, err, text.String())
	}
	return ended, nil
}

// stuck is how long a process may live without coming to its goal.
const stuck = 15 * time.Minute

var errStuck = fmt.Errorf("it came to nothing in %v", stuck)

// wait returns when the process is to be killed, or has ended.
func (t *trial) wait(ctx context.Context, a attempt, exited <-chan error) (ended bool, err error) {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	deadline := time.NewTimer(stuck)
	defer deadline.Stop()
	var kill <-chan time.Time
	if a.moment == atStart && !a.last {
		kill = time.After(a.delay)
	}
	for {
		select {
		case err := <-exited:
			return true, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-deadline.C:
			return false, errStuck
		case <-kill:
			return false, nil
		case <-poll.C:
			if kill == nil && !a.last && t.due(a) {
				kill = time.After(a.delay)
			}
		}
	}
}

// due says whether the process has come to where it is to be killed.
func (t *trial) due(a attempt) bool {
	here, err := size(filepath.Join(t.dir, disturbed))
	if err != nil || here < a.after {
		return false
	}
	return a.moment != atCommit || t.committing()
}

// committing says whether there is a checkpoint that is not complete. Those that
// a killed process left are gone once the next one has opened the store; the
// results have come further by then.
func (t *trial) committing() bool {
	_, incomplete := t.checkpoints()
	return incomplete > 0
}

// checkpoints counts those that are there.
func (t *trial) checkpoints() (complete, incomplete int) {
	entries, _ := os.ReadDir(filepath.Join(t.dir, checkpoints)) // not there before the first start
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "chk-") {
			continue
		}
		switch _, err := os.Stat(filepath.Join(t.dir, checkpoints, e.Name(), "MANIFEST")); {
		case err == nil:
			complete++
		case errors.Is(err, os.ErrNotExist):
			incomplete++
		}
	}
	return complete, incomplete
}

func wasKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

var startedFrom = regexp.MustCompile(`starting from a checkpoint .*checkpoint=(\S+)`)

// noteStart notes what a start went on from.
func (t *trial) noteStart(text string, fresh bool) {
	switch m := startedFrom.FindStringSubmatch(text); {
	case m != nil:
		t.restored[m[1]]++
	case fresh:
		t.anew++
	default:
		t.tooEarly++
	}
}
