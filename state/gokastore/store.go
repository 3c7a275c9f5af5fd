package gokastore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/lovoo/goka/storage"
)

// ErrClosed is returned by the methods of a storage that is closed, and by Err of
// its iterators.
var ErrClosed = errors.New("storage is closed")

// errNil refuses a value that would be a deletion in the topic.
var errNil = errors.New("value is nil, which is a deletion in the topic: use Delete")

// store is the storage of one partition.
//
// It opens when it is made, like goka's own. goka writes from one goroutine and
// sets offsets from that or another, and anybody reads.
//
//	Set, Delete → pending ── SetOffset, once recovered ──→ one batch → Pebble
//	                      ── more than pendingLimit ─────→
//	                      ── Iterator, MarkRecovered ────→
//
// The offset goes with whatever is written after it was set, and was set after
// all that it covers, so Pebble has all of an offset's records. During a recovery
// goka sets it after every record, and to write each time would cost more than
// all else.
type store struct {
	db      *pebble.DB
	logs    *logs
	logged  bool   // Pebble writes a log
	release func() // gives back what is shared

	mu        sync.RWMutex
	pending   map[string][]byte      // not in Pebble yet, nil for deleted keys; guarded by mu
	size      int                    // of pending in bytes, about; guarded by mu
	offset    int64                  // guarded by mu
	hasOffset bool                   // guarded by mu
	moved     bool                   // offset is not in Pebble yet; guarded by mu
	recovered bool                   // guarded by mu
	closed    bool                   // guarded by mu
	broken    error                  // why nothing can be written any more; guarded by mu
	iterators map[*iterator]struct{} // that are open; guarded by mu
}

// pendingLimit is how many bytes are held back at most. A batch of this size is
// well below what Pebble puts into a table in memory.
const pendingLimit = 1 << 20

// pendingOverhead is about what an entry takes beyond key and value.
const pendingOverhead = 64

// Keys of Pebble begin with what they are.
const (
	metaPrefix = 0x00
	dataPrefix = 0x01
)

var offsetKey = []byte{metaPrefix, 'o', 'f', 'f', 's', 'e', 't'}

func newStore(db *pebble.DB, l *logs, logged bool, release func()) (*store, error) {
	s := &store{
		db: db, logs: l, logged: logged, release: release,
		pending: map[string][]byte{}, iterators: map[*iterator]struct{}{},
	}
	stored, err := s.read(offsetKey)
	if err != nil {
		return nil, fmt.Errorf("read offset: %w", err)
	}
	if stored == nil {
		return s, nil
	}
	if len(stored) != 8 {
		return nil, fmt.Errorf("read offset: %d bytes, want 8: %x", len(stored), stored)
	}
	s.offset, s.hasOffset = int64(binary.BigEndian.Uint64(stored)), true
	return s, nil
}

// Open implements [storage.Storage]. The builder has opened the store.
func (s *store) Open() error { return nil }

// read returns a copy of what Pebble has, nil for nothing.
func (s *store) read(key []byte) ([]byte, error) {
	val, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, val...), closer.Close()
}

// Has implements [storage.Storage].
func (s *store) Has(key string) (bool, error) {
	val, err := s.Get(key)
	return val != nil, err
}

// Get implements [storage.Storage].
func (s *store) Get(key string) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	val, err := s.get(key)
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", key, err)
	}
	return val, nil
}

func (s *store) get(key string) ([]byte, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if val, ok := s.pending[key]; ok {
		if val == nil {
			return nil, nil
		}
		return append([]byte{}, val...), nil
	}
	return s.read(dataKey(nil, key))
}

func dataKey[K string | []byte](buf []byte, key K) []byte {
	return append(append(buf, dataPrefix), key...)
}

// Set implements [storage.Storage].
func (s *store) Set(key string, value []byte) error {
	err := errNil
	if value != nil {
		err = s.put(key, append([]byte{}, value...))
	}
	if err != nil {
		return fmt.Errorf("set %q: %w", key, err)
	}
	return nil
}

// Delete implements [storage.Storage].
func (s *store) Delete(key string) error {
	if err := s.put(key, nil); err != nil {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	return nil
}

func (s *store) put(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	// Before the new entry and not after it, so that it stays with its offset.
	if s.size >= pendingLimit {
		if err := s.write(); err != nil {
			return err
		}
	}
	s.pending[key] = value
	s.size += len(key) + len(value) + pendingOverhead
	return nil
}

// GetOffset implements [storage.Storage].
func (s *store) GetOffset(def int64) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return 0, fmt.Errorf("get offset: %w", ErrClosed)
	case !s.hasOffset:
		return def, nil
	}
	return s.offset, nil
}

