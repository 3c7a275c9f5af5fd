package kafkaoffset

import (
	"strings"
	"testing"
)

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{
		`{"v":1,"offset":0}`:              {Epoch: -1},
		`{"v":1,"offset":4096,"epoch":0}`: {Offset: 4096},
		`{"v":1,"offset":4096,"epoch":3,"topic":"000102030405060708090a0b0c0d0e0f"}`: {
			Offset: 4096, Epoch: 3, Topic: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		},
	} {
		got, err := Decode([]byte(text))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
		if back := string(want.Append(nil)); back != text {
			t.Errorf("%+v: got %s, want %s", want, back, text)
		}
	}
	for text, want := range map[string]string{
		``: "unexpected end", `{"v":2,"offset":1}`: "version 2 is unknown, want 1", `{"v":1,"offset":-1}`: "negative",
		`{"v":1,"offset":1,"epoch":-1}`: "negative", `{"v":1,"offset":1,"topic":"00"}`: "bad topic id",
	} {
		if _, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q in it", text, err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	if topic, n, err := ParseSplit(Split("a.b", 12)); topic != "a.b" || n != 12 || err != nil {
		t.Errorf("got %q, %d, %v", topic, n, err)
	}
	for _, s := range []string{"", "a", "/1", "a/", "a/x", "a/-1", "a/b/1", "a/99999999999"} {
		if _, _, err := ParseSplit(s); err == nil {
			t.Errorf("%q is taken for a partition", s)
		}
	}
}

// FuzzDecode: what is decoded is encoded so that it means the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"offset":4096,"epoch":3,"topic":"5f1c0e9a7b624d0c8a3e21f09b7d6c54"}`))
	f.Add([]byte(`{"v":1,"offset":0}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := Decode(p.Append(nil)); err != nil || again != p {
			t.Errorf("%q: %+v, then %+v, %v", b, p, again, err)
		}
	})
}
