package pipeline

// aligner decides when a task takes its snapshot for a checkpoint: when the
// barrier has arrived on every input, each of which is blocked from its barrier
// on, so that nothing behind it gets into the snapshot (rule 17; Carbone et al.:
// Lightweight Asynchronous Snapshots for Distributed Dataflows, 2015). It is
// pure: barriers in, the number of the checkpoint to be taken out.
//
//	          first barrier of n              last barrier of n
//	idle ────────────────────────▶ aligning n ────────────────▶ take n, idle
//	                                    ▲
//	                                    └─ first barrier of a later m:
//	                                       n is given up, aligning m
//
// An input that has ended has nothing behind its end, and is not waited for. A
// barrier of a checkpoint that was taken or given up is ignored.
//
// Nobody tells a task that the coordinator gave a checkpoint up. Its barrier is on
// its way from every source all the same, or a later one is, or the end: sources
// inject whatever they find asked for last, and tasks pass on what they do not
// take. So no input stays blocked for longer than the slowest barrier takes.
type aligner struct {
	inputs  []alignment
	id      int64 // of the checkpoint being aligned; 0 is none
	settled int64 // the last one taken or given up
}

type alignment struct{ blocked, ended bool }

func newAligner(inputs int) *aligner { return &aligner{inputs: make([]alignment, inputs)} }

// blocked says whether an input is not to be read from.
func (a *aligner) blocked(i int) bool { return a.id != 0 && a.inputs[i].blocked }

// barrier takes the barrier of a checkpoint on input i, and returns the number
// of the checkpoint that is to be taken now, or 0.
func (a *aligner) barrier(i int, id int64) int64 {
	if id <= a.settled || id < a.id {
		return 0
	}
	if id > a.id {
		a.settle(a.id)
		a.id = id
	}
	a.inputs[i].blocked = true
	return a.taken()
}

// end takes the end of input i.
func (a *aligner) end(i int) int64 {
	a.inputs[i] = alignment{ended: true}
	if a.id == 0 {
		return 0
	}
	return a.taken()
}

// taken returns the checkpoint being aligned if every input is there. When the
// last input has ended too, there is nobody to take it: the end of the task
// stands for it.
func (a *aligner) taken() int64 {
	barriers := 0
	for _, in := range a.inputs {
		if !in.ended && !in.blocked {
			return 0
		}
		if in.blocked {
			barriers++
		}
	}
	id := a.id
	a.settle(id)
	if barriers == 0 {
		return 0
	}
	return id
}

func (a *aligner) settle(id int64) {
	a.id, a.settled = 0, max(a.settled, id)
	for i := range a.inputs {
		a.inputs[i].blocked = false
	}
}
