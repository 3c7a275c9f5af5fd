package pipeline

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/checkpoint"
)

// Staging is where a [Committer] keeps what it has prepared and can't leave at its
// destination: rows for a server that knows no prepared transactions. Its files
// become part of the checkpoint, like state, and of savepoints: whoever starts
// from it finds them, at another parallelism and on another machine too.
//
//	Write: Create, write      Prepare: Close; returns the names      Commit: Open, deliver
//
// A file belongs to the Prepare that comes after its making, and is there until
// the Commit of what that returned has returned nil. A process that is killed
// leaves nothing behind but what complete checkpoints have. The methods are for
// the writer's goroutine; what Open returns may be read from any.
type Staging struct {
	fs     vfs.FS
	dir    string
	prefix string // of the names this process makes
	made   int
	fresh  []*StagedFile // made since the last Prepare
}

// NewStaging returns a staging for tests that open a sink without the engine, as a
// process of that name. Files stay in dir until [Staging.Remove]; another staging
// of the same directory opens them.
func NewStaging(fs vfs.FS, dir, process string) (*Staging, error) {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &Staging{fs: fs, dir: dir, prefix: process}, nil
}

// StagedFile is a file that is being filled.
type StagedFile struct {
	name, path string
	file       vfs.File // nil once it is closed
	size       int64

	mu     sync.Mutex
	stored checkpoint.File // once a checkpoint has it; guarded by mu
}

// Create makes a file. It is to be closed before Prepare returns, and is not
// changed afterwards.
func (s *Staging) Create() (*StagedFile, error) {
	s.made++
	f := &StagedFile{name: fmt.Sprintf("%s-%d.staged", s.prefix, s.made)}
	f.path = s.fs.PathJoin(s.dir, f.name)
	var err error
	if f.file, err = s.fs.Create(f.path, vfs.WriteCategoryUnspecified); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	s.fresh = append(s.fresh, f)
	return f, nil
}

// Name names the file, unlike any other of the job.
func (f *StagedFile) Name() string { return f.name }

// Size returns how many bytes were written.
func (f *StagedFile) Size() int64 { return f.size }

// Write implements [io.Writer]. Each call is one of the file system, so small
// pieces want a buffer before it.
func (f *StagedFile) Write(b []byte) (int, error) {
	if f.file == nil {
		return 0, fmt.Errorf("stage: %s is closed", f.name)
	}
	n, err := f.file.Write(b)
	f.size += int64(n)
	if err != nil {
		err = fmt.Errorf("stage: %w", err)
	}
	return n, err
}

// Close ends the file. It is made safe with the checkpoint, not before.
func (f *StagedFile) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	if err := file.Close(); err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return nil
}

// Open opens a file that was prepared, by this process or one before it.
func (s *Staging) Open(name string) (io.ReadCloser, error) {
	if strings.ContainsAny(name, `/\`) || name == "" {
		return nil, fmt.Errorf("staged file %q: not a name", name)
	}
	f, err := s.fs.Open(s.fs.PathJoin(s.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return nil, fmt.Errorf("staged file: %w", err)
	}
	return f, nil
}

// Remove removes files by name. The engine does so by itself, after Commit.
func (s *Staging) Remove(names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, s.fs.Remove(s.fs.PathJoin(s.dir, name)))
	}
	return errors.Join(errs...)
}

// take returns the files that belong to the Prepare which has just returned.
func (s *Staging) take() ([]*StagedFile, error) {
	if s == nil {
		return nil, nil
	}
	files := s.fresh
	s.fresh = nil
	for _, f := range files {
		if f.file != nil {
			return nil, fmt.Errorf("the staged file %s is still open", f.name)
		}
	}
	return files, nil
}

// close closes files that were never prepared.
func (s *Staging) close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, f := range s.fresh {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// prepared is output that a sink had made ready and not yet committed.
type prepared struct {
	checkpoint.Prepared
	staged []*StagedFile
}

// names returns the names of the staged files.
func (p *prepared) names() []string {
	var names []string
	for _, f := range p.staged {
		names = append(names, f.name)
	}
	return names
}

// newStaging returns the staging of a sink's subtask; nil where no checkpoint could
// hold its files.
func (in *instance) newStaging() (*Staging, error) {
	c := in.task.job.checkpoints
	if c == nil {
		return nil, nil
	}
	return NewStaging(c.fs, c.fs.PathJoin(c.store.WorkDir(), "staged", in.id()), in.task.job.run+"-"+in.id())
}

// fetchStaged brings the files of what was prepared before a restart.
func (in *instance) fetchStaged(s *Staging, p checkpoint.Prepared) (prepared, error) {
	c := in.task.job.checkpoints
	back := prepared{Prepared: p}
	for _, f := range p.Files {
		path := c.fs.PathJoin(s.dir, f.Name)
		if err := c.store.Fetch(f, c.manifest, path); err != nil {
			return back, fmt.Errorf("restore: %w", err)
		}
		back.staged = append(back.staged, &StagedFile{name: f.Name, path: path, stored: f})
	}
	return back, nil
}

// uploadStaged brings the files of what a sink has prepared into a checkpoint.
// Those that an earlier one has may be gone here: once it was complete, they were
// delivered.
func (c *checkpoints) uploadStaged(p *checkpoint.Pending, part *subtaskSnapshot) error {
	for i := range part.prepared {
		one := &part.prepared[i]
		one.Files = nil
		for _, f := range one.staged {
			stored, err := f.bring(p)
			if err != nil {
				return fmt.Errorf("operator %q subtask %d: %w", part.inst.node.name, part.inst.task.subtask, err)
			}
			one.Files = append(one.Files, stored)
		}
	}
	return nil
}

func (f *StagedFile) bring(p *checkpoint.Pending) (checkpoint.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stored.Path != "" {
		stored, err := p.Reuse(f.stored)
		if !errors.Is(err, checkpoint.ErrUnknownFile) {
			return stored, err
		}
	}
	stored, err := p.Share(f.path, f.name)
	if err == nil {
		f.stored = stored
	}
	return stored, err
}
