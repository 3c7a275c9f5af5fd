package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devclickhouse"
)

func TestWrongArguments(t *testing.T) {
	var out, said bytes.Buffer
	if err := run(t.Context(), []string{"-no-such-flag"}, &out, &said); err == nil || !strings.Contains(said.String(), "-native") {
		t.Errorf("got %v and %q, want the flags there are", err, said.String())
	}
}

func TestWithoutNpm(t *testing.T) {
	t.Setenv(devclickhouse.LibraryVariable, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	var out, said bytes.Buffer
	err := run(t.Context(), []string{"-install"}, &out, &said)
	if err == nil || !strings.Contains(err.Error(), "npm") {
		t.Errorf("got %v, want what to install", err)
	}
}
