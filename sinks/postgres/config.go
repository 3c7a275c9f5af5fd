package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says where to write, and how. URL and Table must be set; the zero values of
// the rest are the defaults.
type Config struct {
	// URL says how to connect: postgres://user:password@host:5432/database?sslmode=…, or
	// libpq's key=value form. What it leaves out is taken from the PG… environment
	// variables and the password file, as by psql. Several hosts may be named.
	URL string

	// Table is the table to write to, which must be there, with its schema in front
	// where that is not found by the search_path: "counts", "stats.counts". Names are
	// meant as they are written: no quotes, upper case is upper case.
	Table string

	// Key names the columns of a unique index or primary key. A row whose key is in the
	// table takes the place of the one that has it (INSERT … ON CONFLICT DO UPDATE);
	// the last one of a key counts. Default: none, all rows are inserted.
	Key []string

	// Delivery is what is promised. Default [ExactlyOnce].
	Delivery Delivery

	// ID is by which the database knows the sink: a second process with the same one
	// fences the first. Set it where two jobs write to a table by sinks of the same
	// name. Only for ExactlyOnce. Default: the sink's name in the graph, and the table.
	ID string

	// Schema is the database schema for what the sink has to remember: rows that wait
	// for their checkpoint. It is made if it is not there. Only for ExactlyOnce.
	// Default: millrace.
	Schema string

	// BatchBytes is how many bytes of rows go to the server at a time at a busy sink.
	// Default 1 MiB.
	BatchBytes int

	// BufferBytes is how many bytes of rows each subtask keeps in memory until the
	// server has them safe, to send them again when it was away. Default 16 MiB.
	BufferBytes int

	// StartTimeout is how long the start may wait for the server before it fails. Once
	// it runs, the sink waits for ever. Default 30 s.
	StartTimeout time.Duration

	// Connection changes what was made of URL, for certificates or a password that is
	// asked for with each connection for example. Default: nothing.
	Connection func(*pgx.ConnConfig) error
}

// Delivery is what a sink promises.
type Delivery int

const (
	// ExactlyOnce has each row in the table exactly once, whatever happens to the job or
	// to the server. Rows become visible with the checkpoint that they belong to; those
	// of a job without checkpoints, at its end.
	ExactlyOnce Delivery = iota
	// AtLeastOnce has rows in the table as soon as they come about. After a failure,
	// those since the last checkpoint come again, which does no harm where they have a
	// Key.
	AtLeastOnce
)

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = "millrace"
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 1 << 20
	}
	if c.BufferBytes == 0 {
		c.BufferBytes = max(16<<20, c.BatchBytes)
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 30 * time.Second
	}
	return c
}

func (c *Config) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("invalid config: "+format, args...)
	}
	switch {
	case c.URL == "":
		return invalid("URL is empty")
	case c.Table == "":
		return invalid("Table is empty")
	case slices.Contains(c.Key, ""):
		return invalid("Key names an empty column")
	case c.Delivery != ExactlyOnce && c.Delivery != AtLeastOnce:
		return invalid("Delivery is %d, which is none", c.Delivery)
	case c.Delivery == AtLeastOnce && c.ID != "":
		return invalid("ID is for ExactlyOnce")
	case c.BatchBytes < 1:
		return invalid("BatchBytes is %d, must be at least 1", c.BatchBytes)
	case c.BufferBytes < c.BatchBytes:
		return invalid("BufferBytes is %d, must be at least BatchBytes, %d", c.BufferBytes, c.BatchBytes)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	}
	return nil
}

// connConfig returns how to connect.
func (c *Config) connConfig() (*pgx.ConnConfig, error) {
	cc, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("invalid config: URL: %w", err)
	}
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = "millrace"
	}
	if c.Connection != nil {
		if err := c.Connection(cc); err != nil {
			return nil, fmt.Errorf("invalid config: Connection: %w", err)
		}
	}
	return cc, nil
}

var errNoValues = errors.New("invalid sink: it has no columns")
