package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profiled runs f once more with the profiler on, where -profile asks for it.
func (c config) profiled(name string, f func() error) error {
	if c.profile == "" {
		return nil
	}
	file, err := os.Create(filepath.Join(c.profile, name+".pprof"))
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}
