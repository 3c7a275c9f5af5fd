package files

import (
	"io"
	"path/filepath"
	"sync"
)

// claims says which split reads which file, among the readers of a following
// source. The pattern may match a file under the name it was rotated to, and
// the reader that has that name must not read it again.
//
// A file that is open is known by its number alone, which nothing else can
// have meanwhile. One that was closed is known by its first bytes too, since
// numbers of deleted files are used again; and one that was compressed by its
// first bytes alone.
type claims struct {
	mu  sync.Mutex
	all map[any]map[number]*claim // by reader; guarded by mu
}

type number struct{ dev, ino uint64 }

func (id identity) number() number { return number{id.Dev, id.Ino} }

type claim struct {
	split string
	id    identity
	open  bool
}

// surelyHashed is how many first bytes tell a file from all others without the
// help of its number. Logs differ early, in the time of their first line.
const surelyHashed = 64

// set notes what a split reads, or where open is not set, has read.
func (c *claims) set(reader any, split string, id identity, open bool) {
	if id.Ino == 0 && id.Head < surelyHashed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[any]map[number]*claim{}
	}
	if c.all[reader] == nil {
		c.all[reader] = map[number]*claim{}
	}
	c.all[reader][id.number()] = &claim{split: split, id: id, open: open}
}

// release forgets what a reader claimed.
func (c *claims) release(reader any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, reader)
}

// owner returns the split that reads or has read the file at path.
func (c *claims) owner(path string, id identity) (string, bool) {
	candidates := c.candidates(path, id)
	if len(candidates) == 0 {
		return "", false
	}
	for _, k := range candidates {
		if k.open && k.id.sameFile(id) {
			return k.split, true
		}
	}
	head, compressed, err := headOf(path)
	if err != nil {
		return "", false // opening it will say so again
	}
	for _, k := range candidates {
		if (k.id.sameFile(id) || (compressed && k.id.Head >= surelyHashed)) && k.id.Head > 0 && k.id.begins(head) {
			return k.split, true
		}
	}
	return "", false
}

// candidates returns copies of the claims that may be about the file at path.
func (c *claims) candidates(path string, id identity) []claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []claim
	for _, claims := range c.all {
		for _, k := range claims {
			if k.id.sameFile(id) || (!k.open && filepath.Dir(k.split) == filepath.Dir(path)) {
				found = append(found, *k)
			}
		}
	}
	return found
}

// headOf returns the first bytes of a file's content.
func headOf(path string) (head []byte, compressed bool, err error) {
	st, err := openStream(path)
	if err != nil {
		return nil, false, err
	}
	defer st.close()
	head = make([]byte, headSize)
	n, err := io.ReadFull(st, head)
	if err != nil && n == 0 && err != io.EOF {
		return nil, false, err
	}
	return head[:n], st.compressed != "", nil
}
