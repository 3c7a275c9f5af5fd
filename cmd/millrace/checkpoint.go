package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/checkpoint"
)

// columns is a table with aligned columns. Cells end in tabs.
func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// listedJSON is a line of checkpoint list -json.
type listedJSON struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	ID        int64  `json:"id,omitempty"`
	Job       string `json:"job,omitempty"`
	Created   int64  `json:"created,omitempty"` // milliseconds since the epoch
	Operators int    `json:"operators"`
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
	NewBytes  int64  `json:"newBytes"`
	Finished  bool   `json:"finished,omitempty"`
	Error     string `json:"error,omitempty"`
}

func listCheckpoints(c *call) error {
	if err := c.parse(1, 1); err != nil {
		return err
	}
	s, err := checkpoint.OpenReadOnly(vfs.Default, c.args[0])
	if err != nil {
		return err
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	if c.json {
		err = printJSON(c.stdout, listJSON(all))
	} else {
		err = printList(c.stdout, all)
	}
	return cmp.Or(err, tellDamaged(c.stderr, all))
}

func listJSON(all []checkpoint.Listed) []listedJSON {
	out := make([]listedJSON, 0, len(all))
	for _, l := range all {
		j := listedJSON{Name: l.Name, Kind: l.Kind, Files: l.Files, Bytes: l.Bytes, NewBytes: l.New}
		if l.Err != nil {
			j.Error = l.Err.Error()
		}
		if m := l.Manifest; m != nil {
			j.ID, j.Job, j.Created, j.Operators, j.Finished = m.ID, m.Job, m.Created, len(m.Operators), m.Finished
		}
		out = append(out, j)
	}
	return out
}

func printList(w io.Writer, all []checkpoint.Listed) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "There is no checkpoint yet.")
		return err
	}
	t := columns(w)
	fmt.Fprintln(t, "NAME\tKIND\tCREATED\tID\tOPERATORS\tFILES\tSIZE\tNEW\tNOTE")
	for _, l := range all {
		m := l.Manifest
		if m == nil {
			fmt.Fprintf(t, "%s\t%s\t-\t-\t-\t-\t-\t-\t%s\n", l.Name, l.Kind, trouble(l.Err))
			continue
		}
		note := ""
		if m.Finished {
			note = "input ended"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", l.Name, l.Kind, timeText(m.Created), m.ID,
			len(m.Operators), l.Files, bytesText(l.Bytes), bytesText(l.New), dash(note))
	}
	return t.Flush()
}

// trouble is a word for why a manifest can't be read.
func trouble(err error) string {
	switch {
	case errors.Is(err, checkpoint.ErrNewerFormat):
		return "newer format"
	case errors.Is(err, checkpoint.ErrDamaged):
		return "damaged"
	}
	return "unreadable"
}

func tellDamaged(w io.Writer, all []checkpoint.Listed) error {
	var found error
	for _, l := range all {
		if l.Err != nil {
			fmt.Fprintf(w, "millrace: %s: %v\n", l.Name, l.Err)
			found = errProblem
		}
	}
	return found
}

func showCheckpoint(c *call) error {
	if err := c.parse(1, 2); err != nil {
		return err
	}
	s, err := checkpoint.OpenReadOnly(vfs.Default, c.args[0])
	if err != nil {
		return err
	}
	m, err := chosen(s, c.args[1:])
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.stdout, m)
	}
	return printManifest(c.stdout, m)
}

