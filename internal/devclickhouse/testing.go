package devclickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// New starts a server for one test, which it ends with. When the test fails, the end
// of the server's log is in its output. Where the engine can't be had, the test is
// skipped, and says so on the standard error as well.
func New(t testing.TB, o Options) *Process {
	t.Helper()
	p, err := Start(t.Context(), o)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + p.Log())
		}
		p.Close()
	})
	return p
}

// Shared returns the one server that all tests of this test binary use, so none must
// stop it, and each needs tables of its own: [UniqueName]. Where the engine can't be
// had, the test is skipped, and says so on the standard error as well.
func Shared(t testing.TB) *Process {
	t.Helper()
	p, err := shared()
	if err != nil {
		unavailable(t, err)
	}
	return p
}

// shared starts the server of this test binary. It ends with it.
var shared = sync.OnceValues(func() (*Process, error) {
	return Start(context.Background(), Options{})
})

// unavailable skips the test, loudly, or fails it.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "devclickhouse: %s is SKIPPED: %v\n", t.Name(), err)
	t.Skip(err)
}

var names atomic.Int64

// UniqueName returns a name that begins with the given one and that no other test
// has, of this run or another on the same server.
func UniqueName(name string) string {
	return fmt.Sprintf("%s_%x_%d", name, time.Now().UnixNano(), names.Add(1))
}
