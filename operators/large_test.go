package operators_test

import "testing"

// tooLargeForRace leaves out what takes half a minute under the race detector only
// for its size: filters of millions of keys. It runs without the detector, and
// smaller tests of the same operator run with it.
func tooLargeForRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("too large for the race detector")
	}
}
