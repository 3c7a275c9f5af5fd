package files_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/files"
)

// logFile is what a program writes to.
type logFile struct {
	t    *testing.T
	f    *os.File
	path string
}

func createLog(t *testing.T, path string) *logFile {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &logFile{t, f, path}
}

func (l *logFile) write(text string) {
	l.t.Helper()
	if _, err := l.f.WriteString(text); err != nil {
		l.t.Fatal(err)
	}
}

// lines writes whole lines. Padding makes them long enough to tell one file
// from another by.
func (l *logFile) lines(words ...string) {
	l.t.Helper()
	for _, w := range words {
		l.write(w + "\n")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func following(pattern string) *files.Source[string] {
	return files.Lines(pattern, files.Follow())
}

// inFakeTime runs a test in which waiting for the next poll takes no time.
func inFakeTime(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

func TestFollowPartialLine(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		log := createLog(t, dir+"/log")
		log.write("one\ntw")
		f := startTail(t, following(log.path), 10, nil)
		f.want(t, "a line and a half", "one")
		f.want(t, "nothing new", "")
		log.write("o")
		f.want(t, "still no line end", "")
		log.write("\nthree\nfo")
		f.want(t, "the rest", "two three")
		f.close()
		log.write("ur\n")
		f = startTail(t, following(log.path), 10, f.positions)
		f.want(t, "after a restart in the middle of a line", "four")
	})
}

func TestFollowRenameAndCreate(t *testing.T) {
	for _, pattern := range []string{"log", "log*"} {
		t.Run(pattern, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, dir string) {
				log := createLog(t, dir+"/log")
				log.lines("one")
				f := startTail(t, following(filepath.Join(dir, pattern)), 10, nil)
				f.want(t, "start", "one")
				must(t, os.Rename(dir+"/log", dir+"/log.1"))
				log.lines("two") // the program has not noticed
				f.want(t, "between rename and create", "two")
				next := createLog(t, dir+"/log")
				log.write("three")
				f.want(t, "the new file is empty", "")
				next.lines("four")
				f.want(t, "rotated; the old file's last line has no end", "three four")
				must(t, os.Rename(dir+"/log.1", dir+"/log.2"))
				must(t, os.Rename(dir+"/log", dir+"/log.1"))
				createLog(t, dir+"/log").lines("five")
				f.want(t, "rotated again", "five")
				if f.splits() != "1" {
					t.Errorf("%s splits, want 1", f.splits())
				}
			})
		})
	}
}

func TestFollowTwoRotationsAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		log := createLog(t, dir+"/log")
		log.lines("one")
		f := startTail(t, following(dir+"/log"), 10, nil)
		f.want(t, "start", "one")
		log.lines("two")
		for i, word := range []string{"three", "four"} {
			if i == 1 {
				must(t, os.Rename(dir+"/log.1", dir+"/log.2"))
			}
			must(t, os.Rename(dir+"/log", dir+"/log.1"))
			at := time.Now().Add(time.Duration(i+1) * time.Minute) // fake time is far from the file system's
			createLog(t, dir+"/log").lines(word)
			must(t, os.Chtimes(dir+"/log", at, at))
		}
		must(t, os.Chtimes(dir+"/log.2", time.Now(), time.Now()))
		f.want(t, "two rotations between two looks", "two three four")
	})
}

func TestFollowTruncate(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		log := createLog(t, dir+"/log")
		log.lines("one", "two")
		f := startTail(t, following(dir+"/log"), 10, nil)
		f.want(t, "start", "one two")
		must(t, os.Truncate(dir+"/log", 0))
		f.want(t, "truncated", "")
		log.lines("three")
		f.want(t, "written again", "three")
		must(t, os.Truncate(dir+"/log", 0))
		log.lines("a much longer line than there was before")
		f.want(t, "truncated and grown beyond the old end", "a much longer line than there was before")
		must(t, os.Truncate(dir+"/log", 0))
		log.lines("A much longer line than there was before")
		must(t, os.Chtimes(dir+"/log", time.Now(), time.Now()))
		f.want(t, "truncated and written to the same size", "A much longer line than there was before")
		if n := f.metrics.Counter("truncations").Load(); n != 3 {
			t.Errorf("%d truncations counted, want 3", n)
		}
	})
}

func TestFollowNewFiles(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		f := startTail(t, following(dir+"/sub/*.log"), 10, nil)
		f.want(t, "nothing there", "")
		must(t, os.Mkdir(dir+"/sub", 0o777))
		createLog(t, dir+"/sub/a.log").lines("one")
		f.want(t, "a file appears", "one")
		put(t, dir+"/sub/b.log", gzipped("two\nthree\n"))
		f.want(t, "a compressed file appears", "two three")
		if f.splits() != "1" {
			t.Errorf("%s splits, want 1: the compressed file has ended", f.splits())
		}
		must(t, os.Remove(dir+"/sub/a.log"))
		f.settle(t, 20*time.Second)
		if f.splits() != "0" {
			t.Errorf("%s splits, want 0: the other file is gone", f.splits())
		}
		createLog(t, dir+"/sub/a.log").lines("four")
		f.want(t, "it is back", "four")
	})
}

