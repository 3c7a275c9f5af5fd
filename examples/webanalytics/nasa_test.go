package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// nasaFile finds the requests of one day to a web server of NASA: in the folder
// that MILLRACE_DATA names, or in a folder shared/data beside or above the
// checkout.
func nasaFile(t *testing.T) string {
	t.Helper()
	const name = "nasa_19950801.tsv"
	if dir := os.Getenv("MILLRACE_DATA"); dir != "" {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("MILLRACE_DATA is set, but: %v", err)
		}
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := filepath.Join(dir, "shared", "data", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if dir == filepath.Dir(dir) {
			t.Skipf("SKIPPED: no shared/data/%s above this folder; set MILLRACE_DATA to the folder that has %s", name, name)
		}
		dir = filepath.Dir(dir)
	}
}

// TestNASA compares the job with a computation that shares nothing with it:
// the whole file in memory, plain maps, sorting.
func TestNASA(t *testing.T) {
	file := nasaFile(t)
	parallelism, batchSizes := ways()
	got := variants(t, parallelism, batchSizes, "-input", file, "-format", "tsv", "-tracking-id", "nasa")
	want := readNASA(t, file)

	// The same day as several files, which are read side by side.
	parts := analyze(t, "-input", splitNASA(t, file, 7), "-format", "tsv", "-tracking-id", "nasa")
	parts.same(t, "seven files", got)

	if n := len(got["duplicates.jsonl"]); n != want.duplicates || n != 1 {
		t.Errorf("got %d duplicates, want %d, which is 1", n, want.duplicates)
	}
	for _, name := range []string{"late.jsonl", "dead_letters.jsonl"} {
		if n := len(got[name]); n != 0 {
			t.Errorf("got %d lines in %s, want none", n, name)
		}
	}
	sessions := want.sessions()
	want.compareSessions(t, sessions, decodeLines[Session](t, got["sessions.jsonl"]))
	want.comparePaths(t, sessions, decodeLines[Path](t, got["paths.jsonl"]))
	want.compareMetrics(t, sessions, got.metrics(t))
	t.Logf("%d requests: %d events, %d page views, %d users, %d sessions, %d transitions, %d metrics",
		len(want.lines)+want.duplicates, len(want.lines), want.pageViews(), want.users(), len(sessions),
		len(got["paths.jsonl"]), len(got["metrics.jsonl"]))
}

// splitNASA cuts the file into n files one after another, and returns a pattern
// for them.
func splitNASA(t *testing.T, file string, n int) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := strings.Cut(string(data), "\n")
	lines := strings.SplitAfter(rest, "\n")
	dir := t.TempDir()
	for i := range n {
		part := header + "\n" + strings.Join(lines[i*len(lines)/n:(i+1)*len(lines)/n], "")
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.tsv", i)), []byte(part), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "*.tsv")
}

type nasaLine struct {
	id, host, url, kind string
	ms                  int64
}

type nasaDay struct {
	lines      []nasaLine
	duplicates int
}

func readNASA(t *testing.T, file string) *nasaDay {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	day := &nasaDay{}
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		if i == 0 {
			if line != "host\tlogname\ttime\tmethod\turl\tresponse\tbytes\treferer\tuseragent" {
				t.Fatalf("unexpected header %q", line)
			}
			continue
		}
		if seen[line] {
			day.duplicates++
			continue
		}
		seen[line] = true
		var l nasaLine
		var seconds int64
		var status int
		columns := strings.Split(line, "\t")
		if _, err := fmt.Sscan(columns[2]+" "+columns[5], &seconds, &status); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		l.id = fmt.Sprintf("%x", sha256.Sum256([]byte(line)))[:32]
		l.host, l.url, l.ms = columns[0], columns[4], seconds*1000
		name := strings.ToLower(strings.SplitN(l.url, "?", 2)[0])
		name = name[strings.LastIndex(name, "/")+1:]
		l.kind = "page_view"
		for _, ext := range []string{"gif", "jpg", "jpeg", "xbm", "bmp", "png", "css", "js"} {
			if strings.HasSuffix(name, "."+ext) {
				l.kind = "asset"
			}
		}
		if status >= 400 {
			l.kind = "error"
		}
		day.lines = append(day.lines, l)
	}
	return day
}

