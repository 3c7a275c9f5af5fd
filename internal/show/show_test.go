package show

import (
	"strings"
	"testing"
)

type broken struct{}

func (broken) Error() string { panic("no text") }

func TestValue(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{struct{ A, B int }{1, 2}, "{A:1 B:2}"},
		{strings.Repeat("é", 300), strings.Repeat("é", 256) + "…"},
		{"x" + strings.Repeat("é", 300), "x" + strings.Repeat("é", 255) + "…"},
		{nil, "<nil>"},
	} {
		if got := Value(c.v); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := Value(broken{}); !strings.Contains(got, "PANIC") && !strings.Contains(got, "unprintable") {
		t.Errorf("a value that panics is shown as %q", got)
	}
}
