// Package call is a sink that calls a function, for whatever has no sink of its
// own:
//
//	pipeline.To(alerts, "pager", call.Each(func(ctx context.Context, a Alert) error {
//		return pager.Send(ctx, a.Text)
//	}))
//
// It delivers at least once: a job that restarts from a checkpoint calls the
// function again with the records since. A function that must not repeat
// itself has to recognise them.
package call
