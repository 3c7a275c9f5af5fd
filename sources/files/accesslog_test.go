package files

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAccessLogParser(t *testing.T) {
	const at = "[10/Oct/2025:13:55:36 -0700]"
	ts := time.Date(2025, 10, 10, 20, 55, 36, 0, time.UTC).UnixMilli()
	base := AccessLogEntry{Host: "h", Time: ts, Method: "GET", URL: "/", Protocol: "HTTP/1.1", Status: 200, Bytes: 5}
	with := func(f func(e *AccessLogEntry)) AccessLogEntry {
		e := base
		f(&e)
		return e
	}
	for _, c := range []struct {
		line string
		want AccessLogEntry
	}{
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5`, base},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "-" "-"`, base},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "" ""`, base},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "r"`, with(func(e *AccessLogEntry) { e.Referer = "r" })},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "r" "u" "203.0.113.9" 0.003`, with(func(e *AccessLogEntry) { e.Referer, e.UserAgent = "r", "u" })},
		{`h id ann ` + at + ` "GET / HTTP/1.1" 200 -`, with(func(e *AccessLogEntry) { e.Logname, e.User, e.Bytes = "id", "ann", 0 })},
		{`h - ann lee ` + at + ` "GET / HTTP/1.1" 200 5`, with(func(e *AccessLogEntry) { e.User = "ann lee" })},
		{`h - "" ` + at + ` "GET / HTTP/1.1" 200 5`, base},
		{`2001:db8::1 - - ` + at + ` "GET / HTTP/1.1" 200 5`, with(func(e *AccessLogEntry) { e.Host = "2001:db8::1" })},
		{`h - - ` + at + ` "GET /old" 200 5`, with(func(e *AccessLogEntry) { e.URL, e.Protocol = "/old", "" })},
		{`h - - ` + at + ` "GET /a b HTTP/1.1" 200 5`, with(func(e *AccessLogEntry) { e.URL = "/a b" })},
		{`h - - ` + at + ` "GET /a b" 200 5`, with(func(e *AccessLogEntry) { e.URL, e.Protocol = "/a b", "" })},
		{`h - - ` + at + ` "GET /\"q\"\\ HTTP/1.1" 200 5`, with(func(e *AccessLogEntry) { e.URL = `/"q"\` })},
		{`h - - ` + at + ` "GET /"q" HTTP/1.1" 200 5`, with(func(e *AccessLogEntry) { e.URL = `/"q"` })},
		{`h - - ` + at + ` "-" 408 -`, with(func(e *AccessLogEntry) { e.Method, e.URL, e.Protocol, e.Status, e.Bytes = "", "", "", 408, 0 })},
		{`h - - ` + at + ` "" 400 0`, with(func(e *AccessLogEntry) { e.Method, e.URL, e.Protocol, e.Status, e.Bytes = "", "", "", 400, 0 })},
		{`h - - ` + at + ` "\x16\x03\x01 \x00" 400 0`, with(func(e *AccessLogEntry) {
			e.Method, e.URL, e.Protocol, e.Status, e.Bytes = "", "\x16\x03\x01 \x00", "", 400, 0
		})},
		{`h - - ` + at + ` "GET / HTTP/1.1" - 5`, with(func(e *AccessLogEntry) { e.Status = 0 })},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "a "b" c" "u "v" w"`, with(func(e *AccessLogEntry) { e.Referer, e.UserAgent = `a "b" c`, `u "v` })},
		{`h - - ` + at + ` "GET / HTTP/1.1" 200 5 "\xzz\q" "u\t"`, with(func(e *AccessLogEntry) { e.Referer, e.UserAgent = `\xzz\q`, "u\t" })},
	} {
		var p accessLogParser
		var got AccessLogEntry
		if err := p.parse([]byte(c.line), &got); err != nil {
			t.Errorf("%s\nerror %v", c.line, err)
		} else if got != c.want {
			t.Errorf("%s\ngot  %+v\nwant %+v", c.line, got, c.want)
		}
	}
	for _, line := range []string{
		"h", "h -", "h - -", "h - - [", "h - - " + at, "h - - [yesterday] \"GET / HTTP/1.1\" 200 5",
		"h - - [10/Oct/2025:13:55:36 -0700 \"GET / HTTP/1.1\" 200 5",
		"h - - [10/Oct/2025:25:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
		"h - - " + at + " GET / HTTP/1.1 200 5", "h - - " + at + ` "GET / HTTP/1.1`, "h - - " + at + ` "GET / HTTP/1.1\"`,
		"h - - " + at + ` "GET / HTTP/1.1" x 5`, "h - - " + at + ` "GET / HTTP/1.1" 2000 5`,
		"h - - " + at + ` "GET / HTTP/1.1" 200 -5`, "h - - " + at + ` "GET / HTTP/1.1" 200`,
		"h - - " + at + ` "GET / HTTP/1.1" 200 5 r`, "h - - " + at + ` "GET / HTTP/1.1" 200 5 "r" u`,
		"h - - " + at + ` "GET / HTTP/1.1" 200 99999999999999999999`, " - - " + at + ` "GET / HTTP/1.1" 200 5`,
	} {
		var p accessLogParser
		var e AccessLogEntry
		if err := p.parse([]byte(line), &e); err == nil {
			t.Errorf("%s\nwas accepted as %+v", line, e)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`plain`: `plain`, `\"`: `"`, `\\`: `\`, `a\tb\nc\rd`: "a\tb\nc\rd", `\xe2\x82\xac`: "€", `\xE9`: "\xe9",
		`\x`: `\x`, `\x1`: `\x1`, `\xg1`: `\xg1`, `\q`: `\q`, `end\`: `end\`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// FuzzAccessLog writes parsed entries again as a server would, and expects them
// back.
func FuzzAccessLog(f *testing.F) {
	f.Add(`192.0.2.7 - ann [10/Oct/2025:13:55:36 -0700] "GET /a?b=1 HTTP/1.1" 200 2326 "https://example.org/" "Mozilla/5.0"`)
	f.Add(`h - - [01/Jan/0001:00:00:00 +0000] "\x16\x03" 400 0`)
	f.Add(`h - "a b" [10/Oct/2025:13:55:36 +0000] "GET /old" - - "a\"b\\" "\t"`)
	f.Fuzz(func(t *testing.T, line string) {
		var p accessLogParser
		var e, again AccessLogEntry
		if p.parse([]byte(line), &e) != nil {
			return
		}
		written := writeEntry(e)
		if err := p.parse([]byte(written), &again); err != nil {
			t.Fatalf("%q became %+v and was written as %q: %v", line, e, written, err)
		}
		if again != e {
			t.Fatalf("%q became %+v, written as %q and read as %+v", line, e, written, again)
		}
	})
}

func writeEntry(e AccessLogEntry) string {
	or := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	quoted := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			switch c := s[i]; {
			case c == '"' || c == '\\':
				b.WriteString(`\` + string(c))
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\x%02x`, c)
			default:
				b.WriteByte(c)
			}
		}
		return `"` + b.String() + `"`
	}
	request := e.URL
	if e.Method != "" {
		request = e.Method + " " + request
	}
	if e.Protocol != "" {
		request += " " + e.Protocol
	}
	at := time.UnixMilli(e.Time).UTC().Format("02/Jan/2006:15:04:05 -0700")
	return fmt.Sprintf("%s %s %s [%s] %s %d %d %s %s", e.Host, or(e.Logname), quoted(or(e.User)), at, quoted(or(request)), e.Status, e.Bytes, quoted(or(e.Referer)), quoted(or(e.UserAgent)))
}
