package gokastore

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka/storage"
)

// Option sets something of a [Builder].
type Option func(*builder)

// CacheSize is how many bytes of blocks the storages of a builder, of all topics
// and partitions, keep in memory together. Raise it where look-ups read the disk.
// Default 64 MiB.
func CacheSize(bytes int64) Option { return func(b *builder) { b.cacheSize = bytes } }

// Pebble has edit called with the options of every storage before it is opened,
// for what this package does not decide: levels, filters, the size of tables in
// memory, another file system, DisableWAL. Without the log, a kill loses what
// Pebble has not flushed, up to a table in memory for each partition, and goka
// reads it from Kafka again. The comparer must be Pebble's own. edit must not set
// Cache, and must not keep o. Partitions are opened at the same time, so edit is
// called from several goroutines. Default: nothing.
func Pebble(edit func(o *pebble.Options)) Option { return func(b *builder) { b.edit = edit } }

// Logger is where errors of Pebble's own work are logged. Default
// [slog.Default].
func Logger(log *slog.Logger) Option { return func(b *builder) { b.log = log } }

// Builder returns a builder of storages under dir, which is made if it isn't
// there. It may serve several processors and views. Each storage locks its
// directory: a second one on the same partition is refused, by any process.
func Builder(dir string, opts ...Option) storage.Builder {
	b := &builder{dir: dir, cacheSize: 64 << 20, log: slog.Default()}
	for _, o := range opts {
		o(b)
	}
	return b.build
}

// builder is what the storages of one directory share.
type builder struct {
	dir       string
	cacheSize int64
	edit      func(*pebble.Options)
	log       *slog.Logger

	mu    sync.Mutex
	cache *pebble.Cache // nil while no storage is open; guarded by mu
	open  int           // storages; guarded by mu
}

func (b *builder) build(topic string, partition int32) (storage.Storage, error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("%s.%d", topic, partition))
	s, err := b.openStore(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage %q: %w", dir, err)
	}
	return s, nil
}

func (b *builder) openStore(dir string) (_ *store, err error) {
	if b.cacheSize < 0 {
		return nil, fmt.Errorf("invalid option: CacheSize is negative: %d", b.cacheSize)
	}
	o := b.options()
	if o.FS == nil {
		o.FS = vfs.Default
	}
	l := &logs{FS: o.FS}
	o.FS, o.Cache = l, b.acquire()
	db, err := pebble.Open(dir, o)
	if err != nil {
		b.release()
		return nil, err
	}
	s, err := newStore(db, l, !o.DisableWAL, b.release)
	if err != nil {
		err = errors.Join(err, db.Close())
		b.release()
		return nil, err
	}
	return s, nil
}

func (b *builder) options() *pebble.Options {
	o := &pebble.Options{Logger: logger{b.log}, FormatMajorVersion: pebble.FormatNewest}
	for i := range o.Levels {
		// goka asks for one key at a time, often one that isn't there yet.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	if b.edit != nil {
		b.edit(o)
	}
	return o
}

// acquire returns the shared cache for one more storage. Its memory is not the
// garbage collector's, so the last storage to close gives it back.
func (b *builder) acquire() *pebble.Cache {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == 0 {
		b.cache = pebble.NewCache(b.cacheSize)
	}
	b.open++
	return b.cache
}

func (b *builder) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open--; b.open == 0 {
		b.cache.Unref()
		b.cache = nil
	}
}

// logger passes on what is worth a line.
type logger struct{ log *slog.Logger }

func (l logger) Infof(string, ...any) {}
func (l logger) Errorf(format string, args ...any) {
	l.log.Error("goka storage: " + fmt.Sprintf(format, args...))
}

// Fatalf is Pebble's way to say that it can't go on. Its contract is not to
// return.
func (l logger) Fatalf(format string, args ...any) {
	panic(fmt.Errorf("goka storage: "+format, args...))
}
