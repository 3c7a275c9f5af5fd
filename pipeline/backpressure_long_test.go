//go:build integration

package pipeline_test

import (
	"testing"
	"time"
)

// TestIntegrationSlowSinkBoundsMemory has half a minute for a leak to show.
func TestIntegrationSlowSinkBoundsMemory(t *testing.T) { slowSinkBoundsMemory(t, 30*time.Second) }
