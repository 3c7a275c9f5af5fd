//go:build race

package reference

// share is the part of the graphs that run under the race detector, which makes
// each of them ten times as slow: what races shows in the first few already, and
// the others run without it.
const share = 5
