package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrUncertain says that a commit was at its one decisive act when it failed,
// so that the checkpoint may or may not be there after a crash. Neither may be
// assumed: the job must stop, and whoever opens the store next knows. The store
// takes no further checkpoint. Of a savepoint, it concerns that one alone.
var ErrUncertain = errors.New("nobody knows whether the checkpoint was committed")

// ErrUnknownFile says that a file is not one of a committed checkpoint in this
// store. Share it anew.
var ErrUnknownFile = errors.New("no checkpoint in the store has this file")

// Pending is a checkpoint or savepoint in the making. It ends with Commit, or
// with Abandon. Its methods may be called from any goroutine, but nothing may
// be brought any more once Commit was called.
type Pending struct {
	s    *Store
	id   int64
	name string // of a savepoint
	kind string
	dir  string // where its private files go, within the store
	base string // the directory that paths of files start from

	mu      sync.Mutex
	files   map[string]sum // what was brought, by path; guarded by mu
	reused  []string       // shared files of earlier checkpoints; guarded by mu
	brought []string       // shared files of this one; guarded by mu
	over    bool           // guarded by mu
}

// Begin starts the checkpoint with that id, which is above those of all
// checkpoints in the store.
func (s *Store) Begin(id int64) (*Pending, error) {
	p := &Pending{s: s, id: id, kind: KindCheckpoint, dir: checkpointName(id), base: s.dir, files: map[string]sum{}}
	if err := s.begin(p); err != nil {
		return nil, fmt.Errorf("begin checkpoint %d: %w", id, err)
	}
	return p, nil
}

// Savepoint starts a savepoint of that name: letters, digits, dots, dashes and
// underscores, and not the name of another one. It holds all its files itself,
// is never pruned, and may be moved elsewhere.
//
// A savepoint is no part of the row of checkpoints: the store's latest
// checkpoint stays what it was. A job whose sinks commit at a checkpoint takes
// one, and makes a savepoint of it with [Store.Export].
func (s *Store) Savepoint(name string, id int64) (*Pending, error) {
	dir := s.disk.PathJoin(savepointsDir, unfinished+name)
	p := &Pending{s: s, id: id, name: name, kind: KindSavepoint, dir: dir, base: s.path(dir), files: map[string]sum{}}
	err := validName(name)
	if err == nil {
		err = s.begin(p)
	}
	if err != nil {
		return nil, fmt.Errorf("begin savepoint %q: %w", name, err)
	}
	return p, nil
}

func (s *Store) begin(p *Pending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.free(p); err != nil {
		return err
	}
	// An abandoned one may be there that could not be removed.
	if err := s.disk.removeAll(s.path(p.dir)); err != nil {
		return err
	}
	if err := s.disk.MkdirAll(s.path(p.dir), 0o755); err != nil {
		return pathError("mkdir", s.path(p.dir), err)
	}
	if p.kind == KindSavepoint {
		if err := s.disk.MkdirAll(s.path(p.dir, sharedDir), 0o755); err != nil {
			return pathError("mkdir", s.path(p.dir, sharedDir), err)
		}
	}
	s.pending[p.dir] = true
	return nil
}

// free tells whether there is room for that one beside those there are.
func (s *Store) free(p *Pending) error {
	if s.pending[p.dir] {
		return errors.New("it is under way already")
	}
	if p.kind == KindSavepoint {
		there, err := s.disk.exists(s.path(savepointsDir, p.name))
		if there {
			return fmt.Errorf("%s exists already", s.path(savepointsDir, p.name))
		}
		return err
	}
	if p.id < 1 {
		return errors.New("ids start at 1")
	}
	if n := len(s.checkpoints); n > 0 && p.id <= s.checkpoints[n-1].id {
		return fmt.Errorf("the store is at checkpoint %d already", s.checkpoints[n-1].id)
	}
	return nil
}

func (s *Store) writable() error {
	switch {
	case s.readOnly:
		return errors.New("the store was opened to read only")
	case s.closed:
		return errors.New("the store is closed")
	}
	return s.uncertain
}

// path returns what a new file of this one is called, in the store or in the
// savepoint. No other file ever has that name.
func (p *Pending) path(shared bool, name string) string {
	p.s.mu.Lock()
	p.s.named++
	name = strconv.FormatInt(p.s.named, 10) + "-" + name
	p.s.mu.Unlock()
	switch {
	case shared:
		return sharedDir + "/" + p.s.run + "-" + name
	case p.kind == KindSavepoint:
		return name
	}
	return p.dir + "/" + name
}

