package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
)

// granularities are the windows of every metric, finest first. Their names are
// what the results say.
var granularities = []time.Duration{time.Minute, 5 * time.Minute, time.Hour}

func granularityName(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// Metric is a line of metrics.jsonl.
type Metric struct {
	TrackingID  string            `json:"tracking_id"`
	Granularity string            `json:"granularity"`
	WindowStart int64             `json:"window_start"`
	Name        string            `json:"metric"`
	Dimensions  map[string]string `json:"dimensions"`
	Value       float64           `json:"value"`
	// Revision counts the results of one window, which late records within the
	// allowed lateness bring about. The highest one stands.
	Revision int `json:"revision,omitempty"`
}

// dimensions are what metrics can be broken down by.
var dimensions = map[string]func(*Hit) string{
	"browser":     func(h *Hit) string { return h.Browser },
	"country":     func(h *Hit) string { return h.Country },
	"device_type": func(h *Hit) string { return h.Device },
	"language":    func(h *Hit) string { return h.Language },
	"os":          func(h *Hit) string { return h.OS },
	pageURL:       func(h *Hit) string { return h.Page },
	"referrer":    func(h *Hit) string { return h.Referrer },
}

// pageURL has as many values as a site has pages, so only the top ones of each
// window are given.
const pageURL = "page_url"

// breakdown is a set of dimensions, whose values together make a series.
type breakdown struct {
	name  string // as it was given: "browser+os"
	names []string
	of    []func(*Hit) string
}

// parseBreakdowns reads the flag -dimensions: "device_type,browser+os".
func parseBreakdowns(s string) ([]breakdown, error) {
	var all []breakdown
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		b := breakdown{name: name, names: strings.Split(name, "+")}
		for _, n := range b.names {
			of := dimensions[n]
			if of == nil {
				return nil, fmt.Errorf("%q is not one of %s", n, strings.Join(dimensionNames(), ", "))
			}
			b.of = append(b.of, of)
		}
		if slices.ContainsFunc(all, func(o breakdown) bool { return o.name == name }) {
			return nil, fmt.Errorf("%q is given twice", name)
		}
		all = append(all, b)
	}
	return all, nil
}

