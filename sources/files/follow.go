package files

import (
	"bytes"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// follower is what a reader needs to follow files.
//
// It looks at every file whose end it has reached once in a poll interval,
// rather than be told by the system: notices are not sent for remote file
// systems, queues of them overflow, and whoever misses one has to look anyway.
// Looking costs two stats a file, a few microseconds.
type follower struct {
	lister   *lister
	claims   *claims
	lookedAt time.Time
	parked   map[string]position // of this subtask's paths that are no splits now
	passed   map[string]identity // files at paths that another split reads
	warned   map[string]bool     // paths that could not be read
}

// goneAfter is how long a path may name no file before its split ends. A
// rotation leaves it without one for a moment.
const goneAfter = 10 * time.Second

// settled is how many looks in a row must find the old file unchanged, while
// the new one at its path has content, before the old one counts as complete:
// one worker of a server may still be writing to it.
const settled = 2

func (r *reader[T]) openFollowing(positions map[string]position) error {
	r.parked, r.passed, r.warned = map[string]position{}, map[string]identity{}, map[string]bool{}
	for split, p := range positions {
		r.claims.set(r, split, p.identity, false)
		for _, id := range p.Past {
			r.claims.set(r, split, id, false)
		}
		if r.mine(split) {
			r.parked[split] = p
		}
	}
	if err := r.scan(true); err != nil {
		return err
	}
	// Of a path that has no file now, a rotated one may still be there.
	for path, p := range r.parked {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if sibling := findSibling(p.identity, path); sibling != "" && sizeOf(sibling)+1 != p.Done {
			delete(r.parked, path)
			r.add(&split[T]{name: path, start: p})
		}
	}
	r.lookedAt = time.Now()
	return nil
}

// mine divides paths by their hash: files come and go, so their order would
// not do.
func (r *reader[T]) mine(path string) bool {
	h := fnv.New32a()
	h.Write([]byte(path))
	return int(h.Sum32()%uint32(r.env.Parallelism)) == r.env.Subtask
}

// scan makes splits of files that are new. At the start of the job a file that
// can't be read is an error, later it is tried again.
func (r *reader[T]) scan(start bool) error {
	paths, err := list(r.pattern, r.log)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(r.splits))
	for _, s := range r.splits {
		known[s.name] = true
	}
	for _, path := range paths {
		if known[path] || !r.mine(path) {
			continue
		}
		err := r.consider(path)
		switch {
		case err == nil:
			delete(r.warned, path)
		case start && !errors.Is(err, fs.ErrNotExist):
			return err
		case !r.warned[path]:
			r.warned[path] = true
			r.log.Warn("can't read a file yet", "path", path, "error", err)
		}
	}
	return nil
}

// consider makes a split of a path, unless its file is known to another one or
// was read to its end.
func (r *reader[T]) consider(path string) error {
	// What is known by its number needs no opening, at every look.
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	id, p := numberOf(fi), r.parked[path]
	if passed, ok := r.passed[path]; ok && passed.sameFile(id) {
		return nil
	}
	if p.Done == fi.Size()+1 && p.sameFile(id) {
		return nil
	}
	f, _, err := openRegular(path)
	if err != nil {
		return err
	}
	_ = f.Close()
	if owner, ok := r.claims.owner(path, id); ok && owner != path {
		r.passed[path] = id
		return nil
	}
	delete(r.parked, path)
	s := &split[T]{name: path, start: p}
	r.count(s, fi.Size())
	r.add(s)
	return nil
}

// reopen opens what a split reads next: a rotated file that is not yet read to
// its end, or the one at its path.
func (r *reader[T]) reopen(s *split[T]) error {
	s.waiting, s.incomplete, s.rotated, s.quiet = false, false, false, 0
	done, err := r.reopenRotated(s)
	if !done {
		err = r.reopenPath(s)
	}
	if errors.Is(err, fs.ErrNotExist) {
		s.waiting = true
		return nil
	}
	if err == nil && s.st != nil {
		r.opened++
		r.claims.set(r, s.name, s.st.id, true)
	}
	return err
}

// reopenRotated says whether it opened a file that is not at the split's path.
func (r *reader[T]) reopenRotated(s *split[T]) (bool, error) {
	if at := s.start; at.Head > 0 {
		fi, err := os.Stat(s.name)
		if err == nil && (at.sameFile(numberOf(fi)) || at.Ino == 0) {
			return false, nil
		}
		sibling := findSibling(at.identity, s.name)
		if sibling == "" {
			return false, nil
		}
		if err := r.openAt(s, sibling, at); err != nil {
			return false, nil // it is gone again, or not what it seemed
		}
		r.log.Info("file was rotated, reading the rest of it", "path", s.name, "now", sibling)
		s.rotated = true
		s.queue = r.between(s)
		return true, nil
	}
	for len(s.queue) > 0 {
		path := s.queue[0]
		s.queue = s.queue[1:]
		err := r.openAt(s, path, s.start)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		s.rotated = true
		return true, err
	}
	return false, nil
}