func TestFollowGrowingCompressedFile(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		content := gzipped(strings.Repeat("a line\n", 1000) + "end\n")
		log := createLog(t, dir+"/log.gz")
		log.write(content[:5])
		f := startTail(t, following(dir+"/*"), 10, nil)
		f.want(t, "half a header", "")
		log.write(content[5 : len(content)/2])
		f.settle(t, time.Second)
		log.write(content[len(content)/2:])
		f.settle(t, time.Second)
		if n := len(f.lines); n != 1001 || f.lines[1000] != "end" {
			t.Errorf("got %d lines, want 1001 and the last to be the end", n)
		}
	})
}

// TestFollowRestart stops, rotates, and goes on.
func TestFollowRestart(t *testing.T) {
	first := "one " + strings.Repeat("x", 100)
	for _, c := range []struct {
		name   string
		rotate func(t *testing.T, dir string)
		want   string
	}{
		{"not rotated", func(*testing.T, string) {}, "two"},
		{"renamed", func(t *testing.T, dir string) { must(t, os.Rename(dir+"/log", dir+"/log.1")) }, "two"},
		{"renamed and created", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/log", dir+"/log.1"))
			createLog(t, dir+"/log").lines("three")
		}, "two three"},
		{"renamed and compressed", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/log"))
			createLog(t, dir+"/log").lines("three")
			put(t, dir+"/log.1.gz", gzipped(first+"\ntwo\n"))
		}, "two three"},
		{"rotated twice", func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/log", dir+"/log-20250101"))
			createLog(t, dir+"/log-20250102").lines("three")
			createLog(t, dir+"/log").lines("four")
			for i, name := range []string{"log-20250101", "log-20250102", "log"} {
				at := time.Unix(int64(1_000_000+i*1000), 0)
				must(t, os.Chtimes(filepath.Join(dir, name), at, at))
			}
		}, "two three four"},
		{"truncated", func(t *testing.T, dir string) { put(t, dir+"/log", "three\n") }, "three"},
		{"gone", func(t *testing.T, dir string) {
			must(t, os.Remove(dir+"/log"))
			createLog(t, dir+"/log").lines("three")
		}, "three"},
	} {
		for _, pattern := range []string{"log", "log*"} {
			if c.name == "rotated twice" && pattern == "log*" {
				continue // the file between is a split of its own then, read in turns
			}
			t.Run(c.name+"/"+pattern, func(t *testing.T) {
				inFakeTime(t, func(t *testing.T, dir string) {
					log := createLog(t, dir+"/log")
					log.lines(first)
					f := startTail(t, following(filepath.Join(dir, pattern)), 10, nil)
					f.want(t, "before", first)
					f.close()
					log.lines("two")
					c.rotate(t, dir)
					f = startTail(t, following(filepath.Join(dir, pattern)), 10, f.positions)
					f.want(t, "after", c.want)
					if t.Failed() {
						t.Logf("positions %s", f.positions)
					}
					f.close()
					f = startTail(t, following(filepath.Join(dir, pattern)), 10, f.positions)
					f.want(t, "after another restart", "")
				})
			})
		}
	}
}

// TestFollowMoreFilesThanMayBeOpen writes to files in turns, with room for two.
func TestFollowMoreFilesThanMayBeOpen(t *testing.T) {
	inFakeTime(t, func(t *testing.T, dir string) {
		var logs []*logFile
		for i := range 7 {
			logs = append(logs, createLog(t, fmt.Sprintf("%s/%d", dir, i)))
			logs[i].lines("start")
		}
		f := startTail(t, files.Lines(dir+"/?", files.Follow(), files.MaxOpen(2)), 10, nil)
		f.settle(t, 2*time.Second)
		if n := len(f.lines); n != 7 {
			t.Fatalf("%d lines at the start, want 7", n)
		}
		f.took()
		for round := range 3 {
			for i, log := range logs {
				text := fmt.Sprintf("%d-%d", round, i)
				log.lines(text)
				f.want(t, text, text)
				if round == 1 && i == 3 {
					must(t, os.Rename(log.path, log.path+".old"))
					logs[i] = createLog(t, log.path)
				}
			}
		}
	})
}

// TestFollowAtParallelism checks that every file has exactly one reader, also
// when it is rotated to a name that another subtask would read.
func TestFollowAtParallelism(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const parallelism = 4
		src := following(dir + "/*")
		var logs []*logFile
		for i := range 10 {
			logs = append(logs, createLog(t, fmt.Sprintf("%s/log%d", dir, i)))
			logs[i].lines(fmt.Sprint("first-", i))
		}
		var tails []*tail
		for i := range parallelism {
			f := &tail{metrics: &pipeline.Metrics{}, positions: map[string][]byte{}, live: map[string]bool{}}
			r, err := src.Open(t.Context(), &pipeline.SourceEnv{Subtask: i, Parallelism: parallelism, BatchSize: 10})
			must(t, err)
			f.reader = r
			defer f.close()
			tails = append(tails, f)
		}
		count := map[string]int{}
		gather := func() {
			for _, f := range tails {
				f.settle(t, 2*time.Second)
				for _, line := range f.lines {
					count[line]++
				}
				f.took()
			}
		}
		gather()
		for i, log := range logs {
			must(t, os.Rename(log.path, log.path+".1"))
			createLog(t, log.path).lines(fmt.Sprint("second-", i))
		}
		gather()
		gather()
		for i := range logs {
			for _, line := range []string{fmt.Sprint("first-", i), fmt.Sprint("second-", i)} {
				if count[line] != 1 {
					t.Errorf("line %s came %d times", line, count[line])
				}
			}
		}
	})
}
