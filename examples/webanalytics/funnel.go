package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// Funnel is a sequence of steps that visitors are hoped to take, as the file
// of -funnel describes it:
//
//	[{"name": "signup", "within": "20m", "steps": [
//		{"name": "landing", "event_type": "page_view", "page_url": "/"},
//		{"name": "form",    "page_url": "/signup*"},
//		{"name": "done",    "event_type": "signup"}]}]
//
// A visitor reaches a step by an event that matches it, after reaching the one
// before it, in one session, and within the given time of the first step
// (without within, at any time of the session). Other events in between do not
// matter. Of several tries in a session the one that gets furthest counts.
//
// funnels.jsonl has, for each hour and each day in the time zone, how many
// different users reached each step in sessions that closed then.
type Funnel struct {
	Name   string       `json:"name"`
	Within duration     `json:"within"`
	Steps  []FunnelStep `json:"steps"`
}

// FunnelStep says which events reach a step: those of the type, and with a URL
// that matches the pattern, in which * stands for any characters. What is empty
// is not looked at.
type FunnelStep struct {
	Name      string `json:"name"`
	EventType string `json:"event_type"`
	PageURL   string `json:"page_url"`

	url *regexp.Regexp
}

// duration is a time.Duration that a JSON file gives as text.
type duration time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// maxSteps is what the bits of match.Steps allow.
const maxSteps = 64

// readFunnels reads and checks the file of -funnel.
func readFunnels(path string) ([]Funnel, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Funnel
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	seen := map[string]bool{}
	for i := range all {
		if err := all[i].prepare(); err != nil {
			return nil, fmt.Errorf("%s: funnel %d %q: %w", path, i+1, all[i].Name, err)
		}
		if seen[all[i].Name] {
			return nil, fmt.Errorf("%s: two funnels are called %q", path, all[i].Name)
		}
		seen[all[i].Name] = true
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no funnel", path)
	}
	return all, nil
}

func (f *Funnel) prepare() error {
	switch {
	case f.Name == "":
		return errors.New("no name")
	case f.Within < 0:
		return errors.New("within is negative")
	case len(f.Steps) == 0 || len(f.Steps) > maxSteps:
		return fmt.Errorf("%d steps, must be from 1 to %d", len(f.Steps), maxSteps)
	}
	for i := range f.Steps {
		s := &f.Steps[i]
		if s.EventType == "" && s.PageURL == "" {
			return fmt.Errorf("step %d matches everything: it has neither event_type nor page_url", i+1)
		}
		if s.Name == "" {
			s.Name = strings.TrimSpace(s.EventType + " " + s.PageURL)
		}
		if s.PageURL != "" {
			s.url = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(s.PageURL), `\*`, ".*") + "$")
		}
	}
	return nil
}

// matching returns the steps that an event matches, as bits.
func (f *Funnel) matching(h *Hit) (steps uint64) {
	for i := range f.Steps {
		s := &f.Steps[i]
		if (s.EventType == "" || s.EventType == h.Type) && (s.url == nil || s.url.MatchString(h.Page)) {
			steps |= 1 << i
		}
	}
	return steps
}

// match is an event that matches some of a funnel's steps.
type match struct {
	moment
	Steps uint64
}

// maxMatches bounds the memory of a session in a funnel. The first ones count.
const maxMatches = 1000

// reached returns how many steps the matches lead through. They are in order.
func (f *Funnel) reached(matches []match) int {
	best := 0
	for i, first := range matches {
		if first.Steps&1 == 0 {
			continue
		}
		n := 1
		for _, m := range matches[i+1:] {
			if n == len(f.Steps) || f.Within > 0 && m.Time-first.Time > time.Duration(f.Within).Milliseconds() {
				break
			}
			if m.Steps&(1<<n) != 0 {
				n++
			}
		}
		best = max(best, n)
	}
	return best
}

