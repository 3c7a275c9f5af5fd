package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

func TestAccessLog(t *testing.T) {
	input := writeFile(t, "access.log", ""+
		`192.0.2.1 - - [10/Mar/2025:01:00:00 +0100] "GET /a?x=1 HTTP/1.1" 200 10 "https://example.org/" "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"`+"\n"+
		`192.0.2.1 - - [10/Mar/2025:01:00:00 +0100] "GET /LOGO.GIF?v=2 HTTP/1.1" 200 10 "-" "-"`+"\n"+
		`192.0.2.1 - - [10/Mar/2025:01:00:01 +0100] "GET /gone.css HTTP/1.1" 404 0`+"\n"+
		`192.0.2.1 - - [10/Mar/2025:01:00:01 +0100] "GET /gone.css HTTP/1.1" 404 0`+"\n"+
		`192.0.2.1 - - [10/Mar/2025:01:00:02 +0100] "GET /caf`+"\xe9"+` HTTP/1.1" 304 -`+"\n"+
		`192.0.2.1 - - [10/Mar/0001:01:00:02 +0100] "GET / HTTP/1.1" 200 1`+"\n"+
		"what is this\n")
	out := analyze(t, "-input", input, "-format", "accesslog", "-tracking-id", "w", "-dimensions", "browser")
	golden(t, out, "sessions.jsonl", fmt.Sprintf(`{"tracking_id":"w","user_id":"192.0.2.1","start":%d,"end":%d,"events":4,"page_views":2,`+
		`"entry_page":"/a?x=1","exit_page":"/caf`+"\ufffd"+`","bounce":false,"path":["/a?x=1","/caf`+"\ufffd"+`"]}`, base, base+2000))
	values := out.metrics(t)
	for dims, want := range map[string]float64{
		`{"event_type":"page_view"}`: 2, `{"event_type":"asset"}`: 1, `{"event_type":"error"}`: 1,
		`{"browser":"Firefox","event_type":"page_view"}`: 1,
	} {
		if got := values[metricKey{"w", "1h", base, "events", dims}]; got != want {
			t.Errorf("%s: got %v, want %v", dims, got, want)
		}
	}
	if d := decodeLines[Event](t, out["duplicates.jsonl"]); len(d) != 1 || d[0].PageURL != "/gone.css" {
		t.Errorf("got duplicates %v", out["duplicates.jsonl"])
	}
	if n := len(out["dead_letters.jsonl"]); n != 2 {
		t.Errorf("got %d dead letters, want 2: %v", n, out["dead_letters.jsonl"])
	}
}

func TestTSV(t *testing.T) {
	input := writeFile(t, "log.tsv", "time\turl\thost\n"+
		"1741564800\t/\th\n"+
		"1741564801\t/x.PNG\th\n"+
		"1741564801\t/x.PNG\th\n"+ // a duplicate
		"soon\t/\th\n1e9\t/\th\n253402214400\t/\th\n9223372036854775807\t/\th\n"+ // no times
		"1741564802\t\th\n1741564802\t/\t\n"+ // no url, no host
		"1741564802\t/\n1741564802\t/\th\tmore\n"+ // of another shape
		"1741564803\t/y\th\n")
	out := analyze(t, "-input", input, "-format", "tsv")
	if got := out.events(t); got != 3 || len(out["duplicates.jsonl"]) != 1 || len(out["dead_letters.jsonl"]) != 8 || len(out["late.jsonl"]) != 0 {
		t.Errorf("got %d events, duplicates %v, late %v, dead letters %v", got, out["duplicates.jsonl"], out["late.jsonl"], out["dead_letters.jsonl"])
	}
}

