package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// manifestFormat is the format this version writes, and the highest it reads.
const manifestFormat = 1

// ErrDamaged says that what is on the disk is not what was written there: a
// manifest that is torn, a file of another size or checksum, or missing.
var ErrDamaged = errors.New("damaged")

// ErrNewerFormat says that a later version of this program wrote the store or
// the checkpoint. Run that version.
var ErrNewerFormat = errors.New("written by a newer version")

// The last line of a manifest, which every later format keeps too: so a reader
// can tell a format it does not know from damage.
const checksumName = "checksum xxhash64 "

func checksumLine(c Checksum) string { return checksumName + c.String() + "\n" }

// encodeManifest returns the bytes of the file MANIFEST.
func encodeManifest(m *Manifest) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	b.WriteString(checksumLine(Checksum(xxhash.Sum64(b.Bytes()))))
	return b.Bytes(), nil
}

// decodeManifest reads the bytes of a file MANIFEST.
func decodeManifest(b []byte) (*Manifest, error) {
	body, err := checkedBody(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := checkFormat(body); err != nil {
		return nil, err
	}
	m := &Manifest{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return m, nil
}

// checkedBody returns what is before the last line, which has to be its
// checksum.
func checkedBody(b []byte) ([]byte, error) {
	end := bytes.LastIndex(b, []byte("\nchecksum "))
	if end < 0 {
		return nil, fmt.Errorf("the last of its %d bytes is not the end of a manifest: there is no checksum line", len(b))
	}
	body, line := b[:end+1], string(b[end+1:])
	var want Checksum
	digits := strings.TrimSuffix(strings.TrimPrefix(line, checksumName), "\n")
	if err := want.UnmarshalText([]byte(digits)); err != nil || line != checksumLine(want) {
		return nil, fmt.Errorf("its last line %q is not that of a manifest", line)
	}
	if got := Checksum(xxhash.Sum64(body)); got != want {
		return nil, fmt.Errorf("its content has the checksum %s, its last line says %s", got, want)
	}
	return body, nil
}

func checkFormat(body []byte) error {
	var head struct {
		Format  int    `json:"format"`
		Program string `json:"program"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	switch {
	case head.Format > manifestFormat && head.Program != "":
		return fmt.Errorf("%w: its format is %d, written by %s; this is %s and reads up to format %d",
			ErrNewerFormat, head.Format, head.Program, programVersion(), manifestFormat)
	case head.Format > manifestFormat:
		return fmt.Errorf("%w: its format is %d; this is %s and reads up to format %d",
			ErrNewerFormat, head.Format, programVersion(), manifestFormat)
	case head.Format < 1:
		return fmt.Errorf("%w: its format is %d", ErrDamaged, head.Format)
	}
	return nil
}

// modulePath finds this module among those a program was built of.
const modulePath = "github.com/millrace/millrace"

// programVersion returns the version of this module as built into the program.
var programVersion = sync.OnceValue(func() string {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == modulePath && m.Version != "" {
				version = m.Version
			}
		}
	}
	return "millrace " + version
})
