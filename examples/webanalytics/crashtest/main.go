// Crashtest kills the webanalytics program, again and again, and sees that it
// makes no difference.
//
//	go run ./examples/webanalytics/crashtest -events 2000000 -kills 50
//
// It generates a file of events and analyses it twice: once undisturbed, and once
// with checkpoints and with SIGKILL at random moments: some while it works, some
// while it starts and restores, some while it commits a checkpoint. Each time it
// is started again, often at another parallelism. After as many kills as were
// asked for come some at the very end, until it has ended by itself. Then all
// result files must have the same lines, and each checkpoint that is there must
// be whole; and to start it once more must change nothing.
//
// It exits with 1 at any difference, leaves the results of both for inspection,
// and says with which -seed it happens. The moments of the kills depend on the
// machine too, so a seed makes the same plan, not the same run.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var c config
	flag.Int64Var(&c.events, "events", 2_000_000, "events in the file")
	flag.IntVar(&c.kills, "kills", 50, "how often the program is killed")
	flag.Uint64Var(&c.seed, "seed", 0, "of the plan of kills (default: by chance)")
	flag.DurationVar(&c.interval, "checkpoint-interval", 300*time.Millisecond, "time from one checkpoint to the next")
	flag.StringVar(&c.cache, "cache", filepath.Join(os.TempDir(), "millrace-crashtest"), "`folder` where the file of events is kept for the next time")
	flag.BoolVar(&c.keep, "keep", false, "keep results and checkpoints of a good run too")
	flag.Parse()
	if flag.NArg() > 0 || c.events < 1 || c.kills < 0 {
		flag.Usage()
		os.Exit(2)
	}
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := c.run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "crashtest: %v\n", err)
		os.Exit(1)
	}
}
