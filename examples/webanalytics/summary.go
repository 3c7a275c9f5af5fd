package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// maxSites is how many sites the summary shows.
const maxSites = 5

// summarize prints what there was in all.
func (j *job) summarize(w io.Writer, elapsed time.Duration) {
	f := figuresOf(j.Stats())
	sites := j.sites()
	printSites(w, sites)
	if j.cfg.goesOn && len(sites) == 0 && f.watermark == pipeline.MaxWatermark {
		fmt.Fprint(w, "An earlier start had come to the end, and had the totals of all sites.\n\n")
	}
	if j.cfg.goesOn {
		fmt.Fprint(w, "Since this start, which went on from a checkpoint:\n\n")
	}
	t := newTable(w)
	t.row("records", f.records)
	t.row("late", f.refused)
	t.row("duplicates", f.duplicates)
	t.row("dead letters", f.dead)
	if f.missed > 0 {
		t.row("refused by a window", f.missed)
	}
	if cuts := pathCuts(sites); cuts > 0 {
		t.row("pages cut from paths", cuts)
	}
	t.flush()
	t = newTable(w)
	var written int64
	for _, name := range resultFiles {
		if n, ok := f.written[name]; ok {
			t.row(name, n)
			written += n
		}
	}
	t.row("results written", written)
	t.flush()
	rate := float64(f.records) / max(elapsed.Seconds(), 1e-9)
	fmt.Fprintf(w, "%s in %v, %s records/s\n", j.cfg.output, elapsed.Round(time.Millisecond), grouped(int64(rate)))
}

// site is a site's totals.
type site struct {
	name string
	Traffic
	sessions SessionCounts
}

// sites returns the totals, the busiest site first; none when the job did not
// come to its end. Nor when it goes on from so near its end that an earlier
// start had one of the totals already: no result comes twice.
func (j *job) sites() []site {
	sessions := map[string]SessionCounts{}
	for _, r := range j.sessions.Values() {
		sessions[r.Key] = r.Value
	}
	if j.cfg.goesOn && len(sessions) == 0 {
		return nil
	}
	var all []site
	for _, r := range j.traffic.Values() {
		all = append(all, site{r.Key, r.Value, sessions[r.Key]})
	}
	slices.SortFunc(all, func(a, b site) int {
		return cmp.Or(cmp.Compare(b.events(), a.events()), cmp.Compare(a.name, b.name))
	})
	return all
}

func printSites(w io.Writer, sites []site) {
	if len(sites) == 0 {
		return
	}
	t := newTable(w)
	t.cells("site", "events", "pv", "uv", "sessions", "bounce rate", "avg session")
	for _, s := range sites[:min(len(sites), maxSites)] {
		t.cells(s.name, grouped(s.events()), grouped(s.pageViews()), grouped(s.Users), grouped(s.sessions.Sessions),
			fmt.Sprintf("%.1f %%", 100*s.sessions.bounceRate()),
			time.Duration(s.sessions.avgDurationSeconds()*float64(time.Second)).Round(time.Second).String())
	}
	if more := len(sites) - maxSites; more > 0 {
		t.cells(fmt.Sprintf("and %d more", more))
	}
	t.flush()
	printTop(w, sites[0].name, "page views", sites[0].Pages)
	printTop(w, sites[0].name, "page views by device", sites[0].Devices)
}

func printTop(w io.Writer, site, what string, top []operators.Hitter) {
	if len(top) == 0 || len(top) == 1 && top[0].Item == unknown {
		return
	}
	t := newTable(w)
	t.cells("most "+what+" of "+site, "")
	for _, h := range top {
		t.row(h.Item, h.Count)
	}
	t.flush()
}

func pathCuts(sites []site) (n int64) {
	for _, s := range sites {
		n += s.sessions.PathCuts
	}
	return n
}

func (c Counts) events() (n int64) {
	for _, t := range c.Types {
		n += t.Count
	}
	return n
}

// table is aligned columns with an empty line behind.
type table struct {
	w *tabwriter.Writer
	// under is the writer itself.
	under io.Writer
}

func newTable(w io.Writer) table {
	return table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0), w}
}

func (t table) cells(cells ...string) {
	for _, c := range cells {
		fmt.Fprintf(t.w, "%s\t", c)
	}
	fmt.Fprintln(t.w)
}

func (t table) row(what string, n int64) { t.cells(what, grouped(n)) }

func (t table) flush() {
	_ = t.w.Flush() // what a terminal can't show is no failure of the job
	fmt.Fprintln(t.under)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesText writes a size in the unit that suits it.
func bytesText(n int64) string {
	v, unit := float64(n), 0
	for v >= 1000 && unit < 4 {
		v /= 1000
		unit++
	}
	return strconv.FormatFloat(v, 'f', min(unit, 1), 64) + " " + [...]string{"B", "KB", "MB", "GB", "TB"}[unit]
}
