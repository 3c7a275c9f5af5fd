package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// interval is the time between two checkpoints, or commits.
const interval = time.Second

// loop is what a job by hand does with each record, and at the end of the input. It
// emits values, with a key or with "".
type loop struct {
	record func(r *kgo.Record) error
	end    func()
}

type emitter func(key string, value []byte)

var loops = map[string]func(emit emitter) loop{
	"count":    countByHand,
	"distinct": distinctByHand,
	"sessions": sessionsByHand,
	"q1":       q1ByHand,
	"q5":       q5ByHand,
	"q8":       q8ByHand,
	"q11":      q11ByHand,
	"q18":      q18ByHand,
}

// byHand is what one would write without any library: a consumer group of one, with
// its state in maps, which are gone when it dies.
func byHand(t task) error {
	h := hand{ctx: context.Background(), committed: time.Now()}
	left, err := pending(h.ctx, t)
	if err != nil {
		return err
	}
	h.client, err = kgo.NewClient(kgo.SeedBrokers(t.brokers...), kgo.ConsumerGroup(t.out), kgo.ConsumeTopics(t.in),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.DefaultProduceTopic(t.out))
	if err != nil {
		return err
	}
	defer h.client.Close()
	l := loops[t.job](h.emit)
	for left > 0 {
		n, err := h.poll(l)
		if err != nil {
			return err
		}
		left -= n
	}
	l.end()
	return h.commit()
}

type hand struct {
	ctx       context.Context
	client    *kgo.Client
	committed time.Time
	failed    atomic.Pointer[error]
}

func (h *hand) emit(key string, value []byte) {
	r := &kgo.Record{Value: value}
	if key != "" {
		r.Key = []byte(key)
	}
	h.client.Produce(h.ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			h.failed.Store(&err)
		}
	})
}

func (h *hand) poll(l loop) (n int64, err error) {
	fetches := h.client.PollFetches(h.ctx)
	if err := fetches.Err(); err != nil {
		return 0, err
	}
	fetches.EachRecord(func(r *kgo.Record) {
		n++
		if err == nil {
			err = l.record(r)
		}
	})
	if err == nil && time.Since(h.committed) > interval {
		err = h.commit()
	}
	return n, err
}

func (h *hand) commit() error {
	h.committed = time.Now()
	err := errors.Join(h.client.Flush(h.ctx), h.client.CommitUncommittedOffsets(h.ctx))
	if failed := h.failed.Load(); failed != nil {
		err = errors.Join(err, *failed)
	}
	return err
}

// pending is the number of records of a task's input. Nothing in it is transactional,
// so every offset is one.
func pending(ctx context.Context, t task) (n int64, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(t.brokers...))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, t.in)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("ends of topic %q: %w", t.in, err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n, nil
}

// fields is numbers as all sides write them.
func fields(numbers ...int64) []byte {
	b := make([]byte, 0, 20*len(numbers))
	for i, n := range numbers {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return b
}