func (r *reader[T]) reopenPath(s *split[T]) error {
	fi, err := os.Stat(s.name)
	if err != nil {
		return err
	}
	at, id := s.start, numberOf(fi)
	if owner, ok := r.claims.owner(s.name, id); ok && owner != s.name {
		s.waiting = true // rotation brought another split's file here
		return nil
	}
	if at.Head > 0 && at.Ino != 0 && !at.sameFile(id) && at.Head < surelyHashed {
		s.start = position{Past: at.Past} // too little to know a copy by
	}
	fresh, err := r.open(s, s.name)
	if err != nil {
		return err
	}
	if fresh || s.start.Head != at.Head {
		r.lost(s, at, id)
	}
	return nil
}

// lost reports that the file at the path is not the one read before, and that
// one was not found.
func (r *reader[T]) lost(s *split[T], at position, now identity) {
	switch {
	case at.Done > 0: // it was read to its end before it went
		return
	case at.sameFile(now):
		r.figures.truncations.Add(1)
		r.log.Info("file was truncated, reading it from its beginning", "path", s.name, "offset", at.Offset)
		return
	}
	r.figures.rotations.Add(1)
	s.remember(at.identity)
	r.log.Warn("file was rotated and is gone; what was in it behind the offset is not read", "path", s.name, "offset", at.Offset)
}

// remember keeps the identity of a file that had the split's path.
func (s *split[T]) remember(id identity) {
	if id.Head == 0 {
		return
	}
	past := append(slices.Clone(s.start.Past), id)
	s.start.Past = past[max(0, len(past)-maxPast):]
}

// noteClosing keeps what a file is known by when it is no longer open.
func (r *reader[T]) noteClosing(s *split[T]) {
	if r.cfg.follow {
		r.claims.set(r, s.name, s.st.identity(s.sc.offset), false)
	}
}

// suspend deals with the end of what a followed file has; false where err is
// something else.
func (r *reader[T]) suspend(s *split[T], b *pipeline.SourceBatch[T], err error) bool {
	switch {
	case errors.Is(err, errWait):
		s.rest()
	case s.st.compressed != "" && errors.Is(err, io.ErrUnexpectedEOF):
		if !s.incomplete {
			r.log.Warn("compressed file ends too early, waiting for the rest", "path", s.st.path)
		}
		s.rest()
		s.incomplete = true
	case err != io.EOF:
		return false
	case s.rotated && !s.leaving:
		r.moveOn(s)
	default:
		r.retire(s, b)
	}
	return true
}

// rest makes a split wait for its file to change.
func (s *split[T]) rest() {
	s.waiting = true
	if fi, err := s.st.f.Stat(); err == nil {
		s.size, s.modified = fi.Size(), fi.ModTime()
	}
}

// moveOn leaves a rotated file for the next one.
func (r *reader[T]) moveOn(s *split[T]) {
	r.closeSplit(s)
	s.remember(s.start.identity)
	s.start = position{Past: s.start.Past}
	s.rotated = false
	r.figures.filesDone.Add(1)
}

// retire ends a split whose file is complete, or has been gone for long.
func (r *reader[T]) retire(s *split[T], b *pipeline.SourceBatch[T]) {
	p := s.finishedPosition()
	r.finish(s, b)
	r.parked[s.name] = p
}

// look looks at every waiting split's file, and for new files.
func (r *reader[T]) look() error {
	for _, s := range r.splits {
		if s.waiting {
			r.check(s)
		}
	}
	err := r.scan(false)
	r.lookedAt = time.Now()
	return err
}

// check wakes a split whose file has changed.
func (r *reader[T]) check(s *split[T]) {
	at, err := os.Stat(s.name)
	if err != nil {
		at = nil
	}
	r.checkGone(s, at)
	if s.st == nil {
		if at == nil {
			return
		}
		changed := s.size != at.Size() || !s.start.sameFile(numberOf(at))
		if owner, ok := r.claims.owner(s.name, numberOf(at)); ok && owner != s.name {
			changed = false
		}
		s.waiting = !changed
		return
	}
	if r.checkContent(s) && at != nil {
		r.checkRotation(s, at)
	}
}

// checkContent looks at the open file; true when it has nothing new.
func (r *reader[T]) checkContent(s *split[T]) bool {
	fi, err := s.st.f.Stat()
	if err != nil {
		s.waiting = false // reading will say what is wrong
		return false
	}
	if s.st.compressed != "" {
		if s.incomplete && fi.Size() != s.size {
			r.closeSplit(s)
			s.waiting = false
		}
		return false
	}
	grown, touched := fi.Size() > s.st.offset, !fi.ModTime().Equal(s.modified)
	if fi.Size() < s.st.offset || ((grown || touched) && !s.st.sameHead()) {
		r.restart(s)
		return false
	}
	s.modified = fi.ModTime()
	if !grown {
		return true
	}
	if s.name == s.st.path {
		r.count(s, fi.Size())
	}
	s.sc.more()
	s.waiting, s.quiet = false, 0
	return false
}

