//go:build integration

package pipeline_test

import "time"

const slowSinkDuration = 30 * time.Second
