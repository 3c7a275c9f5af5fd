package jsonlines

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

type inner struct {
	A int `json:"a,omitempty"`
	B *inner
}

type shouted string

func (s shouted) MarshalText() ([]byte, error) { return append([]byte(s), '!'), nil }

type pointed struct{ X int }

func (p *pointed) MarshalJSON() ([]byte, error) { return json.Marshal([]int{p.X}) }

type record struct {
	inner
	Text  string            `json:"text"`
	Bytes []byte            `json:"bytes"`
	Raw   json.RawMessage   `json:"raw"`
	Map   map[string]any    `json:"map"`
	Keys  map[shouted]int   `json:"keys"`
	Time  time.Time         `json:"time"`
	Any   any               `json:"any"`
	List  []pointed         `json:"list"`
	Ptr   *pointed          `json:"ptr"`
	F     float64           `json:"f"`
	Str   int64             `json:"str,string"`
	None  map[string]string `json:"none"`
}

// TestLikeTheStandardLibrary compares with encoding/json, HTML escaping off.
func TestLikeTheStandardLibrary(t *testing.T) {
	e := NewEncoder()
	for _, v := range []record{
		{},
		{
			inner: inner{A: 1, B: &inner{A: 2}}, Text: "<a href=\"x\">&\u2028\x00é\xff", Bytes: []byte{0, 255}, Raw: json.RawMessage(`{"z":[1,2]}`),
			Map: map[string]any{"b": 1.5, "a": []any{nil, true, "s"}}, Keys: map[shouted]int{"k": 1, "j": 2},
			Time: time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC), Any: &inner{A: 3}, List: []pointed{{1}, {2}}, Ptr: &pointed{3},
			F: 1e21, Str: -5,
		},
	} {
		var want bytes.Buffer
		std := json.NewEncoder(&want)
		std.SetEscapeHTML(false)
		if err := std.Encode(&v); err != nil {
			t.Fatal(err)
		}
		got, err := e.Append([]byte("before "), &v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "before "+want.String() {
			t.Errorf("got  %swant before %s", got, want.String())
		}
	}
}

func TestErrorLeavesTheBuffer(t *testing.T) {
	e := NewEncoder()
	bad := math.NaN()
	b, err := e.Append([]byte("x"), &bad)
	if err == nil || string(b) != "x" {
		t.Errorf("got %q, error %v, want x and an error", b, err)
	}
	good := 1
	if b, err = e.Append(b, &good); err != nil || string(b) != "x1\n" {
		t.Errorf("after an error: got %q, error %v", b, err)
	}
}
