package main

import (
	"strings"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// minuteCount is how many visits a user has had in a minute.
type minuteCount struct {
	Start int64 `json:"start"`
	N     int64 `json:"n"`
}

func minuteOf(time int64) int64 { return time - time%minute }

// A user's visits are in one partition, so the visit that follows a minute ends it,
// and no clock is needed.
func countByHand(emit emitter) loop {
	users := map[string]*minuteCount{}
	return loop{
		record: func(r *kgo.Record) error {
			var v visit
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return err
			}
			start := minuteOf(v.Time)
			m := users[v.User]
			if m == nil {
				m = &minuteCount{Start: start}
				users[strings.Clone(v.User)] = m
			}
			if m.Start != start {
				emit(v.User, fields(m.Start, m.N))
				*m = minuteCount{Start: start}
			}
			m.N++
			return nil
		},
		end: func() {
			for user, m := range users {
				emit(user, fields(m.Start, m.N))
			}
		},
	}
}

func distinctByHand(emit emitter) loop {
	users := map[string]map[string]struct{}{}
	return loop{
		record: func(r *kgo.Record) error {
			var v visit
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return err
			}
			pages := users[v.User]
			if pages == nil {
				pages = map[string]struct{}{}
				users[strings.Clone(v.User)] = pages
			}
			if _, seen := pages[v.Page]; !seen {
				pages[strings.Clone(v.Page)] = struct{}{}
				emit(v.User, fields(int64(len(pages))))
			}
			return nil
		},
		end: func() {},
	}
}

// gapOfVisits ends a session of visits, in ms.
const gapOfVisits = 30 * minute

func sessionsByHand(emit emitter) loop {
	users := map[string]*session{}
	return loop{
		record: func(r *kgo.Record) error {
			var v visit
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return err
			}
			s := users[v.User]
			switch {
			case s == nil:
				s = &session{First: v.Time}
				users[strings.Clone(v.User)] = s
			case v.Time-s.Last > gapOfVisits:
				emit(v.User, fields(s.First, s.Last, s.N))
				*s = session{First: v.Time}
			}
			s.Last = v.Time
			s.N++
			return nil
		},
		end: func() {
			for user, s := range users {
				emit(user, fields(s.First, s.Last, s.N))
			}
		},
	}
}
