package checkpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestPointer(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	for _, want := range []Pointer{{}, {Where: "group \"visits\"", After: 3}, {Where: "elsewhere", Committed: true}} {
		if want.Where != "" {
			if err := s.SetPointer(want); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s, fs)
		}
		if got, err := s.Pointer(); got != want || err != nil {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for range 2 {
		if err := s.RemovePointer(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Pointer(); got != (Pointer{}) || err != nil {
		t.Errorf("got %+v, %v after its removal", got, err)
	}
}

func reopen(t *testing.T, s *Store, fs vfs.FS) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openStore(t, fs)
}

func TestDamagedPointer(t *testing.T) {
	for text, want := range map[string]error{
		"": ErrDamaged, "elsewhere": ErrDamaged, "{}": ErrDamaged, `{"format":1}`: ErrDamaged,
		`{"format":1,"where":"x","after":-1}`: ErrDamaged, `{"format":2,"where":"x"}`: ErrNewerFormat,
	} {
		s := openStore(t, vfs.NewMem())
		if err := s.disk.write(s.path(pointerName), []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Pointer(); !errors.Is(err, want) || !strings.Contains(err.Error(), s.path(pointerName)) {
			t.Errorf("%q: got error %v, want %v", text, err, want)
		}
	}
}

func TestRewind(t *testing.T) {
	fs := vfs.NewMem()
	s := openStore(t, fs)
	for id := int64(1); id <= 4; id++ {
		if _, err := take(s, id); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ to, latest int64 }{{7, 4}, {4, 4}, {2, 2}, {2, 2}, {0, 0}} {
		if err := s.Rewind(c.to); err != nil {
			t.Fatal(err)
		}
		s = reopen(t, s, fs)
		m, err := s.Latest()
		if err != nil || (m == nil) != (c.latest == 0) || m != nil && m.ID != c.latest || s.LastID() != c.latest {
			t.Errorf("rewound to %d: the latest is %v (%d), %v, want %d", c.to, m, s.LastID(), err, c.latest)
		}
		if m != nil {
			if _, err := s.Read(m.Operators[0].Subtasks[0].Keyed.Files[0], m); err != nil {
				t.Errorf("rewound to %d: %v", c.to, err)
			}
		}
	}
}

// What was noted is there after the machine has died.
func TestPointerCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openStore(t, fs)
	first := Pointer{Where: "first", After: 1}
	if err := s.SetPointer(first); err != nil {
		t.Fatal(err)
	}
	second := Pointer{Where: "second", Committed: true}
	if err := s.SetPointer(second); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if got, err := openStore(t, crashed).Pointer(); got != second || err != nil {
		t.Errorf("got %+v, %v after a crash", got, err)
	}
}
