package checkpoint

import (
	"math"
	"strings"
	"testing"
)

func wholeManifest() *Manifest {
	m := manifestOf([]File{{Name: "000005.sst", Path: "shared/r-1-000005.sst", Size: 3, Checksum: math.MaxUint64}})
	m.Format, m.ID, m.Kind, m.Job, m.Created, m.Run = 1, 42, KindCheckpoint, "visits <&>", 1700000000123, "r"
	m.Operators[0].Subtasks[0].Watermark = math.MinInt64
	m.Operators[0].Subtasks[0].Splits[0].Watermark = math.MaxInt64
	m.Finished = true
	return m
}

func TestManifestRoundTrip(t *testing.T) {
	want := encoded(t, wholeManifest())
	m, err := decodeManifest([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, m); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if !strings.HasPrefix(want, "{\n  \"format\": 1,\n") || !strings.Contains(want, "visits <&>") {
		t.Errorf("hard to read: %s", want)
	}
}

func TestManifestRefused(t *testing.T) {
	for what, change := range map[string]func(*Manifest){
		"path":          func(m *Manifest) { m.Operators[0].Subtasks[0].Keyed.Files[0].Path = "../etc/passwd" },
		"absolute path": func(m *Manifest) { m.Operators[0].Subtasks[0].Keyed.Files[0].Path = "/etc/passwd" },
		"file name":     func(m *Manifest) { m.Operators[0].Subtasks[0].Keyed.Files[0].Name = "../000005.sst" },
		"size":          func(m *Manifest) { m.Operators[0].Subtasks[0].Keyed.Files[0].Size = -1 },
		"kind":          func(m *Manifest) { m.Kind = "backup" },
		"name":          func(m *Manifest) { m.Name = "kept" },
		"id":            func(m *Manifest) { m.ID = 0 },
		"format":        func(m *Manifest) { m.Format = 0 },
		"key groups":    func(m *Manifest) { m.Operators[0].Subtasks[0].End = 129 },
		"same name":     func(m *Manifest) { m.Operators = append(m.Operators, m.Operators[0]) },
	} {
		m := wholeManifest()
		change(m)
		if _, err := decodeManifest([]byte(encoded(t, m))); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	m := wholeManifest()
	m.Operators[0].Subtasks[0].Splits[0].Name = "\xff.log" // JSON would change it
	if err := m.validate(); err == nil {
		t.Error("a name that JSON can't hold was accepted")
	}
}

// FuzzDecodeManifest looks for bytes that are misread: whatever is accepted is
// valid and reads the same when written again. The checksum line is put below
// the fuzzer's bytes, which would never find it.
func FuzzDecodeManifest(f *testing.F) {
	whole, err := encodeManifest(wholeManifest())
	if err != nil {
		f.Fatal(err)
	}
	body, err := checkedBody(whole)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, true)
	f.Add(whole, false)
	f.Add([]byte(`{"format": 2, "program": "millrace v9"}`+"\n"), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign {
			b = append(append([]byte{}, b...), '\n')
			b = append(b, checksumLine(sumOfBytes(b))...)
		}
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		if err := m.validate(); err != nil {
			t.Fatal(err)
		}
		again := encoded(t, m)
		m, err = decodeManifest([]byte(again))
		if err != nil {
			t.Fatalf("does not read what it wrote: %v\n%s", err, again)
		}
		if third := encoded(t, m); third != again {
			t.Fatalf("changed from\n%s\nto\n%s", again, third)
		}
	})
}
