package clickhouse

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/millrace/millrace/pipeline"
)

// preparedVersion is that of what Prepare returns, and of staged files. The formats
// are described in docs/format/clickhouse.md.
const preparedVersion = 1

// prepared is what one subtask has prepared.
type prepared struct {
	Version int `json:"version"`
	// Time is when, in milliseconds by the writer's clock.
	Time int64 `json:"time"`
	// Table is where the rows belong.
	Table string `json:"table"`
	// File is the staged file with the blocks, empty if there are none.
	File   string `json:"file,omitempty"`
	Blocks int    `json:"blocks,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
	// Letters are rows that the server has refused and that nobody was told of, and
	// LettersFile the staged file that holds them where they are many.
	Letters     []letter `json:"letters,omitempty"`
	LettersFile string   `json:"letters_file,omitempty"`
}

func (p *prepared) encode() ([]byte, error) { return json.Marshal(p) }

func decodePrepared(b []byte) (*prepared, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("prepared rows: %w", err)
	}
	if v.Version != preparedVersion {
		return nil, fmt.Errorf("prepared rows: version %d, this program knows version %d", v.Version, preparedVersion)
	}
	p := &prepared{}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("prepared rows: %w", err)
	}
	for _, name := range []string{p.File, p.LettersFile} {
		if strings.ContainsAny(name, `/\`) {
			return nil, fmt.Errorf("prepared rows: %q is no name of a staged file", name)
		}
	}
	if p.Blocks < 0 || p.Rows < 0 || (p.File == "") != (p.Blocks == 0) {
		return nil, fmt.Errorf("prepared rows: %d blocks with %d rows in file %q make no sense", p.Blocks, p.Rows, p.File)
	}
	return p, nil
}

// lettersInline is how many bytes of letters go into the checkpoint itself.
const lettersInline = 2 << 10

// keep takes letters into what is prepared, by a staged file where they are many.
func (p *prepared) keep(letters []letter, staging *pipeline.Staging) error {
	if len(letters) == 0 {
		return nil
	}
	text, err := json.Marshal(letters)
	if err != nil {
		return err
	}
	if len(text) <= lettersInline || staging == nil {
		p.Letters = letters
		return nil
	}
	f, err := staging.Create()
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	p.LettersFile = f.Name()
	return errors.Join(err, f.Close())
}

// letters returns what keep has kept.
func (p *prepared) letters(staging *pipeline.Staging) (letters []letter, err error) {
	if p.LettersFile == "" {
		return p.Letters, nil
	}
	f, err := staging.Open(p.LettersFile)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = json.Unmarshal(text, &letters)
	}
	if err != nil {
		return nil, fmt.Errorf("staged file %q: %w", p.LettersFile, err)
	}
	return append(letters, p.Letters...), nil
}

// stagedHead begins a staged file: how its blocks are inserted, today and by a later
// program.
type stagedHead struct {
	Version   int    `json:"version"`
	Statement string `json:"statement"`
	// Selects says that it has a SELECT, which is to make one block of one.
	Selects bool `json:"selects,omitempty"`
}

const maxStagedHead = 1 << 20

func writeStagedHead(w io.Writer, p *plan) error {
	head, err := json.Marshal(stagedHead{preparedVersion, p.statement, p.selects})
	if err != nil {
		return err
	}
	_, err = w.Write(append(head, '\n'))
	return err
}

func readStagedHead(r *bufio.Reader) (*stagedHead, error) {
	var line []byte
	for len(line) == 0 || line[len(line)-1] != '\n' {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxStagedHead {
			return nil, fmt.Errorf("%w: its head does not end", errDamaged)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("%w: its head: %w", errDamaged, err)
		}
	}
	h := &stagedHead{}
	if err := json.Unmarshal(line, h); err != nil {
		return nil, fmt.Errorf("%w: its head: %w", errDamaged, err)
	}
	if h.Version != preparedVersion {
		return nil, fmt.Errorf("version %d, this program knows version %d", h.Version, preparedVersion)
	}
	return h, nil
}
