package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/pipeline"
)

// piece is what one subtask has prepared for one checkpoint: rows that wait in a
// table. It is kept with the checkpoint.
type piece struct {
	Version int `json:"v"`
	mark
	Stage       string `json:"stage,omitempty"` // the table's name; empty: there are no rows
	destination        // of the rows
	Rows        int64  `json:"rows,omitempty"`
	First       int64  `json:"first,omitempty"` // the lowest millrace_seq
	Last        int64  `json:"last,omitempty"`  // the highest
	// Number is that of the transaction which the last rows came in: a table that has not
	// got as far is one that the database has lost rows of.
	Number int64 `json:"number,omitempty"`
	// Letters says that rejected rows were handed over as dead letters since the
	// checkpoint before, which the database may forget with this one.
	Letters bool `json:"letters,omitempty"`
	// After is what the sink had committed before this run, nil for nothing.
	After *mark `json:"after,omitempty"`
}

const pieceVersion = 1

func parsePiece(data []byte) (p piece, err error) {
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("what was prepared can't be read: %w", err)
	}
	if p.Version != pieceVersion {
		return p, fmt.Errorf("what was prepared is of version %d, this program knows %d", p.Version, pieceVersion)
	}
	return p, nil
}

// exactlyOnce writes rows into a table in which they wait for their checkpoint. One
// table holds what is of one checkpoint, and is used again once that is committed:
//
//	Write, Flush   BEGIN; COPY stage …; COPY stage …
//	Prepare(7)     UPDATE stages; COMMIT
//	Commit(7)      BEGIN; INSERT INTO table SELECT FROM stage; TRUNCATE stage;
//	               UPDATE stages, sinks; COMMIT
type exactlyOnce[T any] struct {
	*writer[T]
	ledger  *ledger
	restart []piece // what an earlier run had prepared, by checkpoint

	stage     string // where rows go now; empty: there are none yet
	from      int64  // seq before its first row
	free      []string
	made      int
	preparing int64 // the checkpoint that a transaction ends with; 0: none
	after     *mark
	asked     bool // after is known

	letters []int64 // handed over since the last Prepare
	letter  int64   // the last one that was
	refused bool    // there may be more to hand over
	left    bool    // there is
}

func (w *writer[T]) exactlyOnce(ctx context.Context) (pipeline.Writer[T], error) {
	id := w.sink.cfg.ID
	if id == "" {
		id = w.env.Operator + " > " + w.into.Table
	}
	e := &exactlyOnce[T]{
		writer: w, ledger: &ledger{schema: w.sink.cfg.Schema, id: id, run: w.env.Run},
		refused: w.env.Subtask == 0, // those of earlier runs
	}
	w.staged = true
	w.aim = e.choose
	w.loader = &loader{
		server: w.server, landed: e.landed, finish: e.finish,
		begin: func(context.Context, *pgx.Conn) error { return nil },
	}
	for _, data := range w.env.Prepared {
		p, err := parsePiece(data)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		e.restart = append(e.restart, p)
	}
	slices.SortStableFunc(e.restart, func(a, b piece) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) })
	if err := e.claim(ctx); err != nil {
		return nil, errors.Join(opening(ctx, err), w.Close())
	}
	return e, nil
}

func (w *exactlyOnce[T]) claim(ctx context.Context) error {
	return w.server.do(ctx, func(c *pgx.Conn) error {
		err := pgx.BeginTxFunc(ctx, c, brief, func(pgx.Tx) error { return w.ledger.claim(ctx, c, w.restart, w.env.Checkpoints) })
		if err != nil || w.env.Subtask != 0 {
			return err
		}
		left, err := w.ledger.tidy(ctx, c, w.restart)
		if len(left) > 0 {
			w.env.Logger.Info("tables of an earlier run are still in use, and are left to the next start", "tables", left)
		}
		return err
	})
}

// choose has the loader write to a table that is empty.
func (w *exactlyOnce[T]) choose(ctx context.Context) error {
	if w.stage != "" {
		return nil
	}
	if len(w.free) == 0 {
		name, err := w.newStage(ctx)
		if err != nil {
			return fmt.Errorf("make a table for rows to wait in: %w", err)
		}
		w.free = append(w.free, name)
	}
	last := len(w.free) - 1
	w.stage, w.free = w.free[last], w.free[:last]
	w.from = w.seq - int64(w.batch.len())
	w.loader.copy = w.into.copyInto(w.ledger.in(w.stage))
	return nil
}

