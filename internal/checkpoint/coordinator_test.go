package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestRule19_Coordinator tells the life of checkpoints in transcripts. Times
// are seconds. A line is one event: "now 10", "ack 0 1" of task 0 for
// checkpoint 1, "decline 0 1", "finish 0", "stored 1", "failed 1", "uncertain
// 1", "savepoint x", "stop" and "stop x".
func TestRule19_Coordinator(t *testing.T) {
	datadriven.Walk(t, "testdata/coordinator", func(t *testing.T, path string) {
		var c *Coordinator
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "job":
				c = NewCoordinator(jobConfig(t, d))
				return actionsText(c.Now(0)) + "\n"
			case "events":
				var out strings.Builder
				for line := range strings.Lines(d.Input) {
					line = strings.TrimSpace(line)
					fmt.Fprintf(&out, "%-12s → %s\n", line, actionsText(event(t, c, line)))
				}
				return out.String()
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

func jobConfig(t *testing.T, d *datadriven.TestData) Config {
	cfg := Config{Tasks: 2, Sources: []int{0}}
	seconds := func(key string) time.Duration {
		var n int
		d.MaybeScanArgs(t, key, &n)
		return time.Duration(n) * time.Second
	}
	cfg.Interval, cfg.Timeout, cfg.MinPause = seconds("interval"), seconds("timeout"), seconds("pause")
	d.MaybeScanArgs(t, "tolerated", &cfg.Tolerated)
	d.MaybeScanArgs(t, "tasks", &cfg.Tasks)
	d.MaybeScanArgs(t, "last", &cfg.LastID)
	return cfg
}

var errTest = errors.New("disk full")

func event(t *testing.T, c *Coordinator, line string) []Action {
	var task, n int
	var id int64
	var name string
	switch {
	case scan(line, "now %d", &n):
		return c.Now(time.Duration(n) * time.Second)
	case scan(line, "ack %d %d", &task, &id):
		return c.Acked(task, id)
	case scan(line, "decline %d %d", &task, &id):
		return c.Declined(task, id, errTest)
	case scan(line, "finish %d", &task):
		return c.Finished(task)
	case scan(line, "stored %d", &id):
		return c.Stored(id)
	case scan(line, "failed %d", &id):
		return c.StoreFailed(id, errTest)
	case scan(line, "uncertain %d", &id):
		return c.StoreFailed(id, ErrUncertain)
	case scan(line, "savepoint %s", &name):
		return c.Savepoint(name)
	case line == "stop" || scan(line, "stop %s", &name):
		return c.Stop(name)
	}
	t.Fatalf("cannot read %q", line)
	return nil
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

func actionsText(all []Action) string {
	if len(all) == 0 {
		return "-"
	}
	var parts []string
	for _, a := range all {
		parts = append(parts, actionText(a))
	}
	return strings.Join(parts, ", ")
}

func actionText(a Action) string {
	text := [...]string{"inject", "store", "committed", "abandon", "wake at", "done", "fail"}[a.Kind]
	if a.Final {
		text += " final"
	}
	if a.Stop {
		text += " last"
	}
	switch {
	case a.Kind == ActWakeAt:
		text += fmt.Sprintf(" %v", a.At.Seconds())
	case a.ID > 0:
		text += fmt.Sprintf(" %d", a.ID)
	}
	if a.Savepoint != "" {
		text += fmt.Sprintf(" as %q", a.Savepoint)
	}
	if a.Reason != nil {
		text += fmt.Sprintf(" (%v)", a.Reason)
	}
	return text
}

// TestRule19_CoordinatorAtRandom drives coordinators with events in any order,
// a clock that jumps included, and holds what they do against the rules.
func TestRule19_CoordinatorAtRandom(t *testing.T) {
	for seed := range uint64(3000) {
		r := newRandomJob(seed)
		for range 200 {
			r.step()
			if r.bad != "" {
				t.Fatalf("seed %d: %s after\n%s", seed, r.bad, strings.Join(r.story, "\n"))
			}
		}
		if !r.over && !r.finish() {
			t.Fatalf("seed %d: it does not end\n%s", seed, strings.Join(r.story, "\n"))
		}
	}
}

// randomJob is what the world looks like to a coordinator, and what it should
// look like.
type randomJob struct {
	rng   *rand.Rand
	c     *Coordinator
	cfg   Config
	clock time.Duration
	story []string
	bad   string

	lastID   int64
	open     int64 // under way
	storing  bool
	finalOne bool // the one under way is final
	acked    map[int]bool
	finished map[int]bool
	fails    int // in a row
	over     bool
}

func newRandomJob(seed uint64) *randomJob {
	rng := rand.New(rand.NewPCG(seed, 7))
	cfg := Config{
		Interval: time.Duration(rng.IntN(4)) * 10 * time.Second, Timeout: time.Duration(rng.IntN(3)) * 15 * time.Second,
		MinPause: time.Duration(rng.IntN(3)) * 4 * time.Second, Tolerated: rng.IntN(4) - 1,
		Tasks: 1 + rng.IntN(4), Sources: []int{0}, LastID: int64(rng.IntN(3)),
	}
	r := &randomJob{rng: rng, c: NewCoordinator(cfg), cfg: cfg, lastID: cfg.LastID, acked: map[int]bool{}, finished: map[int]bool{}}
	r.tell("now", r.c.Now(0))
	return r
}

func (r *randomJob) step() {
	task := r.rng.IntN(r.cfg.Tasks)
	switch n := r.rng.IntN(100); {
	case n < 35:
		r.clock += time.Duration(r.rng.IntN(4000)) * time.Millisecond
		if r.rng.IntN(10) == 0 {
			r.clock += time.Duration(r.rng.IntN(200)-100) * time.Second
		}
		r.tell(fmt.Sprint("now ", r.clock), r.c.Now(r.clock))
	case n < 75:
		id := r.lastID - int64(r.rng.IntN(5)/4)
		if !r.finished[task] {
			if id == r.open {
				r.acked[task] = true
			}
			r.tell(fmt.Sprint("ack ", task, id), r.c.Acked(task, id))
		}
	case n < 78:
		r.tell(fmt.Sprint("decline ", task), r.c.Declined(task, r.lastID, errTest))
	case n < 80:
		r.finished[task] = true
		r.tell(fmt.Sprint("finish ", task), r.c.Finished(task))
	case n < 92 && r.storing:
		r.tell("stored", r.c.Stored(r.open))
	case n < 95 && r.storing:
		r.tell("failed", r.c.StoreFailed(r.open, errTest))
	case n == 99 && r.rng.IntN(3) == 0:
		r.tell("savepoint", r.c.Savepoint("s"))
	}
}

// finish lets everything go well from here on.
func (r *randomJob) finish() bool {
	for task := range r.cfg.Tasks {
		r.finished[task] = true
		r.tell(fmt.Sprint("finish ", task), r.c.Finished(task))
	}
	for range 20 {
		if r.storing {
			r.tell("stored", r.c.Stored(r.open))
		}
		r.clock += 10 * time.Second
		r.tell(fmt.Sprint("now ", r.clock), r.c.Now(r.clock))
	}
	return r.over && r.bad == ""
}

func (r *randomJob) tell(event string, actions []Action) {
	r.story = append(r.story, event+" → "+actionsText(actions))
	for _, a := range actions {
		r.see(a)
	}
}

func (r *randomJob) wrong(is bool, what string) {
	if is && r.bad == "" {
		r.bad = what
	}
}

func (r *randomJob) see(a Action) {
	r.wrong(r.over && a.ID != 0, "something after the end")
	switch a.Kind {
	case ActInject:
		r.begin(a.ID)
		r.wrong(r.finished[0], "a barrier though the source has finished")
	case ActStore:
		if r.open == 0 { // needs no barrier
			r.begin(a.ID)
			r.wrong(len(r.finished) < r.cfg.Tasks, "no barrier though a task runs")
			r.wrong(a.Final == (a.Savepoint != ""), "final or a savepoint, one of the two")
		}
		r.wrong(a.ID != r.open || r.storing, "store of one not under way")
		for task := range r.cfg.Tasks {
			r.wrong(!r.acked[task] && !r.finished[task], "stored without an acknowledgement")
		}
		r.storing, r.finalOne = true, a.Final
	case ActCommitted:
		r.wrong(a.ID != r.open || !r.storing, "committed what was not stored")
		r.wrong(a.Final != r.finalOne, "final or not")
		r.open, r.storing, r.fails = 0, false, 0
	case ActAbandon:
		r.wrong(a.ID != r.open, "abandoned one not under way")
		r.open, r.storing = 0, false
		if a.Savepoint == "" {
			r.fails++
		}
	case ActDone:
		r.wrong(!r.finalOne, "done without a final one")
		r.over = true
	case ActFail:
		r.wrong(r.cfg.Tolerated < 0 || r.fails <= r.cfg.Tolerated, "failed though that many are tolerated")
		r.over = true
	case ActWakeAt:
		r.wrong(a.At <= r.clock, "wake in the past: a storm")
		r.wrong(a.At > r.clock+time.Minute, "wake far ahead: a stall")
	}
}

func (r *randomJob) begin(id int64) {
	r.wrong(r.open != 0, "two at a time")
	r.wrong(id != r.lastID+1, "ids do not go up by one")
	r.lastID, r.open, r.storing = id, id, false
	clear(r.acked)
}
