package window_test

import (
	"encoding/json"
	"testing"

	"github.com/millrace/millrace/window"
)

func TestPaneAndWindowAsJSON(t *testing.T) {
	type result struct {
		Window window.Window `json:"window"`
		Pane   window.Pane   `json:"pane"`
	}
	for _, timing := range []window.Timing{window.EarlyPane, window.OnTimePane, window.LatePane} {
		want := result{window.Window{Start: -60_000, End: 0}, window.Pane{Timing: timing, Index: 2, Final: true}}
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		text := `{"window":{"start":-60000,"end":0},"pane":{"timing":"` + timing.String() + `","index":2,"final":true}}`
		if string(raw) != text {
			t.Errorf("got %s, want %s", raw, text)
		}
		var got result
		if err := json.Unmarshal(raw, &got); err != nil || got != want {
			t.Errorf("%s reads back as %+v, %v", raw, got, err)
		}
	}
	if err := new(window.Timing).UnmarshalText([]byte("soon")); err == nil {
		t.Error("an unknown timing is accepted")
	}
}
