package main

import "slices"

// session is a run of records without a gap, as the sides without windows keep it.
type session struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	N     int64 `json:"n"`
}

// join adds a record to the sessions of a key, in order of time, where records may come
// out of order: it may prolong one at either end, or make two of them one.
func join(all []session, time, gap int64) []session {
	i := len(all)
	for i > 0 && all[i-1].First > time {
		i--
	}
	// It lies behind the beginning of i-1 and before that of i.
	before := i > 0 && time-all[i-1].Last <= gap
	after := i < len(all) && all[i].First-time <= gap
	switch {
	case before && after:
		all[i-1].Last = all[i].Last
		all[i-1].N += all[i].N + 1
		return slices.Delete(all, i, i+1)
	case before:
		all[i-1].Last = max(all[i-1].Last, time)
		all[i-1].N++
	case after:
		all[i].First = time
		all[i].N++
	default:
		return slices.Insert(all, i, session{First: time, Last: time, N: 1})
	}
	return all
}
