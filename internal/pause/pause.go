// Package pause keeps the set of splits that a source holds back.
package pause

import (
	"context"
	"sync"
)

// Set is what a reader embeds to be a pipeline.Pauser. The zero value is
// ready, with nothing paused. Its methods are safe from any goroutine.
type Set struct {
	mu      sync.Mutex
	paused  map[string]struct{} // guarded by mu
	resumed chan struct{}       // guarded by mu, made on demand
}

// Pause adds a split to the set.
func (s *Set) Pause(split string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused == nil {
		s.paused = map[string]struct{}{}
	}
	s.paused[split] = struct{}{}
}

// Resume takes a split out of the set.
func (s *Set) Resume(split string) {
	s.mu.Lock()
	delete(s.paused, split)
	c := s.channel()
	s.mu.Unlock()
	select {
	case c <- struct{}{}:
	default: // a reader that has not looked yet will see both
	}
}

// Paused says whether a split is in the set.
func (s *Set) Paused(split string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.paused[split]
	return ok
}

// Resumed returns a channel that receives after every Resume, if only once
// after several. It buffers one notice, so that a Resume between a look at the
// set and the wait for it is not missed. It is for one reading goroutine.
func (s *Set) Resumed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channel()
}

// Choose returns the index of the next of n splits that is not paused, going
// round from the one whose turn it is. It waits while all are paused, and
// returns early only when ctx ends. It is for one reading goroutine.
func (s *Set) Choose(ctx context.Context, turn, n int, name func(i int) string) (int, error) {
	for {
		for k := range n {
			if i := (turn + k) % n; !s.Paused(name(i)) {
				return i, nil
			}
		}
		select {
		case <-s.Resumed():
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// channel is called with mu held.
func (s *Set) channel() chan struct{} {
	if s.resumed == nil {
		s.resumed = make(chan struct{}, 1)
	}
	return s.resumed
}
