package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

// faults are what a source or sink does wrong on purpose.
type faults struct {
	loses, repeats, unannounced, late, tooMany, noPosition, offByOne,
	reusesPosition, ignoresContext, ignoresPause, closePanics, aliases, everySubtask bool
}

// badSource has two splits of the numbers below n, and faults.
type badSource struct {
	n int
	faults
}

func (s badSource) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[*int], error) {
	r := &badReader{badSource: s, env: env, paused: map[string]bool{}, woken: make(chan struct{}, 1), position: make([]byte, 0, 8)}
	for i := range 2 {
		if !env.Mine(i) && !s.everySubtask {
			continue
		}
		name := strconv.Itoa(i)
		at, _ := strconv.Atoi(string(env.Positions[name]))
		if s.offByOne && at > 0 {
			at--
		}
		r.splits = append(r.splits, &badSplit{name, at})
	}
	return r, nil
}

type badSplit struct {
	name string
	at   int
}

type badReader struct {
	badSource
	env      *pipeline.SourceEnv
	splits   []*badSplit
	turn     int
	begun    bool
	position []byte
	shared   int
	mu       sync.Mutex
	paused   map[string]bool
	woken    chan struct{}
	closed   bool
}

func (r *badReader) Pause(s string) { r.mu.Lock(); defer r.mu.Unlock(); r.paused[s] = true }

func (r *badReader) Resume(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.paused, s)
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

func (r *badReader) Close() error {
	if r.closed && r.closePanics {
		panic("closed twice")
	}
	r.closed = true
	return nil
}

func (r *badReader) choose(ctx context.Context) (*badSplit, error) {
	for {
		r.mu.Lock()
		for range r.splits {
			r.turn++
			if s := r.splits[r.turn%len(r.splits)]; r.ignoresPause || !r.paused[s.name] {
				r.mu.Unlock()
				return s, nil
			}
		}
		r.mu.Unlock()
		done := ctx.Done()
		if r.ignoresContext {
			done = nil
		}
		select {
		case <-done:
			return nil, ctx.Err()
		case <-r.woken:
		}
	}
}

func (r *badReader) Read(ctx context.Context, b *pipeline.SourceBatch[*int]) error {
	if !r.begun {
		for _, s := range r.splits {
			if !r.unannounced {
				b.AddSplit(s.name)
			}
		}
		r.begun = true
	}
	if len(r.splits) == 0 {
		return pipeline.ErrEndOfInput
	}
	s, err := r.choose(ctx)
	if err != nil {
		return err
	}
	b.Split = s.name
	size := r.env.BatchSize
	if r.tooMany {
		size++
	}
	for len(b.Values) < size && s.at < r.n {
		v := s.at
		s.at++
		switch {
		case r.loses && v == 5:
			continue
		case r.aliases:
			r.shared = v
			b.Values = append(b.Values, &r.shared)
			continue
		}
		b.Values = append(b.Values, &v)
		if r.repeats && v == 4 {
			b.Values = append(b.Values, &v)
		}
	}
	switch {
	case r.reusesPosition:
		r.position = strconv.AppendInt(r.position[:0], int64(s.at), 10)
		b.Position = r.position
	case !r.noPosition:
		b.Position = strconv.AppendInt(nil, int64(s.at), 10)
	}
	if s.at == r.n {
		if !r.late {
			b.FinishSplit(s.name)
		}
		for i := range r.splits {
			if r.splits[i] == s {
				r.splits = append(r.splits[:i], r.splits[i+1:]...)
				break
			}
		}
	}
	return nil
}

// number prints the value behind the pointer.
type number struct{ *int }

func (n number) String() string { return strconv.Itoa(*n.int) }

type numbers struct{ badSource }

func (s numbers) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[number], error) {
	r, err := s.badSource.Open(ctx, env)
	return &numbersReader{badReader: r.(*badReader)}, err
}

type numbersReader struct {
	*badReader
	b pipeline.SourceBatch[*int]
}

func (r *numbersReader) Read(ctx context.Context, b *pipeline.SourceBatch[number]) error {
	r.b.Reset()
	err := r.badReader.Read(ctx, &r.b)
	added, _, finished := r.b.News()
	for _, s := range added {
		b.AddSplit(s)
	}
	for _, s := range finished {
		b.FinishSplit(s)
	}
	for _, v := range r.b.Values {
		b.Values = append(b.Values, number{v})
	}
	b.Split, b.Position = r.b.Split, r.b.Position
	return err
}

