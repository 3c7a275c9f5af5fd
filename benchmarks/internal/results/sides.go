package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"text/tabwriter"
	"time"
)

// Turn is what a side has done in one round.
type Turn struct {
	Wall time.Duration `json:"wall"`
	CPU  time.Duration `json:"cpu"`
	// Peak is the most memory its process ever had, in bytes; 0 where that is unknown.
	Peak int64  `json:"peak,omitempty"`
	Err  string `json:"err,omitempty"`
}

// Serve runs a side once and writes its turn to standard output, for [Run] in the
// process that started this one.
func Serve(side func() error) {
	t, err := Timed(side)
	t.Peak = peak("self")
	if err != nil {
		t.Err = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(t)
}

// Timed runs a side once, and returns what it took by the clock and of processor time.
func Timed(side func() error) (Turn, error) {
	start, cpuStart := time.Now(), CPU()
	err := side()
	return Turn{Wall: time.Since(start), CPU: CPU() - cpuStart}, err
}

// Run runs a side in a process of its own: this program with other arguments, which
// have it call [Serve].
func Run(side string, args ...string) (Turn, error) {
	t, err := run(args)
	if err != nil {
		return Turn{}, fmt.Errorf("%s: %w", side, err)
	}
	return t, nil
}

func run(args []string) (t Turn, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	if t, err = turnOf(exec.Command(self, args...)); err == nil && t.Err != "" {
		err = errors.New(t.Err)
	}
	return t, err
}

// turnOf runs a program that writes its turn.
func turnOf(cmd *exec.Cmd) (t Turn, err error) {
	cmd.Stderr = os.Stderr
	raw, err := cmd.Output()
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(raw, &t)
}

// Goal is a ratio of throughput, of ours by theirs.
type Goal struct {
	Ours   string    `json:"ours"`
	Theirs string    `json:"theirs"`
	Least  float64   `json:"goal"` // 0: for information
	Wall   []float64 `json:"wall"` // ratios by round
	CPU    []float64 `json:"cpu"`
	Met    bool      `json:"met"`
}

// Add takes the turns of a round, by side.
func (g *Goal) Add(turns map[string]Turn) {
	o, t := turns[g.Ours], turns[g.Theirs]
	g.Wall = append(g.Wall, float64(t.Wall)/float64(o.Wall))
	g.CPU = append(g.CPU, float64(t.CPU)/float64(o.CPU))
	g.Met = Quantile(g.Wall, 0.5) >= g.Least
}

// Verdict says whether a goal is met, and nothing of what has none.
func Verdict(goal, met bool) string {
	switch {
	case !goal:
		return ""
	case met:
		return "met"
	default:
		return "MISSED"
	}
}

// PrintGoals writes a table of goals, of so many units a second.
func PrintGoals(to io.Writer, units string, goals []Goal) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s/s of\tby those of\tratio\trounds\tprocessor time\tgoal\t\n", units)
	for _, g := range goals {
		least := ""
		if g.Least > 0 {
			least = fmt.Sprintf("at least %g", g.Least)
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f–%.2f\t%.2f\t%s\t%s\n", g.Ours, g.Theirs, Quantile(g.Wall, 0.5),
			slices.Min(g.Wall), slices.Max(g.Wall), Quantile(g.CPU, 0.5), least, Verdict(g.Least > 0, g.Met))
	}
	return w.Flush()
}
