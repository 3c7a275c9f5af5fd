package files

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Option sets how files are read.
type Option func(*config)

type config struct {
	follow  bool
	poll    time.Duration
	maxLine int
	maxOpen int
	columns []string
	comma   rune

	required []string
}

func defaults() config {
	return config{poll: 250 * time.Millisecond, maxLine: 16 << 20, maxOpen: 64, comma: ','}
}

// Follow reads on as files grow, as `tail -F` does, for ever: through rotation
// by renaming or by truncating, and with files that the pattern comes to match
// later. Without it, the source ends with the files that are there at the
// start.
func Follow() Option { return func(c *config) { c.follow = true } }

// PollInterval sets how often followed files are looked at once their end is
// reached. Raise it where thousands are followed or the file system is remote.
// Default 250 ms.
func PollInterval(d time.Duration) Option { return func(c *config) { c.poll = d } }

// MaxLine sets the length of a line (of a record, for CSV) in bytes above
// which it is rejected instead of read into memory. Raise it for larger
// records. Default 16 MiB.
func MaxLine(n int) Option { return func(c *config) { c.maxLine = n } }

// MaxOpen sets how many files a subtask keeps open at most. Each costs a buffer
// of 128 KiB, compressed ones some more. Default 64.
func MaxOpen(n int) Option { return func(c *config) { c.maxOpen = n } }

// Columns names the columns of CSV and TSV files that have no header line, so
// that the first line is a record too. Default: the first line of each file.
func Columns(names ...string) Option { return func(c *config) { c.columns = names } }

// RequireColumns names columns that every CSV and TSV file must have, each
// once. A file whose header lacks one stops the job, with an error that names
// the file and the column; without this option, [Row.Get] returns "" for it in
// every row. Default: none.
func RequireColumns(names ...string) Option { return func(c *config) { c.required = names } }

// Comma sets what separates the fields of CSV files: one ASCII character, ';'
// for example. Default ','.
func Comma(r rune) Option { return func(c *config) { c.comma = r } }

func (c *config) check() error {
	switch {
	case c.maxLine < 1:
		return fmt.Errorf("invalid option: MaxLine is %d, must be at least 1", c.maxLine)
	case c.maxOpen < 1:
		return fmt.Errorf("invalid option: MaxOpen is %d, must be at least 1", c.maxOpen)
	case c.poll <= 0:
		return fmt.Errorf("invalid option: PollInterval is not positive: %v", c.poll)
	case c.comma <= 0 || c.comma > 127 || c.comma == '"' || c.comma == '\r' || c.comma == '\n':
		return fmt.Errorf("invalid option: Comma %q can't separate fields", c.comma)
	case c.columns != nil && len(c.columns) == 0:
		return errors.New("invalid option: Columns names none")
	}
	if c.columns != nil {
		if err := c.checkColumns(c.columns); err != nil {
			return fmt.Errorf("invalid option: Columns: %w", err)
		}
	}
	return nil
}

// checkColumns says what a header lacks.
func (c *config) checkColumns(names []string) error {
	for _, required := range c.required {
		switch first := slices.Index(names, required); {
		case first < 0:
			return fmt.Errorf("no column %q", required)
		case slices.Contains(names[first+1:], required):
			return fmt.Errorf("column %q is there twice", required)
		}
	}
	return nil
}
