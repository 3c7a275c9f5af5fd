package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/pipeline"
)

// atLeastOnce writes rows as they come.
type atLeastOnce[T any] struct{ *writer[T] }

// waiting is where rows with a key wait for the rest of their batch.
const waiting = "pg_temp.millrace_rows"

func (w *writer[T]) atLeastOnce() pipeline.Writer[T] {
	w.loader = &loader{
		server: w.server,
		finish: func(context.Context, *pgx.Conn) error { return nil },
		landed: func(context.Context, *pgx.Conn) (bool, error) { return false, nil },
	}
	w.aim = func(context.Context) error { return nil }
	// Rows that are written by key are locked until the transaction ends.
	begin := "SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL idle_in_transaction_session_timeout = '1min'"
	if len(w.into.Key) == 0 {
		w.loader.copy = fmt.Sprintf("COPY %s (%s) FROM STDIN BINARY", w.into.Table, list(w.into.Columns))
	} else {
		w.staged = true
		begin += "; DROP TABLE IF EXISTS " + waiting + "; CREATE TEMP TABLE millrace_rows (" + waitingTable(w.table, w.columns, w.into) + ") ON COMMIT DROP"
		w.loader.copy = w.into.copyInto(waiting)
		w.loader.moves = w.into.move(waiting, "true") + "; DELETE FROM " + waiting
	}
	w.loader.begin = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, begin)
		return err
	}
	return &atLeastOnce[T]{w}
}

// Flush implements [pipeline.Flusher]. It comes before a checkpoint, too.
func (w *atLeastOnce[T]) Flush(ctx context.Context) error {
	if err := w.send(ctx); err != nil {
		return err
	}
	return w.loader.commit(ctx, false)
}

// closeTimeout bounds what an end of the job waits for a server that is away.
const closeTimeout = 5 * time.Second

// Close implements [pipeline.Closer]. A job that ends has flushed before; one that
// failed may have something left, which is written if the server is there.
func (w *atLeastOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(w.Flush(ctx), w.writer.Close())
}
