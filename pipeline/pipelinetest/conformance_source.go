package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// SourceCase is a source under test by [TestSource].
type SourceCase[T any] struct {
	// New returns the source, set up to yield Want. It is called for every job
	// that the suite plays, and must describe the same splits every time.
	New func(t testing.TB) pipeline.Source[T]
	// Want are all records of the source, in any order.
	Want []T
	// Rejected is how many dead letters come with them.
	Rejected int
	// Endless says that the source does not end after these records.
	Endless bool
	// BatchSize is what the readers are asked for. Default 3: small, so that a
	// few records are many batches.
	BatchSize int
}

// TestSource checks that a source keeps the contracts of [pipeline.Source],
// [pipeline.Reader] and [pipeline.Pauser]: at parallelism 1 to 4 every record
// comes exactly once; splits are announced in time; positions resume exactly
// behind the last batch, at another parallelism too; Read returns when its
// context ends; a paused split stays silent; values outlive the batch that
// brought them; Close may come at any time.
func TestSource[T any](t *testing.T, c SourceCase[T]) {
	t.Helper()
	for parallelism := 1; parallelism <= 4; parallelism++ {
		t.Run(fmt.Sprintf("every record once/par=%d", parallelism), func(t *testing.T) {
			report(t, c.everyRecordOnce(t, parallelism))
		})
	}
	t.Run("resume", func(t *testing.T) { report(t, c.resume(t)) })
	t.Run("cancel", func(t *testing.T) { report(t, c.cancel(t)) })
	t.Run("pause", func(t *testing.T) { report(t, c.pause(t)) })
	t.Run("close", func(t *testing.T) { report(t, c.close(t)) })
}

func report(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, errSkipped) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}

var errSkipped = errors.New("skipped")

// prompt is how long a call may take that has nothing to wait for.
const prompt = 10 * time.Second

// silence is how long a reader is listened to that should say nothing.
const silence = 30 * time.Millisecond

// run is a set of readers that the suite reads in turns, as the engine would,
// and what they have said.
type run[T any] struct {
	readers  []pipeline.Reader[T]
	ended    []bool
	batch    pipeline.SourceBatch[T]
	size     int
	owner    map[string]int // the subtask of each split
	finished map[string]bool
	values   map[string][]T
	at       map[string][]byte // the position of each split, as the reader gave it
	given    []given           // all positions
	count    int
	rejected int
}

// given is a position as a reader gave it, and a copy from then.
type given struct {
	split    string
	position []byte
	copied   string
}

func (c SourceCase[T]) open(t testing.TB, parallelism int, positions map[string][]byte) (*run[T], error) {
	r := &run[T]{
		owner: map[string]int{}, finished: map[string]bool{}, values: map[string][]T{},
		at: map[string][]byte{}, size: c.BatchSize, ended: make([]bool, parallelism),
	}
	if r.size == 0 {
		r.size = 3
	}
	r.batch.Reset()
	src := c.New(t)
	for i := range parallelism {
		reader, err := src.Open(t.Context(), &pipeline.SourceEnv{
			Operator: "source", Subtask: i, Parallelism: parallelism, BatchSize: r.size,
			Positions: positions, Logger: discardLogs, Metrics: &pipeline.Metrics{},
		})
		if err != nil {
			return r, errors.Join(fmt.Errorf("open subtask %d of %d: %w", i, parallelism, err), r.close())
		}
		r.readers = append(r.readers, reader)
	}
	return r, nil
}

func (r *run[T]) close() error {
	var errs []error
	for i, reader := range r.readers {
		if c, ok := reader.(pipeline.Closer); ok {
			if err := c.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close subtask %d: %w", i, err))
			}
		}
	}
	for _, g := range r.given {
		if string(g.position) != g.copied {
			errs = append(errs, fmt.Errorf("split %q: the position %q became %q: the engine keeps the slice", g.split, g.copied, g.position))
		}
	}
	return errors.Join(errs...)
}

// read lets subtask i read a batch, and checks what it says. The batch's
// memory is used again each time, so that a reader that keeps it shows.
func (r *run[T]) read(ctx context.Context, i int) error {
	err, returned := within(prompt, ctx, func(ctx context.Context) error {
		return r.readers[i].Read(ctx, &r.batch)
	})
	if !returned {
		return fmt.Errorf("subtask %d: Read did not return within %v of its context's end", i, prompt)
	}
	if terr := r.take(i); terr != nil {
		return terr
	}
	if errors.Is(err, pipeline.ErrEndOfInput) {
		r.ended[i] = true
		return nil
	}
	return err
}

// within calls f, and says whether it returned at most d after ctx ended.
func within(d time.Duration, ctx context.Context, f func(context.Context) error) (error, bool) {
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err, true
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err, true
	case <-time.After(d):
		return nil, false
	}
}

