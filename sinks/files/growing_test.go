package files_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/files"
)

// TestRule18_RestoredJobKeepsItsFile starts from a checkpoint with each option
// for files that exist.
func TestRule18_RestoredJobKeepsItsFile(t *testing.T) {
	for name, opts := range map[string][]files.Option{"default": nil, "overwrite": {files.Overwrite()}, "append": {files.Append()}} {
		path := filepath.Join(t.TempDir(), "out.txt")
		if name == "append" {
			if err := os.WriteFile(path, []byte("before\n"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		first, err := start(t, files.Lines(path, opts...), pipeline.SinkEnv{Run: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		saved := prepare(t, first, 1, "one")
		prepare(t, first, 2, "lost") // and torn
		second, err := start(t, files.Lines(path, opts...), pipeline.SinkEnv{Run: "r2", Prepared: [][]byte{saved}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := commit(second, saved); err != nil {
			t.Fatal(err)
		}
		prepare(t, second, 3, "two")
		want := []string{"one", "two"}
		if name == "append" {
			want = []string{"before", "one", "two"}
		}
		if got := contents(t, path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestRule18_KilledBeforeItsFirstCheckpoint starts twice without a checkpoint.
func TestRule18_KilledBeforeItsFirstCheckpoint(t *testing.T) {
	for _, before := range []string{"", "before\n"} {
		path := filepath.Join(t.TempDir(), "out.txt")
		var opts []files.Option
		if before != "" {
			opts = append(opts, files.Append())
			if err := os.WriteFile(path, []byte(before), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		first, err := start(t, files.Lines(path, opts...), pipeline.SinkEnv{Run: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		prepare(t, first, 1, "lost")
		second, err := start(t, files.Lines(path, opts...), pipeline.SinkEnv{Run: "r2"})
		if err != nil {
			t.Fatal(err)
		}
		if err := commit(second, prepare(t, second, 2, "one")); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(contents(t, path), " "), strings.TrimSpace(strings.TrimSpace(before)+" one"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := second.(pipeline.Closer).Close(); err != nil {
			t.Fatal(err)
		}
		// Now it has results, which a job that starts anew must not touch.
		if _, err := start(t, files.Lines(path), pipeline.SinkEnv{Run: "r3"}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("existing file: got error %v", err)
		}
	}
}

func TestGrowingFileRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.txt")
	first, err := start(t, files.Lines(path), pipeline.SinkEnv{Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, files.Lines(path, files.Append()), pipeline.SinkEnv{Operator: "other", Run: "r1"}); err == nil || !strings.Contains(err.Error(), `sink "out" writes there`) {
		t.Errorf("two sinks: got error %v", err)
	}
	saved := prepare(t, first, 1, "one")
	if want := `{"version":1,"name":"out.txt","size":4}`; string(saved) != want {
		t.Errorf("prepared %s, want %s", saved, want)
	}
	if err := first.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	refused := func(when, want string, sink pipeline.Sink[string], prepared ...[]byte) {
		t.Helper()
		if _, err := start(t, sink, pipeline.SinkEnv{Run: "r2", Prepared: prepared}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", when, err, want)
		}
	}
	refused("another path", `the checkpoint's results are in "out.txt"`, files.Lines(path+"x"), saved)
	refused("a later version", "version 2", files.Lines(path), []byte(`{"version":2}`))
	if err := os.Truncate(path, 2); err != nil {
		t.Fatal(err)
	}
	refused("shorter", "results are missing: the file has 2 bytes, the checkpoint has 4", files.Lines(path), saved)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused("gone", "results are missing", files.Lines(path), saved)
	if _, err := os.Stat(os.DevNull); err == nil {
		refused("a device", "not a regular file", files.Lines(os.DevNull, files.Append()))
	}
}

// TestWithoutCheckpointsAfterKill writes a file whose marker a job with
// checkpoints has left.
func TestWithoutCheckpointsAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.txt")
	first, err := start(t, files.Lines(path), pipeline.SinkEnv{Run: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, first, 1, "lost")
	write(t, files.Lines(path, files.Overwrite()), "kept")
	if _, err := start(t, files.Lines(path), pipeline.SinkEnv{Run: "r2"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got error %v, want that the file is there", err)
	}
	if got := contents(t, path); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("got %q, want what was written without checkpoints", got)
	}
}
