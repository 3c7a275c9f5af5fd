package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ledger is what the database remembers of a sink, in tables of a schema of our own:
//
//	sinks     which run may write, and what was committed last
//	stages    tables in which rows wait, and for which checkpoint
//	rejected  rows that were refused as they were moved, until they are dead letters
type ledger struct {
	schema string // its name
	id     string // of the sink
	run    string
	replay bool // a user has had forgotten what was committed; known once it is claimed
}

// in returns the quoted name of a table of the schema.
func (l *ledger) in(table string) string { return pgx.Identifier{l.schema, table}.Sanitize() }

// mark is a checkpoint of a run. Numbers begin again in each directory, hence the run.
type mark struct {
	Run        string `json:"run"`
	Checkpoint int64  `json:"checkpoint"`
}

var errFenced = errors.New("fenced: another process writes in this sink's name by now, and nothing of what is not committed " +
	"will be; if that is another job, give the sinks of both a Config.ID of their own")

// standstill is how long the server waits, in a transaction with locks that others
// need, for what comes next from a process that was stopped or is cut off. Then it ends
// the connection: a new run could not claim the sink otherwise.
const standstill = "10s"

// brief is of transactions that have such locks from the start.
var brief = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '" + standstill + "'"}

// create makes the tables that are not there. It has a lock against other subtasks.
func (l *ledger) create(ctx context.Context, c *pgx.Conn) error {
	var there bool
	if err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", l.in("rejected")).Scan(&there); err != nil || there {
		return err
	}
	statements := fmt.Sprintf(`CREATE SCHEMA IF NOT EXISTS %s;
		CREATE TABLE %s (id text PRIMARY KEY, run text NOT NULL, last_run text, last_checkpoint bigint);
		CREATE TABLE %s (name text PRIMARY KEY, sink text NOT NULL, run text NOT NULL,
			checkpoint bigint NOT NULL DEFAULT 0, number bigint NOT NULL DEFAULT 0);
		CREATE TABLE %s (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sink text NOT NULL, run text NOT NULL,
			subtask integer NOT NULL, event_time bigint NOT NULL, record text NOT NULL, error text NOT NULL,
			at timestamptz NOT NULL DEFAULT now(), handed_run text, handed_checkpoint bigint);`,
		pgx.Identifier{l.schema}.Sanitize(), l.in("sinks"), l.in("stages"), l.in("rejected"))
	_, err := c.Exec(ctx, statements)
	var of *pgconn.PgError
	if errors.As(err, &of) && of.Code == "42501" {
		return fmt.Errorf("%w: let the user make the schema, or make it for him: CREATE SCHEMA %s AUTHORIZATION %s;",
			err, pgx.Identifier{l.schema}.Sanitize(), pgx.Identifier{c.Config().User}.Sanitize())
	}
	return err
}

// claim makes this run the only one that may write, unless it would write again what
// was committed. It is done by each subtask, in a transaction.
func (l *ledger) claim(ctx context.Context, c *pgx.Conn, prepared []piece, checkpoints bool) error {
	// An arbitrary number, for us all.
	if _, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock(7377617468)"); err != nil {
		return err
	}
	if err := l.create(ctx, c); err != nil {
		return err
	}
	var run string
	var last *mark
	var lastRun *string
	var lastCheckpoint *int64
	err := c.QueryRow(ctx, fmt.Sprintf("SELECT run, last_run, last_checkpoint FROM %s WHERE id = $1 FOR UPDATE", l.in("sinks")), l.id).
		Scan(&run, &lastRun, &lastCheckpoint)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if lastRun != nil && lastCheckpoint != nil {
		last = &mark{*lastRun, *lastCheckpoint}
	}
	l.replay = last != nil && last.forgotten()
	if run == l.run {
		return nil
	}
	if checkpoints && last != nil && !l.replay && !continues(prepared, *last) {
		return l.refusal(prepared, *last)
	}
	_, err = c.Exec(ctx, fmt.Sprintf("INSERT INTO %s (id, run) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET run = EXCLUDED.run",
		l.in("sinks")), l.id, l.run)
	return err
}

// continues says whether a job that starts with this goes on behind what was
// committed last, and not somewhere before it.
func continues(prepared []piece, last mark) bool {
	for _, p := range prepared {
		if p.Run == last.Run && p.Checkpoint >= last.Checkpoint || p.After != nil && *p.After == last {
			return true
		}
	}
	return false
}

