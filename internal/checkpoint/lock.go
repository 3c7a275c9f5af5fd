package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrLocked says that somebody else has the store open. The error names who.
var ErrLocked = errors.New("store is in use")

// holder is what HOLDER says of the process that has the store open. It is for
// people; the lock is LOCK.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Job   string    `json:"job"`
	Since time.Time `json:"since"`
}

func (h holder) String() string {
	return fmt.Sprintf("process %d on %s, job %q, since %s", h.PID, h.Host, h.Job, h.Since.Format(time.RFC3339))
}

// openStores are the stores this process has open. Locks of the operating
// system belong to the process, so a second one of the same process would be
// granted, and closing it would release the first.
var openStores = struct {
	sync.Mutex
	held map[storeKey]bool
}{held: map[storeKey]bool{}}

type storeKey struct {
	fs  vfs.FS
	dir string
}

// lock is a store held by this process.
type lock struct {
	disk disk
	dir  string
	key  storeKey
	file io.Closer
}

// acquire locks the store. The directory has to exist.
func acquire(d disk, dir, job string) (*lock, error) {
	l := &lock{disk: d, dir: dir, key: keyOf(d, dir)}
	if err := l.register(); err != nil {
		return nil, l.refused(err)
	}
	if err := l.lockFile(); err != nil {
		l.unregister()
		return nil, err
	}
	if err := l.writeHolder(job); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// keyOf returns what the store is known by however it is spelled.
func keyOf(d disk, dir string) storeKey {
	root := vfs.Root(d.FS)
	if root == vfs.Default {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
	}
	return storeKey{root, dir}
}

func (l *lock) register() error {
	openStores.Lock()
	defer openStores.Unlock()
	if openStores.held[l.key] {
		return errors.New("this process has it open already")
	}
	openStores.held[l.key] = true
	return nil
}

func (l *lock) unregister() {
	openStores.Lock()
	defer openStores.Unlock()
	delete(openStores.held, l.key)
}

// lockFile takes the lock that other processes see. Nothing else may open LOCK:
// to close any descriptor of it would release the lock.
func (l *lock) lockFile() error {
	path := l.disk.PathJoin(l.key.dir, lockName)
	file, err := l.disk.Lock(path)
	if heldElsewhere(err) {
		return l.refused(err)
	}
	l.file = file
	return pathError("lock", path, err)
}

// heldElsewhere tells a lock that somebody has from a file that can't be made,
// whose error names it.
func heldElsewhere(err error) bool {
	var making *fs.PathError
	return !errors.As(err, &making) && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES))
}

func (l *lock) refused(cause error) error {
	by := "unknown: " + holderName + " can't be read"
	if b, err := l.disk.read(l.disk.PathJoin(l.dir, holderName)); err == nil {
		var h holder
		if json.Unmarshal(b, &h) == nil {
			by = h.String()
		}
	}
	return fmt.Errorf("%w: %s is held by %s (%w); stop it, or give this job a directory of its own",
		ErrLocked, l.dir, by, cause)
}

func (l *lock) writeHolder(job string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	b, err := json.Marshal(holder{os.Getpid(), host, job, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	return l.disk.write(l.disk.PathJoin(l.dir, holderName), append(b, '\n'))
}

func (l *lock) release() error {
	defer l.unregister()
	return errors.Join(l.disk.remove(l.disk.PathJoin(l.dir, holderName)), l.file.Close())
}
