package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// list returns the files that a pattern matches, sorted. A pattern that is the
// name of a file stands for that file, whatever characters are in it.
// Directories that a real pattern matches are passed over; one that is named
// is an error.
func list(pattern string, log *slog.Logger) ([]string, error) {
	if fi, err := os.Stat(pattern); err == nil {
		if fi.IsDir() {
			return nil, fmt.Errorf("read %q: is a directory", pattern)
		}
		return []string{pattern}, nil
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	slices.Sort(paths)
	var regular []string
	for _, path := range paths {
		fi, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted, or a dangling link
			log.Warn("file vanished while listing", "path", path)
		case err != nil:
			return nil, readError(path, err)
		case fi.Mode().IsRegular():
			regular = append(regular, path)
		default:
			log.Debug("not a regular file, not read", "path", path)
		}
	}
	return regular, nil
}

// noMatch says that a bounded source has nothing to read.
func noMatch(pattern string) error {
	if !strings.ContainsAny(pattern, `*?[\`) {
		return fmt.Errorf("read %q: %w", pattern, fs.ErrNotExist)
	}
	return fmt.Errorf("read %q: no file matches the pattern", pattern)
}

// lister makes the subtasks of a job divide one list. Would each make its
// own, a file that appears meanwhile would shift the others, and one might be
// read twice or not at all.
type lister struct {
	mu     sync.Mutex
	ctx    context.Context // of the job the list was made for; guarded by mu
	served map[int]bool    // the subtasks that have it; guarded by mu
	of     int             // guarded by mu
	paths  []string        // guarded by mu
	err    error           // guarded by mu
}

// list returns the list for a subtask. It is made anew for another job, which
// shows in the context or in a subtask that has asked before.
func (l *lister) list(ctx context.Context, pattern string, subtask, parallelism int, log *slog.Logger) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx != ctx || l.of != parallelism || l.served[subtask] {
		l.ctx, l.of, l.served = ctx, parallelism, map[int]bool{}
		l.paths, l.err = list(pattern, log)
	}
	l.served[subtask] = true
	if len(l.served) == parallelism {
		defer func() { l.ctx, l.paths = nil, nil }()
	}
	return l.paths, l.err
}
