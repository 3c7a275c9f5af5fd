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

	"github.com/millrace/millrace/pipeline"
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
	if cfg.generate != "" {
		if err := generate(cfg.generate, cfg.traffic); err != nil {
			fmt.Fprintf(stderr, "webanalytics: -generate: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
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
		fmt.Fprintf(stderr, "Generated traffic for %v of wall time, results in %s\n", j.cfg.demoFor, j.cfg.output)
	}
	shown := startProgress(j, stderr)
	err := j.untilInterrupted(ctx)
	shown.stop()
	if err != nil {
		j.explain(err, stderr)
		return exitFailed
	}
	j.summarize(stdout, shown.elapsed())
	switch {
	case ctx.Err() == nil, j.drains():
		return exitOK
	case j.cfg.checkpoints != "":
		fmt.Fprintln(stderr, "webanalytics: interrupted: started again with the same flags, it goes on from here")
	default:
		fmt.Fprintln(stderr, "webanalytics: interrupted: windows and sessions that were still open are not in the results")
	}
	return exitInterrupted
}

// drains says whether an interrupted job closes its windows. Demo traffic has no
// end that would be missed, unless it is to go on later.
func (j *job) drains() bool { return j.cfg.demo && j.cfg.checkpoints == "" }

// untilInterrupted runs the job until its end, or until ctx is done and it has
// come to a stop in the way that its flags ask for.
func (j *job) untilInterrupted(ctx context.Context) error {
	if !j.drains() && j.cfg.savepoint == "" {
		return j.Run(ctx)
	}
	going, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if j.drains() {
			j.Drain()
			return
		}
		// What is wrong with a savepoint Run returns too, unless there is no job yet.
		if err := j.StopWithSavepoint(going, j.cfg.savepoint); errors.Is(err, pipeline.ErrNoCheckpoints) {
			cancel()
		}
	})()
	return j.Run(going)
}

// explain says what a failure means for the results.
func (j *job) explain(err error, stderr io.Writer) {
	fmt.Fprintf(stderr, "webanalytics: %v\n", err)
	if errors.Is(err, fs.ErrExist) {
		fmt.Fprintln(stderr, "webanalytics: another run writes there, or did: each needs a folder of its own")
	}
	fmt.Fprintf(stderr, "webanalytics: the results in %s are incomplete\n", j.cfg.output)
	if j.cfg.checkpoints != "" {
		fmt.Fprintln(stderr, "webanalytics: started again with the same flags, it goes on from its last checkpoint")
	}
}
