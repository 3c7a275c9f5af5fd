package realserver

import "testing"

func TestVersionOf(t *testing.T) {
	for path, want := range map[string]int{"/usr/lib/postgresql/15/bin/initdb": 15, "/usr/lib/postgresql/9.6/bin/initdb": 0, "/x": 0} {
		if got := versionOf(path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

func TestUniqueName(t *testing.T) {
	if a, b := UniqueName("a"), UniqueName("a"); a == b {
		t.Errorf("both are %s", a)
	}
}