// newStage makes a table. Each attempt makes another one, as the server may still be
// at the one before.
func (w *exactlyOnce[T]) newStage(ctx context.Context) (name string, err error) {
	err = w.server.do(ctx, func(c *pgx.Conn) error {
		w.made++
		name = w.ledger.stageName(w.env.Subtask, w.made)
		return pgx.BeginTxFunc(ctx, c, brief, func(pgx.Tx) error {
			_, err := c.Exec(ctx, fmt.Sprintf("CREATE TABLE %s (%s)", w.ledger.in(name), waitingTable(w.table, w.columns, w.into)))
			if err != nil {
				return err
			}
			_, err = c.Exec(ctx, fmt.Sprintf("INSERT INTO %s (name, sink, run) VALUES ($1, $2, $3)", w.ledger.in("stages")),
				name, w.ledger.id, w.ledger.run)
			if err != nil {
				return err
			}
			return w.ledger.hold(ctx, c)
		})
	})
	return name, err
}

// finish ends a transaction of the loader's.
func (w *exactlyOnce[T]) finish(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, fmt.Sprintf("UPDATE %s SET number = $2, checkpoint = $3 WHERE name = $1", w.ledger.in("stages")),
		w.stage, w.loader.number, w.preparing)
	if err != nil {
		return err
	}
	return w.ledger.hold(ctx, c)
}

// landed says whether a transaction was committed whose COMMIT was not answered. The
// server may still be at it, and then it has the row's lock.
func (w *exactlyOnce[T]) landed(ctx context.Context, c *pgx.Conn) (landed bool, err error) {
	err = c.QueryRow(ctx, fmt.Sprintf("SELECT number = $2 FROM %s WHERE name = $1 FOR UPDATE", w.ledger.in("stages")), w.stage, w.loader.number).Scan(&landed)
	if errors.Is(err, pgx.ErrNoRows) {
		err = w.lost(ctx, c, piece{mark: mark{Run: w.env.Run}, Stage: w.stage})
	}
	return landed, err
}

// Write implements [pipeline.Writer].
func (w *exactlyOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	if err := w.handOver(ctx); err != nil {
		return err
	}
	return w.orFenced(ctx, w.writer.Write(ctx, b))
}

// orFenced says that the sink was fenced where that is why something has failed: the
// run that came after removes the tables of those before it.
func (w *exactlyOnce[T]) orFenced(ctx context.Context, err error) error {
	var of *pgconn.PgError
	if !errors.As(err, &of) {
		return err
	}
	held := w.server.do(ctx, func(c *pgx.Conn) error { return w.ledger.hold(ctx, c) })
	if errors.Is(held, errFenced) {
		return fmt.Errorf("%w: %w", errFenced, err)
	}
	return err
}

// Flush implements [pipeline.Flusher]. It sends the rows, for the server to say which
// it refuses: after the barrier it would be too late for dead letters.
func (w *exactlyOnce[T]) Flush(ctx context.Context) error {
	if err := w.handOver(ctx); err != nil {
		return err
	}
	return w.orFenced(ctx, w.send(ctx))
}

