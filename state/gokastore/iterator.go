package gokastore

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// iterator shows a store as it was when the iterator was made.
//
// Pebble's own must be closed before the store is, and what it returns lies in
// memory that is reused then, without the garbage collector's knowledge. A view
// that stops does not wait for whoever is iterating over it. So the store ends
// the iterators it has made, and they return copies.
//
// Lock order: store.mu, then mu.
type iterator struct {
	store *store

	mu     sync.Mutex
	rows   *pebble.Iterator // nil once it has ended; guarded by mu
	placed bool             // rows was positioned; guarded by mu
	valid  bool             // rows stands on a pair; guarded by mu
	err    error            // why it ended before its time; guarded by mu
	key    []byte           // guarded by mu while it is filled; read by the one who iterates
	value  []byte           // likewise
}

// Next implements [storage.Iterator].
func (i *iterator) Next() bool {
	return i.move(func() bool {
		if !i.placed {
			return i.rows.First()
		}
		return i.valid && i.rows.Next()
	})
}

// Seek implements [storage.Iterator]. It stands on the pair it found, as it does
// in LevelDB, whose iterators goka's views merge: Key and Value are those of the
// first pair, and Next goes to the second.
func (i *iterator) Seek(key []byte) bool {
	return i.move(func() bool { return i.rows.SeekGE(dataKey(nil, key)) })
}

func (i *iterator) move(to func() bool) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.rows == nil {
		return false
	}
	i.valid = to()
	i.placed = true
	if !i.valid {
		i.err = i.rows.Error()
	}
	return i.valid
}

// Err implements [storage.Iterator].
func (i *iterator) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

// Key implements [storage.Iterator]. It is nil where there is no pair.
func (i *iterator) Key() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.valid {
		return nil
	}
	i.key = append(i.key[:0], i.rows.Key()[1:]...)
	return i.key
}

// Value implements [storage.Iterator]. It is nil where there is no pair.
func (i *iterator) Value() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.valid {
		return nil, i.err
	}
	value, err := i.rows.ValueAndErr()
	if err != nil {
		return nil, err
	}
	i.value = append(i.value[:0], value...)
	return i.value, nil
}

// Release implements [storage.Iterator].
func (i *iterator) Release() {
	_ = i.end(nil) // what went wrong was in Err before
	// Not earlier, or Close would not wait for it.
	i.store.forget(i)
}

// end closes the iterator, for a reason or, when it is released, for none.
func (i *iterator) end(reason error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.rows == nil {
		return nil
	}
	rows := i.rows
	i.rows, i.valid, i.err = nil, false, reason
	return rows.Close()
}
