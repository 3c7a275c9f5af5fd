package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Prune removes all but the newest checkpoints, as many as Options.Keep says,
// and the shared files that no checkpoint needs any more. Savepoints stay. A
// checkpoint that can't be read does not count, so that as many as were asked
// for can be restored.
//
// A crash at any point leaves a valid store. An error is of the disk: what
// could not be removed stays for the next time.
func (s *Store) Prune() error {
	if err := s.prune(); err != nil {
		return fmt.Errorf("prune checkpoint store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) prune() error {
	s.pruning.Lock()
	defer s.pruning.Unlock()
	doomed, err := s.superfluous()
	if err != nil {
		return err
	}
	// Oldest first: what a crash leaves is still a row without a gap.
	for _, e := range doomed {
		if err := s.removeManifest(e); err != nil {
			return err
		}
		s.forget(e)
	}
	return s.sweep()
}

// superfluous returns the checkpoints that are older than those to keep.
func (s *Store) superfluous() ([]*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := 0
	for i, e := range slices.Backward(s.checkpoints) {
		if kept == s.opts.Keep {
			return slices.Clone(s.checkpoints[:i+1]), s.writable()
		}
		if e.err == nil {
			kept++
		}
	}
	return nil, s.writable()
}

// removeManifest takes the manifest away before the files it names. Its
// absence has to be on the disk first: a manifest that came back after a crash,
// without its files, would look like damage.
func (s *Store) removeManifest(e *entry) error {
	dir := s.path(checkpointName(e.id))
	if err := s.disk.remove(s.disk.PathJoin(dir, manifestName)); err != nil {
		return err
	}
	return s.disk.syncDir(dir)
}

// forget gives up what a checkpoint that is gone held.
func (s *Store) forget(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoints = slices.DeleteFunc(s.checkpoints, func(o *entry) bool { return o == e })
	for _, p := range e.paths {
		s.files[p].commits--
	}
}

// sweep removes what belongs to no checkpoint and to none in the making.
func (s *Store) sweep() error {
	unneeded, err := s.sweepDirs()
	// These names are never used again, so that nobody has to wait while large
	// files are removed.
	for _, p := range unneeded {
		err = errors.Join(err, s.disk.remove(s.local(s.dir, p)))
	}
	return err
}

// sweepDirs removes directories, and returns the shared files that nobody
// needs. It keeps others from beginning a checkpoint of the same name.
func (s *Store) sweepDirs() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unneeded, err := s.unneeded()
	return unneeded, errors.Join(err, s.sweepCheckpoints(), s.sweepSavepoints())
}

func (s *Store) sweepCheckpoints() error {
	names, err := s.disk.list(s.dir)
	for _, name := range names {
		if id, ok := checkpointID(name); ok && !s.pending[name] && !s.committed(id) {
			s.log.Debug("removing the rest of a checkpoint", "checkpoint", name)
			err = errors.Join(err, s.disk.removeAll(s.path(name)))
		}
	}
	return err
}

func (s *Store) committed(id int64) bool {
	return slices.ContainsFunc(s.checkpoints, func(e *entry) bool { return e.id == id })
}

func (s *Store) sweepSavepoints() error {
	names, err := s.disk.list(s.path(savepointsDir))
	for _, name := range names {
		dir := s.disk.PathJoin(savepointsDir, name)
		if strings.HasPrefix(name, unfinished) && !s.pending[dir] {
			s.log.Debug("removing the rest of a savepoint", "savepoint", name)
			err = errors.Join(err, s.disk.removeAll(s.path(dir)))
		}
	}
	return err
}

// unneeded returns the shared files to remove, and forgets them.
func (s *Store) unneeded() ([]string, error) {
	if bad := s.unreadable(); bad != nil {
		// Nobody knows which files it names.
		s.log.Warn("shared files are not cleaned up: a checkpoint can't be read", "error", bad)
		return nil, nil
	}
	names, err := s.disk.list(s.path(sharedDir))
	var paths []string
	for _, name := range names {
		p := sharedDir + "/" + name
		f := s.files[p]
		if f != nil && (f.commits > 0 || f.holds > 0) {
			continue
		}
		delete(s.files, p)
		paths = append(paths, p)
	}
	return paths, err
}

func (s *Store) unreadable() error {
	for _, e := range s.checkpoints {
		if e.err != nil {
			return e.err
		}
	}
	return nil
}
