package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is something that is wrong with a store.
type Problem struct {
	Checkpoints []string // those it concerns, by name
	Path        string   // slash-separated, within the store
	Err         error
	Note        bool // nothing is lost: a leftover that the next Open removes
}

// String returns the problem as a line of text.
func (p Problem) String() string {
	text := p.Path + ": " + p.Err.Error()
	if len(p.Checkpoints) > 0 {
		text += " (needed by " + strings.Join(p.Checkpoints, ", ") + ")"
	}
	return text
}

// Verify reads every manifest and every file that one names, and compares size
// and checksum. It may run beside the job; what is pruned meanwhile is no
// problem, and what is in the making shows as leftovers. Progress, which may be
// nil, hears from time to time how many bytes are read, out of how many.
//
// Verify returns what it found, and an error when it could not go on: the
// context's, or that the directory can't be listed.
func (s *Store) Verify(ctx context.Context, progress func(done, total int64)) ([]Problem, error) {
	v := &verifier{s: s, ctx: ctx, progress: progress, files: map[string]*verified{}}
	err := v.run()
	return v.problems, err
}

type verifier struct {
	s        *Store
	ctx      context.Context
	progress func(done, total int64)
	files    map[string]*verified // by path on the disk
	order    []*verified
	problems []Problem
	done     int64
	total    int64
}

// verified is a file that somebody needs.
type verified struct {
	path   string // on the disk
	want   sum
	needed []Listed
}

func (v *verifier) run() error {
	all, err := v.s.List()
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Err != nil {
			v.problem(Problem{Checkpoints: []string{l.Name}, Path: v.within(v.s.disk.PathJoin(l.Dir, manifestName)), Err: withoutPath(l.Err)})
			continue
		}
		for _, f := range l.Manifest.Files() {
			v.need(l, f)
		}
	}
	for _, f := range v.order {
		if err := v.check(f); err != nil {
			return err
		}
	}
	if v.s.single {
		return nil
	}
	return v.leftovers(all)
}

func (v *verifier) need(l Listed, f File) {
	path := v.s.local(l.Manifest.base, f.Path)
	known := v.files[path]
	if known == nil {
		known = &verified{path: path, want: f.sum()}
		v.files[path] = known
		v.order = append(v.order, known)
		v.total += f.Size
	}
	if known.want != f.sum() {
		v.problem(Problem{Checkpoints: []string{l.Name}, Path: v.within(path),
			Err: fmt.Errorf("%w: it is said to have %v, by %s %v", ErrDamaged, f.sum(), known.needed[0].Name, known.want)})
	}
	known.needed = append(known.needed, l)
}

func (v *verifier) check(f *verified) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	start := v.done
	got, err := v.s.disk.sumOf(f.path, v.read)
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	v.done = start + f.want.size
	v.tell()
	switch {
	case missing(err):
		err = fmt.Errorf("%w: the file is missing", ErrDamaged)
	case err == nil && got != f.want:
		err = differs(f.want, got)
	}
	if err != nil && v.stillNeeded(f) {
		v.problem(Problem{Checkpoints: namesOf(f.needed), Path: v.within(f.path), Err: err})
	}
	return nil
}

func (v *verifier) read(bytes int) error {
	v.done += int64(bytes)
	v.tell()
	return v.ctx.Err()
}

func (v *verifier) tell() {
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

// withoutPath takes the path from before the error of a manifest, since the
// problem has it.
func withoutPath(err error) error {
	if missing(err) {
		return fmt.Errorf("%w: the file is missing", ErrDamaged)
	}
	return cmp.Or(errors.Unwrap(err), err)
}

// stillNeeded leaves only those that have not been pruned meanwhile.
func (v *verifier) stillNeeded(f *verified) bool {
	f.needed = slices.DeleteFunc(f.needed, func(l Listed) bool {
		there, err := v.s.disk.exists(v.s.disk.PathJoin(l.Dir, manifestName))
		return err == nil && !there
	})
	return len(f.needed) > 0
}

func namesOf(all []Listed) []string {
	var names []string
	for _, l := range all {
		names = append(names, l.Name)
	}
	return names
}

func (v *verifier) problem(p Problem) { v.problems = append(v.problems, p) }

// within returns a path as seen from the store.
func (v *verifier) within(path string) string {
	return strings.ReplaceAll(strings.TrimLeft(strings.TrimPrefix(path, v.s.dir), `/\`), `\`, "/")
}

// errLeftover is what notes say.
var errLeftover = errors.New("belongs to no finished checkpoint; the next start of the job removes it")

// leftovers notes what nobody needs. With a checkpoint that can't be read,
// nobody knows.
func (v *verifier) leftovers(all []Listed) error {
	known := map[string]bool{}
	for _, l := range all {
		known[l.Dir] = true
		if l.Err != nil && l.Kind == KindCheckpoint {
			return nil
		}
	}
	for path := range v.files {
		known[path] = true
	}
	return errors.Join(
		v.note(known, "", checkpointPrefix),
		v.note(known, sharedDir, ""),
		v.note(known, savepointsDir, unfinished))
}

func (v *verifier) note(known map[string]bool, in, prefix string) error {
	dir := v.s.path(in)
	names, err := v.s.disk.list(dir)
	for _, name := range names {
		path := v.s.disk.PathJoin(dir, name)
		if strings.HasPrefix(name, prefix) && !known[path] {
			v.problem(Problem{Path: v.within(path), Err: errLeftover, Note: true})
		}
	}
	return err
}
