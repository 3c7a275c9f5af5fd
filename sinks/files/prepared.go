package files

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// preparedVersion is that of what Prepare returns, and of the marker files. The
// formats are described in docs/format/files.md.
const preparedVersion = 1

// preparedParts is what one subtask has prepared of part files.
type preparedParts struct {
	Version    int    `json:"version"`
	Checkpoint int64  `json:"checkpoint"`
	Parts      []part `json:"parts"`
}

// part is a whole file that waits for its name.
type part struct {
	Temp string `json:"temp"`
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// preparedFile is how far a growing file has come.
type preparedFile struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Size    int64  `json:"size"`
}

var (
	tempName = regexp.MustCompile(`^\.part-[0-9]{5,}-[0-9A-Za-z]+-[0-9]{3,}\.tmp$`)
	partName = regexp.MustCompile(`^part-[0-9]{5,}-([0-9]{8,})-[0-9]{3,}(\.[^/\\]+)?$`)
)

func decodeParts(b []byte) (*preparedParts, error) {
	p := &preparedParts{}
	if err := decodeVersioned(b, p); err != nil {
		return nil, err
	}
	for _, f := range p.Parts {
		// The names are used in a folder: they must not lead out of it.
		if !tempName.MatchString(f.Temp) || !partName.MatchString(f.Name) || f.Size < 0 {
			return nil, fmt.Errorf("prepared part files: part %+v is not one of this sink's", f)
		}
	}
	return p, nil
}

func decodeFile(b []byte) (*preparedFile, error) {
	p := &preparedFile{}
	if err := decodeVersioned(b, p); err != nil {
		return nil, err
	}
	if p.Name == "" || p.Size < 0 {
		return nil, fmt.Errorf("prepared file: %+v has no name or size", *p)
	}
	return p, nil
}

// decodeVersioned reads the version first: of a later one nothing else is
// known.
func decodeVersioned(b []byte, into any) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("prepared results: %w", err)
	}
	if v.Version != preparedVersion {
		return fmt.Errorf("prepared results: version %d, this program knows version %d", v.Version, preparedVersion)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("prepared results: %w", err)
	}
	return nil
}

func encodeVersioned(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err)) // the types above always encode
	}
	return b
}
