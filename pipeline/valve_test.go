package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestRule01_Valve tells the story of a task's watermark in transcripts. A line
// is one signal: "0 wm 10", "1 idle", "2 active", "0 end", "add", "remove 1".
func TestRule01_Valve(t *testing.T) {
	datadriven.Walk(t, "testdata/valve", func(t *testing.T, path string) {
		var v *valve
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "channels":
				var n int
				d.ScanArgs(t, "n", &n)
				v = newValve(n)
				return ""
			case "signals":
				var out strings.Builder
				for line := range strings.Lines(d.Input) {
					line = strings.TrimSpace(line)
					fmt.Fprintf(&out, "%-12s → %s\n", line, signalsText(valveLine(t, v, line)))
				}
				return out.String()
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

func valveLine(t *testing.T, v *valve, line string) []signal {
	var i int
	var ts int64
	switch {
	case line == "add":
		v.add()
		return nil
	case scan(line, "remove %d", &i):
		return v.remove(i)
	case scan(line, "%d wm max", &i):
		return v.input(i, signal{kind: sigWatermark, ts: MaxWatermark})
	case scan(line, "%d wm %d", &i, &ts):
		return v.input(i, signal{kind: sigWatermark, ts: ts})
	case scan(line, "%d idle", &i):
		return v.input(i, signal{kind: sigIdle})
	case scan(line, "%d active", &i):
		return v.input(i, signal{kind: sigActive})
	case scan(line, "%d end", &i):
		return v.input(i, signal{kind: sigEnd})
	}
	t.Fatalf("cannot read %q", line)
	return nil
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

func signalsText(all []signal) string {
	if len(all) == 0 {
		return "-"
	}
	var parts []string
	for _, s := range all {
		text := [...]string{"watermark", "idle", "active", "end"}[s.kind]
		switch {
		case s.kind == sigWatermark && s.ts == MaxWatermark:
			text += " max"
		case s.kind == sigWatermark:
			text += fmt.Sprintf(" %d", s.ts)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// TestRule01_WatermarkNeverRegresses feeds random signals and compares with
// the rule as written: the output never goes back, never passes an active
// aligned channel, and equals their minimum whenever that is ahead.
func TestRule01_WatermarkNeverRegresses(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v := newValve(1 + rng.IntN(4))
		out := int64(MinWatermark)
		for range 60 {
			i := rng.IntN(len(v.channels))
			kind := []signalKind{sigWatermark, sigWatermark, sigWatermark, sigIdle, sigActive}[rng.IntN(5)]
			for _, s := range v.input(i, signal{kind: kind, ts: int64(rng.IntN(100))}) {
				if s.kind != sigWatermark {
					continue
				}
				if s.ts <= out {
					t.Fatalf("seed %d: watermark went from %d to %d", seed, out, s.ts)
				}
				out = s.ts
			}
			lowest := int64(MaxWatermark)
			for _, c := range v.channels {
				if c.active && c.aligned {
					lowest = min(lowest, c.watermark)
				}
			}
			if lowest != MaxWatermark && out != lowest && (out < lowest || lowest != MinWatermark) {
				t.Fatalf("seed %d: watermark is %d, the lowest active and aligned channel is at %d", seed, out, lowest)
			}
		}
	}
}
