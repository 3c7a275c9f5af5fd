package realkafka

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
)

// BrokersVariable is the environment variable that names running brokers, separated
// by commas, for [Shared] to use.
const BrokersVariable = "MILLRACE_KAFKA_BROKERS"

// New starts a cluster for one test, which it ends with. When the test fails, the
// ends of the brokers' logs are in its output.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + c.Logs())
		}
		c.Stop()
	})
	return c
}

// Shared returns the addresses of one broker that all tests use, so none must stop
// it, and each needs topics, groups and transactional ids of its own: [UniqueName].
func Shared(t testing.TB) []string {
	t.Helper()
	if brokers := os.Getenv(BrokersVariable); brokers != "" {
		return strings.Split(brokers, ",")
	}
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return c.Addrs()
}

// shared starts the broker of this test binary. It ends with it.
var shared = sync.OnceValues(func() (*Cluster, error) {
	return Start(context.Background(), Options{})
})
