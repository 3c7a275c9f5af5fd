// Wordcount counts the words of the files given as arguments, each of which
// may be a pattern:
//
//	wordcount 'logs/*.txt' notes.txt
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/files"
	"github.com/millrace/millrace/window"
)

func main() {
	if err := count(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "wordcount:", err)
		os.Exit(1)
	}
}

func count(ctx context.Context, patterns []string, w io.Writer) error {
	if len(patterns) == 0 {
		return errors.New("no file given")
	}
	p, counts := job(patterns)
	out := memory.Collect(counts, "out")
	if err := p.Run(ctx); err != nil {
		return err
	}
	results := out.Values()
	slices.SortFunc(results, func(a, b wordCount) int {
		return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Key, b.Key))
	})
	for _, r := range results {
		fmt.Fprintf(w, "%7d %s\n", r.Value, r.Key)
	}
	return nil
}

type wordCount = operators.Result[string, int64]

// job is the graph, up to the counts.
func job(patterns []string, opts ...pipeline.Option) (*pipeline.Pipeline, pipeline.Stream[wordCount]) {
	p := pipeline.New(opts...)
	var inputs []pipeline.Stream[string]
	for i, pattern := range patterns {
		inputs = append(inputs, pipeline.From(p, fmt.Sprintf("lines %d", i+1), files.Lines(pattern)))
	}
	words := operators.FlatMap(pipeline.Union(inputs[0], inputs[1:]...), "split", func(line string, emit func(string)) {
		for word := range strings.FieldsSeq(line) {
			emit(strings.ToLower(word))
		}
	})
	byWord := pipeline.KeyBy(words, func(word string) string { return word })
	return p, operators.Aggregate(byWord, "count", window.Global(), operators.Count[string]())
}
