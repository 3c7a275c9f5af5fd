package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Inspection reads a snapshot without the program that took it, and without
// changing anything: for tools that show what is in a checkpoint. It is for one
// goroutine.
type Inspection struct {
	storage    *Storage
	db         *pebble.DB
	sections   map[section]Info
	namespaces map[uint32]string
}

// Entry is what a snapshot holds under one key. Its bytes are valid until the
// call they were given to returns.
type Entry struct {
	// State is what the entry belongs to. Where no state that was given has it,
	// there is neither name nor type, and the kind is "unknown".
	State Info
	// Group is the key group.
	Group int
	// Key is the encoded key, see [FormatKey]; of a group, it is empty, or the
	// number of a part.
	Key []byte
	// Version is that of the value's encoding, 0 where there is none.
	Version uint32
	// Value is the encoded value, see [FormatValue].
	Value []byte
	// Namespace and Time are those of a timer. A namespace that was not given is
	// told by its number.
	Namespace string
	Time      int64
	// Size is what the entry takes, key and all, before compression.
	Size int
}

const kindUnknown = "unknown"

// Inspect opens a snapshot whose files, by their names in it, are at the given
// paths. Names are not part of a snapshot: the states that it may hold are to be
// given, as a manifest has them, and of timers both the queues and the
// namespaces.
func Inspect(files vfs.FS, paths map[string]string, states []Info) (*Inspection, error) {
	const dir = "/snapshot"
	over := &overlay{FS: vfs.NewMem(), real: files, tables: map[string]string{}}
	if err := over.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for name, at := range paths {
		if err := over.put(over.PathJoin(dir, name), at); err != nil {
			return nil, err
		}
	}
	s, err := NewStorage(StorageConfig{InMemory: true, FS: over, Memory: 64 << 20})
	if err != nil {
		return nil, err
	}
	i := &Inspection{storage: s, sections: map[section]Info{}, namespaces: map[uint32]string{}}
	for _, state := range states {
		i.sections[sectionOf(state.Kind, state.Name)] = state
		switch state.Kind {
		case kindTimers:
			i.namespaces[uint32(sectionOf("namespace", state.Name))] = state.Name
		case kindValue:
			i.sections[sectionOf(countOf, state.Name)] = Info{Name: state.Name, Kind: countOf}
		}
	}
	if i.db, err = s.openSnapshot(dir); err != nil {
		s.Close()
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	return i, nil
}

// Close gives the files back.
func (i *Inspection) Close() error {
	err := i.db.Close()
	i.storage.Close()
	return err
}

// Each calls f for every entry until f returns false: by key group, state and
// key, and behind all of them the timers in order of time.
func (i *Inspection) Each(f func(Entry) bool) error {
	return scan(i.db, nil, nil, func(key, val []byte) (bool, error) {
		if len(key) < prefixLen {
			return false, fmt.Errorf("key %x is too short", key)
		}
		e := Entry{Group: int(binary.BigEndian.Uint16(key)), Key: key[prefixLen:], Value: val, Size: len(key) + len(val)}
		known := false
		if e.State, known = i.sections[section(binary.BigEndian.Uint32(key[2:]))]; !known {
			e.State.Kind = kindUnknown
		}
		switch {
		case e.State.Kind == countOf:
			return true, nil
		case e.Group == onDisk && !i.timer(&e, key):
			return false, fmt.Errorf("timers: key %x is too short", key)
		case e.State.Kind == kindValue, e.State.Kind == kindGroup && len(e.Key) == 0:
			if !e.cutVersion() {
				return false, fmt.Errorf("state %q: value without a version", e.State.Name)
			}
		}
		return f(e), nil
	})
}

// timer takes a timer's key apart.
func (i *Inspection) timer(e *Entry, key []byte) bool {
	if len(key) < timerKeyAt {
		return false
	}
	e.Time = int64(binary.BigEndian.Uint64(key[timerTimeAt:]) ^ 1<<63)
	if id := binary.BigEndian.Uint32(key[timerNamespaceAt:]); id != 0 {
		known := false
		if e.Namespace, known = i.namespaces[id]; !known {
			e.Namespace = fmt.Sprintf("%#08x", id)
		}
	}
	e.Group = int(binary.BigEndian.Uint16(key[timerGroupAt:]))
	e.Key = key[timerKeyAt:]
	return true
}

func (e *Entry) cutVersion() bool {
	version, n := binary.Uvarint(e.Value)
	if n <= 0 || version > math.MaxUint32 {
		return false
	}
	e.Version, e.Value = uint32(version), e.Value[n:]
	return true
}

// overlay is a directory in memory whose tables are files elsewhere, only read.
// Pebble has to find all files in one directory, and takes a lock there; and to
// link them together would be to write.
type overlay struct {
	vfs.FS
	real   vfs.FS
	tables map[string]string
}

// Unwrap returns the part that is written to.
func (o *overlay) Unwrap() vfs.FS { return o.FS }

func (o *overlay) put(name, from string) error {
	if Immutable(name) {
		o.tables[name] = from
		return nil
	}
	in, err := o.real.Open(from)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("read %q: %w", from, err)
	}
	out, err := o.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Close())
}

// Open implements [vfs.FS].
func (o *overlay) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if at, ok := o.tables[name]; ok {
		return o.real.Open(at, opts...)
	}
	return o.FS.Open(name, opts...)
}

// Stat implements [vfs.FS].
func (o *overlay) Stat(name string) (vfs.FileInfo, error) {
	if at, ok := o.tables[name]; ok {
		return o.real.Stat(at)
	}
	return o.FS.Stat(name)
}

// List implements [vfs.FS].
func (o *overlay) List(dir string) ([]string, error) {
	names, err := o.FS.List(dir)
	for name := range o.tables {
		if path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	return names, err
}

// Remove implements [vfs.FS], and refuses what is not in memory.
func (o *overlay) Remove(name string) error {
	if _, ok := o.tables[name]; ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrPermission}
	}
	return o.FS.Remove(name)
}
