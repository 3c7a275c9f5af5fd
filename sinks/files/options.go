package files

import (
	"errors"

	"github.com/parquet-go/parquet-go/compress"
)

// Option sets what a sink does with files that are there, and how part files
// are made.
type Option func(*config)

type config struct {
	overwrite, appending bool
	rollAt               int64
	rowGroup             int64
	codec                compress.Codec
}

// Overwrite empties a file that exists, and removes part files of an earlier
// run: for a growing file those of more subtasks, for part files all of them.
// A job that goes on from a checkpoint keeps what it had written. Default: an
// existing file stops the start.
func Overwrite() Option { return func(c *config) { c.overwrite = true } }

// Append goes on at the end of a file that exists, or beside the part files
// that exist. Where the last line of a growing file has no end, because a crash
// cut it short, the line is ended first. Default: an existing file stops the
// start.
func Append() Option { return func(c *config) { c.appending = true } }

// RollAt ends a part file that has reached size bytes, and begins another, so
// that no file is much larger than that, however far apart the checkpoints are.
// Lower it for readers that take whole files into memory. Default: 128 MiB.
func RollAt(size int64) Option { return func(c *config) { c.rollAt = size } }

// RowGroup ends a row group of a Parquet file when it holds size bytes in
// memory, which is what the sink needs for each subtask. Larger groups compress
// better and are faster to scan. Default: 32 MiB.
func RowGroup(size int64) Option { return func(c *config) { c.rowGroup = size } }

// Compress sets how the pages of a Parquet file are compressed, with a codec of
// github.com/parquet-go/parquet-go: &parquet.Snappy where writing must be cheap
// or a reader is old. Default: &parquet.Zstd, which today's readers know and
// which makes clearly smaller files.
func Compress(codec compress.Codec) Option { return func(c *config) { c.codec = codec } }

func configOf(opts []Option) config {
	var c config
	for _, o := range opts {
		o(&c)
	}
	return c
}

const (
	defaultRollAt   = 128 << 20
	defaultRowGroup = 32 << 20
)

// validate also refuses options that would do nothing.
func (c *config) validate(parts bool) error {
	switch {
	case c.overwrite && c.appending:
		return errors.New("invalid option: Overwrite and Append exclude each other")
	case !parts && (c.rollAt != 0 || c.rowGroup != 0 || c.codec != nil):
		return errors.New("invalid option: RollAt, RowGroup and Compress are for part files")
	case c.rollAt < 0 || c.rowGroup < 0:
		return errors.New("invalid option: RollAt or RowGroup is negative")
	}
	return nil
}
