package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// output reads what a side has written to a topic, up to its end, as lines in
// alphabetical order.
func (b *bed) output(j job, topic string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, err := b.settled(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := 0 // partitions
	for _, o := range ends {
		if o.Offset > 0 {
			left++
		}
	}
	// Markers of transactions have offsets, too, and may be the last.
	client, err := kgo.NewClient(kgo.SeedBrokers(b.brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	all := lines{job: j, last: map[string]string{}}
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read topic %q: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all.add(string(r.Key), string(r.Value))
			}
			if r.Offset+1 == ends[r.Partition].Offset {
				left--
			}
		})
	}
	return all.sorted(), nil
}

// settled returns the ends of a topic once no transaction is open in it. The brokers
// say that one is committed before they have written so to all its partitions.
func (b *bed) settled(ctx context.Context, topic string) (map[int32]kadm.ListedOffset, error) {
	for {
		committed, err := b.admin.ListCommittedOffsets(ctx, topic)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			return nil, err
		}
		all, err := b.admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = all.Error()
		}
		if err != nil {
			return nil, err
		}
		open := false
		for p, o := range all[topic] {
			open = open || committed[topic][p].Offset < o.Offset
		}
		if !open {
			return committed[topic], nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lines are what a side has written, as far as it is compared.
type lines struct {
	job  job
	all  []string
	last map[string]string // by key, where only the last value counts
}

func (l *lines) add(key, value string) {
	switch {
	case l.job.input == "events" && strings.HasPrefix(key, closing):
	case l.job.last:
		if old, there := l.last[key]; !there || offerIn(value).after(offerIn(old)) {
			l.last[key] = value
		}
	case l.job.keyed:
		l.all = append(l.all, key+" "+value)
	default:
		l.all = append(l.all, value)
	}
}

// offerIn reads a value of q18. One that can't be read is the zero offer, which no side
// agrees with.
func offerIn(value string) (o offer) {
	_, _ = fmt.Sscanf(value, "%d %d", &o.Time, &o.Price)
	return o
}

func (l *lines) sorted() []string {
	for key, value := range l.last {
		l.all = append(l.all, key+" "+value)
	}
	slices.Sort(l.all)
	return l.all
}

// difference says where two sides' lines differ first; nil: nowhere.
func difference(theirs string, want []string, ours string, got []string) error {
	n := min(len(want), len(got))
	i := 0
	for i < n && want[i] == got[i] {
		i++
	}
	switch {
	case i == len(want) && i == len(got):
		return nil
	case i == len(got) || i < len(want) && want[i] < got[i]:
		return fmt.Errorf("%s has not written %q, which %s has (%d lines, and %d)", ours, want[i], theirs, len(got), len(want))
	default:
		return fmt.Errorf("%s has written %q, which %s has not (%d lines, and %d)", ours, got[i], theirs, len(got), len(want))
	}
}
