package pipeline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestRule17_Aligner tells the story of a task's barriers in transcripts. A line
// is what arrives: "0 barrier 7", "1 end". Behind the arrow is what follows: a snapshot to be taken, and the
// inputs that are not read from until then.
func TestRule17_Aligner(t *testing.T) {
	datadriven.Walk(t, "testdata/aligner", func(t *testing.T, path string) {
		var a *aligner
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "inputs":
				var n int
				d.ScanArgs(t, "n", &n)
				a = newAligner(n)
				return ""
			case "arrive":
				var out strings.Builder
				for line := range strings.Lines(d.Input) {
					line = strings.TrimSpace(line)
					fmt.Fprintf(&out, "%-12s → %s\n", line, alignerText(a, alignerLine(t, a, line)))
				}
				return out.String()
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

func alignerLine(t *testing.T, a *aligner, line string) int64 {
	var i int
	var id int64
	switch {
	case scan(line, "%d barrier %d", &i, &id):
		if a.blocked(i) {
			t.Fatalf("%q: the input is blocked, nothing can arrive on it", line)
		}
		return a.barrier(i, id)
	case scan(line, "%d end", &i):
		if a.blocked(i) {
			t.Fatalf("%q: the input is blocked, nothing can arrive on it", line)
		}
		return a.end(i)
	}
	t.Fatalf("cannot read %q", line)
	return 0
}

func alignerText(a *aligner, taken int64) string {
	var parts []string
	if taken != 0 {
		parts = append(parts, fmt.Sprintf("take %d", taken))
	}
	for i := range a.inputs {
		if a.blocked(i) {
			parts = append(parts, fmt.Sprintf("%d blocked", i))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

// channelOf is what an input of a task holds: barriers, records between them,
// and its end.
type channelOf []int64

const endOfInput = -1

// TestRule17_AlignmentEndsByItself has inputs leave out barriers, as sources do
// for checkpoints that were given up before they came to them, and end early.
// Whatever the order of arrival, the task comes to the end of all inputs, and
// takes, in order, just the checkpoints that all living inputs had. So nobody has
// to tell a task that a checkpoint was given up.
func TestRule17_AlignmentEndsByItself(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		inputs := make([]channelOf, 1+rng.IntN(4))
		for i := range inputs {
			for id := int64(1); id < 8; id++ {
				if rng.IntN(4) > 0 {
					inputs[i] = append(inputs[i], id)
				}
			}
			if len(inputs[i]) > 0 && rng.IntN(2) == 0 {
				inputs[i] = inputs[i][:rng.IntN(len(inputs[i]))]
			}
			inputs[i] = append(inputs[i], endOfInput)
		}
		var want []int64
		for id := int64(1); id < 8; id++ {
			if all, living := had(inputs, id); all && living {
				want = append(want, id)
			}
		}
		if taken := arriveAtRandom(t, rng, inputs); !slices.Equal(taken, want) {
			t.Fatalf("seed %d: took %v of %v, want %v", seed, taken, inputs, want)
		}
	}
}

// had says whether every input had a barrier or ended before it, and whether any
// had it.
func had(inputs []channelOf, id int64) (all, living bool) {
	all = true
	for _, c := range inputs {
		ended := c[:len(c)-1]
		has := slices.Contains(ended, id)
		living = living || has
		all = all && (has || len(ended) == 0 || ended[len(ended)-1] < id)
	}
	return all, living
}

func arriveAtRandom(t *testing.T, rng *rand.Rand, inputs []channelOf) (taken []int64) {
	a := newAligner(len(inputs))
	next := make([]int, len(inputs))
	for {
		var readable []int
		left := false
		for i, c := range inputs {
			left = left || next[i] < len(c)
			if next[i] < len(c) && !a.blocked(i) {
				readable = append(readable, i)
			}
		}
		if !left {
			return taken
		}
		if len(readable) == 0 {
			t.Fatalf("every input that has something is blocked: %v at %v", inputs, next)
		}
		i := readable[rng.IntN(len(readable))]
		id := inputs[i][next[i]]
		next[i]++
		got := int64(0)
		if id == endOfInput {
			got = a.end(i)
		} else {
			got = a.barrier(i, id)
		}
		if got != 0 {
			taken = append(taken, got)
		}
	}
}
