package outage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/internal/outage"
)

var (
	errAway    = errors.New("nobody answers")
	errRefused = errors.New("refused")
)

func newWait() (*outage.Wait, *bytes.Buffer) {
	book := &bytes.Buffer{}
	return &outage.Wait{
		Log: slog.New(slog.NewTextHandler(book, nil)), Away: "it is away", Back: "it is back", About: []any{"host", "db"},
		Passes: func(err error) bool { return errors.Is(err, errAway) },
	}, book
}

// TestOutage is a server that is away for a hundred seconds: the log hears of it
// every half minute, and of its end.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, book := newWait()
		began, attempts := time.Now(), 0
		err := w.Do(t.Context(), func() error {
			if attempts++; time.Since(began) < 100*time.Second {
				return errAway
			}
			return nil
		})
		if err != nil || attempts < 100 || attempts > 300 {
			t.Errorf("after %d attempts: %v", attempts, err)
		}
		if said := book.String(); strings.Count(said, "it is away") != 4 || strings.Count(said, "it is back") != 1 || !strings.Contains(said, "host=db") {
			t.Errorf("the log says:\n%s", said)
		}
	})
}

// TestGivesUp returns what lasts, and at the end of the context what was in the way.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWait()
		if err := w.Do(t.Context(), func() error { return errRefused }); err != errRefused {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := w.Do(ctx, func() error { return errAway })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errAway) {
			t.Errorf("got %v, want the time-out and what it waited for", err)
		}
		if err := w.Do(ctx, func() error { return ctx.Err() }); err != context.DeadlineExceeded {
			t.Errorf("got %v, want the time-out alone", err)
		}
	})
}