func (l *ledger) refusal(prepared []piece, last mark) error {
	from := "starts anew"
	if len(prepared) > 0 {
		from = fmt.Sprintf("starts from checkpoint %d, which is not behind it", prepared[len(prepared)-1].Checkpoint)
	}
	return fmt.Errorf("sink %q has committed rows up to checkpoint %d of run %s, and the job %s: it would write rows again; "+
		"start it with the directory it had. %s", l.id, last.Checkpoint, last.Run, from, l.goOn("To have them written again"))
}

// goOn tells how to start without what the database remembers. It stays so until the
// first checkpoint is committed. The row itself is not to be deleted: what waited for
// the checkpoint that the job starts from would then be missed.
func (l *ledger) goOn(what string) string {
	return fmt.Sprintf("%s, have the database forget what was committed: UPDATE %s SET last_run = '', last_checkpoint = 0 WHERE id = '%s';",
		what, l.in("sinks"), strings.ReplaceAll(l.id, "'", "''"))
}

// forgotten says whether a user has had forgotten what was committed, by what goOn
// tells.
func (m mark) forgotten() bool { return m == mark{} }

// hold fails if another run has claimed the sink, and keeps others from it until the
// transaction ends. It comes last in one, so that nobody waits for long.
func (l *ledger) hold(ctx context.Context, c *pgx.Conn) error {
	tag, err := c.Exec(ctx, fmt.Sprintf("SELECT set_config('idle_in_transaction_session_timeout', $3, true) FROM %s WHERE id = $1 AND run = $2 FOR SHARE", l.in("sinks")),
		l.id, l.run, standstill)
	if err == nil && tag.RowsAffected() == 0 {
		err = errFenced
	}
	return err
}

// advance notes what is committed, last in a transaction, and fails if another run has
// claimed the sink.
func (l *ledger) advance(ctx context.Context, c *pgx.Conn, m mark, note bool) error {
	if !note {
		return l.hold(ctx, c)
	}
	tag, err := c.Exec(ctx, fmt.Sprintf(`UPDATE %s SET last_run = $3,
		last_checkpoint = greatest($4, CASE WHEN last_run = $3 THEN last_checkpoint END) WHERE id = $1 AND run = $2`, l.in("sinks")),
		l.id, l.run, m.Run, m.Checkpoint)
	if err == nil && tag.RowsAffected() == 0 {
		err = errFenced
	}
	return err
}

// last returns what was committed last, nil for nothing.
func (l *ledger) last(ctx context.Context, c *pgx.Conn) (*mark, error) {
	var run *string
	var checkpoint *int64
	err := c.QueryRow(ctx, fmt.Sprintf("SELECT last_run, last_checkpoint FROM %s WHERE id = $1", l.in("sinks")), l.id).Scan(&run, &checkpoint)
	if err != nil || run == nil || checkpoint == nil {
		return nil, err
	}
	if m := (mark{*run, *checkpoint}); !m.forgotten() {
		return &m, nil
	}
	return nil, nil
}

// stageName names a table in which rows wait.
func (l *ledger) stageName(subtask, slot int) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(l.id))
	hash := sha256.Sum256([]byte(l.id))
	return fmt.Sprintf("%s_%x_%s_%d_%d", readable[:min(len(readable), 14)], hash[:4], strings.ToLower(l.run), subtask, slot)
}

// tidy removes tables of earlier runs that nobody will commit, each in a transaction
// of its own: the server may still be ending one of a process that was killed, and
// then it is left to a later start.
func (l *ledger) tidy(ctx context.Context, c *pgx.Conn, prepared []piece) (left []string, err error) {
	mentioned := []string{}
	for _, p := range prepared {
		mentioned = append(mentioned, p.Stage)
	}
	rows, err := c.Query(ctx, fmt.Sprintf("SELECT name FROM %s WHERE sink = $1 AND run <> $2 AND name <> ALL ($3)", l.in("stages")),
		l.id, l.run, mentioned)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		_, err := c.Exec(ctx, fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = '100ms'; DROP TABLE IF EXISTS %s; DELETE FROM %s WHERE name = '%s'; COMMIT",
			l.in(name), l.in("stages"), name))
		var of *pgconn.PgError
		if errors.As(err, &of) && of.Code == "55P03" {
			left = append(left, name)
			_, err = c.Exec(ctx, "ROLLBACK")
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}
