package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What the directory holds.
const (
	formatName    = "FORMAT"
	lockName      = "LOCK"
	holderName    = "HOLDER"
	manifestName  = "MANIFEST"
	pointerName   = "POINTER"
	temporary     = ".tmp"
	sharedDir     = "shared"
	savepointsDir = "savepoints"
	workDir       = "work"

	// A savepoint that is not finished has this before its name.
	unfinished = ".unfinished-"

	checkpointPrefix = "chk-"
	formatLine       = "millrace checkpoints 1\n"
	formatStart      = "millrace checkpoints "
)

// ErrNotStore says that a directory holds something else than checkpoints.
var ErrNotStore = errors.New("not a checkpoint store")

// Options say how a store is kept.
type Options struct {
	// Job is the name of the job. A store holds checkpoints of one job, and Open
	// refuses another one's; empty, it takes any. Default empty.
	Job string

	// Keep is how many checkpoints Prune leaves. Raise it to be able to go back
	// further; below 0, all are left. Default 3.
	Keep int

	// Logger hears of leftovers removed and of clean-up that did not succeed,
	// which no call returns. Default [slog.Default].
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Keep = cmp.Or(o.Keep, 3)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	return o
}

// Store is a directory that holds the checkpoints of one job. It is made by
// [Open] or [OpenReadOnly]. Its methods may be called from any goroutine.
//
// A call that fails, because the disk is full or for any other reason, leaves
// the store as good as it was.
type Store struct {
	disk     disk
	dir      string
	run      string
	opts     Options
	log      *slog.Logger
	lock     *lock // nil when opened to read only
	readOnly bool
	single   bool // the directory is that of one savepoint

	pruning sync.Mutex // taken before mu

	mu          sync.Mutex             // taken after that of a Pending
	checkpoints []*entry               // by id; guarded by mu
	files       map[string]*sharedFile // by path; guarded by mu
	pending     map[string]bool        // names of directories in the making; guarded by mu
	lastID      int64                  // of checkpoints and savepoints; guarded by mu
	named       int64                  // names given to files in this run; guarded by mu
	uncertain   error                  // a commit of which nobody knows; guarded by mu
	closed      bool                   // guarded by mu
}

// entry is a checkpoint in the store.
type entry struct {
	id    int64
	paths []string // of shared files it names
	err   error    // why its manifest can't be read
}

// sharedFile counts who needs a file.
type sharedFile struct {
	sum     sum
	commits int // checkpoints that name it
	holds   int // pending ones that do
}

// Open opens the store in dir, and makes it if there is none. It holds the
// store until Close: a second Open fails with [ErrLocked] and names the holder.
//
// Open discards what an unclean exit left (rule 26): the working directory and
// whatever belongs to no finished checkpoint. Afterwards everything it shows is
// on the disk for good, even if the exit was between the rename of a manifest
// and its sync.
func Open(fs vfs.FS, dir string, o Options) (*Store, error) {
	s := newStore(fs, dir, o)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open checkpoint store %s: %w", s.dir, err)
	}
	return s, nil
}

func newStore(fs vfs.FS, dir string, o Options) *Store {
	o = o.withDefaults()
	return &Store{
		disk: disk{fs}, dir: absolute(fs, dir), run: newRun(time.Now()), opts: o, log: o.Logger,
		files: map[string]*sharedFile{}, pending: map[string]bool{},
	}
}

// absolute returns one spelling of a path, which stays right when the process
// changes its directory.
func absolute(fs vfs.FS, dir string) string {
	if vfs.Root(fs) == vfs.Default {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
	}
	return path.Clean("/" + filepath.ToSlash(dir))
}

// newRun returns a name that no other opening of a store has: the time, so that
// names sort, and what is needed for two at the same time.
func newRun(now time.Time) string {
	return now.UTC().Format("20060102T150405") + fmt.Sprintf("%08x", rand.Uint32())
}

func (s *Store) open() error {
	if err := s.disk.makeDir(s.dir); err != nil {
		return err
	}
	there, err := s.checkFormat()
	if err == nil && !there {
		err = s.checkForeign()
	}
	if err != nil {
		return err
	}
	if s.lock, err = acquire(s.disk, s.dir, s.opts.Job); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return errors.Join(err, s.lock.release())
	}
	return nil
}

