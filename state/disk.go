package state

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the Pebble store behind one backend. Its content is disposable: what
// matters is in snapshots, so nothing is logged, and memory tables that were
// not flushed when the process ends are no loss.
type disk struct {
	db      *pebble.DB
	fs      vfs.FS
	dir     string
	version uint64 // counts writes
	reads   atomic.Int64

	// linked is closed when the snapshot under way has got its files. Writes
	// wait for it, since what they write might reach a file that the snapshot
	// then takes for its own.
	linked  chan struct{}
	linking atomic.Bool

	// failing is the error of the last flush, if it was one. Pebble tries again
	// until it can, so it is for the snapshot, and for a write that would have to
	// wait, to give up.
	failing atomic.Pointer[error]
	failed  chan struct{}         // has an element when failing has changed
	broken  atomic.Pointer[error] // nothing can be written any more

	done       sync.WaitGroup // compactions
	compacting atomic.Bool
	ctx        context.Context // of them
	stop       context.CancelFunc
}

// options are those of a store whose writes come in sorted batches and whose
// reads are point look-ups of keys that memory does not hold.
func (s *Storage) options() *pebble.Options {
	o := &pebble.Options{
		FS:                          s.fs,
		Cache:                       s.cache,
		FileCache:                   s.files,
		DisableWAL:                  true,
		Logger:                      pebbleLogger{s: s},
		LBaseMaxBytes:               64 << 20,
		MemTableSize:                s.memTable,
		MemTableStopWritesThreshold: memTables,
		// A flush adds a level-0 file that overlaps all others, since hashes
		// scatter what changes over all keys. Merging four of them into a base that
		// is a hundred times larger, as the defaults do, would write everything anew
		// with every fourth checkpoint; see compactIfDue.
		L0CompactionThreshold:      2 * maxSublevels,
		L0CompactionFileThreshold:  4 * maxSublevels,
		L0StopWritesThreshold:      8 * maxSublevels,
		FormatMajorVersion:         pebble.FormatNewest,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 2 << 10 // a look-up wants some 40 bytes of it
		o.Levels[i].IndexBlockSize = 64 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.Experimental.L0CompactionConcurrency = 1 << 20
	o.Experimental.ReadSamplingMultiplier = -1 // what is read often is in memory
	o.EnsureDefaults()
	return o
}

// memTables is how many of Pebble's tables in memory there may be.
const memTables = 4

// maxSublevels is how many overlapping files level 0 may have.
const maxSublevels = 48

// pebbleLogger passes on what is worth a line.
type pebbleLogger struct {
	s *Storage
	d *disk // nil: not that of a backend
}

func (l pebbleLogger) Infof(string, ...any) {}
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error("state storage: " + fmt.Sprintf(format, args...))
}

// Fatalf is Pebble's way to say that it can't go on. Its contract is not to
// return. In a call of the backend the engine catches the panic and stops the
// job; on one of Pebble's own goroutines it ends the process, which loses nothing
// that was committed.
//
// A manifest that can't be written, on a full disk, comes this way too, and there
// we do return. Pebble then hands the error on, and calls it fatal because nobody
// knows what the manifest holds; since the disk is disposable, it is enough that
// nothing is written to it, and no snapshot taken of it, from then on.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if l.d != nil && manifestFailed(err) {
		l.d.broken.CompareAndSwap(nil, &err)
		return
	}
	panic(&StorageError{"", err})
}

// manifestFailed tells an error of the file system from an invariant of Pebble's
// about its manifest.
func manifestFailed(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "MANIFEST ") && strings.Contains(text, " failed: ")
}

func (s *Storage) openDisk(dir string) (*disk, error) {
	d := &disk{fs: s.fs, dir: dir, failed: make(chan struct{}, 1)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	o := s.options()
	o.FS = &retrying{s.fs, d}
	o.Logger = pebbleLogger{s, d}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) { d.backgroundError(s.log, err) },
		FlushEnd: func(i pebble.FlushInfo) {
			// Memory tables without anything in them give an error, which is none.
			if i.Err == nil || i.Err.Error() == "pebble: empty table" {
				d.recovered()
			}
		},
	}
	var err error
	if d.db, err = pebble.Open(dir, o); err != nil {
		d.stop()
		return nil, fmt.Errorf("open state storage %q: %w", dir, err)
	}
	return d, nil
}

// retrying is a file system on which Pebble makes its tables. A flush that failed
// is begun again at once, and for ever: without a pause it would take a core, and
// keep Pebble's own locks from everybody else.
type retrying struct {
	vfs.FS
	d *disk
}

