package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/millrace/millrace/pipeline"
)

// Parts writes records to a folder of part files, each of which appears whole,
// under its final name, once the checkpoint that contains it is complete. It is
// made by [JSONParts], [LineParts], [EncodeParts] and [Parquet].
type Parts[T any] struct {
	dir, ext string
	cfg      config
	disk     disk
	format   func(s *Parts[T], env *pipeline.SinkEnv, out io.Writer) (format[T], error)
}

// format writes records into a file. An error says that the file can't be
// written.
type format[T any] interface {
	write(b *pipeline.Records[T]) error
	// size estimates what the file has, in bytes.
	size() int64
	// end completes the file, and does nothing when it has no records. The next
	// record begins another.
	end() error
}

// JSONParts returns a sink that writes part files of JSON lines to the folder
// dir: part-00000-00000007-000.jsonl is the first one that subtask 0 wrote for
// checkpoint 7. A value that can't be encoded is rejected.
func JSONParts[T any](dir string, opts ...Option) *Parts[T] {
	return newParts(dir, ".jsonl", textOf(jsonAppender[T]), opts)
}

// LineParts returns a sink that writes part files of strings, each with a line
// end, to the folder dir. Their names end in .txt.
func LineParts(dir string, opts ...Option) *Parts[string] {
	return newParts(dir, ".txt", textOf(lineAppender), opts)
}

// EncodeParts returns a sink that writes to part files in the folder dir what
// encode appends to b, as it is, like [Encode] does to one file. The names of
// the files end in ext: ".csv".
func EncodeParts[T any](dir, ext string, encode func(b []byte, v T) ([]byte, error), opts ...Option) *Parts[T] {
	return newParts(dir, ext, textOf(appenderOf(encode)), opts)
}

func newParts[T any](dir, ext string, f func(*Parts[T], *pipeline.SinkEnv, io.Writer) (format[T], error), opts []Option) *Parts[T] {
	return &Parts[T]{dir: dir, ext: ext, cfg: configOf(opts), disk: osDisk{}, format: f}
}

// text is the format of records one behind the other.
type text[T any] struct {
	encoder[T]
	dir     string
	out     io.Writer
	written int64
}

func textOf[T any](encode func() appender[T]) func(*Parts[T], *pipeline.SinkEnv, io.Writer) (format[T], error) {
	return func(s *Parts[T], env *pipeline.SinkEnv, out io.Writer) (format[T], error) {
		if s.cfg.rowGroup != 0 || s.cfg.codec != nil {
			return nil, errors.New("invalid option: RowGroup and Compress are for Parquet")
		}
		return &text[T]{encoder: encoder[T]{env: env, append: encode()}, dir: s.dir, out: out}, nil
	}
}

func (t *text[T]) write(b *pipeline.Records[T]) error { return t.gather(b, t.dir, t.flush) }
func (t *text[T]) size() int64                        { return t.written + int64(len(t.buf)) }

func (t *text[T]) flush() error {
	if len(t.buf) == 0 {
		return nil
	}
	n, err := t.out.Write(t.buf)
	t.written += int64(n)
	t.buf = t.buf[:0]
	return err
}

func (t *text[T]) end() error {
	err := t.flush()
	t.written = 0
	return err
}

// Names of what a sink keeps in its folder.
const (
	ownerName = ".millrace.json" // who writes here
	lockName  = ".millrace.lock" // that somebody does
)

// owner says whose temporary files those in the folder are.
type owner struct {
	Version  int    `json:"version"`
	Operator string `json:"operator"`
}

var (
	extension = regexp.MustCompile(`^(\.[^/\\]+)?$`)
	runName   = regexp.MustCompile(`^[0-9A-Za-z]*$`)
)

