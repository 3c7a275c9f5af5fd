package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-json"

	"github.com/millrace/millrace/sources/files"
)

// Event is one thing that a visitor did, as a tracker sends it. It is a line of
// input in the format events, and of late.jsonl and duplicates.jsonl, which can
// therefore be read again. Lines of access logs become events too.
type Event struct {
	EventID         string          `json:"event_id"`
	TrackingID      string          `json:"tracking_id"`
	SessionID       string          `json:"session_id,omitempty"`
	UserID          string          `json:"user_id"`
	EventType       string          `json:"event_type"`
	PageURL         string          `json:"page_url,omitempty"`
	Referrer        string          `json:"referrer,omitempty"`
	Properties      json.RawMessage `json:"properties,omitempty"`
	Context         Context         `json:"context"`
	ClientTimestamp int64           `json:"client_timestamp,omitempty"` // milliseconds
	ServerTimestamp int64           `json:"server_timestamp,omitempty"` // milliseconds

	late bool // see lateness
}

// Context is where and with what the visitor was.
type Context struct {
	UserAgent string `json:"user_agent,omitempty"`
	Screen    Screen `json:"screen,omitzero"`
	Language  string `json:"language,omitempty"`
	Timezone  string `json:"timezone,omitempty"`
	IP        string `json:"ip,omitempty"`
}

// Screen is the size of the visitor's screen.
type Screen struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// The event types that mean something here. Trackers may send others, which are
// counted under their own name.
const (
	pageView    = "page_view"
	asset       = "asset" // images, styles and scripts in an access log
	failedVisit = "error" // 4xx and 5xx in an access log
)

// ID is what tells an event from its duplicates.
func (e Event) ID() string { return e.EventID }

// Time is when the event happened: when the server saw it, since clocks of
// clients are not to be trusted, or else when the client did.
func (e Event) Time() int64 {
	if e.ServerTimestamp != 0 {
		return e.ServerTimestamp
	}
	return e.ClientTimestamp
}

// span is the event times that are believed. One event of the year 9999 would
// otherwise take the watermark there, and all others would be late.
type span struct{ first, last int64 }

// plausible is from 1980, before which nobody logged for the web, to the day
// after tomorrow.
func plausible(now time.Time) span {
	return span{
		first: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(),
		last:  now.Add(48 * time.Hour).UnixMilli(),
	}
}

func (s span) contains(t int64) bool { return s.first <= t && t <= s.last }

// orFirst is t if it is plausible.
func (s span) orFirst(t int64) int64 {
	if s.contains(t) {
		return t
	}
	return s.first
}

// check says what is wrong with an event.
func (s span) check(e *Event) error {
	switch t := e.Time(); {
	case e.TrackingID == "":
		return errors.New("no tracking_id")
	case e.EventType == "":
		return errors.New("no event_type")
	case e.UserID == "":
		return errors.New("neither user_id nor session_id")
	case t == 0:
		return errors.New("neither server_timestamp nor client_timestamp")
	case !s.contains(t):
		return fmt.Errorf("event time %d ms (%s) is not plausible", t, time.UnixMilli(t).UTC().Format("2006-01-02"))
	}
	return nil
}

// decodeEvent reads a line of JSON.
func (s span) decodeEvent(line []byte) (Event, error) {
	var e Event
	if !utf8.Valid(line) {
		return e, errors.New("invalid UTF-8")
	}
	switch trimmed := bytes.TrimSpace(line); {
	case len(trimmed) == 0:
		return e, files.ErrSkip
	case trimmed[0] != '{':
		return e, errors.New("not a JSON object") // null would pass for an empty one
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, err
	}
	if e.UserID == "" {
		e.UserID = e.SessionID // anonymous, but one visitor all the same
	}
	if e.EventID == "" {
		e.EventID = contentID(string(line))
	}
	// The decoder's strings all point into one copy of the line. These outlive
	// the event in some operator's state, and would keep the line there.
	for _, s := range []*string{&e.EventID, &e.TrackingID, &e.UserID, &e.EventType, &e.PageURL} {
		*s = strings.Clone(*s)
	}
	return e, s.check(&e)
}