// prepare brings a locked directory into order.
func (s *Store) prepare() error {
	if err := s.writeFormat(); err != nil {
		return err
	}
	if err := s.makeDirs(); err != nil {
		return err
	}
	if err := s.scan(); err != nil { // alone yet, so without the mutex
		return err
	}
	if err := s.checkJob(); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	return s.settle()
}

// checkFormat tells whether the directory is a store, and refuses one of a
// later version.
func (s *Store) checkFormat() (there bool, err error) {
	b, err := s.disk.read(s.path(formatName))
	switch {
	case missing(err):
		return false, nil
	case err != nil:
		return false, err
	case string(b) == formatLine:
		return true, nil
	}
	version, ours := strings.CutPrefix(string(b), formatStart)
	if n, err := strconv.Atoi(strings.TrimSpace(version)); ours && err == nil && n > manifestFormat {
		return false, fmt.Errorf("%w: %s says format %d; this is %s and reads format %d",
			ErrNewerFormat, s.path(formatName), n, programVersion(), manifestFormat)
	}
	return false, fmt.Errorf("%w: %s says %q instead of %q", ErrNotStore, s.path(formatName), b, formatLine)
}

// checkForeign refuses a directory that has anything in it but what a store in
// the making has: Open would otherwise wipe somebody's work.
func (s *Store) checkForeign() error {
	names, err := s.disk.list(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		switch name {
		case lockName, holderName, formatName + temporary, "lost+found":
		default:
			return fmt.Errorf("%w: it has no file %s, but has %s; give an empty directory or one that does not exist",
				ErrNotStore, formatName, name)
		}
	}
	return nil
}

func (s *Store) writeFormat() error {
	if there, err := s.checkFormat(); there || err != nil {
		return err
	}
	tmp := s.path(formatName + temporary)
	if err := s.disk.write(tmp, []byte(formatLine)); err != nil {
		return err
	}
	if err := s.disk.rename(tmp, s.path(formatName)); err != nil {
		return err
	}
	return s.disk.syncDir(s.dir)
}

