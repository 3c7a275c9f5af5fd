package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// table is what the server says of a table.
type table struct {
	database, name string
	engine         string
	full           string // the engine with its settings
	partitioned    bool
	columns        []tableColumn
	window         int     // how many tokens it remembers; 0: none
	seconds        int     // for how long; 0: without limit
	views          []*view // that take what is inserted, and so on behind these
}

type tableColumn struct {
	name, typ string
	kind      string // DEFAULT, MATERIALIZED, ALIAS, EPHEMERAL or nothing
}

// view is a materialized view that follows a table.
type view struct {
	name   string
	target *table // nil if it can't be seen
}

func (t *table) String() string { return t.database + "." + t.name }

// quoted is the table's name in statements.
func (t *table) quoted() string { return quoteName(t.database) + "." + quoteName(t.name) }

func (t *table) column(name string) *tableColumn {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// catalog looks at tables.
type catalog struct {
	conn     driver.Conn
	defaults map[string]int // of settings about windows
}

// look returns what the sink has to know of the server before it starts.
func look(ctx context.Context, o *clickhouse.Options, name string) (*target, error) {
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing waits in it
	c := &catalog{conn: conn}
	t := &target{known: map[string]bool{}}
	version, err := conn.ServerVersion()
	if err != nil {
		return nil, connecting(o, err)
	}
	t.context = &column.ServerContext{
		Revision: version.Revision, VersionMajor: version.Version.Major, VersionMinor: version.Version.Minor,
		VersionPatch: version.Version.Patch, Timezone: version.Timezone,
	}
	if err := c.readSettings(ctx, t.known); err != nil {
		return nil, err
	}
	database, plain, ok := strings.Cut(name, ".")
	if !ok {
		database, plain = o.Auth.Database, name
	}
	if database == "" {
		if err := conn.QueryRow(ctx, "SELECT currentDatabase()").Scan(&database); err != nil {
			return nil, err
		}
	}
	t.table, err = c.read(ctx, database, plain, 0)
	return t, err
}

// target is what the start has found out.
type target struct {
	table   *table
	context *column.ServerContext
	known   map[string]bool // settings that the server has
}

// connecting says what could not be connected to, and with what.
func connecting(o *clickhouse.Options, err error) error {
	if e := exceptionOf(err); e != nil {
		return fmt.Errorf("connect to %s as user %q: %w", strings.Join(o.Addr, ", "), o.Auth.Username, e)
	}
	return fmt.Errorf("connect to %s: %w", strings.Join(o.Addr, ", "), err)
}

// readSettings reads the defaults of what windows are set by, and which settings of
// queries there are.
func (c *catalog) readSettings(ctx context.Context, known map[string]bool) error {
	c.defaults = map[string]int{}
	for _, from := range []string{"merge_tree_settings", "replicated_merge_tree_settings"} {
		rows, err := c.conn.Query(ctx, "SELECT name, value FROM system."+from+" WHERE name LIKE '%deduplication_window%'")
		if err != nil {
			return fmt.Errorf("read system.%s: %w", from, err)
		}
		err = each(rows, func(name, value string) {
			n, _ := strconv.Atoi(value) // these are numbers
			if strings.HasPrefix(name, "replicated_") == (from == "replicated_merge_tree_settings") {
				c.defaults[name] = n
			}
		})
		if err != nil {
			return fmt.Errorf("read system.%s: %w", from, err)
		}
	}
	rows, err := c.conn.Query(ctx, "SELECT name, value FROM system.settings WHERE name LIKE '%dedup%' OR name LIKE '%async_insert'")
	if err == nil {
		err = each(rows, func(name, _ string) { known[name] = true })
	}
	if err != nil {
		return fmt.Errorf("read system.settings: %w", err)
	}
	return nil
}

func each(rows driver.Rows, take func(a, b string)) error {
	var a, b string
	for rows.Next() {
		if err := rows.Scan(&a, &b); err != nil {
			return errors.Join(err, rows.Close())
		}
		take(a, b)
	}
	return errors.Join(rows.Err(), rows.Close())
}

const maxViews = 8 // one behind the other

// read returns a table, nil if there is none.
func (c *catalog) read(ctx context.Context, database, name string, depth int) (*table, error) {
	t := &table{database: database, name: name}
	var partition string
	var viewDatabases, viewNames []string
	rows, err := c.conn.Query(ctx, `SELECT engine, engine_full, partition_key, dependencies_database, dependencies_table
		FROM system.tables WHERE database = $1 AND name = $2`, database, name)
	if err != nil {
		return nil, fmt.Errorf("read system.tables: %w", err)
	}
	found := rows.Next()
	if found {
		err = rows.Scan(&t.engine, &t.full, &partition, &viewDatabases, &viewNames)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("read system.tables: %w", err)
	}
	if !found {
		return nil, nil
	}
	t.partitioned = partition != ""
	t.window, t.seconds = c.windowOf(t)
	if err := c.readColumns(ctx, t); err != nil {
		return nil, err
	}
	for i := range viewNames {
		if err := c.readView(ctx, t, viewDatabases[i], viewNames[i], depth+1); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (c *catalog) readColumns(ctx context.Context, t *table) error {
	rows, err := c.conn.Query(ctx, `SELECT name, type, default_kind FROM system.columns
		WHERE database = $1 AND table = $2 ORDER BY position`, t.database, t.name)
	if err != nil {
		return fmt.Errorf("read system.columns: %w", err)
	}
	for rows.Next() && err == nil {
		var col tableColumn
		err = rows.Scan(&col.name, &col.typ, &col.kind)
		t.columns = append(t.columns, col)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read system.columns: %w", err)
	}
	return nil
}

var (
	viewTarget  = regexp.MustCompile("^CREATE MATERIALIZED VIEW " + namePart + `\.` + namePart + `(?: UUID '[^']*')?(?: ON CLUSTER \S+)?(?: DEFINER = \S+ SQL SECURITY \S+)? TO (?:` + namePart + `\.)?` + namePart)
	namePart    = "(`(?:[^`\\\\]|\\\\.)*`|\\w+)"
	windowValue = regexp.MustCompile(`\b(\w*deduplication_window\w*)\s*=\s*'?(\d+)`)
)

// readView looks for the table behind a view.
func (c *catalog) readView(ctx context.Context, t *table, database, name string, depth int) error {
	var engine, create, uuid string
	rows, err := c.conn.Query(ctx, `SELECT engine, create_table_query, toString(uuid) FROM system.tables WHERE database = $1 AND name = $2`, database, name)
	if err != nil {
		return fmt.Errorf("read system.tables: %w", err)
	}
	if rows.Next() {
		err = rows.Scan(&engine, &create, &uuid)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("read system.tables: %w", err)
	}
	if engine != "MaterializedView" || depth > maxViews {
		return nil
	}
	v := &view{name: database + "." + name}
	t.views = append(t.views, v)
	if m := viewTarget.FindStringSubmatch(create); m != nil {
		targetDatabase := unquoteName(m[3])
		if targetDatabase == "" {
			targetDatabase = database
		}
		v.target, err = c.read(ctx, targetDatabase, unquoteName(m[4]), depth)
		return err
	}
	for _, inner := range []string{".inner_id." + uuid, ".inner." + name} {
		if v.target, err = c.read(ctx, database, inner, depth); err != nil || v.target != nil {
			return err
		}
	}
	return nil
}

func unquoteName(s string) string {
	if len(s) >= 2 && s[0] == '`' {
		return strings.NewReplacer("\\`", "`", `\\`, `\`).Replace(s[1 : len(s)-1])
	}
	return s
}

// windowOf returns how many tokens a table remembers, and for how many seconds.
func (c *catalog) windowOf(t *table) (window, seconds int) {
	count, limit := windowSettings(t.engine)
	if count == "" {
		return 0, 0
	}
	settings := map[string]int{count: c.defaults[count], limit: c.defaults[limit]}
	if _, after, ok := strings.Cut(t.full, " SETTINGS "); ok {
		for _, m := range windowValue.FindAllStringSubmatch(after, -1) {
			settings[m[1]], _ = strconv.Atoi(m[2])
		}
	}
	return settings[count], settings[limit]
}

// windowSettings names the settings of a table's engine that say how many tokens it
// remembers and for how long, empty if there are none.
func windowSettings(engine string) (count, seconds string) {
	switch {
	case !strings.HasSuffix(engine, "MergeTree"):
		return "", ""
	case strings.HasPrefix(engine, "Replicated"), strings.HasPrefix(engine, "Shared"):
		return "replicated_deduplication_window", "replicated_deduplication_window_seconds"
	}
	return "non_replicated_deduplication_window", ""
}

// wantWindow returns what is wrong with a table's memory of tokens, nil if it
// remembers as many.
func (t *table) wantWindow(tokens int, why string) error {
	count, _ := windowSettings(t.engine)
	switch {
	case count == "":
		return fmt.Errorf("table %s%s has engine %s, which ignores deduplication tokens: a recovery would insert rows twice; "+
			"use an engine of the MergeTree family, or Delivery AtLeastOnce", t, why, t.engine)
	case t.window < tokens:
		state := fmt.Sprintf("remembers %d deduplication tokens, a recovery may need %d", t.window, tokens)
		if t.window == 0 {
			state = fmt.Sprintf("ignores deduplication tokens: %s is 0, and a recovery would insert rows twice; it may need %d", count, tokens)
		}
		return fmt.Errorf("table %s%s %s; mend it with: ALTER TABLE %s MODIFY SETTING %s = %d", t, why, state, t.quoted(), count, roundUp(tokens))
	}
	return nil
}

// wantOneMemory refuses several addresses where each server has a memory of its own.
func (t *table) wantOneMemory(addrs []string) error {
	count, seconds := windowSettings(t.engine)
	if len(addrs) < 2 || count == "" || seconds != "" {
		return nil
	}
	return fmt.Errorf("table %s has engine %s, whose deduplication tokens each server has for itself, and URL names the addresses %s: a block that is sent again to another one would be there twice; "+
		"name one, use a Replicated engine, or Delivery AtLeastOnce", t, t.engine, strings.Join(addrs, ", "))
}

// roundUp leaves room: a larger window costs nothing that matters.
func roundUp(n int) int {
	for room := 1000; ; room *= 10 {
		if n <= room {
			return room
		}
	}
}

// tokensFor returns how many tokens a block takes; configured is 0 where nobody says.
func (t *table) tokensFor(configured int) int {
	switch {
	case configured > 0:
		return configured
	case t.partitioned:
		return 4
	}
	return 1
}

// wantWindows checks the table, and those that its views fill.
func (t *table) wantWindows(blocks, perBlock int, why string) error {
	errs := []error{t.wantWindow(blocks*t.tokensFor(perBlock), why)}
	for _, v := range t.views {
		if v.target != nil {
			errs = append(errs, v.target.wantWindows(blocks, perBlock, fmt.Sprintf(" (filled by materialized view %s)", v.name)))
		}
	}
	return errors.Join(errs...)
}

// narrowest returns the table that remembers the fewest blocks, of this one and those
// that its views fill, and how many.
func (t *table) narrowest(perBlock int) (narrowest *table, blocks int) {
	narrowest, blocks = t, t.window/t.tokensFor(perBlock)
	for _, v := range t.views {
		if v.target == nil {
			continue
		}
		if n, fewer := v.target.narrowest(perBlock); fewer < blocks {
			narrowest, blocks = n, fewer
		}
	}
	return narrowest, blocks
}

// unseenViews names the views whose tables can't be checked.
func (t *table) unseenViews() []string {
	var names []string
	for _, v := range t.views {
		if v.target == nil {
			names = append(names, v.name)
		} else {
			names = append(names, v.target.unseenViews()...)
		}
	}
	return names
}