func dimensionNames() []string {
	var names []string
	for n := range dimensions {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (b breakdown) has(dimension string) bool { return slices.Contains(b.names, dimension) }

// Series is what counts are kept for: one site, one breakdown, one value of
// it. The zero breakdown is all of the site.
type Series struct{ TrackingID, Breakdown, Value string }

// separator stands between the values of a breakdown by several dimensions.
const separator = "\x1f"

// dimensions returns the series as results tell it.
func (s Series) dimensions() map[string]string {
	all := map[string]string{}
	if s.Breakdown == "" {
		return all
	}
	values := strings.Split(s.Value, separator)
	for i, name := range strings.Split(s.Breakdown, "+") {
		all[name] = values[i]
	}
	return all
}

// isPages says whether the series is one of very many.
func (s Series) isPages() bool {
	return s.Breakdown == pageURL || strings.HasPrefix(s.Breakdown, pageURL+"+") ||
		strings.HasSuffix(s.Breakdown, "+"+pageURL) || strings.Contains(s.Breakdown, "+"+pageURL+"+")
}

// sample is what a hit adds to one series.
type sample struct {
	series       Series
	userID, kind string
}

func (s sample) key() Series       { return s.series }
func (s sample) user() string      { return s.userID }
func (s sample) eventType() string { return s.kind }

// explode says which series a hit belongs to.
func explode(by []breakdown) func(h Hit, emit func(sample)) {
	return func(h Hit, emit func(sample)) {
		emit(sample{Series{TrackingID: h.TrackingID}, h.UserID, h.Type})
		for _, b := range by {
			emit(sample{Series{h.TrackingID, b.name, b.value(&h)}, h.UserID, h.Type})
		}
	}
}

func (b breakdown) value(h *Hit) string {
	if len(b.of) == 1 {
		return b.of[0](h)
	}
	values := make([]string, len(b.of))
	for i, of := range b.of {
		values[i] = of(h)
	}
	return strings.Join(values, separator)
}

// Counts are the counts of one series in one window.
type Counts struct {
	Types []TypeCount // by name
	Users int64       // estimated
}

// TypeCount is how many events of one type there were.
type TypeCount struct {
	Type  string
	Count int64
}

func (c Counts) pageViews() int64 { return countOf(c.Types, pageView) }

func countOf(types []TypeCount, name string) int64 {
	if i, ok := findType(types, name); ok {
		return types[i].Count
	}
	return 0
}

// countsAcc is the accumulator of counting.
type countsAcc = operators.Tuple2[[]TypeCount, operators.DistinctSketch]

// counting counts events by type and users, in one pass.
func counting[T any](precision uint8, eventType, user func(T) string) operators.Aggregation[T, countsAcc, Counts] {
	return operators.Combine2(countTypes(eventType), operators.HLL(precision, user),
		func(types []TypeCount, users int64) Counts { return Counts{types, users} })
}

// countTypes counts by type. There are a handful of them, for which a sorted
// slice is smaller than a map, and gives its results in order.
func countTypes[T any](eventType func(T) string) operators.Aggregation[T, []TypeCount, []TypeCount] {
	return operators.Aggregation[T, []TypeCount, []TypeCount]{
		Add: func(acc *[]TypeCount, v T) { addType(acc, eventType(v), 1) },
		Merge: func(acc, other *[]TypeCount) {
			for _, o := range *other {
				addType(acc, o.Type, o.Count)
			}
		},
		Result: func(acc *[]TypeCount) []TypeCount { return slices.Clone(*acc) },
	}
}

func addType(acc *[]TypeCount, name string, n int64) {
	i, ok := findType(*acc, name)
	if !ok {
		*acc = slices.Insert(*acc, i, TypeCount{Type: name})
	}
	(*acc)[i].Count += n
}

func findType(types []TypeCount, name string) (int, bool) {
	return slices.BinarySearchFunc(types, name, func(t TypeCount, name string) int { return cmp.Compare(t.Type, name) })
}

// SeriesResult is what the rollup gives.
type SeriesResult = operators.Result[Series, Counts]

// metricsOf makes the lines of a window of a series.
func metricsOf(r SeriesResult, emit func(Metric)) {
	m := Metric{
		TrackingID: r.Key.TrackingID, Granularity: granularityName(r.Window.End - r.Window.Start),
		WindowStart: r.Window.Start, Dimensions: r.Key.dimensions(), Revision: r.Pane.Index,
	}
	m.Name, m.Value = "pv", float64(r.Value.pageViews())
	emit(m)
	m.Name, m.Value = "uv", float64(r.Value.Users)
	emit(m)
	for _, t := range r.Value.Types {
		m.Name, m.Value = "events", float64(t.Count)
		m.Dimensions = r.Key.dimensions()
		m.Dimensions["event_type"] = t.Type
		emit(m)
	}
}

// ranking is one list of top pages: those of one site in one breakdown, for
// windows of one length.
type ranking struct {
	TrackingID, Breakdown string
	Length                int64
}

func rankingOf(r SeriesResult) ranking {
	return ranking{r.Key.TrackingID, r.Key.Breakdown, r.Window.End - r.Window.Start}
}

// topPages keeps the n series with most page views. A series without any is
// not a page: an image has a URL too. A later result of a window replaces the
// earlier one; since counts only grow, a series that was pushed out by n better
// ones can't be missed until it comes again.
func topPages(n int) operators.Aggregation[SeriesResult, []SeriesResult, []SeriesResult] {
	return operators.Aggregation[SeriesResult, []SeriesResult, []SeriesResult]{
		Add: func(acc *[]SeriesResult, r SeriesResult) { rank(acc, r, n) },
		Merge: func(acc, other *[]SeriesResult) {
			for _, r := range *other {
				rank(acc, r, n)
			}
		},
		Result: func(acc *[]SeriesResult) []SeriesResult { return slices.Clone(*acc) },
	}
}

func rank(acc *[]SeriesResult, r SeriesResult, n int) {
	if r.Value.pageViews() == 0 {
		return
	}
	*acc = slices.DeleteFunc(*acc, func(o SeriesResult) bool { return o.Key == r.Key })
	i, _ := slices.BinarySearchFunc(*acc, r, func(a, b SeriesResult) int {
		return cmp.Or(cmp.Compare(b.Value.pageViews(), a.Value.pageViews()), cmp.Compare(a.Key.Value, b.Key.Value))
	})
	if i >= n {
		return
	}
	*acc = slices.Insert(*acc, i, r)
	*acc = (*acc)[:min(len(*acc), n)]
}

// topPagesOf makes the lines of a window's top pages.
func topPagesOf(r operators.Result[ranking, []SeriesResult], emit func(Metric)) {
	for _, page := range r.Value {
		page.Pane = r.Pane // a page may have moved up without counting anew
		metricsOf(page, emit)
	}
}

// Traffic is what a site had in all of the input.
type Traffic struct {
	Counts
	Pages, Devices []operators.Hitter // roughly, since there may be very many
}

// countTraffic is the aggregation of hits to the totals of a site.
func countTraffic(precision uint8) operators.Aggregation[Hit, operators.Tuple3[countsAcc, operators.HitterSketch, operators.HitterSketch], Traffic] {
	return operators.Combine3(
		counting(precision, Hit.eventType, Hit.userID),
		only(Hit.isPageView, operators.HeavyHitters(topShown, Hit.page)),
		only(Hit.isPageView, operators.HeavyHitters(topShown, Hit.device)),
		func(c Counts, pages, devices []operators.Hitter) Traffic { return Traffic{c, pages, devices} },
	)
}

// topShown is how many pages the summary shows.
const topShown = 5

// only lets an aggregation see some of the records.
func only[T, A, R any](keep func(T) bool, of operators.Aggregation[T, A, R]) operators.Aggregation[T, A, R] {
	add := of.Add
	of.Add = func(acc *A, v T) {
		if keep(v) {
			add(acc, v)
		}
	}
	return of
}