// TestDeadLetterOfLog: a line of a log that is no event is found again by its
// dead letter.
func TestDeadLetterOfLog(t *testing.T) {
	const rest = ` "GET / HTTP/1.1" 200 1`
	for _, c := range []struct{ format, good, bad, says string }{
		{"tsv", "time\turl\thost\n1741564800\t/\th\n", "253402214400\t/\th", "9999-12-31"},
		{"tsv", "time\turl\thost\n1741564800\t/\th\n", "1741564800\t/\t", "no host"},
		{"accesslog", "\nh - - [10/Mar/2025:01:00:00 +0100]" + rest + "\n", "h - - [10/Mar/9999:01:00:00 +0100]" + rest, "9999-03-10"},
	} {
		input := writeFile(t, "log", c.good+c.bad+"\n")
		out := analyze(t, "-input", input, "-format", c.format)
		dead := decodeLines[DeadLetter](t, out["dead_letters.jsonl"])
		if len(dead) != 1 || len(out["late.jsonl"]) != 0 || out.events(t) != 1 {
			t.Errorf("%s: got %v", c.format, out)
			continue
		}
		d := dead[0]
		if d.Operator != sourceName || d.File != input || d.Line != 3 || d.Raw != c.bad || !strings.Contains(d.Error, c.says) {
			t.Errorf("%s: got dead letter %+v, want line 3 of %s, %q, %s", c.format, d, input, c.bad, c.says)
		}
	}
}

func TestEventType(t *testing.T) {
	for _, c := range []struct {
		url    string
		status int
		want   string
	}{
		{"/", 200, pageView}, {"/a.html", 304, pageView}, {"/a.b/c", 302, pageView}, {"", 0, pageView},
		{"/movie.mpg", 200, pageView}, {"/cgi/map?x.gif", 200, pageView},
		{"/a.gif", 200, asset}, {"/a.GIF?x", 200, asset}, {"/a.css#b", 206, asset}, {"/a.min.js", 200, asset},
		{"/a.gif", 404, failedVisit}, {"/", 500, failedVisit},
	} {
		if got := eventTypeOf(c.url, c.status); got != c.want {
			t.Errorf("%s %d: got %s, want %s", c.url, c.status, got, c.want)
		}
	}
}

// TestVisitOrder: a session does not depend on the order in which its hits
// come, nor on how partial sessions merge.
func TestVisitOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 200 {
		maxPath := 1 + r.IntN(12)
		agg := visits(maxPath)
		var hits []Hit
		for i := range 1 + r.IntN(40) {
			hits = append(hits, Hit{
				EventID: fmt.Sprintf("%03d", i), Type: []string{pageView, "click"}[r.IntN(2)],
				Page: fmt.Sprintf("/%d", r.IntN(5)), Time: int64(r.IntN(10)),
			})
		}
		var want Session
		for try := range 5 {
			r.Shuffle(len(hits), func(i, j int) { hits[i], hits[j] = hits[j], hits[i] })
			parts := make([]visit, 1+r.IntN(4))
			for _, h := range hits {
				agg.Add(&parts[r.IntN(len(parts))], h)
			}
			for i := range parts[1:] {
				agg.Merge(&parts[0], &parts[i+1])
			}
			got := agg.Result(&parts[0])
			if try == 0 {
				want = got
			} else if !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: got %+v, want %+v", round, got, want)
			}
		}
		if want.PageViews != int64(len(want.Path))+want.PathCut || len(want.Path) > maxPath {
			t.Fatalf("round %d: path of %d, cut %d, of %d page views", round, len(want.Path), want.PathCut, want.PageViews)
		}
	}
}

