package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/devkafka"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
	source "github.com/millrace/millrace/sources/kafka"
)

// demo runs the job with a broker of its own: it writes views, has the job count
// them, and shows what is in the topic of the results then.
func demo(ctx context.Context, cfg config, stdout io.Writer) error {
	broker, err := devkafka.Start(devkafka.Options{
		Dir: filepath.Join(cfg.data, "kafka"), Port: cfg.port,
		Topics: []devkafka.Topic{{Name: viewsTopic, Partitions: partitions}, {Name: countsTopic, Partitions: 2}, {Name: rejectedTopic}},
	})
	if err != nil {
		return err
	}
	defer broker.Close()
	cfg.brokers = []string{broker.Addr()}
	fmt.Fprintf(stdout, "a broker listens on %s, with its data in %s\n", broker.Addr(), cfg.data)
	if err := generate(ctx, cfg); err != nil {
		return fmt.Errorf("generate views: %w", err)
	}
	fmt.Fprintf(stdout, "%d views are in topic %s\n", cfg.views, viewsTopic)
	if err := newJob(cfg).Run(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: started again with the same flags, it goes on from here")
	}
	return show(ctx, cfg, stdout)
}

// show reads the topics of the results, with another small job.
func show(ctx context.Context, cfg config, w io.Writer) error {
	p := pipeline.New()
	from := func(topic string) source.Config {
		return source.Config{Brokers: cfg.brokers, Topics: []string{topic}, Bounded: true}
	}
	counts := memory.Collect(pipeline.From(p, "counts", source.JSON[count](from(countsTopic))), "counts-out")
	rejected := memory.Collect(pipeline.From(p, "rejected", source.Raw(from(rejectedTopic))), "rejected-out")
	if err := p.Run(ctx); err != nil {
		return fmt.Errorf("show results: %w", err)
	}
	minutes := map[time.Time][]count{}
	total := int64(0)
	for _, c := range counts.Values() {
		minutes[c.Minute] = append(minutes[c.Minute], c)
		total += c.Views
	}
	for _, m := range slices.SortedFunc(maps.Keys(minutes), time.Time.Compare) {
		fmt.Fprintf(w, "%s  %s\n", m.Format("15:04"), row(minutes[m]))
	}
	fmt.Fprintf(w, "%d counts of %d views are in topic %s, %d records in %s\n",
		counts.Len(), total, countsTopic, rejected.Len(), rejectedTopic)
	return nil
}

// row is a minute's line: its pages, the one with the most views first.
func row(counts []count) (line string) {
	slices.SortFunc(counts, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.Views, a.Views), cmp.Compare(a.Page, b.Page))
	})
	for _, c := range counts {
		line += fmt.Sprintf("%-10s%6d   ", c.Page, c.Views)
	}
	return strings.TrimRight(line, " ")
}