// retryPause is the least time between two tries to make a table.
const retryPause = 10 * time.Millisecond

// Create implements [vfs.FS].
func (r *retrying) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if Immutable(name) && r.d.failing.Load() != nil {
		time.Sleep(retryPause)
		if err := r.d.broken.Load(); err != nil {
			return nil, *err
		}
	}
	return r.FS.Create(name, category)
}

// Unwrap returns the file system behind.
func (r *retrying) Unwrap() vfs.FS { return r.FS }

func (d *disk) backgroundError(log *slog.Logger, err error) {
	if d.failing.Swap(&err) == nil { // Pebble tries again, at once
		log.Error("state storage", "dir", d.dir, "error", err)
	}
	d.tell()
}

// recovered notes a flush that went well.
func (d *disk) recovered() {
	if d.failing.Swap(nil) != nil {
		d.tell()
	}
}

// tell wakes who waits for a flush.
func (d *disk) tell() {
	select {
	case d.failed <- struct{}{}:
	default:
	}
}

// get returns a value until its closer is closed; no closer is no value.
func (d *disk) get(key []byte) ([]byte, io.Closer, error) {
	d.reads.Add(1)
	val, closer, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	return val, closer, nil
}

// lookups returns an iterator for SeekPrefixGE by whole keys, of what was written
// so far. The filters of the lowest level, of which most of the disk consists, only
// help where keys are absent; Pebble's own Get never asks them.
func (d *disk) lookups(absent bool) (*pebble.Iterator, error) {
	it, err := d.db.NewIter(&pebble.IterOptions{UseL6Filters: absent})
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return it, nil
}

// scan calls f for every key with the prefix, in order, until f returns false.
func (d *disk) scan(prefix []byte, f func(key, val []byte) (bool, error)) error {
	return scan(d.db, prefix, after(prefix), f)
}

// after returns the first key behind those with the prefix.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func scan(db *pebble.DB, lower, upper []byte, f func(key, val []byte) (bool, error)) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	goOn := true
	for ok := it.First(); ok && goOn && err == nil; ok = it.Next() {
		var val []byte
		if val, err = it.ValueAndErr(); err == nil {
			goOn, err = f(it.Key(), val)
		}
	}
	return errors.Join(err, it.Close())
}

// write applies the writes, sorted: Pebble takes them five times as fast.
func (d *disk) write(w *writes) error {
	if w.empty() {
		return nil
	}
	if d.linking.Load() {
		<-d.linked
	}
	if err := d.full(); err != nil {
		return fmt.Errorf("write to %q: %w", d.dir, err)
	}
	d.version++
	batch := d.db.NewBatchWithSize(len(w.buf) + 16*len(w.recs) + 64)
	err := w.into(batch)
	if err == nil {
		err = d.db.Apply(batch, pebble.NoSync)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write: %w", err), batch.Close())
	}
	w.reset()
	return batch.Close()
}

// full returns why nothing more can be written: flushes fail, and what waits for
// one leaves no room. Pebble would let the caller wait for ever.
func (d *disk) full() error {
	if err := d.broken.Load(); err != nil {
		return *err
	}
	err := d.failing.Load()
	if err == nil || d.db.Metrics().MemTable.Count < memTables-1 {
		return nil
	}
	return *err
}

// beginSnapshot makes what was written so far a snapshot to be. It returns
// quickly; finish does the work, on another goroutine.
func (d *disk) beginSnapshot() (finish func(ctx context.Context, dir string) error) {
	if d.linking.Load() {
		<-d.linked
	}
	linked := make(chan struct{})
	d.linked = linked
	d.linking.Store(true)
	return func(ctx context.Context, dir string) error {
		defer close(linked)
		defer d.linking.Store(false)
		if err := d.flush(ctx); err != nil {
			return fmt.Errorf("flush %q: %w", d.dir, err)
		}
		if err := d.db.Checkpoint(dir); err != nil {
			return fmt.Errorf("snapshot of %q: %w", d.dir, err)
		}
		d.compactIfDue(false)
		return nil
	}
}

// flush brings what was written into files.
func (d *disk) flush(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-d.failed:
	default:
	}
	// Each flush that is asked for begins a memory table, of which there may be
	// few: while they can't be written, every failed checkpoint would leave one.
	if d.failing.Load() != nil && d.db.Metrics().MemTable.Count > 1 {
		if err := d.wait(ctx, nil); err != nil {
			return err
		}
	}
	flushed, err := d.db.AsyncFlush()
	if err != nil {
		return err
	}
	return d.wait(ctx, flushed)
}