// chosen returns the checkpoint of that name, or without a name the newest, or
// the savepoint if the directory is that of one.
func chosen(s *checkpoint.Store, name []string) (*checkpoint.Manifest, error) {
	if len(name) > 0 {
		return s.Load(name[0])
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	if len(all) == 1 && all[0].Dir == s.Dir() {
		return all[0].Manifest, all[0].Err
	}
	m, err := s.Latest()
	if m == nil && err == nil {
		return nil, fmt.Errorf("%s has no checkpoint yet", s.Dir())
	}
	return m, err
}

func printManifest(w io.Writer, m *checkpoint.Manifest) error {
	t := columns(w)
	fmt.Fprintf(t, "%s\t%s\n", m.Kind, m.Label())
	fmt.Fprintf(t, "id\t%d\n", m.ID)
	fmt.Fprintf(t, "job\t%s\n", m.Job)
	fmt.Fprintf(t, "created\t%s\n", timeText(m.Created))
	fmt.Fprintf(t, "written by\t%s, run %s\n", m.Program, m.Run)
	fmt.Fprintf(t, "max parallelism\t%d\n", m.MaxParallelism)
	fmt.Fprintf(t, "input ended\t%v\n", m.Finished)
	files, size := 0, int64(0)
	for _, f := range m.Files() {
		files++
		size += f.Size
	}
	fmt.Fprintf(t, "files\t%d, %s\n", files, bytesText(size))
	return cmp.Or(t.Flush(), printOperators(w, m), printStates(w, m), printSplits(w, m))
}

func printOperators(w io.Writer, m *checkpoint.Manifest) error {
	t := columns(w)
	fmt.Fprintln(t, "\nOPERATOR\tKIND\tPARALLELISM\tKEYS\tENTRIES\tSTATE\tWATERMARK\tPREPARED")
	for _, op := range m.Operators {
		var entries, size, prepared int64
		watermark := int64(maxTime)
		for _, sub := range op.Subtasks {
			if sub.Keyed != nil {
				entries += sub.Keyed.Entries
				size += sub.Keyed.Bytes
			}
			prepared += int64(len(sub.Prepared))
			watermark = min(watermark, sub.Watermark)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%s\t%s\t%d\n", op.Name, op.Kind, op.Parallelism, dash(op.KeyType),
			entries, bytesText(size), watermarkText(watermark), prepared)
	}
	return t.Flush()
}

func printStates(w io.Writer, m *checkpoint.Manifest) error {
	t := columns(w)
	head := "\nOPERATOR\tSTATE\tKIND\tTYPE\tVERSIONS\n"
	for _, op := range m.Operators {
		for _, s := range op.States {
			fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\n", head, op.Name, s.Name, s.Kind, dash(s.Type), versionsText(s.Versions))
			head = ""
		}
	}
	return t.Flush()
}

// splitsShown is how many splits are readable; a source can have thousands.
const splitsShown = 20

func printSplits(w io.Writer, m *checkpoint.Manifest) error {
	t := columns(w)
	head, more := "\nSOURCE\tSPLIT\tPOSITION\tWATERMARK\tNOTE\n", -splitsShown
	for _, op := range m.Operators {
		for _, sub := range op.Subtasks {
			for _, s := range sub.Splits {
				if more++; more > 0 {
					continue
				}
				fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\n", head, op.Name, s.Name, positionText(s.Position),
					watermarkText(s.Watermark), splitNote(s))
				head = ""
			}
		}
	}
	if more > 0 {
		fmt.Fprintf(t, "and %d more: see -json\n", more)
	}
	return t.Flush()
}

func splitNote(s checkpoint.Split) string {
	switch {
	case s.Finished:
		return "finished"
	case s.Idle:
		return "idle"
	}
	return "-"
}

// verifiedJSON is checkpoint verify -json.
type verifiedJSON struct {
	Checkpoints int           `json:"checkpoints"`
	Savepoints  int           `json:"savepoints"`
	Bytes       int64         `json:"bytes"`
	Problems    []problemJSON `json:"problems"`
}

type problemJSON struct {
	Path        string   `json:"path"`
	Checkpoints []string `json:"checkpoints,omitempty"`
	Error       string   `json:"error"`
	Note        bool     `json:"note,omitempty"` // nothing is lost
}

func verifyCheckpoints(c *call) error {
	if err := c.parse(1, 1); err != nil {
		return err
	}
	s, err := checkpoint.OpenReadOnly(vfs.Default, c.args[0])
	if err != nil {
		return err
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	shown := newProgress(c.stderr, "verified")
	problems, err := s.Verify(c.ctx, shown.update)
	shown.stop()
	if err != nil {
		return fmt.Errorf("verify %s: not finished after %s of %s: %w", s.Dir(), bytesText(shown.done), bytesText(shown.total), err)
	}
	out := verified(all, problems)
	out.Bytes = shown.total
	if c.json {
		err = printJSON(c.stdout, out)
	} else {
		err = printVerified(c.stdout, out)
	}
	if slices.ContainsFunc(problems, func(p checkpoint.Problem) bool { return !p.Note }) {
		err = cmp.Or(err, errProblem)
	}
	return err
}

func verified(all []checkpoint.Listed, problems []checkpoint.Problem) verifiedJSON {
	out := verifiedJSON{Problems: []problemJSON{}}
	for _, l := range all {
		if l.Kind == checkpoint.KindSavepoint {
			out.Savepoints++
		} else {
			out.Checkpoints++
		}
	}
	for _, p := range problems {
		out.Problems = append(out.Problems, problemJSON{p.Path, p.Checkpoints, p.Err.Error(), p.Note})
	}
	return out
}

func printVerified(w io.Writer, v verifiedJSON) error {
	bad := 0
	for _, p := range v.Problems {
		word := "problem"
		if p.Note {
			word = "note"
		} else {
			bad++
		}
		fmt.Fprintf(w, "%s: %s: %s%s\n", word, p.Path, p.Error, needed(p.Checkpoints))
	}
	result := "no problem"
	if bad > 0 {
		result = counted(bad, "problem")
	}
	_, err := fmt.Fprintf(w, "%s and %s, %s: %s\n", counted(v.Checkpoints, "checkpoint"), counted(v.Savepoints, "savepoint"),
		bytesText(v.Bytes), result)
	return err
}
