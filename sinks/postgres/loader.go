package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// loader writes batches in transactions of several. Until a transaction is committed
// it keeps the rows, to write them again in another when the connection breaks. Rows
// that the server refuses are found by bisection; the others are written.
type loader struct {
	server *server
	copy   string // COPY … FROM STDIN
	moves  string // behind each COPY, where it is into a temporary table; else empty
	// begin follows BEGIN, finish precedes COMMIT.
	begin  func(ctx context.Context, c *pgx.Conn) error
	finish func(ctx context.Context, c *pgx.Conn) error
	// landed says whether a transaction was committed whose COMMIT was not answered.
	landed func(ctx context.Context, c *pgx.Conn) (bool, error)

	number int64     // of transactions that were to be committed
	open   *pgx.Conn // where the transaction is open; nil: nowhere
	sent   []*batch  // into the transaction
	bytes  int       // of sent
	ending bool      // a COMMIT was sent that nobody knows the outcome of
}

// load writes a batch. It is not safe before commit.
func (l *loader) load(ctx context.Context, b *batch) error {
	if b.len() == 0 {
		return nil
	}
	var bad []refused
	err := l.server.do(ctx, func(c *pgx.Conn) error {
		if err := l.ensure(ctx, c); err != nil {
			return err
		}
		err := l.write(ctx, c, b, 0, b.len())
		if err == nil || !isAboutRow(err) {
			return err
		}
		if bad, err = l.sift(ctx, c, b); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		for _, r := range bad {
			b.reject(r.row, r.why)
		}
		b.without(bad)
	}
	l.sent, l.bytes = append(l.sent, b), l.bytes+len(b.buf)
	return nil
}

// ensure has a transaction open on c with all that was sent.
func (l *loader) ensure(ctx context.Context, c *pgx.Conn) error {
	if l.open == c {
		return nil
	}
	l.open = nil
	if _, err := c.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if err := l.begin(ctx, c); err != nil {
		return err
	}
	for _, b := range l.sent {
		if err := l.write(ctx, c, b, 0, b.len()); err != nil {
			return err
		}
	}
	l.open = c
	return nil
}

// write writes some rows of a batch.
func (l *loader) write(ctx context.Context, c *pgx.Conn, b *batch, from, to int) error {
	if from == to {
		return nil
	}
	if _, err := c.PgConn().CopyFrom(ctx, b.reader(from, to), l.copy); err != nil {
		return err
	}
	if l.moves == "" {
		return nil
	}
	_, err := c.PgConn().Exec(ctx, l.moves).ReadAll()
	return err
}

// sift writes a batch of which the server refuses some rows, after it has refused the
// transaction for them.
func (l *loader) sift(ctx context.Context, c *pgx.Conn, b *batch) (bad []refused, err error) {
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		return nil, err
	}
	l.open = nil
	if err := l.ensure(ctx, c); err != nil {
		return nil, err
	}
	err = bisect(ctx, c, 0, b.len(),
		func(from, to int) error { return l.write(ctx, c, b, from, to) },
		func(row int, why string) error {
			bad = append(bad, refused{row, why})
			return nil
		})
	return bad, err
}

// bisect does something with the rows from to to, of which some are refused, in
// savepoints. It tells refuse of each that is, in order.
func bisect(ctx context.Context, c *pgx.Conn, from, to int, do func(from, to int) error, refuse func(row int, why string) error) error {
	if _, err := c.Exec(ctx, "SAVEPOINT millrace"); err != nil {
		return err
	}
	err := do(from, to)
	if err == nil {
		_, err = c.Exec(ctx, "RELEASE SAVEPOINT millrace")
		return err
	}
	if !isAboutRow(err) {
		return err
	}
	if _, err := c.Exec(ctx, "ROLLBACK TO SAVEPOINT millrace; RELEASE SAVEPOINT millrace"); err != nil {
		return err
	}
	if to-from == 1 {
		return refuse(from, refusal(err))
	}
	middle := from + (to-from)/2
	if err := bisect(ctx, c, from, middle, do, refuse); err != nil {
		return err
	}
	return bisect(ctx, c, middle, to, do, refuse)
}

// commit makes safe what was loaded. Without anything it does nothing, unless it has
// to.
func (l *loader) commit(ctx context.Context, must bool) error {
	if len(l.sent) == 0 && !must {
		return nil
	}
	l.number++
	err := l.server.do(ctx, func(c *pgx.Conn) error {
		if l.ending {
			if landed, err := l.landed(ctx, c); landed || err != nil {
				return err
			}
			l.ending = false
		}
		if err := l.ensure(ctx, c); err != nil {
			return err
		}
		if err := l.finish(ctx, c); err != nil {
			return err
		}
		l.ending = true
		if _, err := c.Exec(ctx, "COMMIT"); err != nil {
			return err
		}
		return nil
	})
	l.open, l.ending = nil, false
	if err != nil {
		return fmt.Errorf("commit rows: %w", err)
	}
	l.forget()
	return nil
}

func (l *loader) forget() {
	clear(l.sent)
	l.sent, l.bytes = l.sent[:0], 0
}
