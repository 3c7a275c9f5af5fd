package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is this program as a process of its own.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "WEBANALYTICS_RUN_MAIN=1")
	return cmd
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// TestUsage: wrong flags give one line that says what is wrong, exit code 2,
// and no files.
func TestUsage(t *testing.T) {
	input := writeFile(t, "in.jsonl", jsonLines(testEvent("1", "u", "page_view", "/", 0)))
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "late.jsonl"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	noJSON := writeFile(t, "funnel.json", "nonsense")
	oddFunnel := writeFile(t, "funnel2.json", `[{"name":"f","steps":[{"name":"x"}]}]`)
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct{ args, want string }{
		{"", "-input is missing"},
		{"-input IN", "-output is missing"},
		{"-bogus", "not defined: -bogus"},
		{"-input IN -output OUT -format xml", `"xml" is not one of events, accesslog, tsv`},
		{"-input IN -output OUT surplus", `unexpected argument "surplus"`},
		{"-input /nowhere/at-all -output OUT", "there is no file /nowhere/at-all"},
		{"-input /nowhere/*.log -output OUT", "there is no file /nowhere/*.log"},
		{"-input " + filepath.Dir(input) + " -output OUT", "is a directory"},
		{"-input IN -output " + used, "late.jsonl already (-overwrite"},
		{"-input " + filepath.Join(used, "late.jsonl") + " -overwrite -output " + used, "is a result file of -output"},
		{"-input IN -output IN", "not a directory"},
		{"-input IN -output OUT -session-gap 0s", "-session-gap: 0s is less than 1ms"},
		{"-input IN -output OUT -session-gap 1500us", "-session-gap: 1.5ms is not a whole number of milliseconds"},
		{"-input IN -output OUT -session-gap soon", `invalid value "soon" for flag -session-gap`},
		{"-input IN -output OUT -out-of-orderness -1s", "-out-of-orderness: -1s is less than 0s"},
		{"-input IN -output OUT -parallelism 0", "-parallelism: 0 is less than 1"},
		{"-input IN -output OUT -parallelism 129", "-parallelism: 129 is more than 128"},
		{"-input IN -output OUT -batch-size -3", "-batch-size: -3 is less than 1"},
		{"-input IN -output OUT -hll-precision 19", "-hll-precision: 19 is not between 4 and 18"},
		{"-input IN -output OUT -timezone Nowhere/Land", `-timezone: "Nowhere/Land" is not known`},
		{"-input IN -output OUT -dimensions device_type,color", `-dimensions: "color" is not one of`},
		{"-input IN -output OUT -dimensions os,os", `-dimensions: "os" is given twice`},
		{"-input IN -output OUT -dimensions country", "country needs -geoip"},
		{"-input IN -output OUT -geoip IN", "-geoip: "},
		{"-input IN -output OUT -funnel /nowhere.json", "-funnel: open /nowhere.json"},
		{"-input IN -output OUT -funnel " + noJSON, "-funnel: " + noJSON},
		{"-input IN -output OUT -funnel " + oddFunnel, "step 1 matches everything"},
		{"-input IN -output OUT -checkpoint-interval 1s", "-checkpoint-interval needs -checkpoints"},
		{"-input IN -output OUT -start-from x", "-start-from needs -checkpoints"},
		{"-input IN -output OUT -checkpoints OUT -state-memory 0", "-state-memory: 0 is less than 1"},
		{"-input IN -output OUT -checkpoints OUT -checkpoint-interval 0s", "-checkpoint-interval: 0s is less than 1ms"},
		{"-demo -checkpoints OUT", "-checkpoints needs -output"},
		{"-generate OUT -input IN", "-generate goes with -events alone"},
		{"-generate OUT -events 0", "-events: 0 is less than 1"},
		{"-demo -input IN", "-demo and -input exclude each other"},
		{"-graph=circle", "must be text, mermaid or json"},
	} {
		args := strings.Fields(strings.NewReplacer("IN", input, "OUT", out).Replace(c.args))
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), args, &stdout, &stderr)
		text := stderr.String()
		if code != exitUsage || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 ||
			!strings.HasPrefix(text, "webanalytics: ") || stdout.Len() > 0 {
			t.Errorf("%q: exit code %d, want 2\n got %q\nwant %q\nstandard output: %q", c.args, code, text, c.want, stdout.String())
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%q made %s", c.args, out)
		}
	}
}

func TestProcess(t *testing.T) {
	input := writeFile(t, "in.jsonl", jsonLines(testEvent("1", "u", "page_view", "/", 0)))
	out := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-bogus"}, 2, "not defined: -bogus"},
		{[]string{"-help"}, 0, "-out-of-orderness"},
		{[]string{"-graph"}, 0, "dedupe"},
		{[]string{"-graph=mermaid"}, 0, "flowchart"},
		{[]string{"-graph=json"}, 0, `"nodes"`},
		{[]string{"-input", input, "-output", out}, 0, "results written"},
		{[]string{"-input", input, "-output", out}, 2, "-overwrite"},
		{[]string{"-input", input, "-output", out, "-overwrite"}, 0, "results written"},
	} {
		text, err := program(c.args...).CombinedOutput()
		if exitCode(err) != c.code || !strings.Contains(string(text), c.want) {
			t.Errorf("%v: %v, want exit code %d and %q in:\n%s", c.args, err, c.code, c.want, text)
		}
	}
}

