package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kinds of manifest.
const (
	KindCheckpoint = "checkpoint"
	KindSavepoint  = "savepoint"
)

// Manifest says what a checkpoint holds: the state and the positions of every
// operator at one instant of the job. It is data only; the store fills in what
// it says of the store itself.
type Manifest struct {
	Format         int        `json:"format"`            // of the manifest; filled in by Commit
	Program        string     `json:"program,omitempty"` // the version that wrote it; filled in by Commit
	Job            string     `json:"job"`               // filled in by Commit if the store knows it
	ID             int64      `json:"id"`                // filled in by Commit
	Name           string     `json:"name,omitempty"`    // of a savepoint; filled in by Commit
	Kind           string     `json:"kind"`              // checkpoint or savepoint; filled in by Commit
	Created        int64      `json:"created"`           // milliseconds since the epoch; filled in by Commit if 0
	Run            string     `json:"run"`               // which opening of the store wrote it; filled in by Commit
	MaxParallelism int        `json:"maxParallelism"`    // the number of key groups
	Finished       bool       `json:"finished"`          // the input had ended: there is nothing left to do
	Operators      []Operator `json:"operators"`

	base string // the directory that the paths of files start from
}

// Operator is what a checkpoint holds of one operator.
type Operator struct {
	Name        string    `json:"name"`
	Kind        string    `json:"kind"` // source, operator or sink
	Parallelism int       `json:"parallelism"`
	KeyType     string    `json:"keyType,omitempty"`
	States      []State   `json:"states,omitempty"`
	Subtasks    []Subtask `json:"subtasks"`
}

// State is a state that an operator declared.
type State struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"` // value, group or timers
	Type     string   `json:"type,omitempty"`
	Versions []uint32 `json:"versions,omitempty"` // of encodings that occur in it
	Shape    string   `json:"shape,omitempty"`    // what it means depends on this
}

// Subtask is what a checkpoint holds of one subtask.
type Subtask struct {
	Index     int        `json:"index"`
	First     int        `json:"first"` // key groups [First, End)
	End       int        `json:"end"`
	Watermark int64      `json:"watermark"`
	Ended     bool       `json:"ended,omitempty"` // its input had ended
	Keyed     *Snapshot  `json:"keyed,omitempty"`
	Splits    []Split    `json:"splits,omitempty"`
	Prepared  []Prepared `json:"prepared,omitempty"`
}

// Split is how far a source had read one of its splits.
type Split struct {
	Name      string `json:"name"`
	Position  []byte `json:"position,omitempty"`
	Watermark int64  `json:"watermark"`
	Idle      bool   `json:"idle,omitempty"`
	Finished  bool   `json:"finished,omitempty"`
}

// Prepared is output that a sink had made ready and not yet committed.
type Prepared struct {
	Checkpoint int64  `json:"checkpoint"`
	Data       []byte `json:"data,omitempty"`
	Files      []File `json:"files,omitempty"` // that it is kept in, beside Data
}