// sameHead says whether a plain file still begins as it did.
func (s *stream) sameHead() bool {
	head := make([]byte, len(s.head))
	n, _ := s.f.ReadAt(head, 0) // too few say all
	return bytes.Equal(head[:n], s.head)
}

// restart reads a file from its beginning that was truncated in place, as
// logrotate's copytruncate does. What was appended before and not yet read is
// in the copy, if the program made one.
func (r *reader[T]) restart(s *split[T]) {
	r.log.Info("file was truncated, reading it from its beginning", "path", s.st.path, "offset", s.sc.offset)
	r.figures.truncations.Add(1)
	r.closeSplit(s)
	s.start = position{Past: s.start.Past}
	s.waiting = false
}

// checkRotation sees whether the path names another file than the open one,
// whose end has been reached. As long as the new one is empty, its writer has
// not moved on to it.
func (r *reader[T]) checkRotation(s *split[T], at fs.FileInfo) {
	fi, err := s.st.f.Stat()
	if err != nil || os.SameFile(fi, at) || at.Size() == 0 {
		s.quiet = 0
		return
	}
	if owner, ok := r.claims.owner(s.name, numberOf(at)); ok && owner != s.name {
		return
	}
	if s.quiet++; s.quiet < settled {
		return
	}
	r.log.Info("file was rotated", "path", s.name)
	r.figures.rotations.Add(1)
	s.rotated, s.waiting, s.quiet = true, false, 0
	s.queue = r.between(s)
	s.sc.more()
}

// checkGone ends a split whose path has named no file for long.
func (r *reader[T]) checkGone(s *split[T], at fs.FileInfo) {
	switch {
	case at != nil:
		s.gone = time.Time{}
	case s.gone.IsZero():
		s.gone = time.Now()
	case time.Since(s.gone) < goneAfter:
	case s.st != nil:
		s.rotated, s.leaving, s.waiting = true, true, false
		s.sc.more()
	default:
		s.leaving, s.waiting = true, false
	}
}

// rotatedName is how programs mark a rotated file: a number or a time, and
// perhaps a compression.
var rotatedName = regexp.MustCompile(`^[.-]\d[\dTZ:._-]*?(\.(gz|zst))?$`)

// between returns the files that had the split's path after the one that is
// open and before the one there now: two rotations happened between two looks,
// or while the job was down.
func (r *reader[T]) between(s *split[T]) []string {
	old, err := s.st.f.Stat()
	if err != nil {
		return nil
	}
	current, _ := os.Stat(s.name)
	type file struct {
		path string
		at   time.Time
	}
	var found []file
	for _, path := range siblings(s.name) {
		base, rest := filepath.Base(s.name), filepath.Base(path)
		ext := filepath.Ext(base)
		rest, isPlain := strings.CutPrefix(rest, base)
		if !isPlain {
			rest = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), strings.TrimSuffix(base, ext)), ext)
		}
		fi, err := os.Stat(path)
		if err != nil || !rotatedName.MatchString(rest) || !fi.ModTime().After(old.ModTime()) ||
			os.SameFile(fi, old) || (current != nil && os.SameFile(fi, current)) {
			continue
		}
		if _, known := r.claims.owner(path, numberOf(fi)); !known {
			found = append(found, file{path, fi.ModTime()})
		}
	}
	slices.SortFunc(found, func(x, y file) int { return x.at.Compare(y.at) })
	var paths []string
	for _, f := range found {
		paths = append(paths, f.path)
	}
	return paths
}

// siblings returns the files whose names begin like that of path, without its
// extension.
func siblings(path string) []string {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	var paths []string
	for _, e := range entries {
		if name := e.Name(); name != base && strings.HasPrefix(name, stem) && !e.IsDir() {
			paths = append(paths, dir+name)
		}
	}
	return paths
}

// findSibling returns the name under which a file is now that had path before,
// perhaps compressed meanwhile; empty when it is gone.
func findSibling(id identity, path string) string {
	for _, name := range siblings(path) {
		fi, err := os.Stat(name)
		if err != nil || !fi.Mode().IsRegular() || id.Head == 0 {
			continue
		}
		same := id.sameFile(numberOf(fi))
		if !same && (id.Head < surelyHashed || !slices.Contains([]string{".gz", ".zst"}, filepath.Ext(name))) {
			continue
		}
		head, compressed, err := headOf(name)
		if err == nil && (same || compressed) && id.begins(head) {
			return name
		}
	}
	return ""
}