func (d *nasaDay) pageViews() (n int) {
	for _, l := range d.lines {
		if l.kind == "page_view" {
			n++
		}
	}
	return n
}

func (d *nasaDay) users() int {
	hosts := map[string]bool{}
	for _, l := range d.lines {
		hosts[l.host] = true
	}
	return len(hosts)
}

const nasaGap = 30 * 60 * 1000

// nasaSession is a run of one host's lines, in order.
type nasaSession []nasaLine

func (d *nasaDay) sessions() []nasaSession {
	byHost := map[string][]nasaLine{}
	for _, l := range d.lines {
		byHost[l.host] = append(byHost[l.host], l)
	}
	var all []nasaSession
	for _, lines := range byHost {
		sort.Slice(lines, func(i, j int) bool {
			if lines[i].ms != lines[j].ms {
				return lines[i].ms < lines[j].ms
			}
			return lines[i].id < lines[j].id
		})
		start := 0
		for i := 1; i <= len(lines); i++ {
			if i == len(lines) || lines[i].ms-lines[i-1].ms > nasaGap {
				all = append(all, lines[start:i])
				start = i
			}
		}
	}
	return all
}

func (s nasaSession) path() []string {
	path := []string{}
	for _, l := range s {
		if l.kind == "page_view" {
			path = append(path, l.url)
		}
	}
	return path
}

func (s nasaSession) start() int64  { return s[0].ms }
func (s nasaSession) end() int64    { return s[len(s)-1].ms }
func (s nasaSession) closed() int64 { return s.end() + nasaGap }

// line is the session as a line of sessions.jsonl should say it.
func (s nasaSession) line() string {
	path := s.path()
	entry, exit := "", ""
	if len(path) > 0 {
		entry, exit = path[0], path[len(path)-1]
	}
	return fmt.Sprintf("nasa %s %d-%d events=%d views=%d %q %q bounce=%v %q",
		s[0].host, s.start(), s.end(), len(s), len(path), entry, exit, len(path) == 1, path)
}

func (d *nasaDay) compareSessions(t *testing.T, want []nasaSession, got []Session) {
	t.Helper()
	diff := map[string]int{}
	for _, s := range want {
		diff[s.line()]++
	}
	for _, s := range got {
		diff[fmt.Sprintf("%s %s %d-%d events=%d views=%d %q %q bounce=%v %q", s.TrackingID, s.UserID, s.Start, s.End,
			s.Events, s.PageViews, s.EntryPage, s.ExitPage, s.Bounce, s.Path)]--
	}
	reportDiff(t, "sessions", diff)
}

func (d *nasaDay) comparePaths(t *testing.T, want []nasaSession, got []Path) {
	t.Helper()
	type transition struct {
		hour     int64
		from, to string
	}
	counts := map[transition]int64{}
	for _, s := range want {
		path := s.path()
		for i := 1; i < len(path); i++ {
			counts[transition{s.closed() / 3600_000 * 3600_000, path[i-1], path[i]}]++
		}
	}
	diff := map[string]int{}
	for k, n := range counts {
		diff[fmt.Sprintf("%d %q %q %d", k.hour, k.from, k.to, n)]++
	}
	for _, p := range got {
		diff[fmt.Sprintf("%d %q %q %d", p.WindowStart, p.From, p.To, p.Count)]--
	}
	reportDiff(t, "transitions", diff)
}

func reportDiff(t *testing.T, what string, diff map[string]int) {
	t.Helper()
	shown := 0
	for line, n := range diff {
		if n != 0 && shown < 5 {
			shown++
			t.Errorf("%s: %+d too few (or too many, if negative): %s", what, n, line)
		}
	}
}

// nasaCounts is one window of one series.
type nasaCounts struct {
	byKind map[string]int
	users  map[string]bool
}

