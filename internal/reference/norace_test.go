//go:build !race

package reference

// share: see the file for the race detector.
const share = 1
