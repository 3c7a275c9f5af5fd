package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/pipeline"
)

// A file that grows under checkpoints is exactly-once by being cut back: each
// checkpoint holds its length, and a job that starts from the checkpoint cuts
// the file to it before it goes on. Until the first checkpoint is complete a
// marker beside the file holds what it is to be cut to:
//
//	marker(base) → file grows → Prepare(1): length → Commit(1): marker removed
//
// Where a file is mentioned by the checkpoint, the marker counts for nothing.
// Where it has neither, the sink has no business with it.

// marker is a file's length before a start that has not completed a checkpoint.
type marker struct {
	Version  int    `json:"version"`
	Operator string `json:"operator"`
	Size     int64  `json:"size"`
}

const markerSuffix = ".uncommitted"

func markerPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+markerSuffix)
}

// readMarker returns nil when there is none.
func readMarker(d disk, path string) (*marker, error) {
	b, err := readWhole(d, markerPath(path))
	if b == nil || err != nil {
		return nil, err
	}
	m := &marker{}
	if err := decodeVersioned(b, m); err != nil {
		return nil, fmt.Errorf("read %q: %w", markerPath(path), err)
	}
	if m.Size < 0 {
		return nil, fmt.Errorf("read %q: size %d", markerPath(path), m.Size)
	}
	return m, nil
}

// committer writes a growing file under checkpoints.
type committer[T any] struct {
	*writer[T]
	claim  *claim
	marked bool // there is a marker to remove
	closed bool
}

// openCommitted opens the file of a job with checkpoints.
func (s *Sink[T]) openCommitted(w *writer[T]) (pipeline.Writer[T], error) {
	if !utf8.ValidString(s.path) {
		return nil, fmt.Errorf("invalid path %q: a checkpoint holds names in UTF-8", s.path)
	}
	claim, err := lay(s.disk, s.path, "", w.env)
	if err != nil {
		return nil, err
	}
	c := &committer[T]{writer: w, claim: claim}
	if err := s.recover(c); err != nil {
		if w.f != nil {
			err = errors.Join(err, w.f.Close())
		}
		return nil, errors.Join(err, claim.release())
	}
	return c, nil
}

// recover brings the files to where the checkpoint left them, each subtask its
// own and subtask 0 those that no subtask has now, and opens this subtask's.
func (s *Sink[T]) recover(c *committer[T]) error {
	lengths, err := s.lengths(c.env.Prepared)
	if err != nil {
		return err
	}
	if c.env.Subtask == 0 {
		if err := s.recoverOthers(c.env, lengths); err != nil {
			return err
		}
	}
	if err := s.cut(c.path, c.env, lengths); err != nil {
		return err
	}
	_, mentioned := lengths[filepath.Base(c.path)]
	if c.env.Prepared == nil {
		return s.begin(c)
	}
	return s.goOn(c, mentioned)
}

// lengths are those of the checkpoint, by name. Of several for one file the
// last is the largest.
func (s *Sink[T]) lengths(prepared [][]byte) (map[string]int64, error) {
	m := map[string]int64{}
	for _, b := range prepared {
		if len(b) == 0 {
			continue
		}
		p, err := decodeFile(b)
		if err != nil {
			return nil, err
		}
		if !s.mine(p.Name) {
			return nil, fmt.Errorf("write %q: the checkpoint's results are in %q: give the sink its former path, or the job another checkpoint folder", s.path, p.Name)
		}
		m[p.Name] = max(m[p.Name], p.Size)
	}
	return m, nil
}

// mine says whether a file is what a subtask of this sink would write.
func (s *Sink[T]) mine(name string) bool {
	base := filepath.Base(s.path)
	if name == base {
		return true
	}
	ext := filepath.Ext(base)
	number, found := strings.CutPrefix(name, strings.TrimSuffix(base, ext)+"-")
	number, ended := strings.CutSuffix(number, ext)
	return found && ended && len(number) == 5 && strings.Trim(number, "0123456789") == ""
}

// recoverOthers cuts the files that no subtask of this start writes.
func (s *Sink[T]) recoverOthers(env *pipeline.SinkEnv, lengths map[string]int64) error {
	others := map[string]bool{}
	for name := range lengths {
		others[name] = true
	}
	dir := filepath.Dir(s.path)
	names, err := list(s.disk, dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "."), markerSuffix)
		if s.mine(name) {
			others[name] = true
		}
	}
	for i := range env.Parallelism {
		delete(others, filepath.Base(PartPath(s.path, i, env.Parallelism)))
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if err := s.cut(filepath.Join(dir, name), env, lengths); err != nil {
			return err
		}
	}
	return nil
}

