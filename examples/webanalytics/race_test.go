//go:build race

package main

// raceEnabled says that everything is several times slower.
const raceEnabled = true
