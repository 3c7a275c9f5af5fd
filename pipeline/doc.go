// Package pipeline builds and runs jobs: typed graphs of sources, operators and
// sinks in event time.
package pipeline
