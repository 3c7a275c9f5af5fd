package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Listed is a checkpoint or savepoint as [Store.List] finds it.
type Listed struct {
	Name     string    // chk-0000000042, or the savepoint's name
	Kind     string    // checkpoint or savepoint
	Dir      string    // where its manifest is
	Manifest *Manifest // nil when it can't be read
	Files    int       // how many it names
	Bytes    int64     // their size together
	New      int64     // the size of those that the checkpoint before it does not have
	Err      error     // why the manifest can't be read; matches ErrDamaged or ErrNewerFormat, if either is the case
}

// Latest returns the newest checkpoint, and nil when there is none.
//
// A newest checkpoint that can't be read is an error, matching [ErrDamaged] or
// [ErrNewerFormat], and never a reason to take the one before it: sinks may
// have delivered what it stands for, and would deliver it again. Whoever can
// live with that moves its directory away.
func (s *Store) Latest() (*Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.newest()
	if err == nil {
		return m, nil
	}
	dir := s.path(checkpointName(s.checkpoints[len(s.checkpoints)-1].id))
	if errors.Is(err, ErrNewerFormat) {
		return nil, err
	}
	return nil, fmt.Errorf("%w; it is the newest checkpoint, and sinks may have delivered its results, so none before it is "+
		"taken instead: bring the file back, restore from a savepoint, or, if results since the checkpoint before it may be "+
		"delivered twice, move %s away", err, dir)
}

func (s *Store) newest() (*Manifest, error) {
	n := len(s.checkpoints)
	if n == 0 {
		return nil, nil
	}
	return s.loadCheckpoint(s.checkpoints[n-1].id)
}

func (s *Store) loadCheckpoint(id int64) (*Manifest, error) {
	path := s.path(checkpointName(id), manifestName)
	m, err := s.loadManifest(path)
	if err != nil {
		return nil, err
	}
	if m.Kind != KindCheckpoint || m.ID != id {
		return nil, fmt.Errorf("%s: %w", path, fmt.Errorf("%w: it is the manifest of %s %d", ErrDamaged, m.Kind, m.ID))
	}
	m.base = s.dir
	return m, nil
}

// loadSavepoint reads the savepoint in a directory, wherever that is and
// whatever it is called by now.
func (s *Store) loadSavepoint(dir string) (*Manifest, error) {
	m, err := s.loadManifest(s.disk.PathJoin(dir, manifestName))
	if err == nil {
		m.base = dir
	}
	return m, err
}

