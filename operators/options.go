package operators

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/pipeline"
)

// setting is an option that only some operators of this package understand.
//
// A verb takes the settings it understands out of its options with [settle].
// What the pipeline sees of one that stayed in is the embedded option, which
// reports a mistake of the graph: so a setting is never ignored, whichever
// verb it was passed to.
type setting struct {
	pipeline.OperatorOption
	name string
	set  func(config any) error
}

// newSetting makes a setting of every operator that has a *C among the
// configurations it passes to [settle]. An error of set is a mistake of the
// graph.
func newSetting[C any](name string, set func(c *C) error) pipeline.OperatorOption {
	return setting{
		OperatorOption: pipeline.Mistake(fmt.Errorf("%s is not an option of this operator", name)),
		name:           name,
		set: func(config any) error {
			c, ok := config.(*C)
			if !ok {
				return errForeign
			}
			return set(c)
		},
	}
}

// errForeign says that a configuration is not the one a setting is for.
var errForeign = errors.New("not an option of this operator")

// settle fills configs, which are pointers, from the settings among opts. It
// returns the options that are left for the pipeline, with a mistake for each
// setting that makes no sense.
func settle(opts []pipeline.OperatorOption, configs ...any) []pipeline.OperatorOption {
	var rest []pipeline.OperatorOption
	for _, o := range opts {
		s, ok := o.(setting)
		if !ok || !s.settle(configs, &rest) {
			rest = append(rest, o)
		}
	}
	return rest
}

// settle says whether one of configs is what the setting is for.
func (s setting) settle(configs []any, rest *[]pipeline.OperatorOption) bool {
	for _, c := range configs {
		switch err := s.set(c); {
		case errors.Is(err, errForeign):
			continue
		case err != nil:
			*rest = append(*rest, pipeline.Mistake(fmt.Errorf("%s: %w", s.name, err)))
		}
		return true
	}
	return false
}
