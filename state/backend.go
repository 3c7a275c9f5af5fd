package state

import (
	"errors"
	"fmt"
)

// Backend holds the keyed state of one operator subtask, and the key that
// state calls speak of. The engine makes it and sets the key; an operator
// declares its state on it while it opens.
type Backend[K comparable] struct {
	key  K
	hash uint64

	maxParallelism int
	owned          Range
	tables         []namedTable
	refused        error
	errs           []error
}

// namedTable is what a backend knows of a table without its types.
type namedTable struct {
	name     string
	len      func() int
	prefetch func(hashes []uint64) // nil where nothing is to be gained
}

// NewBackend returns an empty in-memory backend for the key groups in owned.
func NewBackend[K comparable](maxParallelism int, owned Range) *Backend[K] {
	return &Backend[K]{maxParallelism: maxParallelism, owned: owned}
}

// Refuse returns a backend on which every declaration fails with err. It
// stands where keyed state makes no sense, as on a stream without a key.
func Refuse[K comparable](err error) *Backend[K] {
	return &Backend[K]{maxParallelism: 1, refused: err}
}

// SetKey makes every following state call speak of key, whose hash must be
// that of [HasherFor].
func (b *Backend[K]) SetKey(key K, hash uint64) { b.key, b.hash = key, hash }

// Key returns the key that state calls speak of.
func (b *Backend[K]) Key() K { return b.key }

// Owned returns the key groups this backend holds.
func (b *Backend[K]) Owned() Range { return b.owned }

// Err returns what went wrong while state was declared: a name that is empty
// or taken, or state on a stream that has no key. The engine asks once, after
// the operator has opened, so an operator need not.
func (b *Backend[K]) Err() error { return errors.Join(b.errs...) }

// Len returns the number of entries in all tables.
func (b *Backend[K]) Len() int {
	n := 0
	for _, t := range b.tables {
		n += t.len()
	}
	return n
}

// Sizes calls f with the name of every declared state and its number of
// entries, in order of declaration.
func (b *Backend[K]) Sizes(f func(name string, entries int)) {
	for _, t := range b.tables {
		f(t.name, t.len())
	}
}

// Prefetch makes the look-ups of the keys of a batch cheaper, in every state
// that has grown large. It changes nothing. The engine calls it before it hands
// the records of a batch to an operator one by one.
func (b *Backend[K]) Prefetch(hashes []uint64) {
	for _, t := range b.tables {
		if t.prefetch != nil {
			t.prefetch(hashes)
		}
	}
}

func (b *Backend[K]) declare(name string, length func() int, prefetch func([]uint64)) {
	if err := b.checkName(name); err != nil {
		b.errs = append(b.errs, err)
	}
	b.tables = append(b.tables, namedTable{name, length, prefetch})
}

func (b *Backend[K]) checkName(name string) error {
	if b.refused != nil {
		return fmt.Errorf("state %q: %w", name, b.refused)
	}
	if name == "" {
		return errors.New("state name is empty")
	}
	for _, t := range b.tables {
		if t.name == name {
			return fmt.Errorf("state %q is declared twice", name)
		}
	}
	return nil
}

// Current returns the key that state calls speak of, with its hash.
func (b *Backend[K]) Current() (K, uint64) { return b.key, b.hash }
