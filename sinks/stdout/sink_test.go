package stdout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/stdout"
	"github.com/millrace/millrace/sources/memory"
)

type reading struct {
	Sensor string  `json:"sensor"`
	Value  float64 `json:"value"`
}

func TestJSON(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[reading]{
		New: func(t testing.TB) (pipeline.Sink[reading], func() []reading) {
			var out bytes.Buffer
			return stdout.JSON[reading](stdout.Writer(&out)), func() []reading {
				var all []reading
				for line := range strings.Lines(out.String()) {
					var r reading
					if err := json.Unmarshal([]byte(line), &r); err != nil {
						t.Fatalf("line %q: %v", line, err)
					}
					all = append(all, r)
				}
				return all
			}
		},
		Value: func(i int) reading { return reading{"<a&b>", float64(i)} },
		Bad:   func() reading { return reading{"broken", math.NaN()} },
	})
}

func TestFormat(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[string]{
		New: func(testing.TB) (pipeline.Sink[string], func() []string) {
			var out bytes.Buffer
			format := func(s string) string {
				if s == "bad" {
					panic("bad")
				}
				return "<" + s + ">"
			}
			return stdout.Format(format, stdout.Writer(&out)), func() []string {
				var all []string
				for line := range strings.Lines(out.String()) {
					all = append(all, strings.Trim(line, "<>\n"))
				}
				return all
			}
		},
		Value: func(i int) string { return strings.Repeat("x", i) },
		Bad:   func() string { return "bad" },
	})
}

func TestBrokenWriterStopsTheJob(t *testing.T) {
	p := pipeline.New()
	pipeline.To(pipeline.From(p, "in", memory.From([]int{1})), "print", stdout.JSON[int](stdout.Writer(broken{})))
	if err := p.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("got error %v, want that of the writer", err)
	}
}

var errBroken = errors.New("broken pipe")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func ExampleJSON() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	readings := pipeline.From(p, "readings", memory.From([]reading{{"attic", 31.5}, {"R&D", 19}}))
	pipeline.To(readings, "print", stdout.JSON[reading]())
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	// Output:
	// {"sensor":"attic","value":31.5}
	// {"sensor":"R&D","value":19}
}

func ExampleFormat() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	readings := pipeline.From(p, "readings", memory.From([]reading{{"attic", 31.5}}))
	pipeline.To(readings, "print", stdout.Format(func(r reading) string { return r.Sensor + " is hot" }))
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	// Output: attic is hot
}
