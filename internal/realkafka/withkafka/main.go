// Command withkafka runs a command beside one real Kafka broker:
//
//	go run ./internal/realkafka/withkafka go test -tags integration ./...
//
// The command finds its address in MILLRACE_KAFKA_BROKERS. When it ends, so does the
// broker, and withkafka ends as it did. Where the variable is set already, those
// brokers are used and left alone. Kafka is downloaded when it is first needed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/realkafka" //nolint:depguard // the package's own command
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withkafka COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	err := run(os.Args[1:])
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		os.Exit(exit.ExitCode()) // it has said why
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "withkafka: %v\n", err)
		os.Exit(1)
	}
}

func run(command []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := exec.LookPath("kcat"); err != nil {
		fmt.Fprintln(os.Stderr, "withkafka: kcat is NOT INSTALLED: tests that check with it are SKIPPED")
	}
	if os.Getenv(realkafka.BrokersVariable) == "" {
		began := time.Now()
		c, err := realkafka.Start(ctx, realkafka.Options{})
		if err != nil {
			return err
		}
		defer c.Stop()
		brokers := strings.Join(c.Addrs(), ",")
		fmt.Fprintf(os.Stderr, "withkafka: Apache Kafka on %s after %v\n", brokers, time.Since(began).Round(100*time.Millisecond))
		if err := os.Setenv(realkafka.BrokersVariable, brokers); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A terminal interrupts it as well; it ends by itself then, and says what it was at.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd.Run()
}