func sourceChecks(t *testing.T, f faults) map[string]error {
	const n = 20
	var want []number
	for i := range 2 * n {
		v := i % n
		want = append(want, number{&v})
	}
	c := SourceCase[number]{New: func(testing.TB) pipeline.Source[number] { return numbers{badSource{n, f}} }, Want: want}
	all := map[string]error{
		"once/1": c.everyRecordOnce(t, 1), "once/3": c.everyRecordOnce(t, 3), "resume": c.resume(t), "cancel": c.cancel(t), "close": c.close(t),
	}
	if !f.ignoresContext { // would wait for its time-out
		all["pause"] = c.pause(t)
	}
	return all
}

// TestSourceSuiteFindsFaults runs the suite on sources that break one rule
// each.
func TestSourceSuiteFindsFaults(t *testing.T) {
	for check, err := range sourceChecks(t, faults{}) {
		if err != nil {
			t.Errorf("a good source fails %s: %v", check, err)
		}
	}
	for _, c := range []struct {
		faults
		check, want string
	}{
		{faults{loses: true}, "once/1", "missing: 5, 5"},
		{faults{repeats: true}, "once/1", "extra: 4, 4"},
		{faults{unannounced: true}, "once/1", "was not announced"},
		{faults{late: true}, "once/1", "is not finished at the end of input"},
		{faults{tooMany: true}, "once/1", "4 records in a batch"},
		{faults{noPosition: true}, "once/1", "without a position"},
		{faults{offByOne: true}, "resume", "after 1 batches"},
		{faults{reusesPosition: true}, "once/1", "the engine keeps the slice"},
		{faults{ignoresPause: true}, "pause", "with all splits paused"},
		{faults{closePanics: true}, "close", "closed twice"},
		{faults{aliases: true}, "once/1", "missing: 0"},
		{faults{everySubtask: true}, "once/3", "is announced by subtask"},
	} {
		err := sourceChecks(t, c.faults)[c.check]
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: check %s says %v, want %q", c.faults, c.check, err, c.want)
		}
	}
}

// badSink gathers records, with faults.
type badSink struct {
	keepsBatch, neverFlushes, losesAtClose, failsOnBad, secondClose, waits bool

	mu      sync.Mutex
	written []string
}

type badWriter struct {
	s      *badSink
	env    *pipeline.SinkEnv
	buf    []string
	kept   [][]string
	closed bool
}

func (s *badSink) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[string], error) {
	return &badWriter{s: s, env: env}, nil
}

func (w *badWriter) Write(ctx context.Context, b *pipeline.Records[string]) error {
	if w.s.waits {
		if ctx.Err() != nil {
			return errors.New("some other error")
		}
	}
	if w.s.keepsBatch {
		w.kept = append(w.kept, b.Values)
		return nil
	}
	for i, v := range b.Values {
		if v == "bad" && !w.s.failsOnBad {
			w.env.Reject(pipeline.DeadLetter{Error: "bad", Record: v, Time: b.Times[i]})
			continue
		}
		w.buf = append(w.buf, v)
	}
	return nil
}

func (w *badWriter) move() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for _, k := range w.kept {
		w.s.written = append(w.s.written, k...)
	}
	w.s.written = append(w.s.written, w.buf...)
	w.buf, w.kept = nil, nil
}

func (w *badWriter) Flush(context.Context) error {
	if !w.s.neverFlushes {
		w.move()
	}
	return nil
}

func (w *badWriter) Close() error {
	if w.closed && w.s.secondClose {
		panic("closed twice")
	}
	w.closed = true
	if !w.s.losesAtClose {
		w.move()
	}
	return nil
}

func sinkChecks(t *testing.T, sink func() *badSink) map[string]error {
	c := SinkCase[string]{
		New: func(testing.TB) (pipeline.Sink[string], func() []string) {
			s := sink()
			return s, func() []string { return s.written }
		},
		Value: func(i int) string { return fmt.Sprint("record ", i) },
		Bad:   func() string { return "bad" },
	}
	return map[string]error{
		"there/1": c.allIsThere(t, 1), "there/3": c.allIsThere(t, 3), "unflushed": c.closeWithoutFlush(t),
		"reject": c.reject(t), "cancel": c.cancel(t), "close": c.close(t),
	}
}

