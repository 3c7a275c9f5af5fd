package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/internal/checkpoint"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// dump is the command state dump: without a state or key it counts, otherwise
// it lists.
type dump struct {
	call     *call
	store    *checkpoint.Store
	manifest *checkpoint.Manifest

	operator, state, key string
	keyGiven             bool
	limit                int

	counted []*stateJSON
	listed  []entryJSON
	more    bool // there are entries beyond the limit
	shown   *progress
}

// stateJSON is a line of state dump -json.
type stateJSON struct {
	Operator string   `json:"operator"`
	State    string   `json:"state"`
	Kind     string   `json:"kind"` // value, group, timers, or unknown
	KeyType  string   `json:"keyType,omitempty"`
	Type     string   `json:"type,omitempty"`
	Versions []uint32 `json:"versions,omitempty"`
	Domain   string   `json:"domain,omitempty"` // of timers
	Entries  int64    `json:"entries"`
	Bytes    int64    `json:"bytes"`
	First    *int64   `json:"first,omitempty"` // the times of timers
	Last     *int64   `json:"last,omitempty"`
}

// entryJSON is a line of state dump -state S -json.
type entryJSON struct {
	Operator string          `json:"operator"`
	State    string          `json:"state"`
	Group    int             `json:"group"`
	Key      string          `json:"key"`
	Part     string          `json:"part,omitempty"`    // of a group
	Time     *int64          `json:"time,omitempty"`    // of a timer
	Version  uint32          `json:"version,omitempty"` // of the encoding
	Bytes    int             `json:"bytes"`
	Value    json.RawMessage `json:"value,omitempty"`
	Encoded  string          `json:"encoded,omitempty"` // hexadecimal, where its meaning is not known
}

func dumpState(c *call) error {
	d := &dump{call: c}
	c.flags.StringVar(&d.operator, "operator", "", "only this operator")
	c.flags.StringVar(&d.state, "state", "", "list the entries of this state, or of this namespace of timers")
	c.flags.Func("key", "list what there is under this key, as it is listed", func(s string) error {
		d.key, d.keyGiven = s, true
		return nil
	})
	c.flags.IntVar(&d.limit, "limit", 20, "how many entries to list")
	if err := c.parse(1, 2); err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	d.shown = newProgress(c.stderr, "read")
	err := d.read()
	d.shown.stop()
	if err != nil {
		return err
	}
	return d.print()
}

func (d *dump) open() (err error) {
	if d.store, err = checkpoint.OpenReadOnly(vfs.Default, d.call.args[0]); err != nil {
		return err
	}
	if d.manifest, err = chosen(d.store, d.call.args[1:]); err != nil {
		return err
	}
	if d.operator != "" && d.manifest.Operator(d.operator) == nil {
		return fmt.Errorf("%s has no operator %q: it has %s", d.manifest.Label(), d.operator, operatorNames(d.manifest))
	}
	return nil
}