// makeDirs makes what a store consists of, and empties work: rule 26.
func (s *Store) makeDirs() error {
	if err := s.disk.removeAll(s.path(workDir)); err != nil {
		return err
	}
	for _, name := range []string{sharedDir, savepointsDir, workDir} {
		if err := s.disk.makeDir(s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// scan reads which checkpoints there are and which files they name.
func (s *Store) scan() error {
	names, err := s.disk.list(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, ok := checkpointID(name)
		if !ok {
			continue
		}
		there, err := s.disk.exists(s.path(name, manifestName))
		if err != nil {
			return err
		}
		if there {
			s.add(s.readEntry(id))
		}
	}
	slices.SortFunc(s.checkpoints, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return s.scanSavepoints()
}

func (s *Store) scanSavepoints() error {
	names, err := s.savepointNames()
	for _, name := range names {
		if m, err := s.loadSavepoint(s.path(savepointsDir, name)); err == nil {
			s.lastID = max(s.lastID, m.ID)
		}
	}
	return err
}

func (s *Store) readEntry(id int64) *entry {
	m, err := s.loadCheckpoint(id)
	if err != nil {
		return &entry{id: id, err: err}
	}
	e, err := s.entryOf(m)
	if err != nil {
		return &entry{id: id, err: err}
	}
	return e
}

// entryOf returns the entry of a manifest, and an error when it says of a file
// something else than another one does.
func (s *Store) entryOf(m *Manifest) (*entry, error) {
	e := &entry{id: m.ID}
	for _, f := range m.Files() {
		if !f.shared() {
			continue
		}
		if known := s.files[f.Path]; known != nil && known.sum != f.sum() {
			return nil, fmt.Errorf("%s: %w: %s is said to have %v, elsewhere %v",
				s.path(checkpointName(m.ID), manifestName), ErrDamaged, f.Path, f.sum(), known.sum)
		}
		e.paths = append(e.paths, f.Path)
		if s.files[f.Path] == nil {
			s.files[f.Path] = &sharedFile{sum: f.sum()}
		}
	}
	return e, nil
}

// add takes a checkpoint in and counts its references.
func (s *Store) add(e *entry) {
	s.checkpoints = append(s.checkpoints, e)
	s.lastID = max(s.lastID, e.id)
	for _, p := range e.paths {
		s.files[p].commits++
	}
}

// checkJob refuses the store of another job, whose state nobody here could
// read.
func (s *Store) checkJob() error {
	m, err := s.newest()
	if err != nil || m == nil { // Latest will tell
		return nil
	}
	if s.opts.Job != "" && m.Job != "" && m.Job != s.opts.Job {
		return fmt.Errorf("it holds checkpoints of job %q, and this is job %q; give each job a directory of its own",
			m.Job, s.opts.Job)
	}
	return nil
}

// settle makes what the directories show last. A process killed between the
// rename of a manifest and its sync leaves a checkpoint that can be seen and
// may yet be lost with the power; once it has been restored from and delivered,
// it must not be.
func (s *Store) settle() error {
	dirs := []string{s.dir, s.path(sharedDir), s.path(savepointsDir)}
	for _, e := range s.checkpoints {
		dirs = append(dirs, s.path(checkpointName(e.id)))
	}
	for _, dir := range dirs {
		if err := s.disk.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// OpenReadOnly opens a store, or the directory of one savepoint, to look at it.
// It takes no lock, changes nothing, and may be used while a job runs: what it
// looks at can then be pruned meanwhile.
func OpenReadOnly(fs vfs.FS, dir string) (*Store, error) {
	s := newStore(fs, dir, Options{})
	s.readOnly = true
	if err := s.openReadOnly(); err != nil {
		return nil, fmt.Errorf("open checkpoint store %s: %w", s.dir, err)
	}
	return s, nil
}

func (s *Store) openReadOnly() error {
	info, err := s.disk.Stat(s.dir)
	switch {
	case err != nil:
		return pathError("stat", s.dir, err)
	case !info.IsDir():
		return fmt.Errorf("%w: it is a file", ErrNotStore)
	}
	if s.single, err = s.disk.exists(s.path(manifestName)); err != nil {
		return err
	}
	if s.single {
		m, err := s.loadSavepoint(s.dir)
		if err == nil && m.Kind == KindCheckpoint {
			return fmt.Errorf("%w: it is the directory of one checkpoint, whose files are beside it; give %s and %s",
				ErrNotStore, s.disk.PathDir(s.dir), s.disk.PathBase(s.dir))
		}
		return nil
	}
	there, err := s.checkFormat()
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: it has no file %s", ErrNotStore, formatName)
	}
	return s.scan()
}

// Close gives the store up. What is pending then is lost.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed || s.lock == nil {
		return nil
	}
	return s.lock.release()
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// Run returns the name of this opening of the store, which no other one has:
// letters and digits.
func (s *Store) Run() string { return s.run }

// WorkDir returns the directory for working state. It is empty after Open, on
// the same file system as the store, and its content is disposable.
func (s *Store) WorkDir() string { return s.path(workDir) }

// LastID returns the highest id of any checkpoint or savepoint in the store,
// damaged ones too, or 0. Ids of new checkpoints are above it.
func (s *Store) LastID() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastID
}

func (s *Store) path(elem ...string) string {
	return s.disk.PathJoin(append([]string{s.dir}, elem...)...)
}

// local returns where a slash-separated path below base is.
func (s *Store) local(base, slashed string) string {
	return s.disk.PathJoin(append([]string{base}, strings.Split(slashed, "/")...)...)
}

func checkpointName(id int64) string { return fmt.Sprintf("%s%010d", checkpointPrefix, id) }

// checkpointID returns the id in the name of a checkpoint.
func checkpointID(name string) (id int64, ok bool) {
	digits, ok := strings.CutPrefix(name, checkpointPrefix)
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	return id, err == nil && id > 0 && checkpointName(id) == name
}
