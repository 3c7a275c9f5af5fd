package operators

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/pipeline"
)

// needFunc reports a function that was left out as a mistake of the graph.
func needFunc(missing bool) pipeline.OperatorOption {
	if missing {
		return pipeline.Mistake(errNilFunc)
	}
	return pipeline.Mistake(nil)
}

var errNilFunc = errors.New("the function is nil")

// nilFunc is the error of an aggregation whose function was left out.
func nilFunc(maker string, missing bool) error {
	if missing {
		return fmt.Errorf("%s: %w", maker, errNilFunc)
	}
	return nil
}

// atLeastOne is the error of an aggregation that is asked for n of something.
func atLeastOne(maker, what string, n int) error {
	if n < 1 {
		return fmt.Errorf("%s: %s is %d, must be at least 1", maker, what, n)
	}
	return nil
}