func (d *nasaDay) compareMetrics(t *testing.T, sessions []nasaSession, got map[metricKey]float64) {
	t.Helper()
	want := map[metricKey]float64{}
	users := map[metricKey]bool{} // which of them are estimated
	for name, ms := range map[string]int64{"1m": 60_000, "5m": 300_000, "1h": 3600_000} {
		windows := map[int64]map[string]*nasaCounts{} // by start, then series
		for _, l := range d.lines {
			start := l.ms / ms * ms
			if windows[start] == nil {
				windows[start] = map[string]*nasaCounts{}
			}
			for _, series := range []string{"", "device_type=unknown", "page_url=" + l.url} {
				c := windows[start][series]
				if c == nil {
					c = &nasaCounts{map[string]int{}, map[string]bool{}}
					windows[start][series] = c
				}
				c.byKind[l.kind]++
				c.users[l.host] = true
			}
		}
		for start, series := range windows {
			top := topNASA(series, 20)
			for s, c := range series {
				dims := map[string]string{}
				if dim, value, ok := strings.Cut(s, "="); ok {
					if dim == "page_url" && !top[s] {
						continue
					}
					dims[dim] = value
				}
				plain := dimensionText(dims)
				want[metricKey{"nasa", name, start, "pv", plain}] = float64(c.byKind["page_view"])
				uv := metricKey{"nasa", name, start, "uv", plain}
				want[uv], users[uv] = float64(len(c.users)), true
				for kind, n := range c.byKind {
					dims["event_type"] = kind
					want[metricKey{"nasa", name, start, "events", dimensionText(dims)}] = float64(n)
				}
			}
		}
		counts := map[int64][3]int64{} // sessions, bounces, duration
		for _, s := range sessions {
			start := s.closed() / ms * ms
			c := counts[start]
			c[0]++
			if len(s.path()) == 1 {
				c[1]++
			}
			c[2] += s.end() - s.start()
			counts[start] = c
		}
		for start, c := range counts {
			want[metricKey{"nasa", name, start, "sessions", "{}"}] = float64(c[0])
			want[metricKey{"nasa", name, start, "bounce_rate", "{}"}] = float64(c[1]) / float64(c[0])
			want[metricKey{"nasa", name, start, "avg_duration_seconds", "{}"}] = float64(c[2]) / float64(c[0]) / 1000
		}
	}
	for k, w := range want {
		g, ok := got[k]
		switch {
		case !ok:
			t.Errorf("%v is missing, want %v", k, w)
		case users[k]:
			if math.Abs(g-w) > uvTolerance(w) {
				t.Errorf("%v: got %v, want %v ± %v", k, g, w, uvTolerance(w))
			}
		case g != w:
			t.Errorf("%v: got %v, want %v", k, g, w)
		}
		if t.Failed() {
			return
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%v: got %v, want no such line", k, g)
			return
		}
	}
}

// uvTolerance is 2 users below 100, 1 % above 1,000, and between them what
// is more.
func uvTolerance(users float64) float64 {
	switch {
	case users < 100:
		return 2
	case users > 1000:
		return users / 100
	}
	return max(2, users/100)
}

// topNASA returns the n pages with most page views.
func topNASA(series map[string]*nasaCounts, n int) map[string]bool {
	var pages []string
	for s, c := range series {
		if strings.HasPrefix(s, "page_url=") && c.byKind["page_view"] > 0 {
			pages = append(pages, s)
		}
	}
	sort.Slice(pages, func(i, j int) bool {
		a, b := series[pages[i]].byKind["page_view"], series[pages[j]].byKind["page_view"]
		if a != b {
			return a > b
		}
		return pages[i] < pages[j]
	})
	top := map[string]bool{}
	for _, p := range pages[:min(n, len(pages))] {
		top[p] = true
	}
	return top
}

// dimensionText is a map as JSON, its keys in order.
func dimensionText(m map[string]string) string {
	b, _ := json.Marshal(m)
	return string(b)
}