// Prepare implements [pipeline.Committer].
func (w *exactlyOnce[T]) Prepare(ctx context.Context, checkpoint int64) ([]byte, error) {
	if err := w.send(ctx); err != nil {
		return nil, err
	}
	if err := w.ask(ctx); err != nil {
		return nil, err
	}
	p := piece{Version: pieceVersion, mark: mark{w.env.Run, checkpoint}, After: w.after, Letters: len(w.letters) > 0}
	if w.stage != "" {
		p.Stage, p.destination = w.stage, w.into
		p.Rows, p.First, p.Last = w.seq-w.from, w.from+1, w.seq
		w.preparing = checkpoint
		if err := w.loader.commit(ctx, true); err != nil {
			return nil, w.orFenced(ctx, err)
		}
		p.Number = w.loader.number
		w.preparing, w.stage = 0, ""
	}
	if err := w.handed(ctx, checkpoint); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// ask finds out once behind what this run goes on. What an earlier run had prepared
// is committed by then.
func (w *exactlyOnce[T]) ask(ctx context.Context) error {
	if w.asked {
		return nil
	}
	err := w.server.do(ctx, func(c *pgx.Conn) (err error) {
		w.after, err = w.ledger.last(ctx, c)
		return err
	})
	w.asked = err == nil
	return err
}

// Commit implements [pipeline.Committer]. Of what an earlier run had prepared, all
// that is as old is committed first, by whichever subtask is the first: the engine
// shares it out, and of two rows with one key the later one is to stay.
func (w *exactlyOnce[T]) Commit(ctx context.Context, prepared []byte) error {
	p, err := parsePiece(prepared)
	if err != nil {
		return err
	}
	if p.Run == w.env.Run {
		return w.commitOwn(ctx, p)
	}
	for _, r := range w.restart {
		if r.Checkpoint > p.Checkpoint {
			break
		}
		if err := w.commit(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *exactlyOnce[T]) commitOwn(ctx context.Context, p piece) error {
	// The connection is in the transaction of the next checkpoint's rows.
	if err := w.loader.commit(ctx, false); err != nil {
		return w.orFenced(ctx, err)
	}
	if err := w.commit(ctx, p); err != nil {
		return err
	}
	if p.Stage != "" {
		w.free = append(w.free, p.Stage)
	}
	return nil
}

func (w *exactlyOnce[T]) commit(ctx context.Context, p piece) error {
	if p.Stage == "" && !p.Letters {
		return nil
	}
	refused, attempts := 0, 0
	err := w.server.do(ctx, func(c *pgx.Conn) error {
		attempts++
		return pgx.BeginTxFunc(ctx, c, brief, func(pgx.Tx) (err error) {
			refused, err = w.commitOn(ctx, c, p, attempts > 1)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("rows of checkpoint %d: %w", p.Checkpoint, w.orFenced(ctx, err))
	}
	if refused > 0 {
		w.refused, w.left = true, true
		w.rejected.Add(int64(refused))
		w.env.Logger.Warn("rows were refused when they were moved into the table, and will be dead letters",
			"table", p.Table, "rows", refused, "until then in", w.ledger.in("rejected"))
	}
	return nil
}

// commitOn is all of a commit, in one transaction. Again says that the answer to an
// earlier attempt was lost.
func (w *exactlyOnce[T]) commitOn(ctx context.Context, c *pgx.Conn, p piece, again bool) (refused int, err error) {
	if p.Stage != "" {
		waits, err := w.take(ctx, c, p)
		if err == nil && !waits && again {
			return w.refusedBefore(ctx, c)
		}
		if err != nil || !waits {
			return 0, err
		}
		if refused, err = w.move(ctx, c, p); err != nil {
			return 0, err
		}
		if err := w.clear(ctx, c, p); err != nil {
			return 0, err
		}
	}
	if p.Letters {
		_, err := c.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE sink = $1 AND handed_run = $2 AND handed_checkpoint = $3", w.ledger.in("rejected")),
			w.ledger.id, p.Run, p.Checkpoint)
		if err != nil {
			return 0, err
		}
	}
	// What a user has had forgotten stays so until something new is committed.
	note := w.env.Checkpoints && (!w.ledger.replay || p.Run == w.env.Run)
	return refused, w.ledger.advance(ctx, c, p.mark, note)
}

// refusedBefore returns how many rows commits have refused and nobody knows of.
func (w *exactlyOnce[T]) refusedBefore(ctx context.Context, c *pgx.Conn) (refused int, err error) {
	err = c.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE sink = $1 AND run = $2 AND subtask = $3 AND handed_run IS NULL AND number > $4", w.ledger.in("rejected")),
		w.ledger.id, w.ledger.run, w.env.Subtask, w.letter).Scan(&refused)
	return refused, err
}

// take says whether rows still wait, and marks them as committed if so.
func (w *exactlyOnce[T]) take(ctx context.Context, c *pgx.Conn, p piece) (waits bool, err error) {
	var checkpoint, number int64
	err = c.QueryRow(ctx, fmt.Sprintf("SELECT checkpoint, number FROM %s WHERE name = $1 FOR UPDATE", w.ledger.in("stages")), p.Stage).Scan(&checkpoint, &number)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && number < p.Number {
		return false, w.lost(ctx, c, p)
	}
	if err != nil || checkpoint != p.Checkpoint {
		return false, err
	}
	_, err = c.Exec(ctx, fmt.Sprintf("UPDATE %s SET checkpoint = 0 WHERE name = $1", w.ledger.in("stages")), p.Stage)
	return true, err
}

// lost says that rows which waited are not there any more: another run has removed
// them, or the database has lost them. It is nil where a user has said to go on.
func (w *exactlyOnce[T]) lost(ctx context.Context, c *pgx.Conn, p piece) error {
	if err := w.ledger.hold(ctx, c); err != nil {
		return err
	}
	if w.ledger.replay && p.Run != w.env.Run {
		w.env.Logger.Warn("rows of the checkpoint are not there any more, because they were committed or are lost, and the sink goes on without them, as it was told",
			"checkpoint", p.Checkpoint, "table", w.ledger.in(p.Stage))
		return nil
	}
	return fmt.Errorf("the database knows nothing of the rows that waited in %s: it is another one than it was, was restored from a time before them, "+
		"or a standby has taken over that did not have them. %s", w.ledger.in(p.Stage), w.ledger.goOn("To go on without them"))
}

// move moves rows to their destination, all at once unless some are refused.
func (w *exactlyOnce[T]) move(ctx context.Context, c *pgx.Conn, p piece) (refused int, err error) {
	stage := w.ledger.in(p.Stage)
	if _, err := c.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE; SAVEPOINT millrace_all"); err != nil {
		return 0, err
	}
	_, err = c.Exec(ctx, p.move(stage, "true"))
	if err == nil || !isAboutRow(err) {
		return 0, err
	}
	if _, err := c.Exec(ctx, "ROLLBACK TO SAVEPOINT millrace_all; CREATE INDEX millrace_by_seq ON "+stage+" (millrace_seq)"); err != nil {
		return 0, err
	}
	err = bisect(ctx, c, int(p.First), int(p.Last)+1,
		func(from, to int) error {
			_, err := c.Exec(ctx, p.move(stage, fmt.Sprintf("millrace_seq >= %d AND millrace_seq < %d", from, to)))
			return err
		},
		func(seq int, why string) error {
			refused++
			_, err := c.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (sink, run, subtask, event_time, record, error)
				SELECT $1, $2, $3, millrace_time, (to_jsonb(millrace_row) - $4::text[])::text, $5 FROM %s millrace_row WHERE millrace_seq = $6`, w.ledger.in("rejected"), stage),
				w.ledger.id, w.ledger.run, w.env.Subtask, []string{"millrace_seq", "millrace_time", "millrace_delete"}, why, seq)
			return err
		})
	if err != nil {
		return 0, err
	}
	_, err = c.Exec(ctx, "DROP INDEX "+pgx.Identifier{w.ledger.schema, "millrace_by_seq"}.Sanitize())
	return refused, err
}

// truncateAbove is from how many rows on it is better to drop a table's file than to
// delete them one by one.
const truncateAbove = 5_000

// clear empties a table, and removes it if an earlier run has made it.
func (w *exactlyOnce[T]) clear(ctx context.Context, c *pgx.Conn, p piece) error {
	verb := "DELETE FROM "
	switch {
	case p.Run != w.env.Run:
		verb = "DROP TABLE "
	case p.Rows > truncateAbove:
		verb = "TRUNCATE "
	}
	_, err := c.Exec(ctx, verb+w.ledger.in(p.Stage))
	return err
}

// handOver hands over as dead letters what was refused as it was moved. It is to be
// part of the checkpoint that comes, since the one it belonged to is complete; until
// that is, the database remembers it.
func (w *exactlyOnce[T]) handOver(ctx context.Context) error {
	if !w.refused {
		return nil
	}
	type letter struct {
		Number, Time  int64
		Record, Error string
	}
	var letters []letter
	err := w.server.do(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, fmt.Sprintf(`SELECT number, event_time, record, error FROM %s
			WHERE sink = $1 AND (run = $2 AND subtask = $3 OR run <> $2 AND $3 = 0) AND handed_run IS DISTINCT FROM $2 AND number > $4
			ORDER BY number`, w.ledger.in("rejected")), w.ledger.id, w.ledger.run, w.env.Subtask, w.letter)
		if err != nil {
			return err
		}
		letters, err = pgx.CollectRows(rows, pgx.RowToStructByPos[letter])
		return err
	})
	if err != nil {
		return err
	}
	w.refused, w.left = false, false
	for _, l := range letters {
		w.letters, w.letter = append(w.letters, l.Number), l.Number
		w.env.Reject(pipeline.DeadLetter{Time: l.Time, Record: l.Record, Error: l.Error})
	}
	return nil
}

// handed notes with which checkpoint letters were handed over.
func (w *exactlyOnce[T]) handed(ctx context.Context, checkpoint int64) error {
	if len(w.letters) == 0 {
		return nil
	}
	err := w.server.do(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, fmt.Sprintf("UPDATE %s SET handed_run = $1, handed_checkpoint = $2 WHERE number = ANY ($3)", w.ledger.in("rejected")),
			w.ledger.run, checkpoint, w.letters)
		return err
	})
	w.letters = nil
	return err
}

// Close implements [pipeline.Closer].
func (w *exactlyOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	w.dropStages()
	var err error
	if w.left {
		err = w.unhanded()
	}
	return errors.Join(err, w.writer.Close())
}

// dropStages removes the tables that are empty, if the server is there. What the
// database remembers of them stays, by which a start knows that they were committed.
func (w *exactlyOnce[T]) dropStages() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := w.server.conn
	if c == nil || w.loader.open != nil {
		return
	}
	for _, name := range w.free {
		if _, err := c.Exec(ctx, "DROP TABLE IF EXISTS "+w.ledger.in(name)); err != nil {
			return // the next start removes them
		}
	}
}

// unhanded says that rows were refused by the job's last commit.
func (w *exactlyOnce[T]) unhanded() error {
	return fmt.Errorf("the last commit left rows that the table refuses: they are in %s, and go to the dead-letter output when the "+
		"job is started again", w.ledger.in("rejected"))
}
