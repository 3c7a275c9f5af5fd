package state

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultMemory is the memory budget of a [Storage], in bytes.
const DefaultMemory = 256 << 20

// StorageConfig says how the backends of a process keep state.
type StorageConfig struct {
	// Dir is where working state lives. It belongs to the storage alone, and its
	// content is worthless once the process has ended. Required unless InMemory.
	Dir string
	// FS is the file system of Dir. Default: that of the machine.
	FS vfs.FS
	// Memory is how many bytes of state all backends together keep in memory,
	// before they move what was not used lately to Dir. Memory that values refer
	// to is estimated by the size of their encoding. Default [DefaultMemory].
	Memory int64
	// InMemory keeps all state in memory, whatever its size. A snapshot then holds
	// everything, where otherwise it shares with the one before it whatever has
	// not changed.
	InMemory bool
	// Logger is told of errors that have no other way out. Default: slog.Default().
	Logger *slog.Logger
}

// Storage is what the backends of a process share: the memory budget and
// Pebble's caches. The engine makes one for each job.
type Storage struct {
	fs       vfs.FS
	dir      string
	budget   int64
	inMemory bool
	memTable uint64
	log      *slog.Logger
	cache    *pebble.Cache
	files    *pebble.FileCache

	used     atomic.Int64
	backends atomic.Int64
}

// NewStorage returns a storage. It touches nothing on disk until a backend is
// opened.
func NewStorage(cfg StorageConfig) (*Storage, error) {
	s := &Storage{
		fs: cfg.FS, dir: cfg.Dir, budget: cfg.Memory, inMemory: cfg.InMemory, log: cfg.Logger,
	}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	s.fs = unsynced{s.fs}
	if s.budget == 0 {
		s.budget = DefaultMemory
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	switch {
	case s.budget < 1<<20:
		return nil, fmt.Errorf("invalid state memory: %d bytes, must be at least 1 MiB", s.budget)
	case s.dir == "" && !s.inMemory:
		return nil, fmt.Errorf("invalid state storage: it has no directory")
	}
	// Pebble takes its memory tables from its cache, so they come on top of what
	// blocks are to have. It should hold the filters and indexes of all files at
	// least, without which a look-up costs several times as much; they take some
	// thirtieth of the data.
	s.memTable = uint64(min(max(s.budget/32, 256<<10), 8<<20))
	cache := s.budget/16 + 2*int64(s.memTable)
	s.budget -= cache
	s.cache = pebble.NewCache(cache)
	s.files = pebble.NewFileCache(4, 1000)
	return s, nil
}

// Close frees the caches, after all backends were closed.
func (s *Storage) Close() {
	s.files.Unref()
	s.cache.Unref()
}

// Used returns how many bytes of state are in memory, by estimate.
func (s *Storage) Used() int64 { return s.used.Load() }

// InMemory says whether state never leaves memory.
func (s *Storage) InMemory() bool { return s.inMemory }

// room says whether a state may load more, that has not yet reported added
// bytes of what it holds.
func (s *Storage) room(added int64) bool {
	return s.inMemory || s.used.Load()+added < s.budget*3/4
}

// share is what a backend may hold when memory is short.
func (s *Storage) share() int64 { return s.budget / max(s.backends.Load(), 1) }
