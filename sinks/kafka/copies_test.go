package kafka_test

import (
	"strings"
	"testing"
)

// TestSecondCopyElsewhere starts a job a second time by mistake, with a directory
// of its own: it does not have the checkpoints that were committed, refuses to
// start, and the first does not notice.
func TestSecondCopyElsewhere(t *testing.T) {
	w := outWorld(t)
	f := newFeed(100)
	first := start(t, feedJob(f, w.config(), asked(t.TempDir())))
	first.out(100)
	first.complete()
	f.allow(150)
	first.out(150)
	dir := t.TempDir()
	err := feedJob(ended(100), w.config(), asked(dir)).Run(t.Context())
	wantError(t, err, "the last committed checkpoint is 1@", dir, `consumer group "feeding"`, "or give it another name")
	f.allow(200)
	f.end()
	if err := first.wait(); err != nil {
		t.Fatal(err)
	}
	w.wantNumbers(200)
}

// TestSecondCopyFences starts it before the first has committed anything, so that
// it can't know: the first is fenced, and says so.
func TestSecondCopyFences(t *testing.T) {
	for name, before := range map[string]int{"with records": 100, "without": 0} {
		t.Run(name, func(t *testing.T) {
			w := outWorld(t)
			first := start(t, feedJob(newFeed(before), w.config(), asked(t.TempDir())))
			first.out(before)
			await(t, "the first", func() bool { return first.Stats() != nil })
			second := start(t, feedJob(ended(200), w.config(), asked(t.TempDir())))
			if err := second.wait(); err != nil {
				t.Fatal(err)
			}
			// The brokers' answer ends the job and declines the checkpoint, in any order.
			err := first.checkpoint()
			if err == nil || !strings.Contains(err.Error(), "fenced: another process runs") {
				wantError(t, err, "the job has ended")
			}
			wantError(t, first.wait(), "fenced: another process runs", `transactional id "feeding`)
			w.wantNumbers(200)
		})
	}
}
