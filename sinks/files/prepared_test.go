package files

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/pipeline"
)

func FuzzDecodeParts(f *testing.F) {
	f.Add(encodeVersioned(preparedParts{preparedVersion, 7, []part{{".part-00000-r1-000.tmp", "part-00000-00000007-000.jsonl", 3}}}))
	f.Add([]byte(`{"version":1,"parts":[{"temp":"../.part-00000-r1-000.tmp"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeParts(b)
		if err != nil {
			return
		}
		for _, f := range p.Parts {
			for _, name := range []string{f.Temp, f.Name} {
				if filepath.Base(name) != name || strings.ContainsAny(name, `/\`) || f.Size < 0 {
					t.Errorf("part %+v leads out of its folder", f)
				}
			}
		}
	})
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(encodeVersioned(preparedFile{preparedVersion, "out.jsonl", 3}), "out.jsonl")
	f.Add([]byte(`{"version":1,"name":"../out.jsonl","size":1}`), "out")
	f.Add([]byte(`{"version":1,"name":"0","size":1}`), "\x9c") // made a pattern that does not compile
	f.Fuzz(func(t *testing.T, b []byte, path string) {
		s := JSON[int](path)
		lengths, err := s.lengths([][]byte{b})
		if err != nil {
			return
		}
		for name, size := range lengths {
			if filepath.Base(name) != name || size < 0 {
				t.Errorf("file %q of %d bytes leads out of its folder", name, size)
			}
		}
	})
}

// TestLockedFolder opens a folder in which another process has the lock.
func TestLockedFolder(t *testing.T) {
	d := newTestDisk(1)
	s := LineParts("/out")
	s.disk = d
	lock, err := d.Lock("/out/.millrace.lock")
	if err != nil {
		t.Fatal(err)
	}
	open := func() (pipeline.Writer[string], error) {
		return s.Open(context.Background(), &pipeline.SinkEnv{Operator: "out", Parallelism: 1})
	}
	if _, err := open(); err == nil || !strings.Contains(err.Error(), `write "/out": another process writes there`) {
		t.Errorf("locked: got error %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	w, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.(pipeline.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	if len(d.locks) != 0 {
		t.Errorf("closed, and the folder is still locked: %v", d.locks)
	}
}

func TestWriteDoesNotAllocate(t *testing.T) {
	s := LineParts("/out")
	s.disk = newTestDisk(1)
	w, err := s.Open(context.Background(), &pipeline.SinkEnv{Operator: "out", Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	b := &pipeline.Records[string]{Values: make([]string, 100), Times: make([]int64, 100)}
	if err := w.Write(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	allocations := testing.AllocsPerRun(100, func() {
		if err := w.Write(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 1 { // the buffer grows
		t.Errorf("%v allocations a batch", allocations)
	}
}
