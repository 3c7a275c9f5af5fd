package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"github.com/millrace/millrace/sources/files"
)

// assets are the extensions of images, styles and scripts. All else that is
// asked for is a page.
var assets = map[string]bool{
	".avif": true, ".bmp": true, ".gif": true, ".ico": true, ".jpeg": true, ".jpg": true, ".png": true,
	".svg": true, ".tif": true, ".tiff": true, ".webp": true, ".xbm": true,
	".css": true, ".eot": true, ".otf": true, ".ttf": true, ".woff": true, ".woff2": true,
	".js": true, ".mjs": true,
}

// eventTypeOf says what a request was for, whatever its method.
func eventTypeOf(url string, status int) string {
	if i := strings.IndexAny(url, "?#"); i >= 0 {
		url = url[:i]
	}
	switch {
	case status >= 400:
		return failedVisit
	case assets[strings.ToLower(path.Ext(url))]:
		return asset
	}
	return pageView
}

// accessLogEvent makes an event of a line in Common or Combined Log Format. The
// visitor is the client's host, and the id comes from all that the line says,
// so that a line that occurs twice is a duplicate.
func (c *config) accessLogEvent(l files.AccessLogEntry) (Event, error) {
	e := Event{
		EventID: contentID(l.Host, l.Logname, l.User, strconv.FormatInt(l.Time, 10), l.Method, l.URL, l.Protocol,
			strconv.Itoa(l.Status), strconv.FormatInt(l.Bytes, 10), l.Referer, l.UserAgent),
		TrackingID:      c.trackingID,
		UserID:          text(l.Host),
		EventType:       eventTypeOf(l.URL, l.Status),
		PageURL:         text(l.URL),
		Referrer:        text(l.Referer),
		Properties:      requestProperties(l.Method, l.Status, l.Bytes),
		Context:         Context{UserAgent: text(l.UserAgent), IP: l.Host},
		ServerTimestamp: l.Time,
	}
	return e, c.times.check(&e)
}

// requiredColumns are those of a log in which no event can do without.
var requiredColumns = []string{"host", "time", "url"}

// rowEvent makes an event of a row of a log whose columns are called host,
// time (Unix seconds), method, url, response, bytes, referer and useragent.
// The required ones must say something; the others may be missing.
func (c *config) rowEvent(r files.Row) (Event, error) {
	for _, required := range requiredColumns {
		if r.Get(required) == "" {
			return Event{}, fmt.Errorf("no %s", required)
		}
	}
	time, ok := rowTime(r)
	if !ok {
		return Event{}, fmt.Errorf("time %q is no number of seconds", r.Get("time"))
	}
	status, err := number(r.Get("response"))
	if err != nil || status < 0 || status > 999 {
		return Event{}, fmt.Errorf("response %q is no status code", r.Get("response"))
	}
	bytes, err := number(r.Get("bytes"))
	if err != nil {
		return Event{}, fmt.Errorf("bytes %q is no number", r.Get("bytes"))
	}
	e := Event{
		EventID:         rowID(r),
		TrackingID:      c.trackingID,
		UserID:          text(r.Get("host")),
		EventType:       eventTypeOf(r.Get("url"), int(status)),
		PageURL:         text(r.Get("url")),
		Referrer:        text(dash(r.Get("referer"))),
		Properties:      requestProperties(r.Get("method"), int(status), bytes),
		Context:         Context{UserAgent: text(dash(r.Get("useragent"))), IP: r.Get("host")},
		ServerTimestamp: time,
	}
	return e, c.times.check(&e)
}

// rowTime is the time of a row in milliseconds, if it says one.
func rowTime(r files.Row) (ms int64, ok bool) {
	seconds, err := strconv.ParseInt(r.Get("time"), 10, 64)
	if ms = seconds * 1000; err != nil || ms/1000 != seconds {
		return 0, false
	}
	return ms, true
}

// number reads a number that a log may leave out.
func number(s string) (int64, error) {
	if s == "" || s == "-" {
		return 0, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// text is what a log says, as the UTF-8 that results must be: the bytes of other
// encodings, which clients send in URLs, become U+FFFD.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// requestProperties keeps what events have no field for.
func requestProperties(method string, status int, bytes int64) json.RawMessage {
	b, err := json.Marshal(struct {
		Method string `json:"method"`
		Status int    `json:"status"`
		Bytes  int64  `json:"bytes"`
	}{text(method), status, bytes})
	if err != nil {
		panic(err) // of strings and numbers
	}
	return b
}

// rowID is the id of a row: that of its line.
func rowID(r files.Row) string {
	fields := make([]string, r.Len())
	for i := range fields {
		fields[i] = r.At(i)
	}
	return contentID(fields...)
}

// contentID is the id of an event that has none: a hash of its line, whose
// fields are given.
func contentID(fields ...string) string {
	var buf [512]byte
	line := buf[:0]
	for i, f := range fields {
		if i > 0 {
			line = append(line, '\t')
		}
		line = append(line, f...)
	}
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:16])
}
