package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompare: what is too many, missing or not there at all is found; the order
// of lines does not matter.
func TestCompare(t *testing.T) {
	const lines = "a\nb\nb\nc\n"
	for _, c := range []struct {
		got  map[string]string
		want string // in the error; empty for none
	}{
		{map[string]string{"x": "c\nb\na\nb\n", "y": ""}, ""},
		{map[string]string{"x": "b\na\nc\n", "y": ""}, "x: 4 lines, want 5"},
		{map[string]string{"x": lines + "b\n", "y": ""}, "+ b"},
		{map[string]string{"x": "a\nb\nb\n", "y": ""}, "- c"},
		{map[string]string{"x": "a\nb\nb\nc", "y": ""}, "+ c"}, // the last line is cut
		{map[string]string{"x": lines}, "want [x y]"},
		{map[string]string{"x": lines, "y": "", ".y.uncommitted": ""}, ""},
	} {
		tr := &trial{log: io.Discard, dir: t.TempDir()}
		write(t, filepath.Join(tr.dir, undisturbed), map[string]string{"x": lines, "y": ""})
		write(t, filepath.Join(tr.dir, disturbed), c.got)
		err := tr.compare()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.got, err, c.want)
		}
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailingProgram: a program that fails by itself fails the trial.
func TestFailingProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho broken >&2\nexit 1\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	tr := &trial{log: io.Discard, dir: t.TempDir(), webanalytics: program, restored: map[string]int{}, parallelism: map[int]int{}}
	_, err := tr.attempt(context.Background(), attempt{parallelism: 1, last: true})
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v, want what the program says", err)
	}
}
