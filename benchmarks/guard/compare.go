package main

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// committed is a ratio as it was when it was committed: ours by theirs, the less the
// better.
type committed struct {
	Name  string  `json:"name"`
	Ratio float64 `json:"ratio"`
	// Spread is how much larger the pass that was worst was, as a part of the ratio.
	Spread float64 `json:"spread"`
	// Margin is how much larger a ratio may be, as a part of the committed one.
	Margin float64 `json:"margin"`
}

// The margin's bounds. Five passes do not know how far the next may be off, nor what
// another machine's caches make of it, so there is a least one. A spread that asks for
// more than the most is no measurement: what such a margin would still catch, everybody
// would notice. A process that is that far off by itself, for where its memory happens to
// lie, is what the further attempts are for.
const (
	leastMargin = 0.35
	mostMargin  = 0.50
)

// committing makes what is to be committed of a ratio measured several times.
func committing(name string, measured []float64) committed {
	c := committed{Name: name, Ratio: results.Quantile(measured, 0.5)}
	for _, m := range measured {
		c.Spread = max(c.Spread, m/c.Ratio-1)
	}
	c.Margin = min(max(1.5*c.Spread, leastMargin), mostMargin)
	return c
}

// best is what a comparison is judged by: the lower quartile of its rounds.
func best(rounds []float64) float64 { return results.Quantile(rounds, 0.25) }

// outcome is a committed ratio and what it is now: the least of the attempts.
type outcome struct {
	committed
	measured float64
	attempts int
}

// change is how much larger the ratio has become, as a part of the committed one.
func (o outcome) change() float64 { return o.measured/o.Ratio - 1 }

func (o outcome) failed() bool { return o.change() > o.Margin }

// String implements [fmt.Stringer].
func (o outcome) String() string {
	switch {
	case o.failed():
		return "FAILED"
	case -o.change() > o.Margin:
		return "better: -update commits that"
	case o.attempts > 1:
		return fmt.Sprintf("passed at attempt %d", o.attempts)
	default:
		return "passed"
	}
}

// judge measures every check, and those that are past their margin again: first all of
// them once, so that a neighbour's short burst has passed by the next attempt.
func judge(before []committed, attempts int, measure func(check) (float64, error)) ([]outcome, error) {
	outcomes, err := pair(before)
	if err != nil {
		return nil, err
	}
	for range attempts {
		for i := range outcomes {
			o := &outcomes[i]
			if o.attempts > 0 && !o.failed() {
				continue
			}
			ratio, err := measure(checks[i])
			if err != nil {
				return nil, err
			}
			if o.attempts++; o.attempts == 1 || ratio < o.measured {
				o.measured = ratio
			}
		}
	}
	return outcomes, nil
}

// pair finds the committed ratio of each check. One without the other means that the
// file is of another version.
func pair(before []committed) ([]outcome, error) {
	byName := map[string]committed{}
	for _, c := range before {
		if c.Ratio <= 0 || c.Margin <= 0 {
			return nil, fmt.Errorf("invalid file: ratio and margin of %q must be above 0", c.Name)
		}
		byName[c.Name] = c
	}
	var outcomes []outcome
	for _, check := range checks {
		c, ok := byName[check.name]
		if !ok {
			return nil, fmt.Errorf("no ratio is committed for %q: run with -update", check.name)
		}
		delete(byName, check.name)
		outcomes = append(outcomes, outcome{committed: c})
	}
	for name := range byName {
		return nil, fmt.Errorf("the committed ratio %q is not measured any more: run with -update", name)
	}
	return outcomes, nil
}

// verdict is an error that names every ratio that failed.
func verdict(outcomes []outcome, committedOn, here string) error {
	var all []error
	for _, o := range outcomes {
		if o.failed() {
			all = append(all, fmt.Errorf("%s: the ratio was committed as %.3f and is %.3f, the best of %d attempts: %.0f %% more, with a margin of %.0f %%",
				o.Name, o.Ratio, o.measured, o.attempts, 100*o.change(), 100*o.Margin))
		}
	}
	if len(all) > 0 && committedOn != here {
		all = append(all, fmt.Errorf("the ratios were committed on another processor (%s, this is %s), where they may be others", committedOn, here))
	}
	return errors.Join(all...)
}
