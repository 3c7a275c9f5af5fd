package results

import (
	"fmt"
	"os"
	"strings"
)

// peak is the most memory that a process ever had, in bytes; 0 where that is unknown. It
// is not taken from the rusage of a process: what is started by vfork, as Go does, counts
// the starter's own peak as its first.
func peak(process string) int64 {
	raw, err := os.ReadFile("/proc/" + process + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
