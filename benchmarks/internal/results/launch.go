package results

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// Launch runs a side that is another program and writes its turn to standard output
// as [Serve] does. It passes the turn on with the program's peak of memory, for [Run] in
// the process that started this one.
//
// A process of its own between the two keeps the peak right: on Linux, one that is
// started by vfork, as Go does, begins with its starter's peak as its own. This one is
// small; a driver that has compared results is not.
func Launch(name string, args ...string) {
	t, err := launch(name, args)
	if err != nil {
		t.Err = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(t)
}

func launch(name string, args []string) (t Turn, err error) {
	cmd := exec.Command(name, args...)
	if t, err = turnOf(cmd); err != nil {
		return t, err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return t, errors.New("no resource usage of " + name)
	}
	t.Peak = usage.Maxrss << 10 // KiB, on Linux; the largest of its processes
	return t, nil
}