func TestFunnel(t *testing.T) {
	funnel := writeFile(t, "funnel.json", `[
		{"name": "buy", "within": "10m", "steps": [
			{"name": "shop", "page_url": "/shop*"}, {"name": "cart", "event_type": "page_view", "page_url": "/cart"}, {"event_type": "paid"}]},
		{"name": "look", "steps": [{"page_url": "/shop/*"}, {"page_url": "/shop/*"}]}]`)
	m := time.Minute
	events := []Event{
		// ann gets through, at the second try, at the last moment.
		testEvent("a1", "ann", "page_view", "/shop", 0), testEvent("a2", "ann", "page_view", "/shop/1", 8*m),
		testEvent("a3", "ann", "page_view", "/cart", 9*m), testEvent("a4", "ann", "paid", "/cart", 18*m),
		// bob is a millisecond too slow; and the order of steps matters.
		testEvent("b0", "bob", "paid", "/", 0), testEvent("b1", "bob", "page_view", "/shop/1", 1*m),
		testEvent("b2", "bob", "page_view", "/cart", 2*m), testEvent("b3", "bob", "paid", "/cart", 11*m+time.Millisecond),
		// cid looks twice, and clicks on the cart; in a later session that day he goes on.
		testEvent("c1", "cid", "page_view", "/shop/1", 0), testEvent("c2", "cid", "page_view", "/shop/2", m),
		testEvent("c3", "cid", "click", "/cart", 2*m),
		testEvent("c4", "cid", "page_view", "/shop", 3*time.Hour), testEvent("c5", "cid", "page_view", "/cart", 3*time.Hour+m),
	}
	slices.SortStableFunc(events, func(a, b Event) int { return int(a.Time() - b.Time()) })
	out := variants(t, []int{1, 2, 8}, []int{1, 256}, "-input", writeFile(t, "in.jsonl", jsonLines(events...)), "-funnel", funnel)
	line := func(funnel, granularity string, start time.Duration, step int, name string, users int) string {
		return fmt.Sprintf(`{"tracking_id":"t","funnel":"%s","granularity":"%s","window_start":%d,"step":%d,"name":"%s","users":%d}`,
			funnel, granularity, base+start.Milliseconds(), step, name, users)
	}
	golden(t, out, "funnels.jsonl",
		// The sessions close at 0:48, 0:41, 0:32 and 3:31.
		line("buy", "1h", 0, 1, "shop", 3), line("buy", "1h", 0, 2, "cart", 2), line("buy", "1h", 0, 3, "paid", 1),
		line("buy", "1h", 3*time.Hour, 1, "shop", 1), line("buy", "1h", 3*time.Hour, 2, "cart", 1), line("buy", "1h", 3*time.Hour, 3, "paid", 0),
		line("buy", "1d", 0, 1, "shop", 3), line("buy", "1d", 0, 2, "cart", 3), line("buy", "1d", 0, 3, "paid", 1),
		line("look", "1h", 0, 1, "/shop/*", 3), line("look", "1h", 0, 2, "/shop/*", 1),
		line("look", "1d", 0, 1, "/shop/*", 3), line("look", "1d", 0, 2, "/shop/*", 1),
	)
}

func TestEnrich(t *testing.T) {
	r := newEnricher(nil)()
	for _, c := range []struct {
		agent string
		want  agent
	}{
		{"", agent{unknown, unknown, unknown}},
		{"\xff\x00 ((((", agent{}}, // anything, as long as it does not panic
		{demoAgents[0], agent{"desktop", "Chrome", "Windows"}},
		{demoAgents[1], agent{"mobile", "Safari", "iOS"}},
		{demoAgents[2], agent{"mobile", "Chrome", "Android"}},
		{demoAgents[3], agent{"desktop", "Safari", "macOS"}},
		{demoAgents[4], agent{"desktop", "Firefox", "Linux"}},
		{demoAgents[5], agent{"tablet", "Safari", "iOS"}},
		{demoAgents[7], agent{"bot", "Googlebot", unknown}},
	} {
		for range 2 { // the second time from the cache
			if got := r.agent(c.agent); got != c.want && c.want != (agent{}) {
				t.Errorf("%.40q: got %v, want %v", c.agent, got, c.want)
			}
		}
	}
	for i := range maxAgents + 10 {
		r.agent(fmt.Sprintf("agent/%d", i))
	}
	if len(r.agents) > maxAgents {
		t.Errorf("the cache has %d entries, want at most %d", len(r.agents), maxAgents)
	}
}