// SetOffset implements [storage.Storage].
func (s *store) SetOffset(offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("set offset %d: %w", offset, ErrClosed)
	}
	s.offset, s.hasOffset, s.moved = offset, true, true
	if !s.recovered {
		return nil
	}
	if err := s.write(); err != nil {
		return fmt.Errorf("set offset %d: %w", offset, err)
	}
	return nil
}

// MarkRecovered implements [storage.Storage]. When it returns, the next start
// need not recover what this one has, even if the machine fails.
func (s *store) MarkRecovered() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("mark as recovered: %w", ErrClosed)
	}
	s.recovered = true
	if err := s.secure(); err != nil {
		return fmt.Errorf("mark as recovered: %w", err)
	}
	return nil
}

// write hands to Pebble what is pending, in one batch. Where that fails, it stays
// pending. s.mu is held.
func (s *store) write() error {
	if len(s.pending) == 0 && !s.moved {
		return nil
	}
	b := s.db.NewBatchWithSize(s.size + pendingOverhead)
	err := s.fill(b)
	if err == nil {
		err = s.guard(func() error { return b.Commit(pebble.NoSync) })
	}
	if err != nil {
		return err // Pebble may still hold the batch
	}
	clear(s.pending)
	s.size, s.moved = 0, false
	return b.Close()
}

func (s *store) fill(b *pebble.Batch) error {
	var buf []byte
	for key, value := range s.pending {
		buf = dataKey(buf[:0], key)
		var err error
		if value == nil {
			err = b.Delete(buf, nil)
		} else {
			err = b.Set(buf, value, nil)
		}
		if err != nil {
			return err
		}
	}
	if !s.moved {
		return nil
	}
	return b.Set(offsetKey, binary.BigEndian.AppendUint64(nil, uint64(s.offset)), nil)
}

// secure puts everything on disk. s.mu is held.
func (s *store) secure() error {
	if err := s.write(); err != nil {
		return err
	}
	if !s.logged {
		return s.guard(s.db.Flush)
	}
	// It syncs all of the log before it, too.
	return s.guard(func() error { return s.db.LogData(nil, pebble.Sync) })
}

// guard calls Pebble to write. When logs can't be written, on a full disk, nothing
// is any more, and goka hears of it by an error, as it would from LevelDB. s.mu is
// held.
func (s *store) guard(write func() error) error {
	err := cmp.Or(s.broken, s.logs.failure())
	if err == nil {
		err = cmp.Or(s.caught(write), s.logs.failure())
	}
	if err != nil && (s.broken != nil || s.logs.failure() != nil) {
		return fmt.Errorf("storage is broken until it is opened again: %w", err)
	}
	return err
}

// caught makes an error of a panic, which is how Pebble says that it can't go on.
// The database may be locked for good after it, and is not even closed any more.
func (s *store) caught(do func() error) (err error) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		cause, ok := r.(error)
		if !ok {
			cause = fmt.Errorf("%v", r)
		}
		s.broken, err = cause, cause
	}()
	return do()
}

// Close implements [storage.Storage]. Iterators that are still open end.
func (s *store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	err := s.secure()
	s.closed = true
	for it := range s.iterators {
		err = errors.Join(err, it.end(ErrClosed))
	}
	clear(s.iterators)
	if s.broken == nil {
		err = errors.Join(err, s.caught(s.db.Close))
	}
	s.release()
	if err != nil {
		return fmt.Errorf("close storage: %w", err)
	}
	return nil
}

// Iterator implements [storage.Storage].
func (s *store) Iterator() (storage.Iterator, error) {
	return s.iterate([]byte{dataPrefix}, []byte{dataPrefix + 1})
}

// IteratorWithRange implements [storage.Storage].
func (s *store) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	lower := dataKey(nil, start)
	if len(limit) == 0 {
		return s.iterate(lower, after(lower))
	}
	upper := dataKey(nil, limit)
	if string(upper) < string(lower) {
		upper = lower
	}
	return s.iterate(lower, upper)
}

// after returns the least key that is greater than all that begin with prefix,
// which is one of data.
func after(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; ; i-- { // dataPrefix is not 0xff
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

func (s *store) iterate(lower, upper []byte) (storage.Iterator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, err := s.newIterator(lower, upper)
	if err != nil {
		return nil, fmt.Errorf("iterate: %w", err)
	}
	return it, nil
}

func (s *store) newIterator(lower, upper []byte) (*iterator, error) {
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.write(); err != nil {
		return nil, err
	}
	rows, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	it := &iterator{store: s, rows: rows, key: make([]byte, 0, 64), value: make([]byte, 0, 64)}
	s.iterators[it] = struct{}{}
	return it, nil
}

// forget takes an iterator off the list of those to be closed with the store.
func (s *store) forget(it *iterator) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.iterators, it)
}
