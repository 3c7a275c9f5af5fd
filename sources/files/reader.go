package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/pause"
	"github.com/millrace/millrace/pipeline"
)

// reader reads the files of one subtask in turns, a batch each.
type reader[T any] struct {
	pause.Set
	cfg     config
	format  format[T]
	framing framing
	pattern string
	env     *pipeline.SourceEnv
	log     *slog.Logger
	figures figures

	splits    []*split[T] // not yet finished, by path
	turn      int
	opened    int      // how many are open
	announce  []string // splits to be added with the next batch
	announced bool

	record   record // the one being decoded
	decoding bool   // user code is at work
	encoded  []byte // a position, before it is copied

	follower
}

func newReader[T any](s *Source[T], env *pipeline.SourceEnv) *reader[T] {
	r := &reader[T]{
		cfg: s.cfg, format: s.format, pattern: s.pattern, env: env, log: loggerOf(env), figures: newFigures(metricsOf(env)),
	}
	r.framing = s.format.framing(&r.cfg)
	r.lister, r.claims = s.lister, s.claims
	return r
}

// openBounded lists the files, takes this subtask's, and sees that each can be
// read at all: better now than after hours.
func (r *reader[T]) openBounded(ctx context.Context, positions map[string]position) error {
	paths, err := r.lister.list(ctx, r.pattern, r.env.Subtask, r.env.Parallelism, r.log)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return noMatch(r.pattern)
	}
	for i, path := range paths {
		if !r.env.Mine(i) {
			continue
		}
		f, fi, err := openRegular(path)
		if err != nil {
			return err
		}
		_ = f.Close()
		s := &split[T]{name: path, start: positionOf(path, numberOf(fi), positions)}
		if s.start.Done == fi.Size()+1 && s.start.sameFile(numberOf(fi)) {
			r.count(s, fi.Size())
			r.figures.bytesRead.Add(fi.Size())
			r.figures.filesDone.Add(1)
			continue
		}
		r.count(s, fi.Size())
		r.add(s)
	}
	return nil
}

// positionOf returns where to read a path on. The file may have had another
// name when it was read: its number tells, and the first bytes when it is
// opened.
func positionOf(path string, number identity, positions map[string]position) position {
	p, ok := positions[path]
	if ok && (p.sameFile(number) || number.Ino == 0) {
		return p
	}
	for _, other := range positions {
		if other.sameFile(number) {
			return other
		}
	}
	return p
}

func (r *reader[T]) add(s *split[T]) {
	r.splits = append(r.splits, s)
	r.announce = append(r.announce, s.name)
}

// count brings a split's size into the gauge.
func (r *reader[T]) count(s *split[T], size int64) {
	r.figures.bytesTotal.Add(size - s.total)
	s.total = size
}

// Read implements [pipeline.Reader].
func (r *reader[T]) Read(ctx context.Context, b *pipeline.SourceBatch[T]) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	news := !r.announced // the first batch goes out even if empty, so that the engine has heard of us
	r.announced = true
	for {
		for _, name := range r.announce {
			b.AddSplit(name)
			news = true
		}
		r.announce = r.announce[:0]
		if len(r.splits) == 0 && !r.cfg.follow {
			return pipeline.ErrEndOfInput
		}
		s := r.choose()
		if s == nil {
			if news {
				return nil
			}
			if err := r.wait(ctx); err != nil {
				return err
			}
			continue
		}
		if err := r.readSplit(s, b); err != nil {
			return err
		}
		if b.Split != "" {
			return nil
		}
	}
}

// choose returns the next split that can be read, nil if there is none now.
// Open files take turns; another one is opened while there is room. When all
// the open ones are held back, one of them makes room: the pause may last
// until that other one has been read.
func (r *reader[T]) choose() *split[T] {
	var closed *split[T]
	n := len(r.splits)
	for k := range n {
		i := (r.turn + k) % n
		s := r.splits[i]
		if s.waiting || r.Paused(s.name) {
			continue
		}
		if s.st == nil && r.opened >= r.cfg.maxOpen {
			if closed == nil {
				closed = s
			}
			continue
		}
		r.turn = i + 1
		return s
	}
	if closed != nil {
		r.makeRoom()
	}
	return closed
}

// makeRoom closes the open file that is cheapest to go on with later: a plain
// one, or a compressed one of which little has been read.
func (r *reader[T]) makeRoom() {
	var cheapest *split[T]
	cost := func(s *split[T]) int64 {
		if s.st.compressed == "" {
			return -1
		}
		return s.st.offset
	}
	for _, s := range r.splits {
		// A rotated file may not be found again once it is closed.
		if s.st == nil || s.rotated {
			continue
		}
		if cheapest == nil || cost(s) < cost(cheapest) {
			cheapest = s
		}
	}
	if cheapest != nil {
		r.closeSplit(cheapest)
	}
}

func (r *reader[T]) closeSplit(s *split[T]) {
	if s.st != nil {
		r.noteClosing(s)
		s.close()
		r.opened--
	}
}

