package main

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/devkafka" //nolint:depguard // a test without a broker of the user's
)

// TestSidesAgree runs every side in Go on every job, over few records.
func TestSidesAgree(t *testing.T) {
	broker, err := devkafka.Start(devkafka.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	b, err := newBed([]string{broker.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	b.spacing = 20 * time.Millisecond
	topics := map[string]string{}
	for _, input := range []string{"events", "nexmark"} {
		if topics[input], err = b.fill(input, 3000, 50, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			want := outputOf(t, b, j, sides[0], topics[j.input])
			for _, s := range sides[1:] {
				if s.run == nil || !s.does(j.name) {
					continue
				}
				t.Run(s.name, func(t *testing.T) {
					got := outputOf(t, b, j, s, topics[j.input])
					if err := difference(sides[0].name, want, s.name, got); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

func outputOf(t *testing.T, b *bed, j job, s side, in string) []string {
	t.Helper()
	out, err := b.topic(j.name)
	if err != nil {
		t.Fatal(err)
	}
	work := task{job: j.name, brokers: b.brokers, in: in, out: out, parallelism: 2, dir: filepath.Join(t.TempDir(), "state")}
	if err := s.run(work); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	got, err := b.output(j, out)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 10 {
		t.Fatalf("%s wrote %d lines, want more: %q", s.name, len(got), got)
	}
	return got
}

func TestDifference(t *testing.T) {
	for _, c := range []struct {
		name string
		want []string
		got  []string
		says string
	}{
		{"none", []string{"a", "b"}, []string{"a", "b"}, ""},
		{"missing", []string{"a", "b", "c"}, []string{"a", "c"}, `ours has not written "b", which theirs has (2 lines, and 3)`},
		{"missing at the end", []string{"a", "b"}, []string{"a"}, `ours has not written "b", which theirs has (1 lines, and 2)`},
		{"more", []string{"a", "c"}, []string{"a", "b", "c"}, `ours has written "b", which theirs has not (3 lines, and 2)`},
		{"more at the end", []string{"a"}, []string{"a", "a"}, `ours has written "a", which theirs has not (2 lines, and 1)`},
	} {
		says := ""
		if err := difference("theirs", c.want, "ours", c.got); err != nil {
			says = err.Error()
		}
		if says != c.says {
			t.Errorf("%s: got %q, want %q", c.name, says, c.says)
		}
	}
}

// TestJoin compares sessions that were put together out of order with those in order.
func TestJoin(t *testing.T) {
	const gap = 10
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var times []int64
		for range rng.IntN(30) {
			times = append(times, rng.Int64N(300))
		}
		var got []session
		for _, time := range times {
			got = join(got, time, gap)
		}
		slices.Sort(times)
		var want []session
		for _, time := range times {
			if n := len(want); n > 0 && time-want[n-1].Last <= gap {
				want[n-1].Last = time
				want[n-1].N++
			} else {
				want = append(want, session{First: time, Last: time, N: 1})
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("sessions of %v:\ngot  %v\nwant %v", times, got, want)
		}
	}
}

// TestKafkaHash checks that Sarama, which takes a sum's remainder, sends a key where
// franz-go and Kafka's own clients do.
func TestKafkaHash(t *testing.T) {
	h, kafka := &kafkaHash{key: []byte{}}, kgo.StickyKeyPartitioner(nil).ForTopic("")
	for _, key := range []string{"", "a", "user-000123", "1017 2034", "~end-3"} {
		h.Reset()
		_, _ = h.Write([]byte(key))
		got := int(int32(h.Sum32()) % partitions)
		if want := kafka.Partition(&kgo.Record{Key: []byte(key)}, partitions); got != want {
			t.Errorf("partition of %q: got %d, want %d", key, got, want)
		}
	}
}

// TestCrowd checks what the jobs need of the visits.
func TestCrowd(t *testing.T) {
	c, last, at := newCrowd(100, 1), map[string]int64{}, int64(0)
	sessions := 0
	for range 20_000 {
		v := c.visit()
		if v.Time < at {
			t.Fatalf("a visit at %d comes after one at %d", v.Time, at)
		}
		at = v.Time
		before, there := last[v.User]
		if v.Time-before == gapOfVisits {
			t.Fatalf("%s has visits at %d and %d, exactly a gap apart", v.User, before, v.Time)
		}
		if !there || v.Time-before > gapOfVisits {
			sessions++
		}
		last[v.User] = v.Time
	}
	if sessions < 1000 {
		t.Errorf("20,000 visits have %d sessions, want some 1,600", sessions)
	}
}
