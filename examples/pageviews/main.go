// Pageviews counts the views of each page in each minute, from a Kafka topic to
// another, exactly once.
//
//	pageviews                             # with a broker of its own, and traffic
//	pageviews -kafka host:9092,host:9093  # with yours, until it is interrupted
//
// It reads JSON like {"page":"/shop?id=3","visitor":"v7","at":1767261600000} from the
// topic pageviews, writes to pageviews-per-minute, and what is no view, as it was, to
// pageviews-rejected. Of your Kafka, these topics have to be there.
//
// Kill it while it works, and start it again with the same flags: it goes on, and no
// view is missing or counted twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "pageviews: %v\n", err)
		return 2
	case cfg.embedded:
		err = demo(ctx, cfg, stdout)
	default:
		err = newJob(cfg).Run(ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "pageviews: %v\n", err)
		return 1
	}
	return 0
}

// config is what the flags say.
type config struct {
	brokers  []string
	embedded bool // a broker of our own
	data     string
	interval time.Duration

	port, views int // of the embedded broker
}

// parseFlags has errors of one line.
func parseFlags(args []string, help io.Writer) (config, error) {
	var cfg config
	var brokers string
	f := flag.NewFlagSet("pageviews", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&brokers, "kafka", "embedded", "`brokers` to connect to, as host:port,host:port; or embedded, for one of its\nown, with generated traffic")
	f.StringVar(&cfg.data, "data", "pageviews-data", "`folder` of the checkpoints, and of the embedded broker")
	f.DurationVar(&cfg.interval, "interval", time.Second, "time between checkpoints, with which results become visible")
	f.IntVar(&cfg.port, "port", 0, "`port` of the embedded broker (default a free one)")
	f.IntVar(&cfg.views, "views", 200_000, "how many views to generate")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(help)
		f.Usage()
		return cfg, err
	} else if err != nil {
		return cfg, fmt.Errorf("%w (see -help)", err)
	}
	cfg.embedded = brokers == "embedded"
	if !cfg.embedded {
		cfg.brokers = strings.Split(brokers, ",")
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return cfg, cfg.check(f.Args(), given)
}

func (c *config) check(rest []string, given map[string]bool) error {
	for _, b := range c.brokers {
		if host, port, ok := strings.Cut(b, ":"); !ok || host == "" || port == "" {
			return fmt.Errorf("-kafka: %q is not host:port", b)
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case !c.embedded && (given["port"] || given["views"]):
		return errors.New("-port and -views are for -kafka embedded")
	case c.data == "":
		return errors.New("-data is empty")
	case c.interval <= 0:
		return fmt.Errorf("-interval: %v is not positive", c.interval)
	case c.port < 0 || c.port > 65535:
		return fmt.Errorf("-port: %d is not between 0 and 65535", c.port)
	case c.views < 1:
		return fmt.Errorf("-views: %d is less than 1", c.views)
	}
	return nil
}
