package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/topics"
)

const (
	partitions = 4
	// underWay bounds the records between sender and reader while the maximum is
	// sought: some tenths of a second of a fast machine, and more than a batch for each
	// partition. Exactly once records come out once an interval, so that those of two
	// have to be under way.
	underWay        = 100_000
	underWayExactly = 1_000_000
	// settling is how long the machine gets used to a load before it is measured.
	settling = 2 * time.Second
	// patience is how long to wait for records that are under way.
	patience = time.Minute
)

// percentiles are what is reported.
var percentiles = []struct {
	name string
	rank float64
}{{"50", 0.5}, {"90", 0.9}, {"99", 0.99}, {"99.9", 0.999}, {"100", 1}}

// bed is a running job with somebody to send to it and to read from it.
type bed struct {
	client   *kgo.Client // sends
	reader   *kgo.Client
	from, to string
	job      *exec.Cmd
	ended    chan struct{} // closed when the job is over
	stop     context.CancelFunc
	reading  sync.WaitGroup
	sent     int64 // records, in all

	mu       sync.Mutex
	received int64              // records, in all; guarded by mu
	latency  *ddsketch.DDSketch // nil while nothing is measured; guarded by mu
	since    int64              // records due earlier are not measured; guarded by mu
	failed   error              // why nothing is read or sent any more; guarded by mu
	users    []string
}

func newBed(c config) (*bed, error) {
	suffix := strings.ToLower(rand.Text()[:8])
	b := &bed{from: "bench-latency-events-" + suffix, to: "bench-latency-counts-" + suffix, ended: make(chan struct{})}
	for i := range c.keys {
		b.users = append(b.users, fmt.Sprintf("user-%06d", i))
	}
	var err error
	b.client, err = kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.DefaultProduceTopic(b.from), kgo.ProducerLinger(time.Millisecond),
		kgo.MaxBufferedRecords(10_000_000), kgo.DisableClientMetrics())
	if err != nil {
		return nil, err
	}
	if err = topics.Make(context.Background(), b.client, partitions, nil, b.from, b.to); err == nil {
		b.reader, err = kgo.NewClient(kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(b.to), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableClientMetrics())
	}
	if err == nil {
		err = b.startJob(c)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.reading.Go(func() { b.read(ctx) })
	return b, nil
}

func (b *bed) startJob(c config) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.job = exec.Command(self, "-brokers", strings.Join(c.brokers, ","), "-job", b.from+":"+b.to, "-delivery", c.delivery)
	b.job.Stderr = os.Stderr
	if err := b.job.Start(); err != nil {
		return err
	}
	go func() {
		defer close(b.ended)
		err := b.job.Wait()
		b.fail(fmt.Errorf("the job has ended: %v", err))
	}()
	return nil
}

func (b *bed) close() {
	if b.stop != nil {
		b.stop()
		b.reading.Wait()
	}
	if b.job != nil && b.job.Process != nil {
		_ = b.job.Process.Signal(syscall.SIGTERM) // fails when it is over already
		<-b.ended
	}
	if b.reader != nil {
		b.reader.Close()
	}
	if err := topics.Remove(context.Background(), b.client, b.from, b.to); err != nil {
		fmt.Fprintln(os.Stderr, "latency: topics are left behind:", err)
	}
	b.client.Close()
}

func (b *bed) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
}

// read takes the job's results as they can be read.
func (b *bed) read(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := b.reader.PollFetches(ctx)
		now := time.Now().UnixNano()
		if err := fetches.Err(); err != nil && ctx.Err() == nil {
			b.fail(fmt.Errorf("read results: %w", err))
			return
		}
		b.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			b.received++
			due, _, _ := strings.Cut(string(r.Value), " ")
			at, err := strconv.ParseInt(due, 10, 64)
			if b.latency != nil && at >= b.since {
				err = errors.Join(err, b.latency.Add(float64(max(0, now-at))))
			}
			if err != nil && b.failed == nil {
				b.failed = fmt.Errorf("result %q: %w", r.Value, err)
			}
		})
		b.mu.Unlock()
	}
}

// send sends the next record.
func (b *bed) send(due time.Time) {
	user := b.users[uint64(b.sent)*2_654_435_761%uint64(len(b.users))]
	value := fmt.Appendf(nil, `{"user":%q,"page":"/products/%d","due":%d,"referrer":"https://search.example/?q=shoes",`+
		`"agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101","status":200}`, user, b.sent%500, due.UnixNano())
	b.sent++
	b.client.Produce(context.Background(), &kgo.Record{Key: []byte(user), Value: value}, func(_ *kgo.Record, err error) {
		if err != nil {
			b.fail(fmt.Errorf("send: %w", err))
		}
	})
}

// progress is how many results were read.
func (b *bed) progress() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.received, b.failed
}

// settle waits until nothing is under way.
func (b *bed) settle() error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		n, err := b.progress()
		switch {
		case err != nil:
			return err
		case n == b.sent:
			return nil
		case n > b.sent:
			return fmt.Errorf("%d results of %d records", n, b.sent)
		case time.Now().After(end):
			return fmt.Errorf("after %v only %d results of %d records", patience, n, b.sent)
		}
	}
}

// maximum is how many records a second go through, once everything is warm.
func (b *bed) maximum(c config) (float64, error) {
	for range 1000 {
		b.send(time.Now())
	}
	if err := b.settle(); err != nil { // the job may take a while to start
		return 0, err
	}
	if err := b.saturate(c, settling); err != nil {
		return 0, err
	}
	before, _ := b.progress()
	start := time.Now()
	if err := b.saturate(c, c.span); err != nil {
		return 0, err
	}
	after, err := b.progress()
	took := time.Since(start)
	if after == before {
		return 0, fmt.Errorf("nothing came out of the job in %v", took)
	}
	return float64(after-before) / took.Seconds(), errors.Join(err, b.settle())
}

// saturate sends for a while as fast as records go through.
func (b *bed) saturate(c config, span time.Duration) error {
	most := int64(underWay)
	if c.delivery == exactlyOnce {
		most = underWayExactly
	}
	for end := time.Now().Add(span); time.Now().Before(end); {
		n, err := b.progress()
		if err != nil {
			return err
		}
		if b.sent-n > most {
			time.Sleep(time.Millisecond)
			continue
		}
		now := time.Now()
		for range 1000 {
			b.send(now)
		}
	}
	return nil
}

// load sends at a rate, and measures.
func (b *bed) load(c config, rate float64) (measurement, error) {
	sketch, err := ddsketch.LogUnboundedDenseDDSketch(0.001)
	if err != nil {
		return measurement{}, err
	}
	start := time.Now()
	measured := start.Add(settling)
	b.mu.Lock()
	b.latency, b.since = sketch, measured.UnixNano()
	b.mu.Unlock()
	due := start
	for i := 0; due.Sub(start) < settling+c.span; i++ {
		due = start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(max(wait, time.Millisecond))
		}
		b.send(due)
	}
	if err := b.settle(); err != nil {
		return measurement{}, err
	}
	b.mu.Lock()
	b.latency = nil
	b.mu.Unlock()
	m := measurement{Rate: rate, Records: int64(sketch.GetCount()), Latency: map[string]time.Duration{}}
	for _, p := range percentiles {
		v, err := sketch.GetValueAtQuantile(p.rank)
		if err != nil {
			return m, err
		}
		m.Latency[p.name] = time.Duration(v)
	}
	return m, nil
}
