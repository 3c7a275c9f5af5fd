package files

import (
	"errors"
	"fmt"
	"time"
)

// split is one path and the file, or files one after another, that have it.
//
//	closed --open--> reading --end of file--> waiting --grown--> reading
//	                    |                        |
//	                    |                        +--rotated--> reading (the next file)
//	                    +--end of file, bounded--> finished
type split[T any] struct {
	name  string   // the path
	start position // where to open it; kept up to date when it is closed

	st     *stream // nil while closed
	sc     *scanner
	dec    decoding[T]
	headed bool // the header has been read, or there is none

	counted int64 // bytes of st in the metric
	total   int64 // bytes of this split in the gauge

	followed
}

// followed is what following adds.
type followed struct {
	waiting    bool      // at the end of what there is
	size       int64     // of the file when the split began to wait
	modified   time.Time // and when it was written
	incomplete bool      // st is compressed and ends too early
	rotated    bool      // st is no longer the file at the path, and is read to its end
	queue      []string  // rotated files to be read before the one at the path
	quiet      int       // looks that found the old file unchanged since the new one has content
	gone       time.Time // since when there is no file at the path
	leaving    bool      // it has been gone for long
}

// open opens the file at path, where the split was when it was closed. A
// file that is not the one read before is read from its beginning; fresh says
// so.
func (r *reader[T]) open(s *split[T], path string) (fresh bool, err error) {
	at := s.start
	if at.Offset > 0 || at.Head > 0 {
		err := r.openAt(s, path, at)
		if !errors.Is(err, errOtherFile) {
			return false, err
		}
		fresh = true
	}
	s.start = position{Past: at.Past}
	return fresh, r.openAt(s, path, s.start)
}

// errOtherFile is returned by openAt when the position is not of this file.
var errOtherFile = errors.New("not the file that was read before")

func (r *reader[T]) openAt(s *split[T], path string, at position) error {
	st, err := openStream(path)
	if err != nil {
		return err
	}
	s.st = st
	s.sc = newScanner(st, r.framing, r.cfg.maxLine, 0, 0)
	s.dec = r.format.open(&r.cfg)
	s.headed = s.dec.header == nil
	if at.Offset == 0 {
		s.counted = 0
		return nil
	}
	var headerErr error
	if !s.headed {
		headerErr = r.readHeader(s)
	}
	err = s.sc.jump(st, at.Offset, at.Line)
	switch {
	case errors.Is(err, errShorter) || (err == nil && !at.begins(st.head)):
		err = errOtherFile
	case err == nil:
		err = headerErr
	}
	if err != nil {
		s.close()
		return err
	}
	return nil
}

// readHeader reads the header, unless the file ends before it.
func (r *reader[T]) readHeader(s *split[T]) error {
	for !s.headed {
		rec, err := s.sc.next(r.final(s))
		if err != nil {
			return err
		}
		if len(rec.data) == 0 && rec.err == nil {
			continue
		}
		if rec.err == nil {
			rec.err = s.dec.header(rec.data)
		}
		if rec.err != nil {
			return fmt.Errorf("read %q: header in line %d: %w", s.st.path, rec.line, rec.err)
		}
		s.headed = true
	}
	return nil
}

// final says whether the end of the split's file is for good.
func (r *reader[T]) final(s *split[T]) bool {
	return !r.cfg.follow || s.rotated || s.st.compressed != ""
}

// close closes the file, if it is open, and remembers where it was.
func (s *split[T]) close() {
	if s.st == nil {
		return
	}
	s.start = s.position()
	s.st.close()
	s.st, s.sc = nil, nil
}

// position says where reading goes on.
func (s *split[T]) position() position {
	p := s.start
	if s.st != nil {
		p.Offset, p.Line = s.sc.offset, s.sc.line
		p.identity = s.st.identity(s.sc.offset)
	}
	p.Version = positionVersion
	return p
}

// finish is position for a file that was read to its end.
func (s *split[T]) finishedPosition() position {
	p := s.position()
	if s.st != nil {
		if fi, err := s.st.f.Stat(); err == nil {
			p.Done = fi.Size() + 1
		}
	}
	return p
}
