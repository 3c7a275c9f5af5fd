//go:build integration

package main

import (
	"strings"
	"testing"
	"time"
)

// TestIntegrationCrash is a small crash test; make crashtest is the full one.
func TestIntegrationCrash(t *testing.T) {
	c := config{events: 250_000, kills: 8, seed: 2, interval: 100 * time.Millisecond, cache: t.TempDir()}
	var log strings.Builder
	err := c.run(t.Context(), &log)
	t.Log("\n" + log.String())
	if err != nil {
		t.Fatal(err)
	}
}
