package pipeline

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/state"
)

// checkpointConfig is what the options of checkpoints and state set.
type checkpointConfig struct {
	dir            string
	interval       time.Duration
	timeout        time.Duration
	pause          time.Duration
	tolerated      int
	keep           int
	allowUnclaimed bool
	savepoint      string
	fs             vfs.FS

	stateDir    string
	stateMemory int64
	inMemory    bool
}

func checkpointDefaults() checkpointConfig {
	return checkpointConfig{
		interval: 10 * time.Second, timeout: 10 * time.Minute, tolerated: 3, keep: 3,
		fs: vfs.Default, stateMemory: state.DefaultMemory,
	}
}

// Checkpoints makes the job take checkpoints into a directory, which belongs to
// this job alone, and start from the last one that is there: killed in whatever
// way and run again, its results are those of a run that was not disturbed. A
// directory without checkpoints is where a new job starts.
//
// What that means for a sink, each says: a [Committer] shows every result exactly
// once, others may show those since the last checkpoint again.
//
// The directory also holds the working state, in which everything that a running
// job remembers has its place besides memory. Default: no checkpoints; a job that
// ends, for whatever reason, starts anew.
func Checkpoints(dir string, opts ...CheckpointOption) Option {
	return func(c *config) {
		c.checkpoints.dir = dir
		for _, o := range opts {
			o(&c.checkpoints)
		}
	}
}

// CheckpointOption sets something of [Checkpoints].
type CheckpointOption func(*checkpointConfig)

// CheckpointInterval sets the time from the start of one checkpoint to that of
// the next. A shorter one means less to do again after a crash, and results that
// are committed sooner; each costs writing what has changed. 0 takes none but at
// the job's end and where asked for. Default 10 s.
func CheckpointInterval(d time.Duration) CheckpointOption {
	return func(c *checkpointConfig) { c.interval = d }
}

// CheckpointTimeout sets how long a checkpoint may take until it is given up and
// the next one is tried. 0 waits for ever. Default 10 min.
func CheckpointTimeout(d time.Duration) CheckpointOption {
	return func(c *checkpointConfig) { c.timeout = d }
}

// CheckpointPause sets the least time between the end of a checkpoint and the
// start of the next, for jobs whose checkpoints take about as long as the
// interval. Default 0.
func CheckpointPause(d time.Duration) CheckpointOption {
	return func(c *checkpointConfig) { c.pause = d }
}

// ToleratedFailures sets how many checkpoints in a row may fail, because the
// directory can't be written to for example, before the job fails; -1 is any
// number. Until then the job goes on, and reports it. Default 3.
func ToleratedFailures(n int) CheckpointOption {
	return func(c *checkpointConfig) { c.tolerated = n }
}

// KeepCheckpoints sets how many checkpoints are kept. Default 3.
func KeepCheckpoints(n int) CheckpointOption { return func(c *checkpointConfig) { c.keep = n } }

// AllowUnclaimed starts from a checkpoint although it holds state that the job
// has no place for, which is lost then. Set it for one start, after an operator
// was removed on purpose. Default: such a start is an error that matches
// [ErrUnclaimedState].
func AllowUnclaimed() CheckpointOption { return func(c *checkpointConfig) { c.allowUnclaimed = true } }

// StartFrom names what a job starts from whose directory has no checkpoint: a
// savepoint, by the path of its directory. When there are checkpoints already,
// they are newer, and the job goes on from them; so it can stay set. Default: a
// new job.
func StartFrom(savepoint string) CheckpointOption {
	return func(c *checkpointConfig) { c.savepoint = savepoint }
}

// CheckpointFiles sets the file system that the directory is on, for tests of
// crashes and of failing disks. Default: that of the machine.
func CheckpointFiles(fs vfs.FS) CheckpointOption { return func(c *checkpointConfig) { c.fs = fs } }

// StateMemory sets how many bytes of keyed state all operators together keep in
// memory; state that was not used lately moves to disk beyond that. It takes
// effect where there is a disk to move to: with [Checkpoints] or [StateDirectory].
// A process needs about twice as much memory, because of Go's garbage collection,
// and what the job itself needs. Default 256 MiB.
func StateMemory(bytes int64) Option { return func(c *config) { c.checkpoints.stateMemory = bytes } }

// StateDirectory sets where working state lives that memory does not hold. Its
// content is worthless once the job has ended. Set it to let the state of a job
// without checkpoints be larger than memory. Default: a place within the
// directory of [Checkpoints], and without those, state is in memory only.
func StateDirectory(dir string) Option { return func(c *config) { c.checkpoints.stateDir = dir } }

// StateInMemory keeps all keyed state in memory, whatever its size, and writes
// all of it with each checkpoint. It suits jobs with little state, whose
// checkpoints are then the smallest. Default: state is kept on disk, behind a cache in
// memory.
func StateInMemory() Option { return func(c *config) { c.checkpoints.inMemory = true } }

func (c *checkpointConfig) check() []string {
	var wrong []string
	for _, v := range []struct {
		name string
		d    time.Duration
	}{{"CheckpointInterval", c.interval}, {"CheckpointTimeout", c.timeout}, {"CheckpointPause", c.pause}} {
		if v.d < 0 {
			wrong = append(wrong, fmt.Sprintf("%s is negative: %v", v.name, v.d))
		}
	}
	if c.tolerated < -1 {
		wrong = append(wrong, fmt.Sprintf("ToleratedFailures is %d, must be at least -1", c.tolerated))
	}
	if c.keep < 1 {
		wrong = append(wrong, fmt.Sprintf("KeepCheckpoints is %d, must be at least 1", c.keep))
	}
	if c.stateMemory < 1<<20 {
		wrong = append(wrong, fmt.Sprintf("StateMemory is %d bytes, must be at least 1 MiB", c.stateMemory))
	}
	if c.fs == nil {
		wrong = append(wrong, "CheckpointFiles is nil")
	}
	return wrong
}
