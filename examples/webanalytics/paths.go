package main

import "github.com/millrace/millrace/operators"

// Transition is a step from one page to the next on a visitor's path.
type Transition struct{ TrackingID, From, To string }

func (t Transition) itself() Transition { return t }

// Path is a line of paths.jsonl: how often visitors went from one page to
// another, in sessions that closed in the hour.
type Path struct {
	TrackingID  string `json:"tracking_id"`
	WindowStart int64  `json:"window_start"`
	From        string `json:"from"`
	To          string `json:"to"`
	Count       int64  `json:"count"`
}

// transitionsOf takes a session's path apart. A page that is loaded again is a
// transition to itself.
func transitionsOf(s Session, emit func(Transition)) {
	for i := 1; i < len(s.Path); i++ {
		emit(Transition{s.TrackingID, s.Path[i-1], s.Path[i]})
	}
}

func pathOf(r operators.Result[Transition, int64]) Path {
	return Path{r.Key.TrackingID, r.Window.Start, r.Key.From, r.Key.To, r.Value}
}
