package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// progressLine tells how far the job is, while it runs.
type progressLine struct {
	job     *job
	w       io.Writer
	rewrite bool // the line is on a terminal, and written over
	start   time.Time
	end     time.Time
	quit    chan struct{}
	done    sync.WaitGroup

	lastAt      time.Time
	lastRecords int64
}

// How often the line is written: where it stays, less often.
const (
	terminalInterval = 250 * time.Millisecond
	logInterval      = 2 * time.Second
)

func startProgress(j *job, w io.Writer) *progressLine {
	now := time.Now()
	p := &progressLine{job: j, w: w, rewrite: isTerminal(w), start: now, lastAt: now, quit: make(chan struct{})}
	p.done.Go(p.loop)
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

func (p *progressLine) loop() {
	interval := logInterval
	if p.rewrite {
		interval = terminalInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.print(time.Now())
		case <-p.quit:
			return
		}
	}
}

// stop writes the line a last time.
func (p *progressLine) stop() {
	p.end = time.Now()
	close(p.quit)
	p.done.Wait()
	p.lastAt, p.lastRecords = p.start, 0 // the last rate is that of all
	p.print(p.end)
	if p.rewrite {
		fmt.Fprintln(p.w)
	}
}

func (p *progressLine) elapsed() time.Duration { return p.end.Sub(p.start) }

func (p *progressLine) print(now time.Time) {
	s := figuresOf(p.job.Stats())
	rate := float64(s.records-p.lastRecords) / max(now.Sub(p.lastAt).Seconds(), 1e-9)
	p.lastAt, p.lastRecords = now, s.records
	parts := []string{
		fmt.Sprintf("%s records", grouped(s.records)),
		fmt.Sprintf("%s/s", grouped(int64(rate))),
		"event time " + watermarkText(s.watermark),
	}
	switch {
	case s.bytesTotal > 0: // of a file that grows, more may be read than there was
		parts = append(parts, fmt.Sprintf("%d %% of %s", min(100, 100*s.bytesRead/s.bytesTotal), bytesText(s.bytesTotal)))
	case p.job.cfg.demo:
		share := min(1, now.Sub(p.start).Seconds()/p.job.cfg.demoFor.Seconds())
		parts = append(parts, fmt.Sprintf("%.0f %% of %v", 100*share, p.job.cfg.demoFor))
	}
	line := strings.Join(parts, "  ")
	if p.rewrite {
		fmt.Fprintf(p.w, "\r%-78s", line)
		return
	}
	fmt.Fprintln(p.w, line)
}

// figures are what the progress line and the summary take from the job's
// statistics.
type figures struct {
	records, refused, duplicates, dead int64
	missed                             int64 // refused by a window, see lateness
	bytesRead, bytesTotal              int64
	watermark                          int64
	written                            map[string]int64 // by result file
}

func figuresOf(stats []pipeline.OperatorStats) figures {
	f := figures{watermark: pipeline.MaxWatermark, written: map[string]int64{}}
	for _, s := range stats {
		f.dead += s.Rejected
		if s.Operator != dedupeName { // whose late records are not lost
			f.missed += s.Counters["late"]
		}
		switch s.Operator {
		case sourceName:
			f.records += s.In + s.Rejected
			f.bytesRead += s.Counters["bytes_read"]
			f.bytesTotal += s.Gauges["bytes_total"]
		case latenessName:
			f.refused += s.Counters["refused"]
		case dedupeName:
			f.duplicates += s.Counters["duplicates"]
			// The watermark behind the exchange is the lowest of all sources that
			// are at work.
			f.watermark = min(f.watermark, s.Watermark)
		}
		if strings.HasSuffix(s.Operator, ".jsonl") {
			f.written[s.Operator] = s.In
		}
	}
	return f
}

func watermarkText(ms int64) string {
	switch ms {
	case pipeline.MinWatermark:
		return "not known yet"
	case pipeline.MaxWatermark:
		return "ended"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05")
}
