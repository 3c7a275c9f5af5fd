package results

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain has the test's program be a side where a test has started it as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-side" {
		if err := Obey(doubled); err != nil {
			fmt.Fprintln(os.Stderr, "as it should be:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func doubled(order string) (any, error) {
	var seconds int
	if _, err := fmt.Sscan(order, &seconds); err != nil {
		return nil, errors.New("no number: " + order)
	}
	return Turn{Wall: time.Duration(seconds) * time.Second, CPU: 2 * time.Duration(seconds) * time.Second}, nil
}

func TestProcess(t *testing.T) {
	p, err := Start(os.Args[0], "-side")
	if err != nil {
		t.Fatal(err)
	}
	for seconds := range 3 {
		var got Turn
		want := Turn{Wall: time.Duration(seconds) * time.Second, CPU: 2 * time.Duration(seconds) * time.Second}
		if err := p.Order(fmt.Sprint(seconds), &got); err != nil || got != want {
			t.Errorf("order %d: got %v and %v, want %v", seconds, got, err, want)
		}
	}
	if peak := p.Peak(); peak < 1<<20 && runtime.GOOS == "linux" {
		t.Errorf("peak: got %d bytes, want those of a process", peak)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func TestProcessFails(t *testing.T) {
	for _, c := range [][]string{{os.Args[0], "-side"}, {"sh", "-c", "exit 1"}, {"sh", "-c", "read x; echo nonsense; exit 1"}} {
		p, err := Start(c[0], c[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Order("x", &Turn{}); err == nil {
			t.Errorf("%v: the order was answered, want an error", c)
		}
		if err := p.Stop(); err == nil || err.Error() != "exit status 1" {
			t.Errorf("%v: stopped with %v, want its exit status", c, err)
		}
	}
	silent, err := Start("sh", "-c", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := silent.Order("x", &Turn{}); err == nil {
		t.Error("a program that says nothing has answered an order")
	}
	if err := silent.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := Start("/no/such/program"); err == nil {
		t.Error("a program was started that is not there")
	}
}
