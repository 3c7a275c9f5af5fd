package devclickhouse

import (
	"net"
	"strings"
	"testing"
	"time"
)

func TestListenOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "example.com:0"} {
		if _, err := listen(addr); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: got %v, want that it is no loopback address", addr, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1:0", "localhost:0"} {
		l, err := listen(addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A port that is in use for a moment is waited for.
func TestListenPatiently(t *testing.T) {
	before, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { _ = before.Close() })
	after, err := listen(before.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := after.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnquote(t *testing.T) {
	for literal, want := range map[string]string{
		`'a'`: "a", `'it\'s \\ x'`: `it's \ x`, "a": "a", "'": "'", "": "",
	} {
		if got := unquote(literal); got != want {
			t.Errorf("%s: got %s, want %s", literal, got, want)
		}
	}
}
