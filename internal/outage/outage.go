// Package outage has a sink wait for its server for as long as it is away, and say
// so in the log.
package outage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Wait repeats what a server does not do just now. It is for one goroutine.
type Wait struct {
	// Log hears of it: that the server is Away, every half minute, and that it is
	// Back, each with the attributes About.
	Log        *slog.Logger
	Away, Back string
	About      []any
	// Passes says whether an error may be over at the next attempt.
	Passes func(error) bool

	away   time.Time // since when the server has failed us; zero if it doesn't
	logged time.Time
}

// logInterval is how often the log repeats what has not changed.
const logInterval = 30 * time.Second

// The pauses between two attempts, each about twice as long as the one before.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// Do makes attempts until one succeeds, or fails in a way that no other would
// change. Where ctx ends before that, the error says what the server had failed with.
func (w *Wait) Do(ctx context.Context, attempt func() error) error {
	var last error // that was not for the end of ctx
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := attempt()
		switch {
		case err == nil:
			w.answered()
			return nil
		case ctx.Err() != nil:
			return ended(ctx, err, last)
		case !w.Passes(err):
			return err
		}
		last = err
		w.missed(err)
		select {
		case <-ctx.Done():
			return ended(ctx, err, last)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// ended returns what came of attempts whose context has ended: the error that is not
// about that says more.
func ended(ctx context.Context, err, last error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		last = err
	}
	if last == nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ctx.Err(), last)
}

func (w *Wait) missed(err error) {
	now := time.Now()
	if w.away.IsZero() {
		w.away = now
	}
	if now.Sub(w.logged) >= logInterval {
		w.logged = now
		w.Log.With(w.About...).Warn(w.Away, "error", err)
	}
}

func (w *Wait) answered() {
	if !w.away.IsZero() {
		w.Log.With(w.About...).Info(w.Back, "after", time.Since(w.away).Round(time.Millisecond))
	}
	w.away, w.logged = time.Time{}, time.Time{}
}
