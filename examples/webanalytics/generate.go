package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/goccy/go-json"
)

// generatedStep is the event time between two events of -generate, as in the
// demo at its usual length: 4.6 events a second, 2 million in five days.
const generatedStep = 216.0

// generate writes n events to a file, the same ones each time: the demo's, with
// all their faults, and now and then a line that is none.
func generate(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = writeEvents(f, n)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func writeEvents(w io.Writer, n int64) error {
	shop, buf := demoShop{step: generatedStep}, bufio.NewWriterSize(w, 1<<20)
	pcg := rand.NewPCG(0, 0)
	r := rand.New(pcg)
	for i := range n {
		pcg.Seed(1, uint64(i))
		line, err := json.Marshal(shop.event(r, i))
		if err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		if r.Float64() < 0.0005 { // cut short on its way
			line = line[:1+r.IntN(len(line)-1)]
		}
		if _, err := buf.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return buf.Flush()
}