// take checks the batch and takes its content over.
func (r *run[T]) take(i int) error {
	b := &r.batch
	defer b.Reset()
	added, _, finished := b.News()
	for _, split := range added {
		if other, ok := r.owner[split]; ok && other != i {
			return fmt.Errorf("split %q is announced by subtask %d and by %d", split, other, i)
		}
		r.owner[split] = i
		delete(r.finished, split)
	}
	n := len(b.Values)
	switch {
	case n > r.size:
		return fmt.Errorf("%d records in a batch, BatchSize is %d", n, r.size)
	case len(b.Times) != 0 && len(b.Times) != n:
		return fmt.Errorf("%d event times for %d records", len(b.Times), n)
	case n > 0 && b.Split == "":
		return errors.New("records without a split")
	}
	if owner, ok := r.owner[b.Split]; b.Split != "" && (!ok || owner != i) {
		return fmt.Errorf("subtask %d: split %q was not announced before its batch", i, b.Split)
	}
	if r.finished[b.Split] && n > 0 {
		return fmt.Errorf("split %q has records after it was finished", b.Split)
	}
	if n > 0 && b.Position == nil {
		return fmt.Errorf("split %q: records without a position", b.Split)
	}
	r.values[b.Split] = append(r.values[b.Split], b.Values...)
	r.count += n
	r.rejected += len(b.Rejected)
	for _, d := range b.Rejected {
		if d.Error == "" || d.Split == "" {
			return fmt.Errorf("dead letter without an error or a split: %+v", d)
		}
	}
	if b.Position != nil {
		r.at[b.Split] = b.Position
		r.given = append(r.given, given{b.Split, b.Position, string(b.Position)})
	}
	for _, split := range finished {
		if _, ok := r.owner[split]; !ok {
			return fmt.Errorf("split %q is finished but was never announced", split)
		}
		r.finished[split] = true
	}
	return nil
}

// toEnd reads until all subtasks have ended, or until there are want records
// of an endless source.
func (r *run[T]) toEnd(ctx context.Context, endless bool, want, rejected int) error {
	ctx, cancel := context.WithTimeout(ctx, prompt)
	defer cancel()
	for {
		idle := true
		for i := range r.readers {
			if r.ended[i] {
				continue
			}
			idle = false
			turn, next := ctx, context.CancelFunc(func() {})
			if endless { // this subtask may have nothing while another has
				turn, next = context.WithTimeout(ctx, silence)
			}
			err := r.read(turn, i)
			next()
			if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
				return fmt.Errorf("after %d records of %d: %w", r.count, want, err)
			}
		}
		if idle || (endless && r.count >= want && r.rejected >= rejected) {
			return nil
		}
	}
}

func (c SourceCase[T]) everyRecordOnce(t testing.TB, parallelism int) error {
	r, err := c.open(t, parallelism, nil)
	if err != nil {
		return err
	}
	if err := r.toEnd(t.Context(), c.Endless, len(c.Want), c.Rejected); err != nil {
		return errors.Join(err, r.close())
	}
	if !c.Endless {
		for split := range r.owner {
			if !r.finished[split] {
				return errors.Join(fmt.Errorf("split %q is not finished at the end of input", split), r.close())
			}
		}
	}
	if err := r.close(); err != nil {
		return err
	}
	if r.rejected != c.Rejected {
		return fmt.Errorf("%d records rejected, want %d", r.rejected, c.Rejected)
	}
	return sameSet(all(r.values), c.Want)
}

// resume stops after every number of batches, up to a few dozen, and reads the
// rest from the positions.
func (c SourceCase[T]) resume(t testing.TB) error {
	straight, err := c.open(t, 1, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(straight.toEnd(t.Context(), c.Endless, len(c.Want), c.Rejected), straight.close()); err != nil {
		return err
	}
	batches := len(c.Want) + 2
	step := max(1, batches/40)
	for stop := 0; stop <= batches; stop += step {
		if err := c.resumeAfter(t, stop, 1+stop%3, straight); err != nil {
			return fmt.Errorf("stopped after %d batches: %w", stop, err)
		}
	}
	return nil
}

func (c SourceCase[T]) resumeAfter(t testing.TB, stop, parallelism int, straight *run[T]) error {
	first, err := c.open(t, 1, nil)
	if err != nil {
		return err
	}
	for range stop {
		if first.ended[0] || (c.Endless && first.count >= len(c.Want)) {
			break
		}
		ctx, cancel := context.WithTimeout(t.Context(), prompt)
		err := first.read(ctx, 0)
		cancel()
		if err != nil {
			return errors.Join(err, first.close())
		}
	}
	if err := first.close(); err != nil {
		return err
	}
	rest, err := c.open(t, parallelism, first.at)
	if err != nil {
		return err
	}
	err = rest.toEnd(t.Context(), c.Endless, len(c.Want)-first.count, c.Rejected-first.rejected)
	if err := errors.Join(err, rest.close()); err != nil {
		return err
	}
	for split, want := range straight.values {
		got := append(slices.Clone(first.values[split]), rest.values[split]...)
		if err := sameList(got, want); err != nil {
			return fmt.Errorf("split %q: %d records before, %d from position %q at parallelism %d: %w",
				split, len(first.values[split]), len(rest.values[split]), first.at[split], parallelism, err)
		}
	}
	if n := first.rejected + rest.rejected; n != c.Rejected {
		return fmt.Errorf("%d records rejected before and %d after, want %d", first.rejected, rest.rejected, c.Rejected)
	}
	return nil
}

func (c SourceCase[T]) cancel(t testing.TB) error {
	r, err := c.open(t, 1, nil)
	if err != nil {
		return err
	}
	defer r.close() //nolint:errcheck // the subject is Read
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.read(ctx, 0); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("Read with a cancelled context: %w, want nil or context.Canceled", err)
	}
	if !c.Endless {
		return nil
	}
	if err := r.toEnd(t.Context(), true, len(c.Want), c.Rejected); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(t.Context(), silence)
	defer cancel()
	for err == nil { // it may still have news of splits
		err = r.read(ctx, 0)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("Read whose context ended while it waited: %w, want the context's error", err)
	}
	return nil
}

