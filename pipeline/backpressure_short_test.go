//go:build !integration

package pipeline_test

import "time"

const slowSinkDuration = 3 * time.Second
