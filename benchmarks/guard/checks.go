package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

// check is a ratio that one of the other benchmarks measures.
type check struct {
	name    string // as that program calls it
	program string
	args    []string
}

var checks = []check{
	{"chain of five operators, per operator", "engine", []string{"-short", "-only", "^chain"}},
	{"hash exchange to two subtasks", "engine", []string{"-short", "-only", "^hash exchange"}},
	{"keyed one-minute count, 1000 keys", "engine", []string{"-short", "-only", ", 1000 keys"}},
	{"keyed one-minute count, 100000 keys", "engine", []string{"-short", "-only", ", 100000 keys"}},
	{"hot keys by a plain map, 1000 keys", "state", []string{"-parts", "hot", "-hot", "1000"}},
	{"hot keys by a plain map, 100000 keys", "state", []string{"-parts", "hot", "-hot", "100000"}},
}

// measure runs the program, which is in dir, and returns the ratio to compare.
func (c check) measure(dir string, rounds int) (float64, error) {
	out := filepath.Join(dir, "ratios.json")
	args := append([]string{"-rounds", strconv.Itoa(rounds), "-json", out}, c.args...)
	cmd := exec.Command(filepath.Join(dir, c.program), args...)
	// A collection of garbage falls into a round or does not, by chance, and costs up to
	// a third of it. The programs collect between rounds; that nothing is allocated for
	// a record is for tests to watch.
	cmd.Env = append(os.Environ(), "GOGC=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", cmd, err, said)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	ratios, err := ratiosOf(raw, c.name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", cmd, err)
	}
	return best(ratios), nil
}

// comparison is what the programs' reports have in common.
type comparison struct {
	Name   string `json:"name"`
	Rounds []struct {
		With    float64 `json:"with_ns"`
		Without float64 `json:"without_ns"` // 0 where nothing is to be taken off
		ByHand  float64 `json:"by_hand_ns"`
	} `json:"rounds"`
}

// ratiosOf finds a comparison in a report and returns the ratios of its rounds.
func ratiosOf(report []byte, name string) (ratios []float64, err error) {
	var r struct {
		Comparisons []comparison `json:"comparisons"` // engine
		Goals       []comparison `json:"goals"`       // state
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, err
	}
	for _, c := range append(r.Comparisons, r.Goals...) {
		if c.Name != name {
			continue
		}
		for _, round := range c.Rounds {
			ratios = append(ratios, (round.With-round.Without)/round.ByHand)
		}
	}
	if len(ratios) == 0 {
		return nil, fmt.Errorf("its report has no rounds of %q", name)
	}
	return ratios, nil
}

// file is what is committed.
type file struct {
	results.Machine
	Processor string      `json:"processor"`
	Rounds    int         `json:"rounds"`
	Passes    int         `json:"passes"`
	Ratios    []committed `json:"ratios"`
}

func read(path string) (f file, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("read %s: %w", path, err)
	}
	return f, nil
}

// processor returns the kind of processor, where the system says it.
func processor() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
