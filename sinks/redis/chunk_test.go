package redis

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestChunk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, rng.IntN(300))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return string(b)
	}
	for range 200 {
		var list []command
		for range rng.IntN(20) {
			c := command{name: word(), key: word(), time: rng.Int64() - rng.Int64()}
			for range rng.IntN(5) {
				c.args = append(c.args, word())
			}
			list = append(list, c)
		}
		got, err := decodeChunk(encodeChunk(list))
		if err != nil || len(got) != len(list) || len(list) > 0 && !reflect.DeepEqual(got, list) {
			t.Fatalf("got %v, %v, want %v", got, err, list)
		}
	}
}

// TestChunkFormat pins the bytes, which a later version has to read.
func TestChunkFormat(t *testing.T) {
	got := encodeChunk([]command{{name: "SET", key: "k", args: []string{"v", ""}, time: -1}})
	want := "\x01\x01\x01\x02\x03SET\x01k\x01v\x00"
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzChunk(f *testing.F) {
	f.Add(encodeChunk([]command{{name: "SET", key: "k", args: []string{"v"}, time: 5}, {name: "DEL", key: "k"}}))
	f.Add([]byte{1, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeChunk(b)
		if err != nil {
			return
		}
		again, err := decodeChunk(encodeChunk(list))
		if err != nil || len(again) != len(list) || len(list) > 0 && !reflect.DeepEqual(again, list) {
			t.Errorf("%q is %v, and then %v: %v", b, list, again, err)
		}
	})
}
