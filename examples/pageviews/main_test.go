package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka"
)

// long is for what must happen, on a busy machine too.
const long = time.Minute

func TestMain(m *testing.M) {
	if os.Getenv("PAGEVIEWS_RUN_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is this program as a process of its own.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "PAGEVIEWS_RUN_MAIN=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// result is what the program shows of the topics, the last lines of its output.
func result(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	_, shown, ok := strings.Cut(string(out), " are in topic pageviews\n")
	if !ok || !strings.Contains(shown, "in topic pageviews-per-minute") {
		t.Fatalf("got\n%s", out)
	}
	return shown
}

// TestDemo counts in the topic of the results what was generated.
func TestDemo(t *testing.T) {
	const views = 10_000
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-data", t.TempDir(), "-views", fmt.Sprint(views)}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	var counts, counted, rejected int
	if _, err := fmt.Sscanf(lines[len(lines)-1], "%d counts of %d views are in topic pageviews-per-minute, %d records in", &counts, &counted, &rejected); err != nil {
		t.Fatalf("%v in %q", err, lines)
	}
	people, broken := 0, 0
	for i := range views {
		switch v := string(generated(i, views)); {
		case !strings.HasSuffix(v, "}"), strings.Contains(v, "about:blank"):
			broken++
		case !strings.Contains(v, `"bot":true`):
			people++
		}
	}
	if counted != people || rejected != broken || broken == 0 {
		t.Errorf("counted %d and rejected %d, want %d and %d", counted, rejected, people, broken)
	}
	if !strings.HasPrefix(lines[2], "10:00  /") {
		t.Errorf("the first minute is %q", lines[2])
	}
}

// TestKilled kills the program, and its broker with it, while it generates views,
// when it has begun to count, and later, and starts it again each time: in the end it
// shows what a run that nothing happened to shows.
func TestKilled(t *testing.T) {
	flags := func() []string {
		return []string{"-data", t.TempDir(), "-views", "30000", "-interval", "10ms"}
	}
	want := result(t, program(flags()...))
	args := flags()
	checkpoints := filepath.Join(args[1], "checkpoints")
	killAt(t, program(args...), func(line string) bool { return strings.HasPrefix(line, "a broker listens") })
	killAt(t, program(args...), func(line string) bool { return strings.HasSuffix(line, "are in topic pageviews") })
	for more := 1; more <= 3; more += 2 {
		before := newest(checkpoints)
		killAt(t, program(args...), func(string) bool { return newest(checkpoints) >= before+more })
	}
	if got := result(t, program(args...)); got != want {
		t.Errorf("killed, it shows\n%s\nwant\n%s", got, want)
	}
	if got := result(t, program(args...)); got != want {
		t.Errorf("run again, it shows\n%s\nwant\n%s", got, want)
	}
}

// killAt kills a program once it has reached something. One that was too fast has
// ended.
func killAt(t *testing.T, cmd *exec.Cmd, reached func(line string) bool) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	deadline := time.After(long)
	for line, open := "", true; open && !reached(line); {
		select {
		case line, open = <-lines:
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Error("the program does not get that far")
			open = false
		}
	}
	_ = cmd.Process.Kill()
	for range lines { // the reader ends with the pipe, and only then may Wait close it
	}
	_ = cmd.Wait() // it was killed
}

// newest is the highest number of a checkpoint in a folder.
func newest(dir string) (n int) {
	all, _ := filepath.Glob(filepath.Join(dir, "chk-*"))
	for _, path := range all {
		if i, err := strconv.Atoi(filepath.Base(path)[len("chk-"):]); err == nil {
			n = max(n, i)
		}
	}
	return n
}

// TestYourKafka runs the job on a broker that is there, until it is interrupted.
func TestYourKafka(t *testing.T) {
	broker, err := devkafka.Start(devkafka.Options{Topics: []devkafka.Topic{{Name: viewsTopic}, {Name: countsTopic}, {Name: rejectedTopic}}})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ConsumeTopics(countsTopic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, v := range []string{
		`{"page":"/shop?id=1","visitor":"v1","at":1767261600000}`, `{"page":"/shop","visitor":"v2","at":1767261601000}`,
		`{"page":"/","visitor":"v1","at":1767261720000}`, // two minutes later
	} {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: viewsTopic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	interrupt, stop := context.WithCancel(ctx)
	ended := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		ended <- run(interrupt, []string{"-kafka", broker.Addr(), "-data", t.TempDir(), "-interval", "20ms"}, &stderr, &stderr)
	}()
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	r := fetches.Records()[0]
	if want := `{"minute":"2026-01-01T10:00:00Z","page":"/shop","views":2}`; string(r.Value) != want || string(r.Key) != "/shop" {
		t.Errorf("got %s: %s, want %s", r.Key, r.Value, want)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// TestUsage: wrong flags give one line that says what is wrong, and exit code 2.
func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-bogus", "not defined: -bogus"},
		{"surplus", `unexpected argument "surplus"`},
		{"-kafka=", `-kafka: "" is not host:port`},
		{"-kafka localhost", `-kafka: "localhost" is not host:port`},
		{"-kafka a:1,:2", `-kafka: ":2" is not host:port`},
		{"-kafka a:1 -views 5", "-port and -views are for -kafka embedded"},
		{"-data=", "-data is empty"},
		{"-interval 0s", "-interval: 0s is not positive"},
		{"-port 70000", "-port: 70000 is not between 0 and 65535"},
		{"-views 0", "-views: 0 is less than 1"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(c.args), &stdout, &stderr)
		if text := stderr.String(); code != 2 || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, want 2\n got %q\nwant %q", c.args, code, text, c.want)
		}
	}
	var help bytes.Buffer
	if code := run(t.Context(), []string{"-help"}, nil, &help); code != 0 || !strings.Contains(help.String(), "-kafka brokers") {
		t.Errorf("-help: exit code %d, %s", code, help.String())
	}
}

// TestInUse starts it where another one is.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	broker, err := devkafka.Start(devkafka.Options{Dir: filepath.Join(dir, "kafka")})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	_, port, err := net.SplitHostPort(broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"address already in use": {"-data", t.TempDir(), "-port", port},
		"used by another broker": {"-data", dir},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit code %d, %s", args, code, stderr.String())
		}
	}
}
