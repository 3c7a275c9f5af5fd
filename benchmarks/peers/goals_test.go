package main

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/benchmarks/internal/results"
)

func TestGoals(t *testing.T) {
	turns := map[string][]results.Turn{
		"millrace":    {{CPU: 10, Peak: 100}, {CPU: 20, Peak: 100}, {CPU: 10, Peak: 200}},
		"flink-heap":  {{CPU: 30, Peak: 300}, {CPU: 30, Peak: 200}, {CPU: 40, Peak: 200}},
		"goka-memory": {{CPU: 40}, {CPU: 90}, {CPU: 60}},
	}
	var got strings.Builder
	if err := printGoals(&got, []jobReport{{Job: "count", Goals: goalsOf(turns)}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"count records per CPU-second millrace goka-memory 4.50 4.00–6.00 at least 5 MISSED",
		"count records per CPU-second millrace flink-heap 3.00 1.50–4.00 at least 2 met",
		"count peak memory, theirs by ours millrace flink-heap 2.00 1.00–3.00 at least 3 MISSED",
	} {
		if flat := strings.Join(strings.Fields(got.String()), " "); !strings.Contains(flat, want) {
			t.Errorf("got\n%s\nwant a line %q", got.String(), want)
		}
	}
}

func TestChoose(t *testing.T) {
	c := config{records: 1, keys: 1, warm: 1, rounds: 1, java: t.TempDir()}
	err := c.choose("localhost:9092", "count,q99", "goka,flink-heap,spark")
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{`-jobs: there is no "q99"`, "flink-heap is not built: run mvn -q -f ", `-sides: there is no "spark"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to say %q", err, want)
		}
	}
}