// tries is the aggregation of a session's hits to how far its visitor got, for
// each funnel.
func tries(funnels []Funnel) operators.Aggregation[Hit, []firsts[match], []int] {
	return operators.Aggregation[Hit, []firsts[match], []int]{
		New: func() []firsts[match] { return make([]firsts[match], len(funnels)) },
		Add: func(acc *[]firsts[match], h Hit) {
			for i := range funnels {
				if steps := funnels[i].matching(&h); steps != 0 {
					(*acc)[i].add(maxMatches, match{moment{h.Time, h.EventID}, steps})
				}
			}
		},
		Merge: func(acc, other *[]firsts[match]) {
			for i := range *other {
				(*acc)[i].add(maxMatches, (*other)[i]...)
			}
		},
		Result: func(acc *[]firsts[match]) []int {
			steps := make([]int, len(funnels))
			for i := range funnels {
				steps[i] = funnels[i].reached((*acc)[i].sorted(maxMatches))
			}
			return steps
		},
	}
}

// progress is how far a user got in a funnel, in a session or a window. It is
// state, and so its fields have names that an encoding can see.
type progress struct {
	Key   progressKey
	Steps int
}

type progressKey struct {
	Visitor
	Funnel string
}

// funnelKey is what funnels are counted by.
type funnelKey struct{ TrackingID, Funnel string }

func (p progress) user() progressKey { return p.Key }
func (p progress) funnel() funnelKey { return funnelKey{p.Key.TrackingID, p.Key.Funnel} }

func (p progress) further(o progress) progress {
	if o.Steps > p.Steps {
		return o
	}
	return p
}

// FunnelCount is a line of funnels.jsonl.
type FunnelCount struct {
	TrackingID  string `json:"tracking_id"`
	Funnel      string `json:"funnel"`
	Granularity string `json:"granularity"`
	WindowStart int64  `json:"window_start"`
	Step        int    `json:"step"` // from 1
	Name        string `json:"name"`
	Users       int64  `json:"users"`
}

// reachCounts counts users by the steps they reached: a user who reached the
// third has reached the first two.
func reachCounts() operators.Aggregation[progress, [maxSteps]int64, [maxSteps]int64] {
	type counts = [maxSteps]int64
	return operators.Aggregation[progress, counts, counts]{
		Add: func(acc *counts, p progress) {
			for i := range p.Steps {
				acc[i]++
			}
		},
		Merge: func(acc, other *counts) {
			for i, n := range other {
				acc[i] += n
			}
		},
		Result: func(acc *counts) counts { return *acc },
	}
}

// funnelCounts adds the funnels to the graph. Users are told apart exactly: the
// furthest that each got in a window comes first, and then the counting of
// those, in a window of the same bounds behind it.
func funnelCounts(hits pipeline.KeyedStream[Visitor, Hit], cfg *config) pipeline.Stream[FunnelCount] {
	funnels := cfg.funnels
	sessions := operators.Aggregate(hits, "funnel sessions", cfg.sessions(), tries(funnels))
	users := operators.FlatMap(sessions, "funnel progress",
		func(r operators.Result[Visitor, []int], emit func(progress)) {
			for i, steps := range r.Value {
				if steps > 0 {
					emit(progress{progressKey{r.Key, funnels[i].Name}, steps})
				}
			}
		})
	count := func(granularity string, by window.Assigner) pipeline.Stream[FunnelCount] {
		furthest := operators.Reduce(pipeline.KeyBy(users, progress.user), "funnel users "+granularity, by, progress.further)
		byFunnel := pipeline.KeyBy(operators.Map(furthest, "funnel reach "+granularity, valueOf), progress.funnel)
		return operators.FlatMap(operators.Aggregate(byFunnel, "funnel "+granularity, by, reachCounts()),
			"funnel lines "+granularity, funnelLines(funnels, granularity))
	}
	return pipeline.Union(count("1h", window.Tumbling(time.Hour)), count("1d", window.Days(cfg.location)))
}

func valueOf(r operators.Result[progressKey, progress]) progress { return r.Value }

func funnelLines(funnels []Funnel, granularity string) func(operators.Result[funnelKey, [maxSteps]int64], func(FunnelCount)) {
	byName := map[string]Funnel{}
	for _, f := range funnels {
		byName[f.Name] = f
	}
	return func(r operators.Result[funnelKey, [maxSteps]int64], emit func(FunnelCount)) {
		for i, s := range byName[r.Key.Funnel].Steps {
			emit(FunnelCount{r.Key.TrackingID, r.Key.Funnel, granularity, r.Window.Start, i + 1, s.Name, r.Value[i]})
		}
	}
}