func operatorNames(m *checkpoint.Manifest) string {
	var names []string
	for _, op := range m.Operators {
		names = append(names, fmt.Sprintf("%q", op.Name))
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

func (d *dump) listing() bool { return d.state != "" || d.keyGiven }

func (d *dump) chosenOperators() []checkpoint.Operator {
	return slices.DeleteFunc(slices.Clone(d.manifest.Operators), func(op checkpoint.Operator) bool {
		return len(op.States) == 0 || d.operator != "" && op.Name != d.operator
	})
}

func (d *dump) read() error {
	ops := d.chosenOperators()
	total := int64(0)
	for _, op := range ops {
		for _, sub := range op.Subtasks {
			total += keyedBytes(sub)
		}
	}
	done := int64(0)
	for i := range ops {
		found := d.declare(&ops[i])
		for _, sub := range ops[i].Subtasks {
			if sub.Keyed == nil || d.enough() {
				continue
			}
			tell := func(part float64) { d.shown.update(done+int64(part*float64(keyedBytes(sub))), total) }
			if err := d.readSubtask(&ops[i], sub, found, tell); err != nil {
				return fmt.Errorf("operator %q subtask %d: %w", ops[i].Name, sub.Index, err)
			}
			done += keyedBytes(sub)
		}
	}
	if d.listing() && len(d.listed) == 0 {
		return d.nothing()
	}
	return nil
}

func keyedBytes(s checkpoint.Subtask) int64 {
	if s.Keyed == nil {
		return 0
	}
	return s.Keyed.Bytes
}

func (d *dump) nothing() error {
	what := "entry"
	if d.state != "" {
		what += fmt.Sprintf(" of a state %q", d.state)
	}
	if d.keyGiven {
		what += fmt.Sprintf(" under a key %q", d.key)
	}
	return fmt.Errorf("%s has no %s", d.manifest.Label(), what)
}

// declare makes a line for each state of an operator, which it has although it
// may be empty.
func (d *dump) declare(op *checkpoint.Operator) map[stateKey]*stateJSON {
	found := map[stateKey]*stateJSON{}
	for _, s := range op.States {
		if s.Kind == timersKind {
			continue // there is one for each domain
		}
		j := &stateJSON{Operator: op.Name, State: s.Name, Kind: s.Kind, KeyType: op.KeyType, Type: s.Type, Versions: s.Versions}
		found[stateKey{s.Kind, s.Name, ""}] = j
		d.counted = append(d.counted, j)
	}
	return found
}

type stateKey struct{ kind, name, domain string }

const timersKind = "timers"

// checkEvery is how often the context is looked at, and progress told.
const checkEvery = 1 << 12

func (d *dump) readSubtask(op *checkpoint.Operator, sub checkpoint.Subtask, found map[stateKey]*stateJSON, tell func(float64)) error {
	snapshot, err := d.inspect(op, sub)
	if err != nil {
		return err
	}
	n := 0
	err2 := snapshot.Each(func(e state.Entry) bool {
		if n++; n%checkEvery == 0 {
			if d.call.ctx.Err() != nil {
				return false
			}
			tell(min(float64(e.Group-sub.First)/float64(max(sub.End-sub.First, 1)), 1))
		}
		if d.listing() {
			d.list(op, e)
		} else {
			d.count(op, e, found)
		}
		return !d.enough()
	})
	return errors.Join(context.Cause(d.call.ctx), err2, snapshot.Close())
}

func (d *dump) enough() bool { return d.more }

func (d *dump) inspect(op *checkpoint.Operator, sub checkpoint.Subtask) (*state.Inspection, error) {
	paths := map[string]string{}
	for _, f := range sub.Keyed.Files {
		paths[f.Name] = d.store.Path(f, d.manifest)
	}
	// A manifest names the namespaces of timers, and not the queues they share.
	infos := []state.Info{
		{Name: pipeline.EventTime.String(), Kind: timersKind},
		{Name: pipeline.ProcessingTime.String(), Kind: timersKind},
	}
	for _, s := range op.States {
		infos = append(infos, state.Info{Name: s.Name, Kind: s.Kind, Type: s.Type})
	}
	return state.Inspect(vfs.Default, paths, infos)
}

// nameOf returns what an entry is listed under: timers by their namespace.
func nameOf(e state.Entry) (key stateKey) {
	if e.State.Kind != timersKind {
		return stateKey{e.State.Kind, e.State.Name, ""}
	}
	if e.Namespace == "" { // a queue of its own, as a TTL has
		return stateKey{timersKind, e.State.Name, ""}
	}
	return stateKey{timersKind, e.Namespace, e.State.Name}
}

func (d *dump) count(op *checkpoint.Operator, e state.Entry, found map[stateKey]*stateJSON) {
	key := nameOf(e)
	j := found[key]
	if j == nil {
		j = &stateJSON{Operator: op.Name, State: key.name, Kind: key.kind, Domain: key.domain, KeyType: op.KeyType}
		found[key] = j
		d.counted = append(d.counted, j)
	}
	j.Entries++
	j.Bytes += int64(e.Size)
	if e.State.Kind == timersKind {
		first, last := e.Time, e.Time
		if j.First != nil {
			first, last = min(first, *j.First), max(last, *j.Last)
		}
		j.First, j.Last = &first, &last
	}
}

func (d *dump) list(op *checkpoint.Operator, e state.Entry) {
	name := nameOf(e).name
	if d.state != "" && name != d.state {
		return
	}
	j := entryJSON{Operator: op.Name, State: name, Group: e.Group, Version: e.Version, Bytes: e.Size}
	if e.State.Kind == "group" {
		if d.keyGiven {
			return
		}
		j.Part = hex.EncodeToString(e.Key)
	} else {
		j.Key = state.FormatKey(op.KeyType, e.Key)
	}
	if d.keyGiven && j.Key != d.key {
		return
	}
	if len(d.listed) >= d.limit {
		d.more = true
		return
	}
	if e.State.Kind == timersKind {
		at := e.Time
		j.Time = &at
	} else if text, ok := state.FormatValue(e.State.Type, e.Value); ok && j.Part == "" {
		j.Value = text
	} else {
		j.Encoded = hex.EncodeToString(e.Value)
	}
	d.listed = append(d.listed, j)
}

func (d *dump) print() error {
	c := d.call
	switch {
	case !d.listing() && c.json:
		return printJSON(c.stdout, append([]*stateJSON{}, d.counted...))
	case !d.listing():
		return cmp.Or(d.printStates(c.stdout), d.printTimers(c.stdout))
	case c.json:
		return printJSON(c.stdout, d.listed)
	}
	return d.printEntries(c.stdout)
}

func (d *dump) printStates(w io.Writer) error {
	if len(d.counted) == 0 {
		_, err := fmt.Fprintf(w, "%s holds no keyed state.\n", d.manifest.Label())
		return err
	}
	t := columns(w)
	head := "OPERATOR\tSTATE\tKIND\tKEY TYPE\tTYPE\tVERSIONS\tENTRIES\tSIZE\n"
	for _, j := range d.counted {
		if j.Kind != timersKind {
			fmt.Fprintf(t, "%s%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", head, j.Operator, dash(j.State), j.Kind, dash(j.KeyType), dash(j.Type),
				versionsText(j.Versions), j.Entries, bytesText(j.Bytes))
			head = ""
		}
	}
	return t.Flush()
}

func (d *dump) printTimers(w io.Writer) error {
	t := columns(w)
	head := "\nOPERATOR\tTIMERS\tDOMAIN\tNUMBER\tSIZE\tFIRST\tLAST\n"
	for _, j := range d.counted {
		if j.Kind == timersKind {
			fmt.Fprintf(t, "%s%s\t%s\t%s\t%d\t%s\t%s\t%s\n", head, j.Operator, j.State, dash(j.Domain), j.Entries, bytesText(j.Bytes),
				watermarkText(*j.First), watermarkText(*j.Last))
			head = ""
		}
	}
	return t.Flush()
}

func (d *dump) printEntries(w io.Writer) error {
	t := columns(w)
	fmt.Fprintln(t, "OPERATOR\tSTATE\tGROUP\tKEY\tVERSION\tSIZE\tVALUE")
	for _, j := range d.listed {
		version := "-"
		if j.Version > 0 {
			version = fmt.Sprint(j.Version)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", j.Operator, j.State, j.Group, j.keyText(), version, bytesText(int64(j.Bytes)), d.valueText(j))
	}
	if d.more {
		fmt.Fprintf(t, "and more: see -limit\n")
	}
	return t.Flush()
}

func (j *entryJSON) keyText() string {
	if j.Part != "" {
		return "part 0x" + j.Part
	}
	return positionText([]byte(j.Key))
}

// valueText shows a value in full only where one was asked for.
func (d *dump) valueText(j entryJSON) string {
	text := string(j.Value)
	switch {
	case j.Time != nil:
		text = watermarkText(*j.Time)
	case j.Value == nil:
		text = "0x" + j.Encoded
	}
	if d.keyGiven {
		return text
	}
	return positionText([]byte(text))
}