// Share brings an immutable local file, by hard link where possible, else as a
// synced copy. Later checkpoints may [Pending.Reuse] it. The local file may be
// removed afterwards, but not written to.
func (p *Pending) Share(localPath, name string) (File, error) {
	f, err := p.share(localPath, name)
	return f, p.failed("share "+localPath, err)
}

func (p *Pending) share(from, name string) (File, error) {
	if err := validName(name); err != nil {
		return File{}, err
	}
	path := p.path(true, name)
	if err := p.bring(path); err != nil {
		return File{}, err
	}
	to := p.s.local(p.base, path)
	got, err := p.s.disk.linkOrCopy(from, to)
	if err != nil {
		// What can't be removed now is swept up later.
		_ = p.s.disk.remove(to)
		return File{}, err
	}
	return p.keep(path, name, got), nil
}

// bring claims a path before the file is there, so that no sweep takes it for
// rubbish.
func (p *Pending) bring(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return errors.New("it is over")
	}
	p.brought = append(p.brought, path)
	if p.kind == KindCheckpoint {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		p.s.files[path] = &sharedFile{holds: 1}
	}
	return nil
}

// keep notes a file that is there.
func (p *Pending) keep(path, name string, s sum) File {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = s
	return File{Name: name, Path: path, Size: s.size, Checksum: s.checksum}
}

// Reuse brings a file that a committed checkpoint of this store holds, and
// returns how to refer to it, which for a savepoint is another path. A file
// that the store does not hold is an [ErrUnknownFile].
func (p *Pending) Reuse(f File) (File, error) {
	if err := p.hold(f); err != nil {
		return File{}, p.failed("reuse "+f.Path, err)
	}
	if p.kind == KindCheckpoint {
		return p.keep(f.Path, f.Name, f.sum()), nil
	}
	own, err := p.share(p.s.local(p.s.dir, f.Path), f.Name)
	if err == nil && own.sum() != f.sum() {
		err = differs(f.sum(), own.sum())
	}
	return own, p.failed("reuse "+p.s.local(p.s.dir, f.Path), err)
}

// hold keeps a file of the store from being pruned while this one is pending.
func (p *Pending) hold(f File) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	known := p.s.files[f.Path]
	switch {
	case p.over:
		return errors.New("it is over")
	case known == nil || known.commits == 0:
		return ErrUnknownFile
	case known.sum != f.sum():
		return fmt.Errorf("the store has it with %v, not %v", known.sum, f.sum())
	}
	if !slices.Contains(p.reused, f.Path) {
		p.reused = append(p.reused, f.Path)
		known.holds++
	}
	return nil
}

// Holds tells whether Reuse would take the file.
func (s *Store) Holds(f File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.files[f.Path]
	return known != nil && known.commits > 0 && known.sum == f.sum()
}

// Private brings a small file that belongs to this one alone.
func (p *Pending) Private(name string, data []byte) (File, error) {
	f, err := p.private(name, data)
	return f, p.failed("write "+name, err)
}

func (p *Pending) private(name string, data []byte) (File, error) {
	if err := validName(name); err != nil {
		return File{}, err
	}
	if p.isOver() {
		return File{}, errors.New("it is over")
	}
	path := p.path(false, name)
	got, err := p.s.disk.copyFrom(bytes.NewReader(data), p.s.local(p.base, path))
	if err != nil {
		return File{}, err
	}
	return p.keep(path, name, got), nil
}

func (p *Pending) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// Commit makes the checkpoint real. Every file that the manifest names has to
// have been brought. Commit fills in what the manifest says of the store.
//
// After an error the checkpoint is not there, and Abandon removes what is left;
// only [ErrUncertain] says that it may be there nevertheless.
func (p *Pending) Commit(m *Manifest) error {
	p.fill(m)
	b, err := p.encode(m)
	if err != nil {
		return p.failed("commit", err)
	}
	if err := p.ready(b); err != nil {
		return p.failed("commit", err)
	}
	if err := p.decide(); err != nil {
		return p.failed("commit", err)
	}
	p.committed(m)
	return nil
}

