package results

import (
	"runtime"
	"testing"
	"time"
)

func TestLaunch(t *testing.T) {
	turn, err := launch("sh", []string{"-c", `echo '{"wall":2000000000,"cpu":1000000000}'`})
	if err != nil {
		t.Fatal(err)
	}
	if turn.Wall != 2*time.Second || turn.CPU != time.Second {
		t.Errorf("got %v, want a wall of 2s and a cpu of 1s", turn)
	}
	if turn.Peak < 100<<10 && runtime.GOOS == "linux" {
		t.Errorf("peak: got %d bytes, want those of a process", turn.Peak)
	}
}

func TestLaunchFails(t *testing.T) {
	for _, script := range []string{"exit 1", "echo nonsense", ""} {
		if turn, err := launch("sh", []string{"-c", script}); err == nil {
			t.Errorf("script %q: got %v, want an error", script, turn)
		}
	}
}
