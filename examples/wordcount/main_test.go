package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.txt": "the quick brown fox\njumps over the lazy dog\n",
		"b.txt": "The end\n\n",
		"c.txt": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	patterns := []string{filepath.Join(dir, "*.txt"), filepath.Join(dir, "b.txt")} // b counts twice
	if err := count(context.Background(), patterns, &out); err != nil {
		t.Fatal(err)
	}
	const want = `      4 the
      2 end
      1 brown
      1 dog
      1 fox
      1 jumps
      1 lazy
      1 over
      1 quick
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestCountErrors(t *testing.T) {
	for want, patterns := range map[string][]string{
		"no file given": nil,
		"none.txt":      {filepath.Join(t.TempDir(), "none.txt")},
	} {
		err := count(context.Background(), patterns, new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
