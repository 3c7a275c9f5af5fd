// Package checkpoint keeps the checkpoints of one job in a directory, and
// decides when one is taken and whether it counts.
//
// The [Store] is a directory that only one process has open. What goes into a
// checkpoint is brought by a [Pending]: large immutable files that checkpoints
// share, small private ones, and at the end the [Manifest], whose rename is the
// one act that makes the checkpoint real. A crash before it leaves nothing but
// rubbish that the next [Open] removes; a crash after it leaves a checkpoint
// that is whole, since everything it names was synced before.
//
//	s, err := checkpoint.Open(vfs.Default, "/var/lib/job/checkpoints", checkpoint.Options{Job: "visits"})
//	...
//	p, err := s.Begin(42)
//	sst, err := p.Share(s.WorkDir()+"/uv-0/000005.sst", "000005.sst") // any goroutine
//	...
//	if err := p.Commit(manifest); err != nil {
//		p.Abandon()
//	}
//	s.Prune()
//
// The [Coordinator] is a pure state machine: acknowledgements, the clock and the
// store's answers go in, and what is to be done comes out. Whoever owns the
// goroutine does it.
//
// What the directory holds, byte by byte, is in docs/format/checkpoint.md.
package checkpoint
