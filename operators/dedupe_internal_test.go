package operators

import "github.com/millrace/millrace/pipeline"

// TinyFilters makes the filters of an exact Dedupe a few bits, soon all set.
func TinyFilters() pipeline.OperatorOption {
	return newSetting("TinyFilters", func(c *dedupeConfig) error {
		c.loose = 1.9
		return nil
	})
}