// readSplit reads a batch of one split. It leaves the batch without a split
// when there was nothing.
func (r *reader[T]) readSplit(s *split[T], b *pipeline.SourceBatch[T]) error {
	if s.st == nil {
		if s.leaving {
			r.retire(s, b)
			return nil
		}
		if err := r.openSplit(s); err != nil || s.st == nil {
			return err
		}
	}
	before := s.sc.offset
	err := r.fill(s, b)
	r.figures.records.Add(int64(len(b.Values)))
	if more := s.st.disk - s.counted; more > 0 {
		r.figures.bytesRead.Add(more)
		s.counted = s.st.disk
	}
	if s.sc.offset != before {
		r.place(s, b, s.position())
	}
	switch {
	case err == nil:
		return nil
	case r.cfg.follow && r.suspend(s, b, err):
		return nil
	case err == io.EOF && !r.cfg.follow && s.st.disk < s.total:
		// A file that grows is read to its new end. One that shrinks has lost
		// records, and nobody knows how many.
		return fmt.Errorf("read %q: truncated while it was read: it had %d bytes at the start and ends after %d now", s.name, s.total, s.st.disk)
	case err == io.EOF:
		r.finish(s, b)
		return nil
	}
	return err
}

func (r *reader[T]) openSplit(s *split[T]) error {
	if r.cfg.follow {
		return r.reopen(s)
	}
	fresh, err := r.open(s, s.name)
	if err != nil {
		return err
	}
	if fresh {
		r.log.Warn("file is not the one that was read before, reading it from its beginning", "path", s.name)
	}
	r.opened++
	return nil
}

// place says in a batch how far the split has been read.
func (r *reader[T]) place(s *split[T], b *pipeline.SourceBatch[T], p position) {
	b.Split = s.name
	r.encoded = p.append(r.encoded[:0])
	b.Position = slices.Clone(r.encoded)
}

// finish ends a split of a bounded source.
func (r *reader[T]) finish(s *split[T], b *pipeline.SourceBatch[T]) {
	r.place(s, b, s.finishedPosition())
	b.FinishSplit(s.name)
	r.remove(s)
	r.figures.filesDone.Add(1)
}

func (r *reader[T]) remove(s *split[T]) {
	r.closeSplit(s)
	i := slices.Index(r.splits, s)
	r.splits = slices.Delete(r.splits, i, i+1)
	if r.turn > i {
		r.turn--
	}
}

// batchBytes ends a batch of very long records early.
const batchBytes = 1 << 20

// fill decodes records into b until it is full or err says why there are no
// more.
func (r *reader[T]) fill(s *split[T], b *pipeline.SourceBatch[T]) error {
	for {
		n := len(b.Values)
		err := r.decodeSome(s, b, &n)
		if !r.decoding {
			return err
		}
		// User code panicked: on with the next record.
		r.decoding = false
		r.drop(b, n)
		r.reject(s, b, err)
	}
}

// decodeSome decodes until something ends it. done is the number of values
// that are whole.
func (r *reader[T]) decodeSome(s *split[T], b *pipeline.SourceBatch[T], done *int) (err error) {
	defer pipeline.CatchPanic(&err)
	if err := r.readHeader(s); err != nil {
		return err
	}
	limit, start := max(r.env.BatchSize, 1), s.sc.offset
	final := r.final(s)
	var zero T
	for len(b.Values)+len(b.Rejected) < limit && s.sc.offset-start < batchBytes {
		r.record, err = s.sc.next(final)
		if err != nil {
			return err
		}
		if r.record.err != nil {
			r.reject(s, b, r.record.err)
			continue
		}
		if r.format.isBlank(r.record.data) {
			continue
		}
		*done = len(b.Values)
		b.Values = append(b.Values, zero)
		r.decoding = true
		err := s.dec.decode(r.record.data, &b.Values[*done])
		r.decoding = false
		if err != nil {
			r.drop(b, *done)
			r.reject(s, b, err)
		}
	}
	return nil
}

// drop takes back what a failed decoder left behind the first n values.
func (r *reader[T]) drop(b *pipeline.SourceBatch[T], n int) {
	clear(b.Values[n:])
	b.Values = b.Values[:n]
}

// reject hands on the record in hand as it stands in the file.
func (r *reader[T]) reject(s *split[T], b *pipeline.SourceBatch[T], err error) {
	if errors.Is(err, ErrSkip) {
		r.figures.skipped.Add(1)
		return
	}
	rec := r.record
	text := fmt.Sprintf("byte %d: %v", rec.offset, err)
	if errors.Is(err, errTooLong) {
		text = fmt.Sprintf("byte %d: %v: %d bytes, the limit is %d; its first %d are kept", rec.offset, err, rec.length, r.cfg.maxLine, len(rec.data))
	}
	b.Rejected = append(b.Rejected, pipeline.DeadLetter{
		Split: s.name, Offset: rec.line, Raw: slices.Clone(rec.data), Error: text,
	})
}

// Close implements [pipeline.Closer].
func (r *reader[T]) Close() error {
	for _, s := range r.splits {
		r.closeSplit(s)
	}
	r.claims.release(r)
	return nil
}

// wait blocks until something may have changed.
func (r *reader[T]) wait(ctx context.Context) error {
	var poll <-chan time.Time
	if r.cfg.follow {
		t := time.NewTimer(time.Until(r.lookedAt.Add(r.cfg.poll)))
		defer t.Stop()
		poll = t.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.Resumed():
		return nil
	case <-poll:
		return r.look()
	}
}

// sizeOf returns a file's size, 0 when it is not there.
func sizeOf(path string) int64 {
	if fi, err := os.Stat(path); err == nil {
		return fi.Size()
	}
	return 0
}