// wait waits for a flush, or, without one, for those under way to succeed. When
// Pebble has failed twice it gives up: what failed first may have begun before
// the disk was repaired.
func (d *disk) wait(ctx context.Context, flushed <-chan struct{}) error {
	for failures := 0; ; {
		if err := d.broken.Load(); err != nil {
			return *err
		}
		select {
		case <-flushed:
			d.failing.Store(nil)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-d.failed:
			err := d.failing.Load()
			if err == nil && flushed == nil {
				return nil
			}
			if failures++; err != nil && failures > 1 {
				return *err
			}
		}
	}
}

// compactIfDue compacts in the background if level 0 costs too much: it must not
// outgrow what is below, and a look-up, when there are any, asks each of its
// sublevels.
func (d *disk) compactIfDue(reading bool) {
	if d.compacting.Load() {
		return
	}
	due := d.due(reading)
	if !due || !d.compacting.CompareAndSwap(false, true) {
		return
	}
	d.done.Go(func() {
		defer d.compacting.Store(false)
		// What fails is tried again, and told of, by way of BackgroundError.
		_ = d.db.Compact(d.ctx, []byte{0}, bytes.Repeat([]byte{0xff}, prefixLen+1), false)
	})
}

// DiskStats is what a backend's disk has done so far.
type DiskStats struct {
	// Size is how many bytes it takes.
	Size int64
	// Reads is how many keys were looked up on it, because memory did not have them.
	Reads int64
	// Written is how many bytes were ever written: tables, by flushes and by
	// compactions.
	Written int64
}

func (d *disk) stats() DiskStats {
	m := d.db.Metrics()
	s := DiskStats{Size: int64(m.DiskSpaceUsage()), Reads: d.reads.Load()}
	for _, l := range m.Levels {
		s.Written += int64(l.TableBytesFlushed + l.TableBytesCompacted)
	}
	return s
}

func (d *disk) due(reading bool) bool {
	m := d.db.Metrics()
	top, below := m.Levels[0], int64(0)
	for _, l := range m.Levels[1:] {
		below += l.TablesSize
	}
	if reading { // a compaction of all is paid by what it saves look-ups
		below /= 4
	}
	return top.Sublevels > maxSublevels || top.TablesSize >= max(below, smallDisk)
}

// smallDisk is a level 0 that is not worth a compaction for its size.
const smallDisk = 4 << 20

func (d *disk) close() error {
	if d.linking.Load() {
		<-d.linked
	}
	d.stop()
	d.done.Wait()
	return d.db.Close()
}

// writes collects sets and deletions, each of a key once.
type writes struct {
	buf    []byte
	recs   []written
	ranges [][2][]byte // deleted before anything is set
	keyAt  int
	valAt  int
}

// written is one key in buf, with its value behind.
type written struct {
	key, val, end int
	deleted       bool
}

// begin starts a record: its key is what is appended to buf next.
func (w *writes) begin() { w.keyAt = len(w.buf) }

// value ends the key: its value is what is appended to buf next.
func (w *writes) value() { w.valAt = len(w.buf) }

// set ends the record.
func (w *writes) set() {
	w.recs = append(w.recs, written{key: w.keyAt, val: w.valAt, end: len(w.buf)})
}

// delete ends a record that has a key only.
func (w *writes) delete() {
	w.recs = append(w.recs, written{key: w.keyAt, val: len(w.buf), end: len(w.buf), deleted: true})
}

func (w *writes) empty() bool { return len(w.recs)+len(w.ranges) == 0 }

func (w *writes) reset() {
	w.buf, w.recs, w.ranges = w.buf[:0], w.recs[:0], w.ranges[:0]
	if cap(w.buf) > maxKept {
		*w = writes{}
	}
}

// maxKept is how much memory is kept for the next writes.
const maxKept = 8 << 20

func (w *writes) sort() {
	slices.SortFunc(w.recs, func(a, b written) int {
		// One that is there twice is left of a flush that failed: the later counts.
		return cmp.Or(bytes.Compare(w.buf[a.key:a.val], w.buf[b.key:b.val]), a.key-b.key)
	})
}

func (w *writes) into(b *pebble.Batch) error {
	for _, r := range w.ranges {
		if err := b.DeleteRange(r[0], r[1], nil); err != nil {
			return err
		}
	}
	w.sort()
	for _, r := range w.recs {
		var err error
		if r.deleted {
			err = b.Delete(w.buf[r.key:r.val], nil)
		} else {
			err = b.Set(w.buf[r.key:r.val], w.buf[r.val:r.end], nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
