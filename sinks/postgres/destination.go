package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// destination is where rows go from a table in which they wait. It is kept with
// them, so that they get where they were meant to even if the sink is another by then.
type destination struct {
	Table   string   `json:"table"` // quoted
	Columns []string `json:"columns"`
	Key     []string `json:"key,omitempty"`
	Deletes bool     `json:"deletes,omitempty"`
}

// Columns that rows have besides their own while they wait: the order in which they
// were written, their event times, and whether they delete.
const (
	extraColumns = 3
	extraNames   = `millrace_seq, millrace_time, millrace_delete`
)

// waitingTable returns the columns of a table in which rows wait. It refuses what the
// destination would refuse for the row's own sake, so that such rows are known before
// the checkpoint; whether they fit to other rows shows when they are moved.
func waitingTable(t *table, columns []*column, d destination) string {
	var parts, names []string
	for _, c := range columns {
		names = append(names, c.name)
		part := list([]string{c.name}) + " " + c.typ
		if slices.Contains(d.Key, c.name) || c.notNull && !d.Deletes {
			part += " NOT NULL"
		}
		parts = append(parts, part)
	}
	parts = append(parts, "millrace_seq bigint NOT NULL", "millrace_time bigint NOT NULL", "millrace_delete boolean NOT NULL")
	demand := func(expression string) {
		if d.Deletes {
			expression = "millrace_delete OR (" + expression + ")"
		}
		parts = append(parts, "CHECK ("+expression+")")
	}
	for _, c := range columns {
		if c.notNull && d.Deletes && !slices.Contains(d.Key, c.name) {
			demand(list([]string{c.name}) + " IS NOT NULL")
		}
	}
	for _, k := range t.checks {
		if !slices.ContainsFunc(k.columns, func(name string) bool { return !slices.Contains(names, name) }) {
			demand(k.expression)
		}
	}
	return strings.Join(parts, ", ")
}

// copyInto returns the statement that writes rows into a table in which they wait.
func (d destination) copyInto(table string) string {
	return fmt.Sprintf("COPY %s (%s, %s) FROM STDIN BINARY", table, list(d.Columns), extraNames)
}

// move returns the statement that writes rows to their destination which wait in a
// table. condition chooses among them.
func (d destination) move(from, condition string) string {
	columns := list(d.Columns)
	if len(d.Key) == 0 {
		return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s", d.Table, columns, columns, from, condition)
	}
	// Rows come in the order of their keys, so that two that write the same ones at
	// once do not wait for each other.
	key := list(d.Key)
	last := fmt.Sprintf("SELECT DISTINCT ON (%s) * FROM %s WHERE %s ORDER BY %s, millrace_seq DESC", key, from, condition, key)
	insert := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM last WHERE NOT millrace_delete ORDER BY %s ON CONFLICT (%s) DO %s",
		d.Table, columns, columns, key, key, d.update())
	if !d.Deletes {
		return fmt.Sprintf("WITH last AS (%s) %s", last, insert)
	}
	var same []string
	for _, k := range d.Key {
		name := pgx.Identifier{k}.Sanitize()
		same = append(same, fmt.Sprintf("there.%s = last.%s", name, name))
	}
	return fmt.Sprintf("WITH last AS (%s), gone AS (DELETE FROM %s there USING last WHERE last.millrace_delete AND %s) %s",
		last, d.Table, strings.Join(same, " AND "), insert)
}

// update returns what becomes of a row whose key is there.
func (d destination) update() string {
	var set []string
	for _, c := range d.Columns {
		if !slices.Contains(d.Key, c) {
			name := pgx.Identifier{c}.Sanitize()
			set = append(set, name+" = EXCLUDED."+name)
		}
	}
	if len(set) == 0 {
		return "NOTHING"
	}
	return "UPDATE SET " + strings.Join(set, ", ")
}