// Open implements [pipeline.Sink].
func (s *Parts[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := s.validate(env); err != nil {
		return nil, err
	}
	if err := makeFolder(s.disk, s.dir); err != nil {
		return nil, err
	}
	claim, err := lay(s.disk, s.dir, filepath.Join(s.dir, lockName), env)
	if err != nil {
		return nil, err
	}
	w, err := s.open(env, claim)
	if err != nil {
		return nil, errors.Join(err, claim.release())
	}
	return w, nil
}

func (s *Parts[T]) validate(env *pipeline.SinkEnv) error {
	if err := s.cfg.validate(true); err != nil {
		return err
	}
	if !extension.MatchString(s.ext) || !utf8.ValidString(s.ext) {
		return fmt.Errorf("invalid extension %q: it begins with a dot, is UTF-8 and has no slash", s.ext)
	}
	if !runName.MatchString(env.Run) {
		return fmt.Errorf("invalid run %q: not letters and digits", env.Run)
	}
	return nil
}

func (s *Parts[T]) open(env *pipeline.SinkEnv, claim *claim) (*partWriter[T], error) {
	w := &partWriter[T]{
		partFiles: &partFiles{disk: s.disk, dir: s.dir, ext: s.ext, env: env},
		claim:     claim, rollAt: s.cfg.rollAt,
	}
	if w.rollAt == 0 {
		w.rollAt = defaultRollAt
	}
	var err error
	if w.format, err = s.format(s, env, w.partFiles); err != nil {
		return nil, err
	}
	if env.Subtask == 0 {
		// The others make no file before all are open.
		if err := s.tidy(env); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// tidy decides whether the job may write here, and removes what an earlier
// start has left that will never be committed.
func (s *Parts[T]) tidy(env *pipeline.SinkEnv) error {
	mentioned, last, err := mentionedIn(env.Prepared)
	if err != nil {
		return err
	}
	mine, err := s.owned(env)
	if err != nil {
		return err
	}
	names, err := list(s.disk, s.dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		var err error
		switch {
		case partName.MatchString(name):
			err = s.meet(name, env.Prepared != nil, last)
		case tempName.MatchString(name) && !mentioned[name]:
			err = s.remove(name)
		}
		if err != nil {
			return err
		}
	}
	if mine {
		return nil
	}
	return writeWhole(s.disk, filepath.Join(s.dir, ownerName), encodeVersioned(owner{preparedVersion, env.Operator}))
}

// mentionedIn returns the temporary files that the checkpoint mentions, and its
// number as far as that can be told, or 0.
func mentionedIn(prepared [][]byte) (temps map[string]bool, last int64, err error) {
	temps = map[string]bool{}
	for _, b := range prepared {
		if len(b) == 0 {
			continue
		}
		p, err := decodeParts(b)
		if err != nil {
			return nil, 0, err
		}
		last = max(last, p.Checkpoint)
		for _, f := range p.Parts {
			temps[f.Temp] = true
		}
	}
	return temps, last, nil
}

// owned says whether the folder is marked as this sink's. One that is another
// sink's may hold files which that has prepared and not yet committed.
func (s *Parts[T]) owned(env *pipeline.SinkEnv) (bool, error) {
	path := filepath.Join(s.dir, ownerName)
	b, err := readWhole(s.disk, path)
	if b == nil || err != nil {
		return false, err
	}
	var o owner
	if err := decodeVersioned(b, &o); err != nil {
		return false, fmt.Errorf("read %q: %w", path, err)
	}
	if o.Operator == env.Operator {
		return true, nil
	}
	if env.Prepared == nil && (s.cfg.overwrite || s.cfg.appending) {
		return false, nil
	}
	return false, fmt.Errorf("write %q: the folder is that of sink %q", s.dir, o.Operator)
}

// meet handles a part file that is there under its final name.
func (s *Parts[T]) meet(name string, restored bool, last int64) error {
	path := filepath.Join(s.dir, name)
	if restored {
		number, err := strconv.ParseInt(partName.FindStringSubmatch(name)[1], 10, 64)
		if err == nil && last > 0 && number > last {
			return fmt.Errorf("write %q: was committed after checkpoint %d, from which the job starts: its results would be there twice; move later part files away", path, last)
		}
		return nil
	}
	switch {
	case s.cfg.appending:
		return nil
	case s.cfg.overwrite:
		return s.remove(name)
	}
	return fmt.Errorf("write %q: part of an earlier job: %w (options Overwrite and Append allow it)", path, fs.ErrExist)
}

func (s *Parts[T]) remove(name string) error {
	path := filepath.Join(s.dir, name)
	if err := s.disk.Remove(path); err != nil {
		return writeError(path, err)
	}
	return nil
}

// partFiles makes one subtask's files. It is the io.Writer of a format, and
// begins a file with the first byte.
type partFiles struct {
	disk     disk
	dir, ext string
	env      *pipeline.SinkEnv

	f      file   // nil between files
	temp   string // name of f
	size   int64  // of f
	made   int    // files, over all checkpoints
	done   []part // whole and on disk, for the next checkpoint; without names yet
	failed error  // the first failure: what is in the files is not known any more
}

func (p *partFiles) Write(b []byte) (int, error) {
	if p.failed == nil && p.f == nil {
		p.begin()
	}
	if p.failed != nil {
		return 0, p.failed
	}
	n, err := p.f.Write(b)
	p.size += int64(n)
	if err != nil {
		p.fail(p.temp, err)
	}
	return n, p.failed
}

func (p *partFiles) path(name string) string { return filepath.Join(p.dir, name) }

func (p *partFiles) fail(name string, err error) { p.failed = writeError(p.path(name), err) }

func (p *partFiles) begin() {
	run := p.env.Run
	if run == "" {
		run = "0"
	}
	p.temp = fmt.Sprintf(".part-%05d-%s-%03d.tmp", p.env.Subtask, run, p.made)
	f, err := p.disk.OpenFile(p.path(p.temp), os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		p.fail(p.temp, err)
		return
	}
	p.f, p.size = f, 0
	p.made++
}

// finish puts the file on disk.
func (p *partFiles) finish() error {
	if p.failed != nil || p.f == nil {
		return p.failed
	}
	err := p.f.Sync()
	if cerr := p.f.Close(); err == nil {
		err = cerr
	}
	p.f = nil
	p.done = append(p.done, part{Temp: p.temp, Size: p.size})
	if err != nil {
		p.fail(p.temp, err)
	}
	return p.failed
}

// prepare names the files that are done, for the checkpoint.
func (p *partFiles) prepare(checkpoint int64) ([]byte, error) {
	prepared := preparedParts{Version: preparedVersion, Checkpoint: checkpoint, Parts: p.done}
	n := 0
	for i := range p.done {
		name, err := p.free(checkpoint, &n)
		if err != nil {
			p.failed = err
			return nil, err
		}
		p.done[i].Name = name
	}
	if err := p.disk.SyncDir(p.dir); err != nil {
		p.failed = writeError(p.dir, err)
		return nil, p.failed
	}
	p.done = nil // Close leaves them alone
	return encodeVersioned(prepared), nil
}

// free returns the next name that no file has: a job that appends to another's
// files may count its checkpoints from 1 again.
func (p *partFiles) free(checkpoint int64, n *int) (string, error) {
	for {
		name := fmt.Sprintf("part-%05d-%08d-%03d%s", p.env.Subtask, checkpoint, *n, p.ext)
		*n++
		if there, err := present(p.disk, p.path(name)); err != nil || !there {
			return name, err
		}
	}
}

// commit gives the file its name, unless it has it already.
func (p *partFiles) commit(f part) error {
	temp, final := p.path(f.Temp), p.path(f.Name)
	from, err := p.disk.Stat(temp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return writeError(temp, err)
	}
	to, terr := p.disk.Stat(final)
	if terr != nil && !errors.Is(terr, fs.ErrNotExist) {
		return writeError(final, terr)
	}
	switch {
	case err != nil && terr != nil:
		return fmt.Errorf("commit %q: results are missing: neither it nor %q is there", final, temp)
	case err != nil:
		return sized(final, to, f.Size)
	case terr == nil:
		return fmt.Errorf("commit %q as %q: %w", temp, final, fs.ErrExist)
	}
	if err := sized(temp, from, f.Size); err != nil {
		return err
	}
	if err := p.disk.Rename(temp, final); err != nil {
		return writeError(final, err)
	}
	return nil
}

func sized(path string, fi fs.FileInfo, want int64) error {
	if fi.Size() == want {
		return nil
	}
	return fmt.Errorf("commit %q: results are missing: the file has %d bytes, the checkpoint has %d", path, fi.Size(), want)
}

// abandon removes what no checkpoint has, as far as that works: the next start
// removes the rest.
func (p *partFiles) abandon() {
	if p.f != nil {
		_ = p.f.Close()
		_ = p.disk.Remove(p.path(p.temp))
		p.f = nil
	}
	for _, f := range p.done {
		_ = p.disk.Remove(p.path(f.Temp))
	}
	p.done = nil
}

// partWriter writes one subtask's records.
type partWriter[T any] struct {
	*partFiles
	format format[T]
	claim  *claim
	rollAt int64
	closed bool
}

func (w *partWriter[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	if w.failed != nil {
		return w.failed
	}
	if err := w.keep(w.format.write(b)); err != nil {
		return err
	}
	if w.format.size() < w.rollAt {
		return nil
	}
	return w.endFile()
}

// keep makes a format's failure one for good.
func (w *partWriter[T]) keep(err error) error {
	if w.failed == nil && err != nil {
		w.failed = writeError(w.dir, err)
	}
	return w.failed
}

func (w *partWriter[T]) endFile() error {
	if w.failed != nil {
		return w.failed
	}
	if err := w.keep(w.format.end()); err != nil {
		return err
	}
	return w.finish()
}

// Prepare ends the file, so that what the checkpoint has is whole files.
func (w *partWriter[T]) Prepare(_ context.Context, checkpoint int64) ([]byte, error) {
	if err := w.claim.holds(); err != nil {
		return nil, err
	}
	if err := w.endFile(); err != nil || len(w.done) == 0 {
		return nil, err
	}
	return w.prepare(checkpoint)
}

// Commit renames files, of this run or an earlier one.
func (w *partWriter[T]) Commit(_ context.Context, prepared []byte) error {
	if err := w.claim.holds(); err != nil {
		return err
	}
	p, err := decodeParts(prepared)
	if err != nil {
		return err
	}
	for _, f := range p.Parts {
		if err := w.commit(f); err != nil {
			return err
		}
	}
	// Also when all had their names: whoever gave them may have been killed
	// before this.
	if err := w.disk.SyncDir(w.dir); err != nil {
		return writeError(w.dir, err)
	}
	return nil
}

// Close drops what was not prepared.
func (w *partWriter[T]) Close() error {
	if w.closed {
		return fmt.Errorf("write %q: %w", w.dir, fs.ErrClosed)
	}
	w.closed = true
	w.abandon()
	return w.claim.release()
}
