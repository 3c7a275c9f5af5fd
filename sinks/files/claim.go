package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/millrace/millrace/pipeline"
)

// claim is a sink's hold on a file or folder while it is open, shared by its
// subtasks: two sinks that write one place would take each other's files for
// their own.
type claim struct {
	disk     disk
	path     string
	operator string
	run      string
	writers  int
	lock     io.Closer // against other processes; nil for none
	lost     bool      // to a later start of the job
}

type place struct {
	disk disk
	path string
}

// claims are those of this process.
var claims = struct {
	mu   sync.Mutex
	held map[place]*claim // guarded by mu, with the claims in it
}{held: map[place]*claim{}}

// lay claims path for env's operator, and with lockPath locks it against other
// processes. A start of the same operator takes the place over from an earlier
// one: that one was killed, or else it notices at its next checkpoint.
func lay(d disk, path, lockPath string, env *pipeline.SinkEnv) (*claim, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, writeError(path, err)
	}
	claims.mu.Lock()
	defer claims.mu.Unlock()
	at := place{d, full}
	c := claims.held[at]
	switch {
	case c == nil:
		c = &claim{disk: d, path: full, operator: env.Operator, run: env.Run}
		if c.lock, err = acquire(d, path, lockPath); err != nil {
			return nil, err
		}
	case c.operator != env.Operator:
		return nil, fmt.Errorf("write %q: sink %q writes there", path, c.operator)
	case c.run != env.Run:
		c.lost = true
		c = &claim{disk: d, path: full, operator: env.Operator, run: env.Run, lock: c.lock}
	}
	c.writers++
	claims.held[at] = c
	return c, nil
}

func acquire(d disk, path, lockPath string) (io.Closer, error) {
	if lockPath == "" {
		return nil, nil
	}
	lock, err := d.Lock(lockPath)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return nil, writeError(lockPath, err) // could not be made
	}
	if err != nil {
		return nil, fmt.Errorf("write %q: another process writes there: lock %q: %w", path, lockPath, err)
	}
	return lock, nil
}

// holds returns an error once the place is another start's.
func (c *claim) holds() error {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	if c.lost {
		return fmt.Errorf("write %q: another start of sink %q has taken over", c.path, c.operator)
	}
	return nil
}

// release ends one writer's share.
func (c *claim) release() error {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	c.writers--
	if c.writers > 0 || c.lost {
		return nil
	}
	delete(claims.held, place{c.disk, c.path})
	if c.lock != nil {
		return c.lock.Close()
	}
	return nil
}