// TestSinkSuiteFindsFaults runs the suite on sinks that break one rule each.
func TestSinkSuiteFindsFaults(t *testing.T) {
	for check, err := range sinkChecks(t, func() *badSink { return &badSink{} }) {
		if err != nil {
			t.Errorf("a good sink fails %s: %v", check, err)
		}
	}
	for _, c := range []struct {
		sink        func() *badSink
		check, want string
	}{
		{func() *badSink { return &badSink{keepsBatch: true} }, "there/1", "missing: record 0"},
		{func() *badSink { return &badSink{neverFlushes: true} }, "there/3", "after flush"},
		{func() *badSink { return &badSink{losesAtClose: true} }, "unflushed", "0 records, want"},
		{func() *badSink { return &badSink{failsOnBad: true} }, "reject", "0 records rejected, want 2"},
		{func() *badSink { return &badSink{secondClose: true} }, "close", "closed twice"},
		{func() *badSink { return &badSink{waits: true} }, "cancel", "want nil or context.Canceled"},
	} {
		if err := sinkChecks(t, c.sink)[c.check]; err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("check %s says %v, want %q", c.check, err, c.want)
		}
	}
}

// commitFaults are what a committing sink does wrong on purpose.
type commitFaults struct {
	showsAtWrite, showsAtPrepare, showsAtClose, commitsTwice, forgetsBuffer, lastOnly, keepsRemainder,
	onlyItsOwn, needsProcess, refusesRestart, emptiesAtStart, needsRecords, oneCommitter bool
}

// heldSink shows records with their commit, with faults. What a real sink keeps
// on disk is in its maps, which outlive the writers.
type heldSink struct {
	commitFaults

	mu      sync.Mutex
	staged  map[string][]string // prepared, by what Prepare returned
	done    map[string]bool
	visible []string
	left    []string // written by a start that was killed
}

type heldWriter struct {
	s   *heldSink
	env *pipeline.SinkEnv
	buf []string
}

// notCommitting hides two methods.
type notCommitting struct{ w *heldWriter }

func (n notCommitting) Write(ctx context.Context, b *pipeline.Records[string]) error {
	return n.w.Write(ctx, b)
}

func (s *heldSink) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[string], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged == nil {
		s.staged, s.done = map[string][]string{}, map[string]bool{}
	}
	w := &heldWriter{s: s, env: env}
	switch {
	case s.refusesRestart && env.Prepared != nil && len(s.visible) > 0:
		return nil, errors.New("not empty")
	case s.emptiesAtStart && env.Subtask == 0:
		s.visible, s.done = nil, map[string]bool{}
	case s.keepsRemainder && env.Subtask == 0:
		w.buf = s.left
		s.left = nil
	case s.oneCommitter && env.Subtask == 1:
		return notCommitting{w}, nil
	}
	return w, nil
}

func (w *heldWriter) Write(_ context.Context, b *pipeline.Records[string]) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.buf = append(w.buf, b.Values...)
	w.s.left = append(w.s.left, b.Values...)
	if w.s.showsAtWrite {
		w.s.visible = append(w.s.visible, b.Values...)
	}
	return nil
}

func (w *heldWriter) Prepare(_ context.Context, checkpoint int64) ([]byte, error) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = nil
	if len(w.buf) == 0 && !s.needsRecords {
		return nil, nil
	}
	if len(w.buf) == 0 {
		return nil, errors.New("nothing to prepare")
	}
	name := fmt.Sprintf("%s/%d/%d", w.env.Run, w.env.Subtask, checkpoint)
	if s.lastOnly {
		for old := range s.staged {
			if strings.HasPrefix(old, fmt.Sprintf("%s/%d/", w.env.Run, w.env.Subtask)) {
				s.staged[old] = nil
			}
		}
	}
	s.staged[name] = w.buf
	if s.forgetsBuffer {
		s.staged[name] = w.buf[:len(w.buf)-1]
	}
	w.buf = nil
	if s.showsAtPrepare {
		s.show(name)
	}
	return []byte(name), nil
}

func (s *heldSink) show(name string) {
	if !s.done[name] || s.commitsTwice {
		s.visible = append(s.visible, s.staged[name]...)
	}
	s.done[name] = true
}

func (w *heldWriter) Commit(_ context.Context, prepared []byte) error {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := strings.Split(string(prepared), "/")
	switch {
	case s.onlyItsOwn && parts[1] != strconv.Itoa(w.env.Subtask):
		return nil
	case s.needsProcess && parts[0] != w.env.Run:
		return nil
	}
	s.show(string(prepared))
	return nil
}

func (w *heldWriter) Close() error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.s.showsAtClose {
		w.s.visible = append(w.s.visible, w.buf...)
		w.buf = nil
	}
	return nil
}

