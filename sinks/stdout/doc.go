// Package stdout is a sink that prints records, a line each, for demonstrations
// and for programs that end in a pipe:
//
//	pipeline.To(counts, "print", stdout.JSON[Count]())
//	pipeline.To(counts, "print", stdout.Format(Count.String))
//
// Lines of several subtasks do not mix, but come in any order. What was
// printed stays printed: a job that restarts from a checkpoint prints the
// records since once more.
package stdout