func (s *Store) loadManifest(path string) (*Manifest, error) {
	b, err := s.disk.read(path)
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// savepointNames returns the names of the savepoints that are finished.
func (s *Store) savepointNames() ([]string, error) {
	names, err := s.disk.list(s.path(savepointsDir))
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") }), err
}

// List returns the checkpoints, oldest first, and then the savepoints by name.
// One that can't be read is listed with its error.
func (s *Store) List() ([]Listed, error) {
	if s.single {
		m, err := s.loadSavepoint(s.dir)
		return []Listed{listed(s.disk.PathBase(s.dir), KindSavepoint, s.dir, m, err)}, nil
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var all []Listed
	var before *Manifest
	for _, id := range ids {
		m, err := s.loadCheckpoint(id)
		if missing(err) { // pruned meanwhile
			continue
		}
		name := checkpointName(id)
		l := listed(name, KindCheckpoint, s.path(name), m, err)
		l.New = newBytes(m, before)
		before = m
		all = append(all, l)
	}
	names, err := s.savepointNames()
	for _, name := range names {
		dir := s.path(savepointsDir, name)
		m, err := s.loadSavepoint(dir)
		if missing(err) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		all = append(all, listed(name, KindSavepoint, dir, m, err))
	}
	return all, err
}

// ids returns the ids of the finished checkpoints as they are on the disk now.
func (s *Store) ids() ([]int64, error) {
	names, err := s.disk.list(s.dir)
	var ids []int64
	for _, name := range names {
		id, ok := checkpointID(name)
		if !ok {
			continue
		}
		if there, _ := s.disk.exists(s.path(name, manifestName)); there {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, err
}

func listed(name, kind, dir string, m *Manifest, err error) Listed {
	l := Listed{Name: name, Kind: kind, Dir: dir, Manifest: m, Err: err}
	if m == nil {
		return l
	}
	for _, f := range m.Files() {
		l.Files++
		l.Bytes += f.Size
	}
	l.New = l.Bytes
	return l
}

func newBytes(m, before *Manifest) int64 {
	if m == nil {
		return 0
	}
	had := map[string]bool{}
	if before != nil {
		for _, f := range before.Files() {
			had[f.Path] = true
		}
	}
	var n int64
	for _, f := range m.Files() {
		if !had[f.Path] {
			n += f.Size
		}
	}
	return n
}

// Load returns a checkpoint or savepoint: by its name, chk-0000000042, or its
// id, 42; by a savepoint's name; or by the path of a savepoint's directory
// anywhere, which has a slash in it.
func (s *Store) Load(name string) (*Manifest, error) {
	if id, ok := checkpointID(name); ok {
		return s.loadNamed(id)
	}
	if id, err := strconv.ParseInt(name, 10, 64); err == nil && id > 0 {
		return s.loadNamed(id)
	}
	dir := s.path(savepointsDir, name)
	switch {
	case s.single && name == s.disk.PathBase(s.dir):
		dir = s.dir
	case strings.ContainsAny(name, `/\`):
		dir = absolute(s.disk.FS, name)
	}
	m, err := s.loadSavepoint(dir)
	switch {
	case missing(err):
		return nil, fmt.Errorf("there is no savepoint %q: %w", name, err)
	case err == nil && m.Kind != KindSavepoint:
		return nil, fmt.Errorf("%s is not a savepoint but %s of a store, whose files are beside it: give its name", dir, m.Label())
	}
	return m, err
}

func (s *Store) loadNamed(id int64) (*Manifest, error) {
	m, err := s.loadCheckpoint(id)
	if missing(err) {
		return nil, fmt.Errorf("%s has no checkpoint %d: %w", s.dir, id, err)
	}
	return m, err
}

// Path returns where a file of a checkpoint is, for who only reads it. It is not
// verified.
func (s *Store) Path(f File, m *Manifest) string { return s.local(m.base, f.Path) }

// Fetch puts a file of a checkpoint at a local path, which has to be free, and
// verifies it. An immutable file is linked where possible, so that it must not
// be written to. What is not as the manifest says is an [ErrDamaged], and the
// error names the checkpoint, the file, and both sums.
func (s *Store) Fetch(f File, m *Manifest, localPath string) error {
	from := s.local(m.base, f.Path)
	put := s.disk.copy
	if f.shared() {
		put = s.disk.linkOrCopy
	}
	got, err := put(from, localPath)
	if err == nil && got != f.sum() {
		err = differs(f.sum(), got)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		_ = s.disk.remove(localPath) // the error to tell is the first one
	}
	return s.fileError(m, from, err)
}

// Read returns the content of a file of a checkpoint, verified as by Fetch.
func (s *Store) Read(f File, m *Manifest) ([]byte, error) {
	from := s.local(m.base, f.Path)
	b, err := s.disk.read(from)
	if err != nil {
		return nil, s.fileError(m, from, err)
	}
	got, _ := sumOfFile(bytes.NewReader(b), nil)
	if got != f.sum() {
		return nil, s.fileError(m, from, differs(f.sum(), got))
	}
	return b, nil
}

func (s *Store) fileError(m *Manifest, path string, err error) error {
	if there, _ := s.disk.exists(path); !there && missing(err) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("%s: file %s: %w", m.Label(), path, err)
}

func differs(want, got sum) error {
	return fmt.Errorf("%w: it has %v, the manifest says %v", ErrDamaged, got, want)
}
