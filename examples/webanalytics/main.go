// Webanalytics turns the events of a web site, or its access logs, into
// metrics, sessions, paths and funnels. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // -timezone works where the system knows no zones
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells have it for SIGINT
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, errHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "webanalytics: %v\n", err)
		return exitUsage
	}
	defer cfg.close()
	if cfg.graph != "" {
		return printGraph(newJob(cfg).Graph(), cfg.graph, stdout)
	}
	if err := cfg.prepare(); err != nil {
		fmt.Fprintf(stderr, "webanalytics: %v\n", err)
		return exitUsage
	}
	return newJob(cfg).run(ctx, stdout, stderr)
}

// run runs the job to its end, with a line about how far it is.
func (j *job) run(ctx context.Context, stdout, stderr io.Writer) int {
	if j.cfg.demo {
		// Demo traffic has no end that would be missed, so its windows may close.
		interrupted := ctx
		ctx = context.WithoutCancel(ctx)
		defer context.AfterFunc(interrupted, j.Drain)()
		fmt.Fprintf(stderr, "Generated traffic for %v of wall time, results in %s\n", j.cfg.demoFor, j.cfg.output)
	}
	shown := startProgress(j, stderr)
	err := j.Run(ctx)
	shown.stop()
	if err != nil {
		fmt.Fprintf(stderr, "webanalytics: %v\n", err)
		if errors.Is(err, fs.ErrExist) {
			fmt.Fprintln(stderr, "webanalytics: another run began to write there at the same time: each needs a folder of its own")
		}
		fmt.Fprintf(stderr, "webanalytics: the results in %s are incomplete\n", j.cfg.output)
		return exitFailed
	}
	j.summarize(stdout, shown.elapsed())
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "webanalytics: interrupted: windows and sessions that were still open are not in the results")
		return exitInterrupted
	}
	return exitOK
}
