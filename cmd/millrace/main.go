// Millrace looks into the checkpoints of a job.
//
//	millrace checkpoint list DIR           the checkpoints and savepoints there are
//	millrace checkpoint show DIR [NAME]    what one of them holds
//	millrace checkpoint verify DIR         whether all of them are whole
//	millrace state dump DIR [NAME]         the state of its operators: keys, sizes, values
//
// DIR is a job's checkpoint directory, or that of one savepoint. Nothing is
// changed, and the job may run meanwhile. Exit codes are 0 for all is well, 1
// for a problem that was found, and 2 for a command that can't be understood.
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
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK      = 0
	exitProblem = 1
	exitUsage   = 2
)

// command is one thing the program does. Its name is two words: what it is
// about, and the verb.
type command struct {
	name    string
	args    string // for the usage line
	summary string
	run     func(c *call) error
}

var commands = []command{
	{"checkpoint list", "DIR", "the checkpoints and savepoints there are", listCheckpoints},
	{"checkpoint show", "DIR [NAME]", "what one of them holds, the newest by default", showCheckpoint},
	{"checkpoint verify", "DIR", "whether all of them are whole", verifyCheckpoints},
	{"state dump", "DIR [NAME]", "the state of its operators: keys, sizes, values", dumpState},
}

// call is a command being run.
type call struct {
	command
	ctx            context.Context
	stdout, stderr io.Writer
	flags          *flag.FlagSet
	json           bool
	rest           []string // what was given
	args           []string // and what of it is no flag
}

// errUsage says that the command line was wrong.
var errUsage = errors.New("usage")

// errProblem says that a problem was found and has been told.
var errProblem = errors.New("problem")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && isHelp(args[0]) {
		usage(stdout, "")
		return exitOK
	}
	for _, cmd := range commands {
		if len(args) >= 2 && cmd.name == args[0]+" "+args[1] {
			return exitCode(newCall(ctx, cmd, args[2:], stdout, stderr).do())
		}
	}
	return unknown(args, stdout, stderr)
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

// unknown tells which commands there are, those about the same thing if any.
func unknown(args []string, stdout, stderr io.Writer) int {
	topic := ""
	if len(args) > 0 && about(args[0]) {
		topic = args[0]
		if len(args) > 1 && isHelp(args[1]) {
			usage(stdout, topic)
			return exitOK
		}
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "millrace: there is no command %q\n", strings.Join(args[:min(2, len(args))], " "))
	}
	usage(stderr, topic)
	return exitUsage
}

func about(topic string) bool {
	for _, cmd := range commands {
		if strings.HasPrefix(cmd.name, topic+" ") {
			return true
		}
	}
	return false
}

func usage(w io.Writer, topic string) {
	fmt.Fprint(w, "Usage:\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 4, ' ', 0)
	for _, cmd := range commands {
		if topic == "" || strings.HasPrefix(cmd.name, topic+" ") {
			fmt.Fprintf(t, "  millrace %s %s\t%s\n", cmd.name, cmd.args, cmd.summary)
		}
	}
	_ = t.Flush() // of a terminal; nobody could be told
	fmt.Fprint(w, "\nFlags of a command: millrace COMMAND -h\n")
}

func newCall(ctx context.Context, cmd command, args []string, stdout, stderr io.Writer) *call {
	c := &call{command: cmd, ctx: ctx, stdout: stdout, stderr: stderr, rest: args}
	c.flags = flag.NewFlagSet(cmd.name, flag.ContinueOnError)
	c.flags.SetOutput(stderr)
	c.flags.BoolVar(&c.json, "json", false, "print JSON")
	c.flags.Usage = func() {
		fmt.Fprintf(c.flags.Output(), "Usage: millrace %s [flags] %s\n", cmd.name, cmd.args)
		c.flags.PrintDefaults()
	}
	return c
}

func (c *call) do() error {
	err := c.run(c)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return nil
	case errors.Is(err, errUsage) || errors.Is(err, errProblem):
		return err
	}
	fmt.Fprintf(c.stderr, "millrace: %v\n", err)
	return errProblem
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	}
	return exitProblem
}

// parse reads flags, which may stand before, between and after the arguments,
// of which there have to be from least to most.
func (c *call) parse(least, most int) error {
	rest := c.rest
	for {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return errUsage // and told by the flag package
		}
		if c.flags.NArg() == 0 {
			break
		}
		c.args = append(c.args, c.flags.Arg(0))
		rest = c.flags.Args()[1:]
	}
	if len(c.args) >= least && len(c.args) <= most {
		return nil
	}
	fmt.Fprintf(c.stderr, "millrace: %s takes %s, and was given %d arguments\n", c.name, c.command.args, len(c.args))
	c.flags.Usage()
	return errUsage
}
