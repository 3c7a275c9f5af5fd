package main

import (
	"net/netip"

	"github.com/mileusna/useragent"
	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/millrace/millrace/pipeline"
)

// Hit is what the metrics need of an event, with what its user agent and its
// address tell.
type Hit struct {
	EventID, TrackingID, UserID, Type, Page, Referrer string
	Device, Browser, OS, Language, Country            string

	Time int64
	Late bool // only for metrics, see lateness
}

// Visitor is whom a session belongs to.
type Visitor struct{ TrackingID, UserID string }

func (h Hit) visitor() Visitor   { return Visitor{h.TrackingID, h.UserID} }
func (h Hit) trackingID() string { return h.TrackingID }
func (h Hit) userID() string     { return h.UserID }
func (h Hit) eventType() string  { return h.Type }
func (h Hit) page() string       { return h.Page }
func (h Hit) device() string     { return h.Device }
func (h Hit) isPageView() bool   { return h.Type == pageView }
func (h Hit) inTime() bool       { return !h.Late }

// unknown stands for what neither user agent nor address tells.
const unknown = "unknown"

// enricher makes hits of events. It is an operator of its own, and not a
// function for operators.Map, so that each subtask has a cache that needs no
// lock.
type enricher struct {
	countries *maxminddb.Reader // nil: country is unknown
	agents    map[string]agent
}

type agent struct{ device, browser, os string }

// maxAgents bounds the cache. User agents are few, and those of most visitors
// fewer still, so that starting over now and then costs nothing.
const maxAgents = 10_000

func newEnricher(countries *maxminddb.Reader) func() *enricher {
	return func() *enricher { return &enricher{countries: countries, agents: map[string]agent{}} }
}

// Process implements [pipeline.Processor].
func (r *enricher) Process(c *pipeline.Context[pipeline.NoKey, Hit], e Event) error {
	a := r.agent(e.Context.UserAgent)
	c.Emit(Hit{
		EventID: e.EventID, TrackingID: e.TrackingID, UserID: e.UserID, Type: e.EventType,
		Page: e.PageURL, Referrer: e.Referrer,
		Device: a.device, Browser: a.browser, OS: a.os,
		Language: orUnknown(e.Context.Language), Country: r.country(e.Context.IP),
		Time: e.Time(), Late: e.late,
	})
	return nil
}

func (r *enricher) agent(s string) agent {
	a, ok := r.agents[s]
	if ok {
		return a
	}
	ua := useragent.Parse(s)
	a = agent{device: deviceOf(ua), browser: orUnknown(ua.Name), os: orUnknown(ua.OS)}
	if s == "" {
		a = agent{unknown, unknown, unknown}
	}
	if len(r.agents) >= maxAgents {
		clear(r.agents)
	}
	r.agents[s] = a
	return a
}

func deviceOf(ua useragent.UserAgent) string {
	switch {
	case ua.Bot:
		return "bot"
	case ua.Tablet:
		return "tablet"
	case ua.Mobile:
		return "mobile"
	case ua.Desktop:
		return "desktop"
	}
	return unknown
}

// country is the ISO code of the country an address is in. An address that is
// none, or not in the file, is nothing to reject an event for.
func (r *enricher) country(ip string) string {
	if r.countries == nil || ip == "" {
		return unknown
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return unknown
	}
	var code string
	if err := r.countries.Lookup(addr).DecodePath(&code, "country", "iso_code"); err != nil {
		return unknown
	}
	return orUnknown(code)
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}