// TestFailed: a job that fails says that its results are not whole.
func TestFailed(t *testing.T) {
	input := writeFile(t, "log.tsv", "time\thost\n1741564800\th\n")
	out := filepath.Join(t.TempDir(), "out")
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"-input", input, "-output", out, "-format", "tsv"}, &stdout, &stderr)
	if code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	for _, want := range []string{`header in line 1: no column "url"`, "the results in " + out + " are incomplete"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, stderr.String())
		}
	}
}

// TestTwoRunsAtOnce: of two runs into one folder, the later leaves the files
// alone that the other has begun.
func TestTwoRunsAtOnce(t *testing.T) {
	input := writeFile(t, "in.jsonl", jsonLines(testEvent("1", "u", "page_view", "/", 0)))
	out := t.TempDir()
	cfg, err := parseFlags([]string{"-input", input, "-output", out, "-overwrite"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer cfg.close()
	if err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(out, "metrics.jsonl") // made since
	if err := os.WriteFile(other, []byte("{}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := newJob(cfg).run(context.Background(), &stdout, &stderr); code != exitFailed || !strings.Contains(stderr.String(), "another run") {
		t.Errorf("exit code %d, want %d\n%s", code, exitFailed, stderr.String())
	}
	if data, err := os.ReadFile(other); err != nil || string(data) != "{}\n" {
		t.Errorf("the other run's file is %q, %v", data, err)
	}
}

// TestInputIsTriedFirst: an input that can't be read costs no earlier results.
func TestInputIsTriedFirst(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	earlier := filepath.Join(out, "metrics.jsonl")
	if err := os.WriteFile(earlier, []byte("{}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.log"), 0o777); err != nil {
		t.Fatal(err)
	}
	pipe, secret := filepath.Join(dir, "pipe"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("{}\n"), 0); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"/dev/null":                   "/dev/null is not a regular file",
		filepath.Join(dir, "*.log"):   "there is no file",
		filepath.Join(dir, "missing"): "there is no file",
	}
	if exec.Command("mkfifo", pipe).Run() == nil {
		cases[pipe] = "pipe is not a regular file"
	}
	if os.Getuid() != 0 { // root may read everything
		cases[secret] = "permission denied"
	}
	for input, want := range cases {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), []string{"-input", input, "-output", out, "-overwrite"}, &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, want %d\n%s\nwant %s", input, code, exitUsage, stderr.String(), want)
		}
		if _, err := os.Stat(earlier); err != nil {
			t.Fatalf("%s: %v", input, err)
		}
	}
}

// TestDemoInterrupted: the demo ends early and well, with all windows closed.
func TestDemoInterrupted(t *testing.T) {
	out := t.TempDir()
	cmd := program("-demo", "-output", out, "-overwrite")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	interruptOnce(t, cmd, filepath.Join(out, "metrics.jsonl"))
	if err := cmd.Wait(); err != nil || !strings.Contains(text.String(), "bounce rate") {
		t.Errorf("interrupted demo: %v\n%s", err, text.String())
	}
	got := readOutput(t, out)
	if got.events(t) == 0 || len(got["sessions.jsonl"]) == 0 {
		t.Error("interrupted demo left no results")
	}
}

// interruptOnce waits for a process to have written something, and interrupts
// it.
func interruptOnce(t *testing.T, cmd *exec.Cmd, file string) {
	t.Helper()
	for range 6000 { // a minute
		if fi, err := os.Stat(file); err == nil && fi.Size() > 0 {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = cmd.Process.Kill() // it is the test that has failed
	t.Fatalf("nothing in %s", file)
}

// TestInterrupted: an interrupted job says so, and what it wrote is whole.
func TestInterrupted(t *testing.T) {
	input := writeFile(t, "events.jsonl", jsonLines(shuffled(20_000)...))
	out := filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"-input", input, "-output", out}, &stdout, &stderr); code != exitInterrupted ||
		!strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d, want %d\n%s", code, exitInterrupted, stderr.String())
	}
	readOutput(t, out)
}

// TestDemo runs it in short.
func TestDemo(t *testing.T) {
	var stdout, stderr bytes.Buffer
	out := filepath.Join(t.TempDir(), "out")
	if code := run(context.Background(), []string{"-demo", "-demo-for", "2s", "-output", out}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	}
	got := readOutput(t, out)
	events, late, duplicates, dead := got.events(t), len(got["late.jsonl"]), len(got["duplicates.jsonl"]), len(got["dead_letters.jsonl"])
	if sum := events + late + duplicates + dead; sum != 10_000 || late == 0 || duplicates == 0 || dead == 0 {
		t.Errorf("%d events + %d late + %d duplicates + %d dead letters = %d, want 10000", events, late, duplicates, dead, sum)
	}
	steps := decodeLines[FunnelCount](t, got["funnels.jsonl"])
	if len(steps) == 0 {
		t.Error("no funnels")
	}
	for _, want := range []string{"demo-shop", "bounce rate", "page views", "late", "duplicates", "dead letters", "results written", "records/s"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, stdout.String())
		}
	}
}
