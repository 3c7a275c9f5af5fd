//go:build race

package state

const raceEnabled = true // the detector makes pools forget