// Snapshot is the keyed state of a subtask.
type Snapshot struct {
	Format  string `json:"format"` // pebble or table
	Files   []File `json:"files"`
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`
}

// File refers to a file of a checkpoint.
type File struct {
	Name     string   `json:"name"` // its name within the snapshot
	Path     string   `json:"path"` // slash-separated, from the store, or from the savepoint for a savepoint
	Size     int64    `json:"size"`
	Checksum Checksum `json:"checksum"`
}

func (f File) sum() sum { return sum{f.Size, f.Checksum} }

// shared tells whether the file never changes, so that a link to it will do.
func (f File) shared() bool { return strings.HasPrefix(f.Path, sharedDir+"/") }

// Checksum is the xxhash64 (seed 0) of a file, written as 16 hexadecimal
// digits.
type Checksum uint64

// String returns the 16 digits.
func (c Checksum) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// MarshalText is part of the manifest's format.
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is part of the manifest's format.
func (c *Checksum) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("checksum %q is not 16 hexadecimal digits", text)
	}
	*c = Checksum(v)
	return nil
}

// Operator returns the operator of that name, or nil.
func (m *Manifest) Operator(name string) *Operator {
	for i := range m.Operators {
		if m.Operators[i].Name == name {
			return &m.Operators[i]
		}
	}
	return nil
}

// Label returns what to call the checkpoint in a message or at a prompt:
// chk-0000000042, or the savepoint's name.
func (m *Manifest) Label() string {
	if m.Kind == KindSavepoint {
		return m.Name
	}
	return checkpointName(m.ID)
}

// Files returns every file that the manifest names, each path once.
func (m *Manifest) Files() []File {
	var all []File
	seen := map[string]bool{}
	for f := range m.eachFile() {
		if !seen[f.Path] {
			seen[f.Path] = true
			all = append(all, *f)
		}
	}
	return all
}

func (m *Manifest) eachFile() func(yield func(*File) bool) {
	return func(yield func(*File) bool) {
		for i := range m.Operators {
			for j := range m.Operators[i].Subtasks {
				for _, files := range m.Operators[i].Subtasks[j].files() {
					for k := range files {
						if !yield(&files[k]) {
							return
						}
					}
				}
			}
		}
	}
}

// files returns all lists of files.
func (t *Subtask) files() [][]File {
	var all [][]File
	if t.Keyed != nil {
		all = append(all, t.Keyed.Files)
	}
	for _, p := range t.Prepared {
		all = append(all, p.Files)
	}
	return all
}

// validate holds for what is written and for what is read: nobody restores from
// key groups that overlap the end or from a path that leaves the store.
func (m *Manifest) validate() error {
	var all []error
	invalid := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	switch {
	case m.Kind != KindCheckpoint && m.Kind != KindSavepoint:
		invalid("kind is %q", m.Kind)
	case (m.Kind == KindSavepoint) != (m.Name != ""):
		invalid("a %s with the name %q", m.Kind, m.Name)
	}
	if m.Name != "" {
		all = append(all, validName(m.Name))
	}
	if m.ID < 1 {
		invalid("id is %d", m.ID)
	}
	seen := map[string]bool{}
	for i := range m.Operators {
		op := &m.Operators[i]
		if op.Name == "" || seen[op.Name] || !utf8.ValidString(op.Name) {
			invalid("operator name %q is empty, occurs twice, or is not UTF-8", op.Name)
		}
		seen[op.Name] = true
		if err := op.validate(m.MaxParallelism); err != nil {
			invalid("operator %q: %w", op.Name, err)
		}
	}
	return errors.Join(all...)
}

func (op *Operator) validate(maxParallelism int) error {
	for i := range op.Subtasks {
		t := &op.Subtasks[i]
		if t.First < 0 || t.First > t.End || t.End > maxParallelism {
			return fmt.Errorf("subtask %d: key groups [%d, %d) of %d", t.Index, t.First, t.End, maxParallelism)
		}
		if err := t.validate(); err != nil {
			return fmt.Errorf("subtask %d: %w", t.Index, err)
		}
	}
	return nil
}

func (t *Subtask) validate() error {
	for _, s := range t.Splits {
		// JSON would put something else in its place, and the split not be found
		// again.
		if !utf8.ValidString(s.Name) {
			return fmt.Errorf("split name %q is not UTF-8", s.Name)
		}
	}
	for _, files := range t.files() {
		for _, f := range files {
			if err := f.validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f File) validate() error {
	switch {
	case validName(f.Name) != nil:
		return fmt.Errorf("file %q: %w", f.Name, validName(f.Name))
	case !fs.ValidPath(f.Path) || strings.ContainsRune(f.Path, '\\'):
		return fmt.Errorf("file %q: path %q leads out of the store", f.Name, f.Path)
	case f.Size < 0:
		return fmt.Errorf("file %q: size is %d", f.Name, f.Size)
	}
	return nil
}

// validName holds names of files and savepoints to what every file system takes
// as a name.
func validName(name string) error {
	const longest = 128
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > longest:
		return fmt.Errorf("the name has more than %d bytes", longest)
	case name[0] == '.':
		return fmt.Errorf("the name %q starts with a dot", name)
	}
	for _, r := range name {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return fmt.Errorf("the name %q has %q in it: letters, digits, dots, dashes and underscores are allowed", name, r)
		}
	}
	return nil
}
