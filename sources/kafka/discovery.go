package kafka

import (
	"context"
	"errors"
	"fmt"
)

// discovery looks for new partitions while the reader reads. It runs on a
// goroutine of its own, since brokers may take long to answer.
type discovery struct {
	placing
	known   map[partition]bool
	missing int // times in a row that a topic was missing
	seldom
}

// missingTimes is how many times in a row a topic must be missing before it
// counts as deleted. A broker that has just started may not know it yet.
const missingTimes = 3

// discover starts to look for new partitions. Close ends it.
func (r *reader[T]) discover(topics map[string]topic) {
	d := &discovery{known: map[partition]bool{}}
	d.placing = placing{cluster: r.cluster, log: r.log, topics: topics, added: true}
	for _, p := range partitionsOf(r.env, topics) {
		d.known[p] = true
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.endDiscovery = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for sleep(ctx, r.cluster.cfg.Refresh) == nil {
			splits, err := r.look(ctx, d)
			if ctx.Err() == nil && (len(splits) > 0 || err != nil) {
				r.tell(splits, err)
			}
			if err != nil {
				return
			}
		}
	}()
}

// look returns splits that were added. An error ends the job; brokers that don't
// answer are none.
func (r *reader[T]) look(ctx context.Context, d *discovery) ([]*split, error) {
	ctx, cancel := within(ctx, r.cluster.cfg.StartTimeout)
	defer cancel()
	topics, err := d.describe(ctx)
	if errors.Is(err, errMissing) {
		if d.missing++; d.missing >= missingTimes {
			return nil, fmt.Errorf("%w any more", err)
		}
	}
	if err != nil {
		d.warn(r.log, "looking for new partitions: no answer, trying again", "error", err)
		return nil, nil
	}
	d.missing = 0
	for name, t := range topics {
		if before, ok := d.topics[name]; ok && before.id != t.id {
			return nil, fmt.Errorf("topic %q was deleted and made again: what was written to the old one since the last record read is lost", name)
		}
	}
	var added []partition
	for _, p := range partitionsOf(r.env, topics) {
		if !d.known[p] {
			added = append(added, p)
		}
	}
	for name, t := range d.topics { // one that a pattern matched may be gone
		if _, ok := topics[name]; !ok {
			topics[name] = t
		}
	}
	d.topics = topics
	splits, err := d.place(ctx, added)
	if err != nil {
		d.warn(r.log, "new partitions: trying again", "error", err)
		return nil, nil
	}
	for _, s := range splits {
		d.known[s.partition] = true
		r.log.Info("new partition", "partition", s.name, "offset", s.next)
	}
	return splits, nil
}

// tell hands news to the reading goroutine and wakes it.
func (r *reader[T]) tell(splits []*split, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, splits...)
	r.failed = err
	if r.wake != nil {
		r.wake()
	}
}
