package files

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
)

// position is where a split is to be read on. It is kept as JSON:
//
//	{"v":1,"offset":4096,"line":17,"dev":66306,"ino":131,"head":1024,"hash":"9ae16a3b2f90404f"}
//
// offset is the first byte not yet read, of the decompressed content, and line
// the number of lines before it. dev and ino name the file while it lives under
// any name, zero where the system has none; hash is FNV-1a of its first head
// bytes, at most 1,024 of those before offset, decompressed. Together they tell
// the file from one that took its name. done is the size on disk, plus one, of
// a file that was read to its end, so that a compressed one need not be
// decompressed again to find nothing more. past lists files that had the
// split's name before and may still be there under another.
//
// A reader refuses a version it does not know; fields are never given a new
// meaning.
type position struct {
	Version int        `json:"v"`
	Offset  int64      `json:"offset"`
	Line    int64      `json:"line"`
	Done    int64      `json:"done,omitempty"`
	Past    []identity `json:"past,omitempty"`
	identity
}

// identity recognises a file whatever its name.
type identity struct {
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"`
	Head int    `json:"head,omitempty"`
	Hash string `json:"hash,omitempty"`
}

const (
	positionVersion = 1
	headSize        = 1024 // bytes that are hashed
	maxPast         = 16
)

// append encodes the position. It is done for every batch, hence by hand.
func (p *position) append(b []byte) []byte {
	b = append(b, `{"v":1,"offset":`...)
	b = strconv.AppendInt(b, p.Offset, 10)
	b = append(b, `,"line":`...)
	b = strconv.AppendInt(b, p.Line, 10)
	if p.Done != 0 {
		b = append(b, `,"done":`...)
		b = strconv.AppendInt(b, p.Done, 10)
	}
	if len(p.Past) > 0 {
		b = append(b, `,"past":[`...)
		for i, id := range p.Past {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			b = append(id.append(b), '}')
		}
		b = append(b, ']')
	}
	n := len(b)
	b = append(b, ',')
	if b = p.identity.append(b); len(b) == n+1 {
		b = b[:n]
	}
	return append(b, '}')
}

func (id identity) append(b []byte) []byte {
	n := len(b)
	field := func(name string) {
		if len(b) > n {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `":`...)
	}
	if id.Dev != 0 {
		field("dev")
		b = strconv.AppendUint(b, id.Dev, 10)
	}
	if id.Ino != 0 {
		field("ino")
		b = strconv.AppendUint(b, id.Ino, 10)
	}
	if id.Head != 0 {
		field("head")
		b = strconv.AppendInt(b, int64(id.Head), 10)
		field("hash")
		b = strconv.AppendQuote(b, id.Hash)
	}
	return b
}

func decodePosition(b []byte) (position, error) {
	var p position
	if err := json.Unmarshal(b, &p); err != nil {
		return position{}, fmt.Errorf("position %q: %w", b, err)
	}
	if p.Version != positionVersion {
		return position{}, fmt.Errorf("position %q: version %d is unknown, want %d", b, p.Version, positionVersion)
	}
	if p.Offset < 0 || p.Line < 0 || p.Done < 0 {
		return position{}, fmt.Errorf("position %q: a number is negative", b)
	}
	if !p.valid() {
		return position{}, fmt.Errorf("position %q: bad head", b)
	}
	for _, id := range p.Past {
		if !id.valid() {
			return position{}, fmt.Errorf("position %q: bad head", b)
		}
	}
	return p, nil
}

func (id identity) valid() bool {
	if id.Head == 0 {
		return id.Hash == ""
	}
	_, err := strconv.ParseUint(id.Hash, 16, 64)
	return id.Head > 0 && id.Head <= headSize && len(id.Hash) == 16 && err == nil
}

func hashOf(head []byte) string {
	h := fnv.New64a()
	h.Write(head)
	return fmt.Sprintf("%016x", h.Sum64())
}

// begins says whether a file whose first bytes are head may be the one
// identified. One that has fewer than were hashed is not: it was cut.
func (id identity) begins(head []byte) bool {
	return len(head) >= id.Head && (id.Head == 0 || hashOf(head[:id.Head]) == id.Hash)
}

// sameFile says whether both are known by one number of the file system.
func (id identity) sameFile(other identity) bool {
	return id.Ino != 0 && id.Ino == other.Ino && id.Dev == other.Dev
}
