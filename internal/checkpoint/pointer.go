package checkpoint

import (
	"encoding/json"
	"fmt"
)

// A job whose results become visible by a transaction elsewhere, together with the
// name of the checkpoint they belong to, takes its checkpoints in two steps: the
// manifest, as ever, and then that transaction, which decides. The newest
// manifest may so be one that was never decided. The file POINTER says where the
// decisions are, so that nobody goes on without asking there.

// Pointer is what the file says.
type Pointer struct {
	// Where says, for people, where it is decided which checkpoint counts. Empty,
	// the store decides, and there is no file.
	Where string
	// Committed says that a checkpoint was committed there.
	Committed bool
	// After is the newest checkpoint for which the store decided, before the job
	// had another place for that; 0 is none. It counts until one is committed.
	After int64
}

// pointerFile is the file, which is one JSON object.
type pointerFile struct {
	Format    int    `json:"format"`
	Where     string `json:"where"`
	Committed bool   `json:"committed"`
	After     int64  `json:"after,omitempty"`
}

const pointerFormat = 1

// Pointer returns what [Store.SetPointer] noted, the zero value if nothing.
func (s *Store) Pointer() (Pointer, error) {
	name := s.path(pointerName)
	b, err := s.disk.read(name)
	if missing(err) {
		return Pointer{}, nil
	}
	if err != nil {
		return Pointer{}, fmt.Errorf("checkpoint store %s: %w", s.dir, err)
	}
	p, err := decodePointer(b)
	if err != nil {
		return Pointer{}, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func decodePointer(b []byte) (Pointer, error) {
	var f pointerFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Pointer{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if f.Format > pointerFormat {
		return Pointer{}, fmt.Errorf("%w: format %d, this program knows %d", ErrNewerFormat, f.Format, pointerFormat)
	}
	if f.Format != pointerFormat || f.Where == "" || f.After < 0 {
		return Pointer{}, fmt.Errorf("%w: %q", ErrDamaged, b)
	}
	return Pointer{f.Where, f.Committed, f.After}, nil
}

// SetPointer notes for good where it is decided which checkpoint counts.
func (s *Store) SetPointer(p Pointer) error {
	if err := s.setPointer(p); err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) setPointer(p Pointer) error {
	b, err := json.Marshal(pointerFile{pointerFormat, p.Where, p.Committed, p.After})
	if err != nil {
		return err
	}
	name := s.path(pointerName)
	tmp := name + temporary
	if err := s.disk.write(tmp, append(b, '\n')); err != nil {
		return err
	}
	if err := s.disk.rename(tmp, name); err != nil {
		return err
	}
	return s.disk.syncDir(s.dir)
}

// RemovePointer has the store decide again.
func (s *Store) RemovePointer() error {
	err := s.disk.remove(s.path(pointerName))
	if err == nil {
		err = s.disk.syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("checkpoint store %s: %w", s.dir, err)
	}
	return nil
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
