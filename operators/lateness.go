package operators

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// latenessConfig is what [AllowedLateness] sets.
type latenessConfig struct{ allowed time.Duration }

// AllowedLateness keeps windows for d of event time after they are complete,
// so that late records still count: each then gives another result, unless a
// [Trigger] says otherwise. It costs the memory of the windows kept. Raise it
// where corrected results are worth more than steady ones. Default 0: a window
// is forgotten when it is complete.
func AllowedLateness(d time.Duration) pipeline.OperatorOption {
	return newSetting("AllowedLateness", func(c *latenessConfig) error {
		switch {
		case d < 0:
			return fmt.Errorf("%v is negative", d)
		case d%time.Millisecond != 0:
			return fmt.Errorf("%v is not a whole number of milliseconds", d)
		}
		c.allowed = d
		return nil
	})
}

// triggerConfig is what [Trigger] sets.
type triggerConfig struct{ trigger window.Trigger }

// Trigger sets when a window gives results: early ones before it is complete,
// late ones in bulk, and whether each holds everything or only what is new.
// Default [window.OnTime].
func Trigger(t window.Trigger) pipeline.OperatorOption {
	return newSetting("Trigger", func(c *triggerConfig) error {
		c.trigger = t
		return t.Validate()
	})
}

// lateConfig is what [LateTo] sets. The tag's type is known only to the verb,
// which says in record what it must be.
type lateConfig struct {
	record reflect.Type
	tag    any
}

// LateTo writes the records that came too late for every window to the side
// output tag, with their own event time; read it with [pipeline.SideOutput].
// The tag carries the type of the operator's input. Default: such records are
// dropped, and counted in the metric late.
func LateTo[T any](tag pipeline.Tag[T]) pipeline.OperatorOption {
	return newSetting("LateTo", func(c *lateConfig) error {
		if typ := reflect.TypeFor[T](); typ != c.record {
			return fmt.Errorf("the tag %q carries %v, the records are %v", tag.Name(), typ, c.record)
		}
		if tag.Name() == "" {
			return errors.New("the tag has no name")
		}
		c.tag = tag
		return nil
	})
}

// lateOutput is where the records go that every window refused.
type lateOutput[T any] struct {
	side    *pipeline.SideEmitter[T] // nil: nowhere
	refused *pipeline.Counter
	orphans *pipeline.Counter
}

// openLate opens the late output of an operator on records of type T.
func openLate[T any, K comparable, Out any](c *pipeline.Context[K, Out], cfg lateConfig) lateOutput[T] {
	l := lateOutput[T]{
		refused: c.Metrics().Counter("late"),
		orphans: c.Metrics().Counter("unassigned"),
	}
	if tag, ok := cfg.tag.(pipeline.Tag[T]); ok {
		l.side = pipeline.Side(c, tag)
	}
	return l
}

// refuse takes a record that no window took (rule 6). One that is not late had
// no window to begin with, which only an assigner from outside this library can
// bring about.
func (l *lateOutput[T]) refuse(v T, time, watermark int64) {
	if time > watermark {
		l.orphans.Add(1)
		return
	}
	l.refused.Add(1)
	if l.side != nil {
		l.side.Emit(v, time)
	}
}
