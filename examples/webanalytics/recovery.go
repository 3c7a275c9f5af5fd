package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// recovery is what the flags say about going on after a crash. Without
// -checkpoints a run that was killed has to be done again.
type recovery struct {
	checkpoints string
	interval    time.Duration
	stateMemory int // MiB
	startFrom   string
	savepoint   string

	goesOn bool // there is something to go on from
}

func (r *recovery) recoveryFlags(f *flag.FlagSet) {
	f.StringVar(&r.checkpoints, "checkpoints", "", "`folder` for checkpoints: a run that was killed or interrupted goes on\nfrom the last one when it is started again, at any -parallelism")
	f.DurationVar(&r.interval, "checkpoint-interval", 10*time.Second, "time from one checkpoint to the next")
	f.IntVar(&r.stateMemory, "state-memory", 256, "`MiB` of state kept in memory, with -checkpoints; the rest is on disk")
	f.StringVar(&r.startFrom, "start-from", "", "`folder` of a savepoint that a run without checkpoints goes on from")
	f.StringVar(&r.savepoint, "savepoint-on-exit", "", "`name` of a savepoint to keep when the run is interrupted")
}

// check refuses what would have no effect.
func (r *recovery) check(c *config, given map[string]bool) error {
	for _, name := range []string{"checkpoint-interval", "state-memory", "start-from", "savepoint-on-exit"} {
		if given[name] && r.checkpoints == "" {
			return fmt.Errorf("-%s needs -checkpoints", name)
		}
	}
	if r.checkpoints != "" && c.output == "" && c.graph == "" {
		return errors.New("-checkpoints needs -output")
	}
	return nil
}

func (r *recovery) recoveryOptions() []pipeline.Option {
	if r.checkpoints == "" {
		return nil
	}
	return []pipeline.Option{
		pipeline.Checkpoints(r.checkpoints, pipeline.CheckpointInterval(r.interval), pipeline.StartFrom(r.startFrom)),
		pipeline.StateMemory(int64(r.stateMemory) << 20),
	}
}

// ownerFile is in the folder of results, and says which checkpoints they belong
// to. The checkpoints know how long each file was: of another run's files they
// would take the beginning for their own.
const ownerFile = ".webanalytics"

type owner struct {
	Checkpoints string `json:"checkpoints"`
}

// prepareOutput makes the folder, and sees to the results that are there.
//
// A run that goes on keeps them, -overwrite or not, so that it is started again
// with the flags it had. Otherwise they stop the run, or are removed; those that
// this run would not write are removed with the others: a folder holds the
// results of one run.
func (c *config) prepareOutput() error {
	if err := os.MkdirAll(c.output, 0o777); err != nil {
		return err
	}
	there, err := c.resultsThere()
	if err != nil {
		return err
	}
	mine, err := c.ownsOutput()
	if err != nil {
		return err
	}
	kept, err := c.hasCheckpoints()
	switch {
	case err != nil:
		return err
	case kept && !mine:
		return fmt.Errorf("%s has no results of the run whose checkpoints are in %s (see %s in it, or take other -checkpoints)",
			c.output, c.checkpoints, ownerFile)
	case kept:
		c.goesOn = true
		return nil
	case c.startFrom != "": // the sinks see that the savepoint's results are there
		c.goesOn = true
		return c.own()
	case mine && !c.overwrite: // killed before its first checkpoint: the sinks know what to keep
		return nil
	case len(there) > 0 && !c.overwrite:
		return fmt.Errorf("%s has %s already (-overwrite replaces it)", c.output, strings.Join(there, ", "))
	}
	for _, name := range there {
		if err := os.Remove(filepath.Join(c.output, name)); err != nil {
			return err
		}
	}
	return c.own()
}

func (c *config) resultsThere() ([]string, error) {
	var there []string
	for _, name := range resultFiles {
		switch _, err := os.Lstat(filepath.Join(c.output, name)); {
		case err == nil:
			there = append(there, name)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return there, nil
}

// hasCheckpoints says whether there is a complete checkpoint.
func (c *config) hasCheckpoints() (bool, error) {
	if c.checkpoints == "" {
		return false, nil
	}
	entries, err := os.ReadDir(c.checkpoints)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "chk-") {
			continue
		}
		if _, err := os.Stat(filepath.Join(c.checkpoints, e.Name(), "MANIFEST")); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// ownsOutput says whether the results belong to this run's checkpoints.
func (c *config) ownsOutput() (bool, error) {
	if c.checkpoints == "" {
		return false, nil
	}
	text, err := os.ReadFile(filepath.Join(c.output, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var o owner
	if err := json.Unmarshal(text, &o); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(c.output, ownerFile), err)
	}
	dir, err := filepath.Abs(c.checkpoints)
	return o.Checkpoints == dir, err
}

// own makes the results those of this run. The file is on disk before the first
// checkpoint is.
func (c *config) own() error {
	path := filepath.Join(c.output, ownerFile)
	if c.checkpoints == "" {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	dir, err := filepath.Abs(c.checkpoints)
	if err != nil {
		return err
	}
	text, err := json.Marshal(owner{dir})
	if err != nil {
		return err
	}
	return writeWhole(path, append(text, '\n'))
}

// writeWhole replaces a file, so that a crash leaves the old one or the new.
func writeWhole(path string, text []byte) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
