package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progressInterval is how often the line is rewritten.
const progressInterval = 200 * time.Millisecond

// progress is a line on a terminal that says how much has been read. Elsewhere
// it is silent: what is not rewritten is only in the way.
type progress struct {
	w           io.Writer
	verb        string // what was done to what has been read
	now         func() time.Time
	terminal    bool
	started     time.Time
	shown       time.Time
	written     bool
	done, total int64
}

func newProgress(w io.Writer, verb string) *progress {
	p := &progress{w: w, verb: verb, now: time.Now, terminal: isTerminal(w)}
	p.started = p.now()
	p.shown = p.started
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

// update takes the figures, and shows them from time to time.
func (p *progress) update(done, total int64) {
	p.done, p.total = done, total
	if !p.terminal {
		return
	}
	now := p.now()
	if now.Sub(p.shown) < progressInterval {
		return
	}
	p.shown, p.written = now, true
	line := fmt.Sprintf("%s %s of %s", p.verb, bytesText(done), bytesText(total))
	if rate := float64(done) / now.Sub(p.started).Seconds(); total > 0 && rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %d %%, %s/s, %v left", 100*done/total, bytesText(int64(rate)), left.Round(time.Second))
	}
	fmt.Fprintf(p.w, "\r%-78s", line)
}

// stop takes the line away.
func (p *progress) stop() {
	if p.written {
		fmt.Fprintf(p.w, "\r%78s\r", "")
	}
}
