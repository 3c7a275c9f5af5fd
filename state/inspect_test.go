package state

import (
	"encoding/json"
	"testing"
	"time"
)

func TestFormatKey(t *testing.T) {
	type visit struct {
		Site string
		At   struct {
			No   int32
			Warm bool
		}
		_   int
		Tag [2]uint8
	}
	v := visit{Site: "a.org", Tag: [2]uint8{7, 8}}
	v.At.No, v.At.Warm = -3, true
	formatKey(t, v, `["a.org",[-3,true],[7,8]]`)
	formatKey(t, "as it is", `as it is`)
	formatKey(t, -17, `-17`)
	formatKey(t, 1.5, `1.5`)
	formatKey(t, [0]int{}, `[]`)
	for typ, want := range map[string]string{"int64": "0x6162", "struct{int8,": "0x6162", "[99999999]int8": "0x6162", "unheard of": "0x6162"} {
		if got := FormatKey(typ, []byte("ab")); got != want {
			t.Errorf("%s: got %s, want %s", typ, got, want)
		}
	}
}

func formatKey[K comparable](t *testing.T, key K, want string) {
	t.Helper()
	c, err := keyCodecFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	if got := FormatKey(c.describe, c.append(nil, key)); got != want {
		t.Errorf("%s: got %s, want %s", c.describe, got, want)
	}
}

func TestFormatValue(t *testing.T) {
	type inner struct{ A, B int }
	formatValue(t, "int64", int64(-5), `-5`)
	formatValue(t, "[]string", []string{"x", "y"}, `["x","y"]`)
	formatValue(t, "[]string", []string(nil), `null`)
	formatValue(t, "map[string][]float64", map[string][]float64{"a": {0.5}}, `{"a":[0.5]}`)
	formatValue(t, "map[int]bool", map[int]bool{7: true}, `{"7":true}`)
	formatValue(t, "[]uint8", []byte("ab"), `"YWI="`)
	formatValue(t, "*time.Duration", new(time.Minute), `"1m0s"`)
	formatValue(t, "time.Time", time.Unix(1, 0).UTC(), `"1970-01-01T00:00:01Z"`)
	formatValue(t, "map[string]struct {}", map[string]struct{}{"a": {}}, `{"a":{}}`)
	formatValue(t, "main.inner", inner{1, 2}, `{"A":1,"B":2}`)
	formatValue(t, "map[string]main.inner", map[string]inner{"k": {1, 2}}, `{"k":{"A":1,"B":2}}`)
	for typ, data := range map[string]string{"int64": "\x80", "main.Count": "\x05", "operators.x": "\x01\x02", "string": "\x01ab"} {
		if got, ok := FormatValue(typ, []byte(data)); ok {
			t.Errorf("%s of %x is read as %s", typ, data, got)
		}
	}
}

func formatValue[V any](t *testing.T, typ string, v V, want string) {
	t.Helper()
	c, err := CodecFor[V]()
	if err != nil {
		t.Fatal(err)
	}
	data, err := c.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := FormatValue(typ, data); !ok || string(got) != want {
		t.Errorf("%s: got %s, want %s", typ, got, want)
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("map[string][]time.Time", []byte{1})
	f.Add("[3]struct {}", []byte{})
	f.Add("main.visit", []byte("\xa1aA\x01"))
	f.Add("struct{string,[2]int8}", []byte("\x01ab"))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		FormatKey(typ, data)
		if text, ok := FormatValue(typ, data); ok && !json.Valid(text) {
			t.Errorf("%s of %x: %q is not JSON", typ, data, text)
		}
	})
}
