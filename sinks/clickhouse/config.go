package clickhouse

import (
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// Config says where to write, and how. URL and Table must be set; the zero values of
// the rest are the defaults.
type Config struct {
	// URL says how to connect, as clickhouse-go reads it:
	// clickhouse://user:password@host:9000,other:9000/database?… for the native
	// protocol, http:// and https:// for HTTP. Of several addresses the first that
	// answers is taken; with ExactlyOnce that is for Replicated tables. Parameters such
	// as compress=lz4, secure=true and dial_timeout are clickhouse-go's, and others are
	// settings of the server.
	URL string

	// Connection changes what was made of URL: certificates, a dialer, settings.
	// Default: nothing.
	Connection func(*ch.Options) error

	// Table is the table to write to, which must be there, with its database in front
	// where that is not the URL's: "hits", "stats.hits". Names are meant as they are
	// written, without quotes. [CreateTable] makes one.
	Table string

	// Expressions fill columns by expressions of the server, by column, out of the
	// values that the sink has, which are then not columns of the table themselves
	// unless a column is called like them and no expression is for it:
	//
	//	Expressions: map[string]string{"visitors": "uniqState(visitor)"},
	//	Inputs:      map[string]string{"visitor": "UInt64"},
	//
	// With an aggregate function, the other columns are what is grouped by. Default:
	// none.
	Expressions map[string]string
	// Inputs are the ClickHouse types of values that only Expressions use. Default:
	// none.
	Inputs map[string]string

	// Delivery is what is promised. Default [ExactlyOnce].
	Delivery Delivery

	// BlockRows, BlockBytes are when a block is full, which is one INSERT and, in each
	// partition that it touches, one part of the table. Bytes are those of the rows as
	// the server gets them, before compression. Default 100,000 rows, at most
	// 1,000,000, and 16 MiB.
	BlockRows, BlockBytes int
	// BlockTime is how long a row waits for others to fill a block with. Only for
	// AtLeastOnce: with ExactlyOnce rows wait for their checkpoint. Negative: it does
	// not wait, which is for tests and slow streams, as ClickHouse wants few and large
	// inserts. Default 1 s.
	BlockTime time.Duration
	// RowBytes is how large a row may be; a larger one is rejected. Default 1 MiB.
	RowBytes int

	// Inserts is how many blocks each subtask inserts at once. Default 2.
	Inserts int
	// InsertTimeout is how long the server may take for a block before it is sent
	// again. Default 5 minutes.
	InsertTimeout time.Duration

	// RecoveryBlocks is how many blocks a recovery may send again, plus how many
	// others, by whoever, the table may get in between: as many tokens the table must
	// remember. The start compares it with the table's deduplication window. Only for
	// ExactlyOnce. Default 1000.
	RecoveryBlocks int
	// PartitionsPerBlock is how many of the table's partitions one block may touch, as
	// each of them takes a place in the window. Only for ExactlyOnce. Default 1 for a
	// table without partitions, otherwise 4.
	PartitionsPerBlock int
	// DeliverLate delivers what was prepared before the table's memory of tokens ends
	// (replicated_deduplication_window_seconds), because the job was down for longer.
	// Nobody knows then whether it was inserted before: it may be there twice. It also
	// has a block that may have arrived be sent again after that time. Default: such a
	// start is refused, and such a block stops the job.
	DeliverLate bool

	// AsyncInsert has the server gather inserts (async_insert with
	// wait_for_async_insert), for many small blocks. It refuses all that it has gathered
	// for one row, so what is refused is sent again by itself. Only for AtLeastOnce.
	// Default: off.
	AsyncInsert bool

	// StartTimeout is how long the start may wait for the server before it fails. Once
	// it runs, the sink waits for ever. Default 30 s.
	StartTimeout time.Duration
}

// Delivery is what a sink promises.
type Delivery int

const (
	// ExactlyOnce has each row in the table exactly once, whatever happens to the job,
	// to the server or between them, as far as the server keeps what it has acknowledged
	// (see the package's documentation). Rows become visible with the checkpoint that they
	// belong to. It needs a job that takes checkpoints, and a table that remembers
	// tokens.
	ExactlyOnce Delivery = iota
	// AtLeastOnce has rows in the table as soon as a block is full or its time is up.
	// After a failure, those since the last checkpoint come again.
	AtLeastOnce
)

const maxBlockRows = 1_000_000 // the server cuts larger ones

func (c Config) withDefaults() Config {
	defaultTo(&c.BlockRows, 100_000)
	defaultTo(&c.BlockBytes, 16<<20)
	defaultTo(&c.BlockTime, time.Second)
	defaultTo(&c.RowBytes, 1<<20)
	defaultTo(&c.Inserts, 2)
	defaultTo(&c.InsertTimeout, 5*time.Minute)
	defaultTo(&c.RecoveryBlocks, 1000)
	defaultTo(&c.StartTimeout, 30*time.Second)
	return c
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
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
	case strings.ContainsAny(c.Table, "`\"\\\x00"):
		return invalid("Table is %q: write its name without quotes", c.Table)
	case c.Delivery != ExactlyOnce && c.Delivery != AtLeastOnce:
		return invalid("Delivery is %d, which is none", c.Delivery)
	case c.Delivery == ExactlyOnce && c.AsyncInsert:
		return invalid("AsyncInsert is for AtLeastOnce: the server would gather blocks and their tokens")
	case c.Delivery == AtLeastOnce && c.DeliverLate:
		return invalid("DeliverLate is for ExactlyOnce")
	case c.BlockRows < 1 || c.BlockRows > maxBlockRows:
		return invalid("BlockRows is %d, must be between 1 and %d", c.BlockRows, maxBlockRows)
	case c.RowBytes < 1 || c.RowBytes > maxRowBytes:
		return invalid("RowBytes is %d, must be between 1 and %d", c.RowBytes, maxRowBytes)
	case c.BlockBytes < 1 || c.BlockBytes > maxBlockBytes:
		return invalid("BlockBytes is %d, must be between 1 and %d", c.BlockBytes, maxBlockBytes)
	case c.Inserts < 1:
		return invalid("Inserts is %d, must be at least 1", c.Inserts)
	case c.InsertTimeout < 0:
		return invalid("InsertTimeout is negative: %v", c.InsertTimeout)
	case c.RecoveryBlocks < 1:
		return invalid("RecoveryBlocks is %d, must be at least 1", c.RecoveryBlocks)
	case c.PartitionsPerBlock < 0:
		return invalid("PartitionsPerBlock is negative: %d", c.PartitionsPerBlock)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	}
	return nil
}

// A column of a block is decoded in one piece, so it has to have an end.
const (
	maxRowBytes   = 64 << 20
	maxBlockBytes = 256 << 20
)

// options returns how to connect.
func (c *Config) options() (*ch.Options, error) {
	o, err := ch.ParseDSN(c.URL)
	if err != nil {
		return nil, fmt.Errorf("invalid config: URL: %w", err)
	}
	if c.Connection != nil {
		if err := c.Connection(o); err != nil {
			return nil, fmt.Errorf("invalid config: Connection: %w", err)
		}
	}
	switch {
	case len(o.Addr) == 0:
		return nil, fmt.Errorf("invalid config: URL names no address")
	case o.Cluster.Secret != "" || o.DialStrategy != nil:
		return nil, fmt.Errorf("invalid config: Connection: Cluster and DialStrategy are not supported")
	}
	if o.Auth.Username == "" {
		o.Auth.Username = "default"
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 10 * time.Second
	}
	o.MaxOpenConns, o.MaxIdleConns = 1, 1 // for looking at the table; inserts have their own
	return o, nil
}
