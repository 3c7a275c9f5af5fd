// Devclickhouse is a ClickHouse to develop with, on the loopback interface: the real
// engine behind its native protocol and its HTTP interface. It is not a database to
// keep data in.
//
//	devclickhouse -dir clickhouse-data -http 127.0.0.1:8123 -native 127.0.0.1:9000
//
// The engine's library is downloaded with npm when it is first needed. The addresses
// are printed when clients may connect. An interrupt ends it. What was inserted is
// there again at the next start on the same directory, after a kill as well.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/devclickhouse"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the program at once. A second SIGTERM does not: when a
	// test's process ends, the kernel sends one for each of its threads.
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })
	signal.Ignore(syscall.SIGPIPE) // and nobody reads what is still said
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "devclickhouse: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o devclickhouse.ServerOptions
	flags := flag.NewFlagSet("devclickhouse", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.Dir, "dir", "clickhouse-data", "where the data is kept")
	flags.StringVar(&o.HTTP, "http", "127.0.0.1:8123", "the HTTP interface's `address`, port 0 for a free one")
	flags.StringVar(&o.Native, "native", "127.0.0.1:9000", "the native protocol's `address`, port 0 for a free one")
	flags.StringVar(&o.User, "user", "default", "the `name` clients have to give")
	flags.StringVar(&o.Password, "password", "", "and the password")
	remove := flags.Bool("remove", false, "remove that directory at the end")
	install := flags.Bool("install", false, "fetch the engine if it isn't there, and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	path, err := devclickhouse.Install(ctx, stderr)
	if err != nil || *install {
		return err
	}
	o.Library = path
	if *remove {
		defer func() { _ = os.RemoveAll(o.Dir) }() // as far as it goes
	}
	server, err := devclickhouse.Listen(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "ClickHouse %s for development, not for data to keep\n", devclickhouse.Version)
	fmt.Fprintf(stdout, "native %s\n", server.NativeAddr())
	fmt.Fprintf(stdout, "http %s\n", server.HTTPAddr())
	context.AfterFunc(ctx, func() {
		time.AfterFunc(patience, func() {
			fmt.Fprintf(stderr, "devclickhouse: the engine has not stopped within %v\n", patience)
			if *remove {
				_ = os.RemoveAll(o.Dir)
			}
			os.Exit(1)
		})
	})
	return server.Serve(ctx)
}

// patience is how long the engine may take to stop. A query that does not look whether
// it is to end would keep it for ever.
const patience = 10 * time.Second
