package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Snapshot is a backend's state at one moment, as files in a directory.
type Snapshot struct {
	// Dir is the directory, on the storage's file system.
	Dir string
	// Files are the names of the files in it. Those for which Immutable holds are
	// never changed under the same name by the same backend, so one that an earlier
	// snapshot has brought need not be kept again.
	Files []string
}

// Immutable says whether a file of a snapshot is the same file in every
// snapshot of a backend that has one of that name.
func Immutable(file string) bool {
	return len(file) > 4 && file[len(file)-4:] == ".sst"
}

// Snapshotting is a snapshot being taken.
type Snapshotting struct {
	// Unchanged says that nothing has changed since the snapshot before, which
	// therefore stands for this one too. Finish is then not to be called.
	Unchanged bool

	storage *Storage
	link    func(ctx context.Context, dir string) error // from a disk
	all     *writes                                     // from memory
	version uint64                                      // of the disk
	kept    *atomic.Uint64                              // the backend's
}

// Snapshot begins a snapshot of all that is declared. It is called between two
// records, on the goroutine that owns the backend, and takes as long as writing
// what has changed into memory does; [Snapshotting.Finish] does the rest
// elsewhere. The next snapshot may be begun when Finish has returned: to begin it
// earlier is to wait for that.
func (b *Backend[K]) Snapshot() (*Snapshotting, error) {
	if b.disk == nil {
		return b.snapshotMemory()
	}
	if err := b.flush(); err != nil {
		return nil, err
	}
	if err := b.disk.broken.Load(); err != nil { // also when there was nothing to write
		return nil, fmt.Errorf("snapshot of %q: %w", b.disk.dir, *err)
	}
	s := &Snapshotting{storage: b.storage, version: b.disk.version + 1, kept: &b.kept}
	if b.kept.Load() == s.version {
		s.Unchanged = true
		return s, nil
	}
	s.link = b.disk.beginSnapshot()
	return s, nil
}

