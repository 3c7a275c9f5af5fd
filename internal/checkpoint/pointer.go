package checkpoint

import "fmt"

// A job whose results become visible by a transaction elsewhere, together with the
// name of the checkpoint they belong to, takes its checkpoints in two steps: the
// manifest, as ever, and then that transaction, which decides. The newest
// manifest may so be one that was never decided. The file POINTER says where the
// decisions are, so that nobody goes on without asking there.

// Pointer returns what [Store.SetPointer] noted, empty if nothing.
func (s *Store) Pointer() (string, error) {
	b, err := s.disk.read(s.path(pointerName))
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("checkpoint store %s: %w", s.dir, err)
	}
	return string(b), nil
}

// SetPointer notes for good where it is decided which checkpoint counts, in words
// for people, and so that a checkpoint was. Empty, the store decides again.
func (s *Store) SetPointer(where string) error {
	if err := s.setPointer(where); err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) setPointer(where string) error {
	name := s.path(pointerName)
	tmp := name + temporary
	if err := s.disk.write(tmp, []byte(where)); err != nil {
		return err
	}
	if err := s.disk.rename(tmp, name); err != nil {
		return err
	}
	return s.disk.syncDir(s.dir)
}

// Rewind removes the checkpoints after one, whose results never became visible.
// Their numbers are not used again.
func (s *Store) Rewind(id int64) error {
	if err := s.rewind(id); err != nil {
		return fmt.Errorf("rewind checkpoint store %s to %s: %w", s.dir, checkpointName(id), err)
	}
	return nil
}

func (s *Store) rewind(id int64) error {
	s.pruning.Lock()
	defer s.pruning.Unlock()
	for {
		e, err := s.newestAfter(id)
		if e == nil || err != nil {
			return err
		}
		s.log.Warn("removing a checkpoint whose results never became visible", "checkpoint", checkpointName(e.id))
		if err := s.removeManifest(e); err != nil {
			return err
		}
		s.forget(e)
		if err := s.sweep(); err != nil {
			return err
		}
	}
}

func (s *Store) newestAfter(id int64) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.checkpoints); n > 0 && s.checkpoints[n-1].id > id {
		return s.checkpoints[n-1], s.writable()
	}
	return nil, nil
}