func (c SourceCase[T]) pause(t testing.TB) error {
	r, err := c.open(t, 1, nil)
	if err != nil {
		return err
	}
	defer r.close() //nolint:errcheck // the subject is pausing
	pauser, ok := r.readers[0].(pipeline.Pauser)
	if !ok {
		return fmt.Errorf("%w: the reader is no Pauser", errSkipped)
	}
	if err := r.read(t.Context(), 0); err != nil {
		return err
	}
	var live []string
	for split := range r.owner {
		if !r.finished[split] {
			live = append(live, split)
		}
	}
	slices.Sort(live)
	if len(live) == 0 {
		return fmt.Errorf("%w: no split is left after the first batch", errSkipped)
	}
	for _, split := range live {
		pauser.Pause(split)
	}
	before := r.count
	if err := r.listen(t.Context()); err != nil || r.count != before {
		return fmt.Errorf("with all splits paused: %d records came (error %w)", r.count-before, err)
	}
	// One goes on, until it ends or has nothing more.
	chosen := live[len(live)-1]
	others := r.count - len(r.values[chosen])
	pauser.Resume(chosen)
	for !r.finished[chosen] {
		was := r.count
		if err := r.listen(t.Context()); err != nil {
			return err
		}
		if r.count == was && !r.finished[chosen] {
			if c.Endless {
				break
			}
			return fmt.Errorf("split %q was resumed and brings nothing", chosen)
		}
	}
	if n := r.count - len(r.values[chosen]); n != others {
		return fmt.Errorf("%d records came from paused splits while %q was read", n-others, chosen)
	}
	// A reader that waits is woken.
	woken := time.AfterFunc(silence/2, func() {
		for _, split := range live {
			pauser.Resume(split)
		}
	})
	defer woken.Stop()
	if err := r.toEnd(t.Context(), c.Endless, len(c.Want), c.Rejected); err != nil {
		return err
	}
	return sameSet(all(r.values), c.Want)
}

// listen reads once, for a short time.
func (r *run[T]) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	for ctx.Err() == nil && !r.ended[0] {
		was, done := r.count, len(r.finished)
		if err := r.read(ctx, 0); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		}
		if r.count > was || len(r.finished) > done {
			return nil
		}
	}
	return nil
}

func (c SourceCase[T]) close(t testing.TB) error {
	for _, batches := range []int{0, 1, 2} {
		r, err := c.open(t, 1, nil)
		if err != nil {
			return err
		}
		for range batches {
			if !r.ended[0] {
				if err := r.read(t.Context(), 0); err != nil {
					return err
				}
			}
		}
		if err := r.close(); err != nil {
			return fmt.Errorf("after %d batches: %w", batches, err)
		}
		var perr error
		func() {
			defer pipeline.CatchPanic(&perr)
			r.close() //nolint:errcheck // a second Close may complain
		}()
		if perr != nil {
			return fmt.Errorf("second Close: %w", perr)
		}
	}
	return nil
}

func all[T any](bySplit map[string][]T) []T {
	var values []T
	for _, split := range slices.Sorted(maps.Keys(bySplit)) {
		values = append(values, bySplit[split]...)
	}
	return values
}

// sameSet compares records without order, by how they print.
func sameSet[T any](got, want []T) error {
	counts := map[string]int{}
	for _, v := range want {
		counts[printed(v)]++
	}
	for _, v := range got {
		counts[printed(v)]--
	}
	var missing, extra []string
	for text, n := range counts {
		for ; n > 0; n-- {
			missing = append(missing, text)
		}
		for ; n < 0; n++ {
			extra = append(extra, text)
		}
	}
	if len(missing)+len(extra) == 0 {
		return nil
	}
	slices.Sort(missing)
	slices.Sort(extra)
	return fmt.Errorf("%d records, want %d\nmissing: %s\nextra: %s", len(got), len(want), some(missing), some(extra))
}

func sameList[T any](got, want []T) error {
	for i := range min(len(got), len(want)) {
		if g, w := printed(got[i]), printed(want[i]); g != w {
			return fmt.Errorf("record %d is %s, want %s", i, g, w)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	return nil
}

func printed(v any) string { return fmt.Sprintf("%+v", v) }

func some(texts []string) string {
	const shown = 5
	if len(texts) > shown {
		return strings.Join(texts[:shown], ", ") + fmt.Sprintf(" and %d more", len(texts)-shown)
	}
	return strings.Join(texts, ", ")
}
