package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// base is some midnight.
var base = time.Date(2025, 3, 10, 0, 0, 0, 0, time.UTC).UnixMilli()

// testEvent makes an event at an offset from base.
func testEvent(id, user, kind, url string, after time.Duration) Event {
	return Event{
		EventID: id, TrackingID: "t", UserID: user, EventType: kind, PageURL: url,
		ServerTimestamp: base + after.Milliseconds(),
	}
}

func jsonLines(events ...Event) string {
	var b strings.Builder
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// golden compares the lines of one file, in any order.
func golden(t *testing.T, out output, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := out[name]; !slices.Equal(got, want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGolden(t *testing.T) {
	const agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1"
	events := []Event{
		testEvent("1", "ann", "page_view", "/", 0),
		testEvent("2", "ann", "page_view", "/a", 20*time.Second),
		testEvent("3", "bob", "page_view", "/", 30*time.Second),
		testEvent("2", "ann", "page_view", "/a", 20*time.Second),                 // a duplicate, out of order
		testEvent("4", "ann", "click", "/a", 30*time.Minute+20*time.Second),      // one gap after 2: the same session
		testEvent("5", "bob", "page_view", "/b", 30*time.Minute+31*time.Second),  // a second more: another one
		testEvent("6", "cid", "page_view", "/", 30*time.Minute+20*time.Second),   // 11 s out of order: late
		testEvent("7", "cid", "page_view", "/", 30*time.Minute+20*time.Second+1), // 11 s less a millisecond: late
		testEvent("8", "cid", "page_view", "/", 30*time.Minute+21*time.Second),   // 10 s: in time
	}
	for i := range events {
		events[i].Context.UserAgent = agent
	}
	// Without server time that of the client counts, and without user the session.
	events[7].ServerTimestamp, events[7].ClientTimestamp = 0, events[7].ServerTimestamp
	events[7].UserID, events[7].SessionID = "", "cid"
	input := writeFile(t, "events.jsonl", jsonLines(events...)+"\n{\"event_id\":\"9\"}\nnonsense\n")
	out := variants(t, []int{1, 2}, []int{1, 256}, "-input", input, "-dimensions", "device_type,os+browser")

	golden(t, out, "sessions.jsonl",
		fmt.Sprintf(`{"tracking_id":"t","user_id":"ann","start":%d,"end":%d,"events":3,"page_views":2,"entry_page":"/","exit_page":"/a","bounce":false,"path":["/","/a"]}`, base, base+1820_000),
		fmt.Sprintf(`{"tracking_id":"t","user_id":"bob","start":%d,"end":%d,"events":1,"page_views":1,"entry_page":"/","exit_page":"/","bounce":true,"path":["/"]}`, base+30_000, base+30_000),
		fmt.Sprintf(`{"tracking_id":"t","user_id":"bob","start":%d,"end":%d,"events":1,"page_views":1,"entry_page":"/b","exit_page":"/b","bounce":true,"path":["/b"]}`, base+1831_000, base+1831_000),
		fmt.Sprintf(`{"tracking_id":"t","user_id":"cid","start":%d,"end":%d,"events":1,"page_views":1,"entry_page":"/","exit_page":"/","bounce":true,"path":["/"]}`, base+1821_000, base+1821_000),
	)
	golden(t, out, "paths.jsonl", // the session closes at 1:00:20
		fmt.Sprintf(`{"tracking_id":"t","window_start":%d,"from":"/","to":"/a","count":1}`, base+3600_000))
	if late := decodeLines[LateEvent](t, out["late.jsonl"]); len(late) != 2 ||
		late[0].EventID != "6" || late[0].LateBy != 999 || late[1].EventID != "7" || late[1].LateFor != "everything" {
		t.Errorf("got late %v", out["late.jsonl"])
	}
	if d := decodeLines[Event](t, out["duplicates.jsonl"]); len(d) != 1 || d[0].EventID != "2" {
		t.Errorf("got duplicates %v", out["duplicates.jsonl"])
	}
	for i, d := range decodeLines[DeadLetter](t, out["dead_letters.jsonl"]) {
		if want := []string{"nonsense", `{"event_id":"9"}`}; !slices.Contains(want, d.Raw) || d.File != input || d.Line < 11 {
			t.Errorf("dead letter %d: got %+v", i, d)
		}
	}

	values := out.metrics(t)
	for _, want := range []struct {
		granularity string
		start       int64
		name, dims  string
		value       float64
	}{
		{"1m", 0, "pv", `{}`, 3},
		{"1m", 0, "uv", `{}`, 2},
		{"1m", 0, "events", `{"event_type":"page_view"}`, 3},
		{"5m", 30 * 60_000, "pv", `{}`, 2},
		{"1h", 0, "pv", `{}`, 5},
		{"1h", 0, "uv", `{}`, 3},
		{"1h", 0, "events", `{"event_type":"click"}`, 1},
		{"1h", 0, "pv", `{"device_type":"mobile"}`, 5},
		{"1h", 0, "uv", `{"browser":"Safari","os":"iOS"}`, 3},
		{"1h", 0, "events", `{"browser":"Safari","event_type":"click","os":"iOS"}`, 1},
		{"1h", 3600_000, "sessions", `{}`, 3}, // all but bob's first
		{"1h", 3600_000, "bounce_rate", `{}`, 2. / 3},
		{"1h", 3600_000, "avg_duration_seconds", `{}`, 1820. / 3},
		{"1m", 30 * 60_000, "sessions", `{}`, 1}, // bob's first, 30 minutes after 0:00:30
	} {
		k := metricKey{"t", want.granularity, base + want.start, want.name, want.dims}
		if got, ok := values[k]; !ok || got != want.value {
			t.Errorf("%v: got %v (there: %v), want %v", k, got, ok, want.value)
		}
	}
	if n := out.events(t); n != 6 {
		t.Errorf("got %d events, want 6", n)
	}
}

// TestNothingIsLost feeds all sorts of bad input. Each line is counted, late,
// a duplicate or a dead letter.
func TestNothingIsLost(t *testing.T) {
	good := func(i int) Event {
		return testEvent("g"+strconv.Itoa(i), "u"+strconv.Itoa(i%7), "page_view", "/", time.Duration(i)*time.Second)
	}
	long := good(3)
	long.Properties = json.RawMessage(`{"x":"` + strings.Repeat("y", 10<<20) + `"}`)
	at := func(e Event, ms int64) Event { e.ServerTimestamp = ms; return e }
	content := jsonLines(good(0), good(1), good(2)) +
		"\n   \n" + // no lines to speak of
		"{\"event_id\": \n" + // broken
		"null\n[]\n42\n\"text\"\n{}\n" + // no events
		`{"event_id":7,"tracking_id":"t","user_id":"u","event_type":"x","server_timestamp":1}` + "\n" + // of the wrong type
		"{\"event_id\":\"bad\xff\xfeutf8\"}\n" +
		jsonLines(long) + // 10 MB, and good
		strings.Repeat("z", 20<<20) + "\n" + // 20 MB, above the limit
		jsonLines(at(good(4), -62135596800000), at(good(5), 253402214400000), at(good(6), 0), at(good(7), time.Now().Add(72*time.Hour).UnixMilli())) +
		jsonLines(good(0), good(100), good(1), good(200), good(9)) + // 0 and 1 are duplicates, 1 and 9 late
		"the last line has no end"
	dir := t.TempDir()
	for name, data := range map[string]string{"a.jsonl": content, "empty.jsonl": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.jsonl"), 0o777); err != nil {
		t.Fatal(err)
	}
	parallelism, batchSizes := ways()
	out := variants(t, parallelism, batchSizes, "-input", filepath.Join(dir, "*.jsonl"))

	lines := strings.Count(content, "\n") + 1 - 2 // two are blank
	events, late := out.events(t), len(out["late.jsonl"])
	duplicates, dead := len(out["duplicates.jsonl"]), len(out["dead_letters.jsonl"])
	if sum := events + late + duplicates + dead; sum != lines {
		t.Errorf("%d lines: %d events + %d late + %d duplicates + %d dead letters = %d", lines, events, late, duplicates, dead, sum)
	}
	if events != 6 || late != 2 || duplicates != 1 || dead != lines-9 {
		t.Errorf("got %d events, %d late, %d duplicates, %d dead letters, want 6, 2, 1, %d", events, late, duplicates, dead, lines-9)
	}
	for _, want := range []string{"invalid UTF-8", "line too long", "0001-01-01", "9999-12-31", "neither server_timestamp", "not a JSON object", "no tracking_id"} {
		if !slices.ContainsFunc(out["dead_letters.jsonl"], func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no dead letter says %q", want)
		}
	}
}

func TestEmptyInput(t *testing.T) {
	for _, format := range []string{"events", "tsv", "accesslog"} {
		out := analyze(t, "-input", writeFile(t, "empty", ""), "-format", format)
		for name, lines := range out {
			if len(lines) > 0 {
				t.Errorf("%s: %s has %d lines", format, name, len(lines))
			}
		}
		if len(out) != 6 {
			t.Errorf("%s: got %d files, want 6", format, len(out))
		}
	}
}

// shuffled are events whose order is off by up to some seconds, and of which
// some are off by far more.
func shuffled(n int) []Event {
	r := rand.New(rand.NewPCG(3, 7))
	events := make([]Event, n)
	for i := range events {
		after := time.Duration(i)*time.Second/2 - time.Duration(r.IntN(8000))*time.Millisecond
		if r.IntN(50) == 0 {
			after -= time.Duration(r.IntN(1200)) * time.Second
		}
		kind := []string{"page_view", "page_view", "click"}[r.IntN(3)]
		events[i] = testEvent(fmt.Sprintf("e%d", i), fmt.Sprintf("u%d", r.IntN(40)), kind, fmt.Sprintf("/%d", r.IntN(30)), time.Hour+after)
	}
	return events
}

// lateOf is the rule for one file: late is what is at or before the newest
// event so far less the disorder bound and a millisecond.
func lateOf(events []Event, bound time.Duration) map[string]int64 {
	late, newest := map[string]int64{}, events[0].Time()
	for _, e := range events {
		newest = max(newest, e.Time())
		if by := newest - bound.Milliseconds() - 1 - e.Time(); by >= 0 {
			late[e.EventID] = by
		}
	}
	return late
}

// TestLate: the late events of a file are those of the rule, however it is
// read, and all results are of the others.
func TestLate(t *testing.T) {
	events := shuffled(6000)
	input := writeFile(t, "events.jsonl", jsonLines(events...))
	const bound = 6 * time.Second
	parallelism, batchSizes := ways()
	out := variants(t, parallelism, batchSizes, "-input", input, "-out-of-orderness", bound.String(), "-session-gap", "2m")

	want := lateOf(events, bound)
	got := map[string]int64{}
	for _, l := range decodeLines[LateEvent](t, out["late.jsonl"]) {
		got[l.EventID] = l.LateBy
	}
	if len(want) < 100 || len(got) != len(want) {
		t.Errorf("got %d late events, want %d", len(got), len(want))
	}
	for id, by := range want {
		if got[id] != by {
			t.Errorf("%s: late by %d ms, want %d", id, got[id], by)
		}
	}
	if n := out.events(t); n != len(events)-len(want) {
		t.Errorf("got %d events, want %d", n, len(events)-len(want))
	}
	inSessions := int64(0)
	for _, s := range decodeLines[Session](t, out["sessions.jsonl"]) {
		inSessions += s.Events
	}
	if inSessions != int64(len(events)-len(want)) {
		t.Errorf("sessions have %d events, want %d", inSessions, len(events)-len(want))
	}
}

// TestAllowedLateness: the last revision of every window has the late events
// within the allowed lateness too. How many revisions there are may differ, so
// runs are compared by values.
func TestAllowedLateness(t *testing.T) {
	events := shuffled(6000)
	input := writeFile(t, "events.jsonl", jsonLines(events...))
	const bound, allowed = 6 * time.Second, 8 * time.Minute
	refused, corrected := map[string]bool{}, 0
	for id, by := range lateOf(events, bound) {
		refused[id] = by >= allowed.Milliseconds()
		if !refused[id] {
			corrected++
		}
	}
	// All the rest, in order, is what the final values should be.
	var rest []Event
	for _, e := range events {
		if !refused[e.EventID] {
			rest = append(rest, e)
		}
	}
	slices.SortStableFunc(rest, func(a, b Event) int { return int(a.Time() - b.Time()) })
	sorted := writeFile(t, "sorted.jsonl", jsonLines(rest...))
	want := analyze(t, "-input", sorted, "-top-pages", "100").metrics(t)

	for _, parallelism := range []string{"1", "2", "8"} {
		out := analyze(t, "-input", input, "-out-of-orderness", bound.String(), "-allowed-lateness", allowed.String(),
			"-parallelism", parallelism, "-top-pages", "100", "-batch-size", "17")
		got := out.metrics(t)
		for k, v := range want {
			if slices.Contains([]string{"pv", "uv", "events"}, k.name) && got[k] != v {
				t.Errorf("parallelism %s: %v: got %v, want %v", parallelism, k, got[k], v)
				break
			}
		}
		lateFor := map[string]int{}
		for _, l := range decodeLines[LateEvent](t, out["late.jsonl"]) {
			lateFor[l.LateFor]++
		}
		if everything := len(events) - len(rest); lateFor["everything"] != everything || lateFor["sessions"] != corrected ||
			everything < 10 || corrected < 10 {
			t.Errorf("parallelism %s: got late %v, want everything:%d sessions:%d", parallelism, lateFor, everything, corrected)
		}
	}
}

func TestSplitSessionsByDay(t *testing.T) {
	// Midnight in Berlin is an hour before midnight in UTC.
	input := writeFile(t, "events.jsonl", jsonLines(
		testEvent("1", "ann", "page_view", "/", 22*time.Hour+50*time.Minute),
		testEvent("2", "ann", "page_view", "/a", 23*time.Hour+10*time.Minute),
		testEvent("3", "ann", "page_view", "/b", 23*time.Hour+30*time.Minute),
		testEvent("4", "ann", "page_view", "/c", 24*time.Hour),
	))
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, `[["/","/a","/b","/c"]]`},
		{[]string{"-timezone", "Europe/Berlin"}, `[["/","/a","/b","/c"]]`},
		{[]string{"-split-sessions-by-day"}, `[["/","/a","/b"],["/c"]]`},
		{[]string{"-split-sessions-by-day", "-timezone", "Europe/Berlin"}, `[["/"],["/a","/b","/c"]]`},
	} {
		out := variants(t, []int{1, 2}, []int{1, 256}, append(c.args, "-input", input)...)
		var paths [][]string
		for _, s := range decodeLines[Session](t, out["sessions.jsonl"]) {
			paths = append(paths, s.Path)
		}
		slices.SortFunc(paths, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
		if got, _ := json.Marshal(paths); string(got) != c.want {
			t.Errorf("%v: got %s, want %s", c.args, got, c.want)
		}
	}
}

func TestMaxPath(t *testing.T) {
	var events []Event
	for i := range 25 {
		events = append(events, testEvent(fmt.Sprintf("e%02d", i), "ann", "page_view", fmt.Sprintf("/%d", i), time.Duration(i)*time.Second))
	}
	slices.Reverse(events)
	input := writeFile(t, "events.jsonl", jsonLines(events...))
	out := variants(t, []int{1, 2}, []int{1, 256}, "-input", input, "-max-path", "3", "-out-of-orderness", "1m")
	golden(t, out, "sessions.jsonl", fmt.Sprintf(`{"tracking_id":"t","user_id":"ann","start":%d,"end":%d,"events":25,"page_views":25,`+
		`"entry_page":"/0","exit_page":"/24","bounce":false,"path":["/0","/1","/2"],"path_cut":22}`, base, base+24_000))
}

// TestUniqueVisitors: 1 % for large windows, two visitors for small ones.
func TestUniqueVisitors(t *testing.T) {
	n, users := 300_000, 100_000
	if raceEnabled || testing.Short() {
		n, users = 30_000, 10_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	exact := map[string]map[int]bool{}
	f, err := os.Create(filepath.Join(t.TempDir(), "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		user, after := r.IntN(users), int64(i)*2*3600_000/int64(n)
		fmt.Fprintf(f, `{"event_id":"%d","tracking_id":"t","user_id":"user-%d","event_type":"x","server_timestamp":%d}`+"\n", i, user, base+after)
		for name, ms := range map[string]int64{"1m": 60_000, "5m": 300_000, "1h": 3600_000} {
			k := metricKey{"t", name, base + after/ms*ms, "uv", "{}"}.String()
			if exact[k] == nil {
				exact[k] = map[int]bool{}
			}
			exact[k][user] = true
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out := analyze(t, "-input", f.Name())
	large := 0
	for k, got := range out.metrics(t) {
		if k.name != "uv" || k.dimensions != "{}" {
			continue
		}
		want := float64(len(exact[k.String()]))
		if want > 1000 {
			large++
		}
		if off := got - want; off > uvTolerance(want) || -off > uvTolerance(want) {
			t.Errorf("%v: got %v, want %v ± %v", k, got, want, uvTolerance(want))
		}
	}
	if large < 10 {
		t.Errorf("only %d windows above 1,000 users", large)
	}
}