func (p *Pending) fill(m *Manifest) {
	m.Format, m.Program = manifestFormat, programVersion()
	m.ID, m.Kind, m.Name, m.Run = p.id, p.kind, p.name, p.s.run
	if m.Job == "" {
		m.Job = p.s.opts.Job
	}
	if m.Created == 0 {
		m.Created = time.Now().UnixMilli()
	}
}

func (p *Pending) encode(m *Manifest) ([]byte, error) {
	if p.isOver() {
		return nil, errors.New("it is over")
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range m.Files() {
		if got, ok := p.files[f.Path]; !ok || got != f.sum() {
			return nil, fmt.Errorf("the manifest names %s, which nobody brought", f.Path)
		}
	}
	return encodeManifest(m)
}

// ready writes the manifest and makes everything last, up to the act that
// makes it count.
func (p *Pending) ready(manifest []byte) error {
	d, s := p.s.disk, p.s
	name, dirs := manifestName+temporary, []string{s.path(sharedDir), s.path(p.dir), s.dir}
	if p.kind == KindSavepoint {
		name, dirs = manifestName, []string{s.path(p.dir, sharedDir), s.path(p.dir), s.path(savepointsDir)}
	}
	if err := d.write(s.path(p.dir, name), manifest); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := d.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// decide is the commit point: a rename, and the sync that makes it last.
func (p *Pending) decide() error {
	s := p.s
	from, to, in := s.path(p.dir, manifestName+temporary), s.path(p.dir, manifestName), s.path(p.dir)
	if p.kind == KindSavepoint {
		from, to, in = s.path(p.dir), s.path(savepointsDir, p.name), s.path(savepointsDir)
	}
	err := s.disk.rename(from, to)
	if err != nil && s.stillThere(from, to) {
		return err
	}
	if err == nil {
		err = s.disk.syncDir(in)
	}
	if err == nil {
		return nil
	}
	return p.doubt(err)
}

// stillThere tells for sure that a rename which failed did not happen.
func (s *Store) stillThere(from, to string) bool {
	before, err1 := s.disk.exists(from)
	after, err2 := s.disk.exists(to)
	return before && !after && err1 == nil && err2 == nil
}

// doubt ends this one without touching a file of it: it may be committed.
func (p *Pending) doubt(cause error) error {
	err := fmt.Errorf("%w: %w; stop the job and start it again", ErrUncertain, cause)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.kind == KindCheckpoint {
		p.s.uncertain = err
		return err
	}
	delete(p.s.pending, p.dir)
	p.letGo()
	return err
}

// committed counts the references of the new checkpoint.
func (p *Pending) committed(m *Manifest) {
	m.base = p.s.dir
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, p.dir)
	s.lastID = max(s.lastID, m.ID)
	if p.kind == KindSavepoint {
		m.base = s.path(savepointsDir, p.name)
		p.letGo()
		return
	}
	e := &entry{id: m.ID}
	for _, f := range m.Files() {
		if f.shared() {
			s.files[f.Path].sum = f.sum()
			e.paths = append(e.paths, f.Path)
		}
	}
	s.add(e)
	p.letGo()
}

// letGo gives up its claims on shared files. Both mutexes are held.
func (p *Pending) letGo() {
	held := p.reused
	if p.kind == KindCheckpoint {
		held = slices.Concat(p.reused, p.brought)
	}
	for _, path := range held {
		if f := p.s.files[path]; f != nil {
			f.holds--
		}
	}
}

// Abandon ends it and removes what it brought. After a Commit that succeeded,
// or of which nobody knows, it does nothing. What can't be removed is logged,
// and removed by a later Prune or Open.
func (p *Pending) Abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	p.letGo()
	delete(s.pending, p.dir)
	err := s.disk.removeAll(s.path(p.dir))
	if p.kind == KindCheckpoint {
		for _, path := range p.brought {
			delete(s.files, path)
			err = errors.Join(err, s.disk.remove(s.local(s.dir, path)))
		}
	}
	if err != nil {
		s.log.Warn("an abandoned checkpoint left files behind; pruning will remove them", "checkpoint", p.label(), "error", err)
	}
}

func (p *Pending) label() string {
	if p.kind == KindSavepoint {
		return "savepoint " + strconv.Quote(p.name)
	}
	return "checkpoint " + strconv.FormatInt(p.id, 10)
}

func (p *Pending) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", p.label(), doing, err)
}