func TestCountry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	if err := os.WriteFile(path, tinyDatabase(), 0o666); err != nil {
		t.Fatal(err)
	}
	db, err := maxminddb.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := newEnricher(db)()
	for ip, want := range map[string]string{
		"10.1.2.3": "XA", "127.0.0.1": "XA", "128.0.0.1": "XB", "203.0.113.9": "XB",
		"": unknown, "www.example.org": unknown, "2001:db8::1": unknown,
	} {
		if got := r.country(ip); got != want {
			t.Errorf("%q: got %s, want %s", ip, got, want)
		}
	}

	a, b := testEvent("1", "ann", "page_view", "/", 0), testEvent("2", "bob", "page_view", "/", 0)
	a.Context.IP, b.Context.IP = "10.1.2.3", "203.0.113.9"
	out := analyze(t, "-input", writeFile(t, "in.jsonl", jsonLines(a, b)), "-geoip", path)
	for _, country := range []string{"XA", "XB"} {
		if got := out.metrics(t)[metricKey{"t", "1h", base, "pv", `{"country":"` + country + `"}`}]; got != 1 {
			t.Errorf("page views of %s: got %v, want 1", country, got)
		}
	}
}

// tinyDatabase is a MaxMind file of one node: the lower half of all IPv4
// addresses is in the country XA, the upper in XB.
func tinyDatabase() []byte {
	str := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	object := func(n int, parts ...[]byte) []byte { return append([]byte{7<<5 | byte(n)}, slices.Concat(parts...)...) }
	u16 := func(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{5<<5 | 2}, n) }
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{6<<5 | 4}, n) }
	u64 := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{8, 2}, n) }
	record := func(code string) []byte {
		return object(1, str("country"), object(1, str("iso_code"), str(code)))
	}
	a := record("XA")
	pointer := func(offset int) []byte { // nodes, then 16 bytes that separate, then data
		n := 1 + 16 + offset
		return []byte{byte(n >> 16), byte(n >> 8), byte(n)}
	}
	metadata := object(9,
		str("node_count"), u32(1), str("record_size"), u16(24), str("ip_version"), u16(4),
		str("database_type"), str("Test"), str("languages"), []byte{0, 4}, // an empty array
		str("binary_format_major_version"), u16(2), str("binary_format_minor_version"), u16(0),
		str("build_epoch"), u64(1), str("description"), object(0))
	return slices.Concat(pointer(0), pointer(len(a)), make([]byte, 16), a, record("XB"),
		[]byte("\xab\xcd\xefMaxMind.com"), metadata)
}

func TestDecodeEvent(t *testing.T) {
	s := plausible(time.Now())
	// What is written can be read again, with all that it had.
	e := Event{
		EventID: "1", TrackingID: "t", SessionID: "s", UserID: "u", EventType: "click", PageURL: "/", Referrer: "r",
		Properties:      json.RawMessage(`{"a":[1,{"b":null}]}`),
		Context:         Context{UserAgent: "ua", Screen: Screen{Width: 1, Height: 2}, Language: "de", Timezone: "Europe/Berlin", IP: "::1"},
		ClientTimestamp: base + 1, ServerTimestamp: base,
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.decodeEvent(line); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, e)
	}
	// An event without id gets one, the same for the same line.
	e.EventID = ""
	line, _ = json.Marshal(e)
	a, err := s.decodeEvent(line)
	b, _ := s.decodeEvent(line)
	if err != nil || len(a.EventID) != 32 || a.EventID != b.EventID {
		t.Errorf("got ids %q and %q, %v", a.EventID, b.EventID, err)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(jsonLines(testEvent("1", "u", "page_view", "/", 0))))
	f.Add([]byte(`{"context":{"screen":{"width":1e3}},"properties":{}}`))
	f.Add([]byte("{\xff"))
	s := plausible(time.Now())
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := s.decodeEvent(line)
		if err != nil {
			return
		}
		if e.EventID == "" || e.UserID == "" || !s.contains(e.Time()) {
			t.Errorf("%q: accepted %+v", line, e)
		}
		if out, err := json.Marshal(e); err != nil {
			t.Errorf("%q: can't be written: %v", line, err)
		} else if _, err := s.decodeEvent(out); err != nil {
			t.Errorf("%q: can't be read again as %s: %v", line, out, err)
		}
	})
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 12345678: "12,345,678", -100: "-100"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