// cut takes off what no checkpoint has. A file that neither the checkpoint nor
// a marker mentions is left alone.
func (s *Sink[T]) cut(path string, env *pipeline.SinkEnv, lengths map[string]int64) error {
	m, err := readMarker(s.disk, path)
	if err != nil {
		return err
	}
	size, mentioned := lengths[filepath.Base(path)]
	switch {
	case mentioned:
		err = truncate(s.disk, path, size)
	case m == nil:
		return nil
	case m.Operator != env.Operator && !s.cfg.overwrite:
		return fmt.Errorf("write %q: sink %q was writing it and has not committed: %w", path, m.Operator, fs.ErrExist)
	case m.Size == 0:
		err = removeIfThere(s.disk, path)
	default:
		err = truncate(s.disk, path, m.Size)
	}
	if err != nil || m == nil {
		return err
	}
	// Last, so that a crash before this begins the same again.
	return removeIfThere(s.disk, markerPath(path))
}

// truncate cuts a file to size. It may be longer, by what was written after
// the checkpoint, and never shorter.
func truncate(d disk, path string, size int64) error {
	f, err := d.OpenFile(path, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) && size == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("results are missing: %w", writeError(path, err))
	}
	err = truncateOpen(f, size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return writeError(path, err)
	}
	return nil
}

func truncateOpen(f file, size int64) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < size {
		return fmt.Errorf("results are missing: the file has %d bytes, the checkpoint has %d", fi.Size(), size)
	}
	if fi.Size() > size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return f.Sync()
}

// removeIfThere also makes sure that the file stays away.
func removeIfThere(d disk, path string) error {
	err := d.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return writeError(path, err)
	}
	return syncFolder(d, path)
}

// begin opens the file of a job that starts anew.
func (s *Sink[T]) begin(c *committer[T]) error {
	fi, err := s.disk.Stat(c.path)
	var base int64
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return writeError(c.path, err)
	case !s.cfg.overwrite && !s.cfg.appending:
		return existing(c.path)
	case !fi.Mode().IsRegular():
		return irregular(c.path)
	case s.cfg.appending:
		base = fi.Size()
	}
	if c.env.Subtask == 0 {
		if err := s.cfg.spareParts(s.disk, s.path, c.env.Parallelism); err != nil {
			return err
		}
	}
	if err := c.mark(base); err != nil {
		return err
	}
	if err := c.open(s.cfg); err != nil {
		return err
	}
	return syncFolder(s.disk, c.path)
}

// irregular refuses what can't be cut.
func irregular(path string) error {
	return fmt.Errorf("write %q: is not a regular file, and a job with checkpoints must be able to truncate it", path)
}

// goOn opens the file of a job that starts from a checkpoint, whatever the
// options are for one that starts anew.
func (s *Sink[T]) goOn(c *committer[T], mentioned bool) error {
	fi, err := s.disk.Stat(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return writeError(c.path, err)
	case !fi.Mode().IsRegular():
		return irregular(c.path)
	default:
		c.size = fi.Size()
	}
	if !mentioned {
		if err := c.mark(c.size); err != nil {
			return err
		}
	}
	f, err := s.disk.OpenFile(c.path, os.O_CREATE|os.O_WRONLY)
	if err != nil {
		return writeError(c.path, err)
	}
	c.f = f
	if _, err := f.Seek(c.size, io.SeekStart); err != nil {
		return writeError(c.path, err)
	}
	return syncFolder(s.disk, c.path)
}

// mark says, before the file is touched, what it is to be cut to.
func (c *committer[T]) mark(base int64) error {
	c.marked = true
	return writeWhole(c.disk, markerPath(c.path), encodeVersioned(marker{preparedVersion, c.env.Operator, base}))
}

// Prepare makes sure that what is written stays, and notes how much it is.
func (c *committer[T]) Prepare(context.Context, int64) ([]byte, error) {
	if err := c.claim.holds(); err != nil {
		return nil, err
	}
	if err := c.sync(); err != nil {
		return nil, err
	}
	return encodeVersioned(preparedFile{preparedVersion, filepath.Base(c.path), c.size}), nil
}

// Commit has nothing to show that was not seen before. The first one of the
// file removes its marker, now that a checkpoint mentions it; of files of
// another run, Open has.
func (c *committer[T]) Commit(_ context.Context, prepared []byte) error {
	if err := c.claim.holds(); err != nil {
		return err
	}
	p, err := decodeFile(prepared)
	if err != nil || !c.marked || p.Name != filepath.Base(c.path) {
		return err
	}
	if err := removeIfThere(c.disk, markerPath(c.path)); err != nil {
		return err
	}
	c.marked = false
	return nil
}

func (c *committer[T]) Close() error {
	if c.closed {
		return fmt.Errorf("write %q: %w", c.path, fs.ErrClosed)
	}
	c.closed = true
	return errors.Join(c.writer.Close(), c.claim.release())
}
