// Package results is what the benchmark programs have in common: where they ran,
// what a side of a comparison took and how it does beside another, the middle of what
// they measured, and the file they leave.
package results

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Machine says where, when and of which commit results are. It is to be embedded
// in a report.
type Machine struct {
	Go     string    `json:"go"`
	OS     string    `json:"os"`
	Arch   string    `json:"arch"`
	Cores  int       `json:"cores"`
	Commit string    `json:"commit,omitempty"`
	When   time.Time `json:"when"`
}

// Here returns this machine, now.
func Here() Machine {
	return Machine{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(),
		Commit: commit(), When: time.Now().UTC(),
	}
}

// commit is what the program was built from, or, as go run does not say, what the
// folder is in which it runs.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	head, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "" // no checkout, or no git
	}
	return strings.TrimSpace(string(head))
}

// Quantile returns the value of that rank, from 0 to 1, between two values in
// proportion: 0.5 is the median.
func Quantile(values []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(values))
	at := q * float64(len(s)-1)
	low := int(at)
	if low == len(s)-1 {
		return s[low]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// Write writes a report to a file, as JSON.
func Write(path string, report any) error {
	raw, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// CPU is the processor time of the whole process.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