func (b *Backend[K]) snapshotMemory() (*Snapshotting, error) {
	s := &Snapshotting{storage: b.storage, all: &writes{}}
	for _, d := range b.declared {
		if err := d.flush(s.all); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// flush writes all that the disk does not have.
func (b *Backend[K]) flush() error {
	w := &b.pending
	for _, d := range b.declared {
		if err := d.flush(w); err != nil {
			return err
		}
		if len(w.buf) > maxKept/2 {
			if err := b.disk.write(w); err != nil {
				return err
			}
		}
	}
	return b.disk.write(w)
}

// Finish writes the snapshot to dir, which must not exist. It may be called from
// any goroutine, and must be called, with a context that has ended if nothing
// is to be written: until it has returned, the backend can't write to its disk.
// The files are not synced, which is for whoever keeps them.
func (s *Snapshotting) Finish(ctx context.Context, dir string) (*Snapshot, error) {
	if err := s.write(ctx, dir); err != nil {
		return nil, err
	}
	files, err := s.storage.fs.List(dir)
	if err != nil {
		return nil, err
	}
	if s.kept != nil {
		s.kept.Store(s.version)
	}
	slices.Sort(files)
	return &Snapshot{dir, files}, nil
}

// Lost says that what Finish has returned was not kept, so that the next
// snapshot can't lean on it. It may be called from any goroutine, before the
// next snapshot is begun.
func (s *Snapshotting) Lost() {
	if s.kept != nil {
		s.kept.Store(0)
	}
}

func (s *Snapshotting) write(ctx context.Context, dir string) error {
	if s.link != nil {
		return s.link(ctx, dir) // which takes away what it began
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fs := s.storage.fs
	if _, err := fs.Stat(dir); err == nil {
		return fmt.Errorf("write %q: %w", dir, os.ErrExist)
	}
	err := fs.MkdirAll(dir, 0o755)
	if err == nil {
		err = s.writeTable(fs.PathJoin(dir, TableFile))
	}
	if err != nil {
		return errors.Join(err, fs.RemoveAll(dir))
	}
	return nil
}

// TableFile is the name of the only file of a snapshot of a backend without a
// disk: a table in Pebble's format.
const TableFile = "state.table"

func (s *Snapshotting) writeTable(path string) error {
	f, err := s.storage.fs.Create(path, "millrace-state")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	o := s.storage.options()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), o.MakeWriterOptions(0, sstable.TableFormatPebblev4))
	s.all.sort()
	buf := s.all.buf
	for _, r := range s.all.recs {
		if err = w.Set(buf[r.key:r.val], buf[r.val:r.end]); err != nil {
			break
		}
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}

// Restored is a snapshot to start from.
type Restored struct {
	// Dir holds the snapshot's files under their names. The backend may change
	// the directory; it is of no use afterwards.
	Dir string
	// Owned are the key groups that the snapshot covers.
	Owned Range
}

// Attach connects the backend with a storage, before anything is declared, and
// restores from snapshots: those of its key groups, whatever other groups each
// of them has. The name is that of its directory, unique within the storage.
func (b *Backend[K]) Attach(s *Storage, name string, from []Restored) (err error) {
	if b.refused != nil {
		return nil
	}
	if b.keys, err = keyCodecFor[K](); err != nil {
		return err
	}
	if b.hasher, err = HasherFor[K](); err != nil {
		return err
	}
	b.storage = s
	b.attached = attachment{name, from}
	return nil
}

// attachment is what a backend is opened with when the first state is declared:
// an operator that keeps nothing needs no store.
type attachment struct {
	name string
	from []Restored
}

func (b *Backend[K]) open() error {
	b.opened = true
	b.storage.backends.Add(1)
	var err error
	if b.storage.inMemory {
		err = b.openSources(b.attached.from)
	} else {
		err = b.openDisk()
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return nil
}

// openDisk opens the backend's disk with what is to be restored on it.
func (b *Backend[K]) openDisk() (err error) {
	s, from := b.storage, b.attached.from
	if err := s.fs.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	dir := s.fs.PathJoin(s.dir, b.attached.name)
	if len(from) == 1 && from[0].Owned == b.owned && !s.isTable(from[0].Dir) {
		if err := s.fs.Rename(from[0].Dir, dir); err != nil {
			return err
		}
		b.disk, err = s.openDisk(dir)
		return err
	}
	if b.disk, err = s.openDisk(dir); err != nil {
		return err
	}
	for _, r := range from {
		if err := b.copyFrom(r); err != nil {
			return err
		}
	}
	return nil
}

// isTable says whether a snapshot is one of a backend without a disk.
func (s *Storage) isTable(dir string) bool {
	_, err := s.fs.Stat(s.fs.PathJoin(dir, TableFile))
	return err == nil
}

// openSnapshot opens a snapshot for reading.
func (s *Storage) openSnapshot(dir string) (*pebble.DB, error) {
	o := s.options()
	if !s.isTable(dir) {
		o.ReadOnly = true
		return pebble.Open(dir, o)
	}
	db, err := pebble.Open(s.fs.PathJoin(dir, "db"), o)
	if err != nil {
		return nil, err
	}
	if err := db.Ingest(context.Background(), []string{s.fs.PathJoin(dir, TableFile)}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// copyChunk is how much is restored in one write.
const copyChunk = 4 << 20

// copyFrom copies what belongs to this backend's key groups.
func (b *Backend[K]) copyFrom(r Restored) error {
	db, err := b.storage.openSnapshot(r.Dir)
	if err != nil {
		return fmt.Errorf("restore from %q: %w", r.Dir, err)
	}
	err = b.eachOwned(db, func(key, val []byte) error {
		b.pending.begin()
		b.pending.buf = append(b.pending.buf, key...)
		b.pending.value()
		b.pending.buf = append(b.pending.buf, val...)
		b.pending.set()
		if len(b.pending.buf) >= copyChunk {
			return b.disk.write(&b.pending)
		}
		return nil
	})
	if err == nil {
		err = b.disk.write(&b.pending)
	}
	return errors.Join(err, db.Close(), b.storage.fs.RemoveAll(r.Dir))
}

// eachOwned calls f for everything of this backend's key groups.
func (b *Backend[K]) eachOwned(db *pebble.DB, f func(key, val []byte) error) error {
	err := scan(db, groupKey(b.owned.First), groupKey(b.owned.Last+1), func(key, val []byte) (bool, error) {
		return true, f(key, val)
	})
	if err != nil {
		return err
	}
	return scan(db, groupKey(onDisk), nil, func(key, val []byte) (bool, error) {
		if len(key) < timerKeyAt {
			return false, fmt.Errorf("timers: key %x is too short", key)
		}
		group := int(key[timerGroupAt])<<8 | int(key[timerGroupAt+1])
		if !b.owned.Contains(group) {
			return true, nil
		}
		return true, f(key, val)
	})
}

func groupKey(group int) []byte { return []byte{byte(group >> 8), byte(group)} }

// openSources opens the snapshots that a backend without a disk is restored
// from, until it is Ready.
func (b *Backend[K]) openSources(from []Restored) error {
	for _, r := range from {
		db, err := b.storage.openSnapshot(r.Dir)
		if err != nil {
			return fmt.Errorf("restore from %q: %w", r.Dir, err)
		}
		b.sources = append(b.sources, db)
	}
	return nil
}

// restoreEach calls f for everything that a declared state has on disk or in
// the snapshots to be restored from, with the group and the rest of the key.
func (b *Backend[K]) restoreEach(s section, f func(group int, key, val []byte) error) error {
	all := b.sources
	if b.disk != nil {
		all = []*pebble.DB{b.disk.db}
	}
	for _, db := range all {
		for group := b.owned.First; group <= b.owned.Last; group++ {
			prefix := s.append(nil, group)
			err := scan(db, prefix, after(prefix), func(key, val []byte) (bool, error) {
				return true, f(group, key[prefixLen:], val)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Ready ends the declarations. It returns what Err does.
func (b *Backend[K]) Ready() error {
	errs := b.errs
	for _, db := range b.sources {
		for _, q := range b.queues {
			errs = append(errs, q.restore(db))
		}
		errs = append(errs, db.Close())
	}
	b.sources = nil
	return errors.Join(errs...)
}

// Close gives everything back. It may be called whether or not the backend was
// attached, and more than once. It waits for a snapshot that is being finished.
func (b *Backend[K]) Close() error {
	if !b.opened || b.closed {
		return nil
	}
	b.closed = true
	b.storage.used.Add(-b.used)
	b.storage.backends.Add(-1)
	b.used = 0
	var errs []error
	for _, db := range b.sources {
		errs = append(errs, db.Close())
	}
	b.sources = nil
	if b.disk != nil {
		errs = append(errs, b.disk.close())
	}
	return errors.Join(errs...)
}

// KeyType describes the type of the backend's keys: state whose keys are of
// another can't be read.
func (b *Backend[K]) KeyType() string { return b.keys.describe }