func commitChecks(t *testing.T, f commitFaults) map[string]error {
	c := SinkCase[string]{Value: func(i int) string { return fmt.Sprint("record ", i) }}
	c.New = func(testing.TB) (pipeline.Sink[string], func() []string) {
		s := &heldSink{commitFaults: f}
		return s, func() []string { return s.visible }
	}
	return map[string]error{
		"there": c.allIsThere(t, 3), "unflushed": c.closeWithoutFlush(t), "close": c.close(t), "cancel": c.cancel(t),
		"commit": c.commit(t), "again": c.commitAgain(t), "uncommitted": c.uncommitted(t),
		"several": c.severalPrepared(t), "rescale": c.rescale(t), "nothing": c.prepareNothing(t),
	}
}

// TestRule18_SinkSuiteFindsFaults runs the checks of the two phases on sinks
// that break one rule each.
func TestRule18_SinkSuiteFindsFaults(t *testing.T) {
	for check, err := range commitChecks(t, commitFaults{}) {
		if err != nil {
			t.Errorf("a good sink fails %s: %v", check, err)
		}
	}
	for _, c := range []struct {
		commitFaults
		check, want string
	}{
		{commitFaults{showsAtWrite: true}, "commit", "before the commit of record 11: 12 records, want 0"},
		{commitFaults{showsAtPrepare: true}, "commit", "after Prepare(1) without Commit"},
		{commitFaults{showsAtClose: true}, "uncommitted", "after Close without Commit"},
		{commitFaults{commitsTwice: true}, "again", "after start 3"},
		{commitFaults{forgetsBuffer: true}, "commit", "after Commit of checkpoint 1: 11 records, want 12"},
		{commitFaults{lastOnly: true}, "several", "three at once: after Commit of checkpoint 3: 12 records, want 36"},
		{commitFaults{keepsRemainder: true}, "uncommitted", "extra: record"},
		{commitFaults{onlyItsOwn: true}, "rescale", "missing: record"},
		{commitFaults{needsProcess: true}, "again", "after start 2: 0 records, want 12"},
		{commitFaults{refusesRestart: true}, "again", "not empty"},
		{commitFaults{emptiesAtStart: true}, "again", "missing: record 0"},
		{commitFaults{needsRecords: true}, "nothing", "nothing to prepare"},
		{commitFaults{oneCommitter: true}, "commit", "subtask 1 is no Committer"},
	} {
		err := commitChecks(t, c.commitFaults)[c.check]
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: check %s says %v, want %q", c.commitFaults, c.check, err, c.want)
		}
	}
	plain := SinkCase[string]{New: func(testing.TB) (pipeline.Sink[string], func() []string) {
		return &badSink{}, func() []string { return nil }
	}}
	if err := plain.commit(t); !errors.Is(err, errSkipped) {
		t.Errorf("a sink without Commit: got %v, want that the check is skipped", err)
	}
}

// TestRule18_EarlySinks shows that a sink may be early where it says so, if it
// takes back what was not committed.
func TestRule18_EarlySinks(t *testing.T) {
	for _, c := range []struct {
		takesBack bool
		want      string
	}{{true, ""}, {false, "extra: record"}} {
		suite := SinkCase[string]{Value: func(i int) string { return fmt.Sprint("record ", i) }, Early: true}
		suite.New = func(testing.TB) (pipeline.Sink[string], func() []string) {
			s := &earlySink{takesBack: c.takesBack}
			return s, func() []string { return s.visible }
		}
		err := errors.Join(suite.commit(t), suite.commitAgain(t), suite.uncommitted(t), suite.severalPrepared(t), suite.rescale(t))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("takes back %v: got %v, want %q", c.takesBack, err, c.want)
		}
	}
}

// earlySink shows all at once, and goes back to what was prepared.
type earlySink struct {
	takesBack bool
	visible   []string
}

type earlyWriter struct{ s *earlySink }

func (s *earlySink) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[string], error) {
	if env.Subtask == 0 && s.takesBack {
		length := 0
		for _, p := range env.Prepared {
			n, _ := strconv.Atoi(string(p))
			length = max(length, n)
		}
		s.visible = s.visible[:length]
	}
	return earlyWriter{s}, nil
}

func (w earlyWriter) Write(_ context.Context, b *pipeline.Records[string]) error {
	w.s.visible = append(w.s.visible, b.Values...)
	return nil
}

func (w earlyWriter) Prepare(context.Context, int64) ([]byte, error) {
	return strconv.AppendInt(nil, int64(len(w.s.visible)), 10), nil
}

func (earlyWriter) Commit(context.Context, []byte) error { return nil }
