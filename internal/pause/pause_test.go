package pause

import "testing"

func TestResumeIsNotMissed(t *testing.T) {
	var s Set
	s.Pause("a")
	s.Pause("b")
	if !s.Paused("a") || s.Paused("c") {
		t.Fatal("a should be paused, c not")
	}
	s.Resume("a")
	s.Resume("b")
	<-s.Resumed() // sent before anybody waited
	if s.Paused("a") || s.Paused("b") {
		t.Fatal("still paused after Resume")
	}
	select {
	case <-s.Resumed():
		t.Fatal("two resumes left two notices, want one")
	default:
	}
}
