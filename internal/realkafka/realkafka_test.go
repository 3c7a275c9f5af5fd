package realkafka

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseKcat(t *testing.T) {
	lines, err := parseKcat([]byte("0 7 1 2 kab\n2 8 -1 0 \n0 9 3 -1 a\n \n1 1 -1 4 1 2\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{0 7 [107] [97 98]} {2 8 [] []} {0 9 [97 10 32] []} {1 1 [] [49 32 50 10]}]`
	if got := fmt.Sprint(lines); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if lines[1].Key != nil || lines[1].Value == nil || lines[2].Value != nil {
		t.Errorf("nothing and empty are mixed up: %#v", lines)
	}
	for _, bad := range []string{"0", "0 1 2 3 ", "0 1 1 9 ab\n", "0 1 x 1 a\n", "% ERROR: all brokers are down\n"} {
		if lines, err := parseKcat([]byte(bad)); err == nil {
			t.Errorf("parsed %q as %v", bad, lines)
		}
	}
}

func TestPropertiesAreOverruled(t *testing.T) {
	n := &node{id: 2, dir: "dir", port: 1, control: 2, securePort: 3}
	got := properties(Options{Config: map[string]string{"min.insync.replicas": "3", "a": "b"}, Secure: true}, []*node{n, n, n}, n)
	for _, want := range []string{"min.insync.replicas=3\n", "a=b\n", "default.replication.factor=3\n", "transaction.state.log.min.isr=2\n",
		"node.id=2\n", "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,SECURE://127.0.0.1:3\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "min.insync.replicas="); n != 1 {
		t.Errorf("min.insync.replicas is there %d times", n)
	}
}

func TestTail(t *testing.T) {
	all := strings.Repeat("line\n", 50)
	for _, c := range []struct{ log, want string }{{"", ""}, {"a\nb\n", "a\nb\n"}, {"first\n" + all, all[:40*5]}} {
		if got := string(tail([]byte(c.log))); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestTooManyBrokers(t *testing.T) {
	c := &Cluster{dir: t.TempDir()}
	if err := c.makeNodes("", Options{Brokers: 4}); err == nil {
		t.Error("four brokers: want an error")
	}
}

func TestClusterID(t *testing.T) {
	for range 1000 {
		if id := clusterID(); len(id) != 22 || id[0] == '-' {
			t.Fatalf("got %q", id)
		}
	}
}
