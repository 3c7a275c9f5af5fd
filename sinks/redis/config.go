package redis

import (
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Config says where to write, and how. URL or Client must be set; the zero values of
// the rest are the defaults.
type Config struct {
	// URL says how to connect to one server: redis://user:password@host:6379/0, or
	// rediss:// for TLS.
	URL string

	// Client says how to connect where a URL does not suffice: to servers that Sentinel
	// watches (MasterName), to a cluster (several Addrs), with certificates. What it
	// says of retries is not used. Default: from URL.
	Client *goredis.UniversalOptions

	// Delivery is what is promised. Default [ExactlyOnce].
	Delivery Delivery

	// ID is by which the server knows the sink: a second process with the same one
	// fences the first. Set it where two jobs have sinks of the same name. Only for
	// ExactlyOnce. Default: the sink's name in the graph.
	ID string

	// HashTag goes into the names of the sink's own keys, in braces, so that they are
	// with the keys it writes. A cluster needs it with ExactlyOnce: there, all keys that
	// the sink writes must have this tag. Default: none.
	HashTag string

	// BatchCommands is how many commands go to the server at a time at a busy sink, fewer
	// if they have more than 8 MiB.
	// With ExactlyOnce they are also carried out at a time, while the server does
	// nothing else. Default 1000.
	BatchCommands int

	// StartTimeout is how long the start may wait for the server before it fails. Once
	// it runs, the sink waits for ever. Default 30 s.
	StartTimeout time.Duration
}

// Delivery is what a sink promises.
type Delivery int

const (
	// ExactlyOnce carries out each command exactly once, with the checkpoint that it
	// belongs to; those of a job without checkpoints, at its end.
	ExactlyOnce Delivery = iota
	// AtLeastOnce carries out commands as they come about. After a failure, those since
	// the last checkpoint come again, see [Commands.Version].
	AtLeastOnce
)

func (c Config) withDefaults() Config {
	if c.BatchCommands == 0 {
		c.BatchCommands = 1000
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
	case c.URL == "" && c.Client == nil:
		return invalid("URL is empty")
	case c.URL != "" && c.Client != nil:
		return invalid("URL and Client are both set")
	case c.Delivery != ExactlyOnce && c.Delivery != AtLeastOnce:
		return invalid("Delivery is %d, which is none", c.Delivery)
	case c.Delivery == AtLeastOnce && (c.ID != "" || c.HashTag != ""):
		return invalid("ID and HashTag are for ExactlyOnce")
	case strings.ContainsAny(c.HashTag, "{}"):
		return invalid("HashTag is %q: it is meant without braces", c.HashTag)
	case c.BatchCommands < 1 || c.BatchCommands > 100_000:
		return invalid("BatchCommands is %d, must be between 1 and 100000", c.BatchCommands)
	case c.StartTimeout < 0:
		return invalid("StartTimeout is negative: %v", c.StartTimeout)
	}
	return nil
}

// options returns how to connect. Retries are ours, so that they are in the log.
func (c *Config) options() (*goredis.UniversalOptions, error) {
	var o goredis.UniversalOptions
	if c.Client != nil {
		o = *c.Client
	} else {
		u, err := goredis.ParseURL(c.URL)
		if err != nil {
			return nil, fmt.Errorf("invalid config: URL: %w", withoutURL(err))
		}
		o = goredis.UniversalOptions{
			Addrs: []string{u.Addr}, ClientName: u.ClientName, DB: u.DB, Username: u.Username, Password: u.Password,
			TLSConfig: u.TLSConfig, DialTimeout: u.DialTimeout, ReadTimeout: u.ReadTimeout, WriteTimeout: u.WriteTimeout,
			PoolSize: u.PoolSize, Protocol: u.Protocol,
		}
	}
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
	if o.ClientName == "" {
		o.ClientName = "millrace"
	}
	if o.PoolSize == 0 {
		o.PoolSize = 2 // a subtask is one goroutine
	}
	return &o, nil
}

// withoutURL takes the URL out of an error, which may have a password in it.
func withoutURL(err error) error {
	text := err.Error()
	if at := strings.LastIndex(text, "\": "); strings.HasPrefix(text, "parse ") && at >= 0 {
		return errors.New(text[at+3:])
	}
	return err
}
