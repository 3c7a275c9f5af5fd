package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMain lets the tests run the program as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("WEBANALYTICS_RUN_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// output is what a run left in its folder: the lines of each file, sorted.
type output map[string][]string

// analyze runs the program to a good end.
func analyze(t *testing.T, args ...string) output {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	var stdout, stderr bytes.Buffer
	args = append(args, "-output", dir)
	if code := run(context.Background(), args, &stdout, &stderr); code != exitOK {
		t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	if strings.Contains(stdout.String(), "refused by a window") {
		t.Errorf("%s: events were neither counted nor reported:\n%s", strings.Join(args, " "), stdout.String())
	}
	return readOutput(t, dir)
}

func readOutput(t *testing.T, dir string) output {
	t.Helper()
	out := output{}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() == ownerFile {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		lines := []string{}
		scan := bufio.NewScanner(bytes.NewReader(data))
		scan.Buffer(nil, 32<<20)
		for scan.Scan() {
			if !json.Valid(scan.Bytes()) {
				t.Fatalf("%s: no JSON: %.200q", f.Name(), scan.Text())
			}
			lines = append(lines, scan.Text())
		}
		if err := scan.Err(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(lines)
		out[f.Name()] = lines
	}
	return out
}

// same compares two runs byte by byte.
func (o output) same(t *testing.T, what string, want output) {
	t.Helper()
	if got, want := slices.Sorted(maps.Keys(o)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Fatalf("%s: got files %v, want %v", what, got, want)
	}
	for name, lines := range want {
		if slices.Equal(o[name], lines) {
			continue
		}
		t.Errorf("%s: %s differs: %d lines, want %d", what, name, len(o[name]), len(lines))
		for i := range min(len(lines), len(o[name])) {
			if o[name][i] != lines[i] {
				t.Errorf("first difference:\n got %s\nwant %s", o[name][i], lines[i])
				break
			}
		}
	}
}

// variants runs the same job in all ways that must not matter, and returns
// what it gives.
func variants(t *testing.T, parallelism, batchSizes []int, args ...string) output {
	t.Helper()
	var first output
	for _, p := range parallelism {
		for _, b := range batchSizes {
			way := []string{"-parallelism", strconv.Itoa(p), "-batch-size", strconv.Itoa(b)}
			out := analyze(t, append(way, args...)...)
			if first == nil {
				first = out
				continue
			}
			out.same(t, strings.Join(way, " "), first)
		}
	}
	return first
}

// ways are those of [variants]: all of them, or fewer where they take long.
func ways() (parallelism, batchSizes []int) {
	if testing.Short() || raceEnabled {
		return []int{1, 2, 8}, []int{17}
	}
	return []int{1, 2, 8}, []int{1, 17, 256, 4096}
}

func decodeLines[T any](t *testing.T, lines []string) []T {
	t.Helper()
	all := make([]T, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal([]byte(line), &all[i]); err != nil {
			t.Fatalf("%.200q: %v", line, err)
		}
	}
	return all
}

// metricKey tells the values of metrics.jsonl apart.
type metricKey struct {
	site, granularity string
	start             int64
	name, dimensions  string
}

func (k metricKey) String() string {
	return fmt.Sprintf("%s %s %s %d %s", k.site, k.name, k.granularity, k.start, k.dimensions)
}

// metrics returns the values of metrics.jsonl; of several revisions the last.
func (o output) metrics(t *testing.T) map[metricKey]float64 {
	t.Helper()
	values, revisions := map[metricKey]float64{}, map[metricKey]int{}
	for _, m := range decodeLines[Metric](t, o["metrics.jsonl"]) {
		dims, _ := json.Marshal(m.Dimensions) // in order
		k := metricKey{m.TrackingID, m.Granularity, m.WindowStart, m.Name, string(dims)}
		old, there := revisions[k]
		if there && old == m.Revision {
			t.Fatalf("%v is given twice as revision %d", k, old)
		}
		if !there || m.Revision > old {
			values[k], revisions[k] = m.Value, m.Revision
		}
	}
	return values
}

// events returns how many events the windows of a granularity count, which is
// the same for each.
func (o output) events(t *testing.T) int {
	t.Helper()
	n := map[string]int{}
	for k, v := range o.metrics(t) {
		if k.name == "events" && strings.HasPrefix(k.dimensions, `{"event_type":`) && !strings.Contains(k.dimensions, ",") {
			n[k.granularity] += int(v)
		}
	}
	if n["1m"] != n["1h"] || n["5m"] != n["1h"] {
		t.Errorf("granularities differ in the number of events: %v", n)
	}
	return n["1h"]
}

// writeFile writes a file of the test's and returns its path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
