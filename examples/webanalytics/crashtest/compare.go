package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// results returns the names of the result files in a folder.
func results(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// size returns how many bytes of results there are, none where there is no
// folder yet.
func size(dir string) (total int64, err error) {
	names, err := results(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, name := range names {
		if fi, err := os.Stat(filepath.Join(dir, name)); err == nil {
			total += fi.Size()
		}
	}
	return total, err
}

// compare compares all results, line by line, after sorting.
func (t *trial) compare() error {
	want, err := results(filepath.Join(t.dir, undisturbed))
	if err != nil {
		return err
	}
	got, err := results(filepath.Join(t.dir, disturbed))
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("results are in %v, want %v", got, want)
	}
	var errs []error
	lines := 0
	for _, name := range want {
		n, err := t.compareFile(name)
		lines += n
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	t.say("all %d lines of %d files are those of the undisturbed run", lines, len(want))
	return nil
}

func (t *trial) compareFile(name string) (lines int, err error) {
	got, err := sortedLines(filepath.Join(t.dir, disturbed, name))
	if err != nil {
		return 0, err
	}
	want, err := sortedLines(filepath.Join(t.dir, undisturbed, name))
	if err != nil {
		return 0, err
	}
	surplus, missing := difference(got, want), difference(want, got)
	if len(surplus)+len(missing) == 0 {
		return len(want), nil
	}
	return len(want), fmt.Errorf("%s: %d lines, want %d; %d too many, %d are missing\n%s%s", name, len(got), len(want),
		len(surplus), len(missing), excerpt("+ ", surplus), excerpt("- ", missing))
}

func sortedLines(path string) ([][]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	slices.SortFunc(lines, bytes.Compare)
	return lines, nil
}

// difference returns the lines of a that b has not, or not as often. Both are
// sorted.
func difference(a, b [][]byte) (only [][]byte) {
	for _, line := range a {
		for len(b) > 0 && bytes.Compare(b[0], line) < 0 {
			b = b[1:]
		}
		if len(b) > 0 && bytes.Equal(b[0], line) {
			b = b[1:]
			continue
		}
		only = append(only, line)
	}
	return only
}

// excerpt shows the first lines, each not at its full length.
func excerpt(sign string, lines [][]byte) string {
	var b strings.Builder
	for _, line := range lines[:min(len(lines), 5)] {
		line = bytes.TrimSuffix(line, []byte("\n"))
		fmt.Fprintf(&b, "  %s%.300s\n", sign, line)
	}
	return b.String()
}
