package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// stream is an open file: its decompressed content from some offset on, and
// the first bytes, which tell the file from others.
type stream struct {
	path       string
	f          *os.File
	id         identity // its number
	src        io.Reader
	compressed string // the method; empty for plain
	closeSrc   func()
	disk       int64 // bytes read from disk
	offset     int64 // of the next byte from Read
	head       []byte
	hashed     identity // of the head, as last asked for
}

// The beginnings of compressed files.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// openStream opens a file at its beginning. Whether it is compressed shows in
// its first bytes, since a rotated log may have any name.
func openStream(path string) (*stream, error) {
	f, fi, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	s := &stream{path: path, f: f, id: numberOf(fi), closeSrc: func() {}}
	if err := s.decompress(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openRegular opens a file and refuses what is none.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	if err := checkRegular(path); err != nil { // before opening: a pipe would wait for its writer
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, readError(path, err)
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, readError(path, err)
	}
	return f, fi, nil
}

func checkRegular(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return readError(path, err)
	case fi.IsDir():
		return fmt.Errorf("read %q: is a directory", path)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("read %q: is not a regular file", path)
	}
	return nil
}

// readError names the file once: errors of package os name it too.
func readError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("read %q: %w", path, err)
}

// onDisk counts the bytes that a decompressor reads.
type onDisk struct{ s *stream }

func (d onDisk) Read(p []byte) (int, error) {
	n, err := d.s.f.Read(p)
	d.s.disk += int64(n)
	return n, err
}

func (s *stream) decompress() error {
	var magic [4]byte
	n, err := s.f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return readError(s.path, err)
	}
	s.src = onDisk{s}
	switch first := magic[:n]; {
	case bytes.HasPrefix(first, gzipMagic):
		s.compressed = "gzip"
		z := &lazyGzip{src: onDisk{s}}
		s.src, s.closeSrc = z, z.close
	case bytes.HasPrefix(first, zstdMagic):
		// One goroutine: many files are open, and the job has its own.
		z, err := zstd.NewReader(onDisk{s}, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return readError(s.path, err)
		}
		s.compressed = "zstd"
		s.src, s.closeSrc = z, z.Close
	}
	return nil
}

// lazyGzip reads the header with the first bytes: a file that is still being
// written may not have it.
type lazyGzip struct {
	src io.Reader
	z   *gzip.Reader
}

func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.z == nil {
		z, err := gzip.NewReader(bufio.NewReaderSize(l.src, 64<<10))
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the magic was there, so it does not end here
		}
		if err != nil {
			return 0, err
		}
		l.z = z
	}
	return l.z.Read(p)
}

func (l *lazyGzip) close() {
	if l.z != nil {
		_ = l.z.Close() // says only what Read said
	}
}

// Read returns decompressed content, and io.EOF at its end. Another error
// names the file and how far it could be read.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if missing := headSize - len(s.head); missing > 0 && s.offset == int64(len(s.head)) {
		s.head = append(s.head, p[:min(n, missing)]...)
	}
	s.offset += int64(n)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case s.compressed != "":
		return n, fmt.Errorf("read %q: %s, after %d bytes of content: %w", s.path, s.compressed, s.offset, err)
	default:
		return n, fmt.Errorf("at byte %d: %w", s.offset, readError(s.path, err))
	}
}

// errShorter is returned by skip for a file that ends before the offset.
var errShorter = errors.New("file is shorter than what was read of it")

// skip goes on to an offset of the content, and reads the head on the way.
func (s *stream) skip(offset int64) error {
	if s.compressed != "" {
		n, err := io.CopyN(io.Discard, s, offset)
		if n < offset && err == io.EOF {
			return errShorter
		}
		return err
	}
	fi, err := s.f.Stat()
	if err != nil {
		return readError(s.path, err)
	}
	if fi.Size() < offset {
		return errShorter
	}
	if err := s.readHead(min(offset, headSize)); err != nil {
		return err
	}
	if _, err := s.f.Seek(offset, io.SeekStart); err != nil {
		return readError(s.path, err)
	}
	s.offset, s.disk = offset, offset
	return nil
}

// readHead reads the first bytes of a plain file, wherever it stands.
func (s *stream) readHead(n int64) error {
	s.head = make([]byte, n)
	got, err := s.f.ReadAt(s.head, 0)
	s.head = s.head[:got]
	if err != nil && err != io.EOF {
		return readError(s.path, err)
	}
	return nil
}

// identity returns what the file is known by once offset bytes have been read.
func (s *stream) identity(offset int64) identity {
	n := int(min(offset, int64(len(s.head))))
	if s.hashed.Head != n || s.hashed.Ino == 0 {
		s.hashed = s.id
		if n > 0 {
			s.hashed.Head, s.hashed.Hash = n, hashOf(s.head[:n])
		}
	}
	return s.hashed
}

func (s *stream) close() {
	s.closeSrc()
	_ = s.f.Close() // opened for reading: there is nothing to lose
}
