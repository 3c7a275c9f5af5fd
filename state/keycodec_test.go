package state

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

type visitorKey struct {
	site string
	User string
}

type deepKey struct {
	visitorKey
	n     int32
	flags [2]bool
	_     int64
	score float64
}

type page string

func keysOf[K comparable](t testing.TB) keyCodec[K] {
	t.Helper()
	c, err := keyCodecFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sameKeys wants keys back as they were, and different bytes for each.
func sameKeys[K comparable](t *testing.T, describe string, keys ...K) {
	t.Helper()
	c := keysOf[K](t)
	if c.describe != describe {
		t.Errorf("%T is described as %s, want %s", *new(K), c.describe, describe)
	}
	seen := map[string]K{}
	for _, k := range keys {
		data := c.append([]byte("x"), k)[1:]
		if other, twice := seen[string(data)]; twice {
			t.Errorf("%v and %v are both %x", other, k, data)
		}
		seen[string(data)] = k
		got, err := c.decode(data)
		for i := range data {
			data[i] ^= 0xff
		}
		if err != nil || got != k {
			t.Errorf("%#v read back as %#v, %v", k, got, err)
		}
	}
}

func TestRule20_KeysReadBackAsTheyWere(t *testing.T) {
	sameKeys(t, "string", "", "a", "ab", "\x00", "\xff", strings.Repeat("k", 1000))
	sameKeys[page](t, "string", "", "/")
	sameKeys(t, "bool", false, true)
	sameKeys[int8](t, "int8", 0, -1, 127, -128)
	sameKeys[int16](t, "int16", 0, -1, math.MaxInt16, math.MinInt16)
	sameKeys[int32](t, "int32", 0, -1, math.MaxInt32, math.MinInt32)
	sameKeys[int64](t, "int64", 0, -1, math.MaxInt64, math.MinInt64)
	sameKeys[int](t, "int64", 0, -1, math.MaxInt, math.MinInt)
	sameKeys[uint8](t, "uint8", 0, 255)
	sameKeys[uint16](t, "uint16", 0, math.MaxUint16)
	sameKeys[uint32](t, "uint32", 0, math.MaxUint32)
	sameKeys[uint64](t, "uint64", 0, math.MaxUint64)
	sameKeys[uint](t, "uint64", 0, math.MaxUint)
	sameKeys[uintptr](t, "uint64", 0, math.MaxUint32)
	sameKeys[float32](t, "float32", 0, -1, math.MaxFloat32, float32(math.Inf(-1)))
	sameKeys(t, "float64", 0, -1, 0.1, math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64)
	sameKeys[[2]string](t, "[2]string", [2]string{"a", "bc"}, [2]string{"ab", "c"}, [2]string{"", "abc"})
	sameKeys(t, "struct{string,string}", visitorKey{"a", "bc"}, visitorKey{"ab", "c"}, visitorKey{})
	sameKeys(t, "struct{struct{string,string},int32,[2]bool,float64}",
		deepKey{}, deepKey{visitorKey{"a", strings.Repeat("b", 200)}, -5, [2]bool{true, false}, 0, -0.5}, deepKey{n: 1})
	sameKeys(t, "struct{}", struct{}{})
}

func TestRule20_EqualKeysHaveEqualBytes(t *testing.T) {
	c := keysOf[deepKey](t)
	if a, b := c.append(nil, deepKey{score: 0}), c.append(nil, deepKey{score: math.Copysign(0, -1)}); !bytes.Equal(a, b) {
		t.Errorf("0 is %x, -0 is %x", a, b)
	}
	f := keysOf[float32](t)
	if a, b := f.append(nil, 0), f.append(nil, float32(math.Copysign(0, -1))); !bytes.Equal(a, b) {
		t.Errorf("0 is %x, -0 is %x", a, b)
	}
}

// Of a key that has been decoded nothing may come through to the next one.
func TestRule20_KeysDoNotShareScratch(t *testing.T) {
	c := keysOf[visitorKey](t)
	first, _ := c.decode(c.append(nil, visitorKey{"a", "b"}))
	second, _ := c.decode(c.append(nil, visitorKey{"c", "d"}))
	if first != (visitorKey{"a", "b"}) || second != (visitorKey{"c", "d"}) {
		t.Errorf("got %v and %v", first, second)
	}
}

func TestRule20_NumbersSortAsTheirBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	sorted(t, func() int64 { return int64(rng.Uint64()) >> rng.IntN(64) })
	sorted(t, func() int16 { return int16(rng.Uint32()) })
	sorted(t, func() uint32 { return rng.Uint32() >> rng.IntN(32) })
	sorted(t, func() float64 { return (rng.Float64() - 0.5) * math.Pow(10, float64(rng.IntN(40)-20)) })
	sorted(t, func() float32 { return float32(rng.NormFloat64()) })
}

func sorted[K cmp.Ordered](t *testing.T, next func() K) {
	t.Helper()
	c := keysOf[K](t)
	for range 1000 {
		a, b := next(), next()
		if cmp.Compare(a, b) != bytes.Compare(c.append(nil, a), c.append(nil, b)) {
			t.Fatalf("%T %v and %v are %x and %x", a, a, b, c.append(nil, a), c.append(nil, b))
		}
	}
}

// A failure here says that keys in checkpoints can no longer be read.
func TestRule20_KeyBytesArePinned(t *testing.T) {
	pinKey(t, "abc", "616263")
	pinKey[int64](t, -1, "7fffffffffffffff")
	pinKey[int64](t, 1, "8000000000000001")
	pinKey[uint16](t, 258, "0102")
	pinKey(t, 1.0, "bff0000000000000")
	pinKey(t, -1.0, "400fffffffffffff")
	pinKey[float32](t, 1, "bf800000")
	pinKey(t, visitorKey{"a", "bc"}, "0161026263")
	pinKey(t, deepKey{visitorKey{"a", ""}, -1, [2]bool{true, false}, 7, 0}, "0161"+"00"+"7fffffff"+"0100"+"8000000000000000")
}

func pinKey[K comparable](t *testing.T, k K, want string) {
	t.Helper()
	if got := hex.EncodeToString(keysOf[K](t).append(nil, k)); got != want {
		t.Errorf("the key %#v is %s, was %s: the format of checkpoints has changed", k, got, want)
	}
}

func TestRule20_KeysRefuseGarbage(t *testing.T) {
	refuseKey[int64](t, "", "00", "000000000000000000")
	refuseKey[int8](t, "", "0000")
	refuseKey[int16](t, "00")
	refuseKey[int32](t, "000000")
	refuseKey[bool](t, "", "02")
	refuseKey[float64](t, "00", "7fffffffffffffff")
	refuseKey[float32](t, "00", "7fffffff")
	refuseKey[visitorKey](t, "", "01", "0161", "01610162ff", "ffffffffffffffffff01", "810061"+"00")
	refuseKey[struct{}](t, "00")
}

func refuseKey[K comparable](t *testing.T, encodings ...string) {
	t.Helper()
	c := keysOf[K](t)
	for _, e := range encodings {
		src, err := hex.DecodeString(e)
		if err != nil {
			t.Fatal(err)
		}
		if k, err := c.decode(src); err == nil {
			t.Errorf("%s was taken for %T %v", e, k, k)
		}
	}
}

func TestRule20_KeyCodecAndHasherSupportTheSameTypes(t *testing.T) {
	noKey[*int](t)
	noKey[chan int](t)
	noKey[any](t)
	noKey[complex64](t)
	noKey[struct{ A [2]error }](t)
}

func noKey[K comparable](t *testing.T) {
	t.Helper()
	_, hash := HasherFor[K]()
	_, codec := keyCodecFor[K]()
	if !errors.Is(codec, ErrKeyType) || hash == nil || hash.Error() != codec.Error() {
		t.Errorf("HasherFor says %v, keyCodecFor %v", hash, codec)
	}
}

func TestKeyCodecDoesNotAllocate(t *testing.T) {
	c, dst := keysOf[deepKey](t), make([]byte, 0, 100)
	k := deepKey{visitorKey: visitorKey{"a", "b"}}
	if n := testing.AllocsPerRun(100, func() { dst = c.append(dst[:0], k) }); n > 0 {
		t.Errorf("encoding a key allocates %v times", n)
	}
	i := keysOf[int64](t)
	if n := testing.AllocsPerRun(100, func() { dst = i.append(dst[:0], 5); _, _ = i.decode(dst) }); n > 0 {
		t.Errorf("encoding and decoding an integer allocates %v times", n)
	}
}

func FuzzKeyCodec(f *testing.F) {
	f.Add([]byte("\x01a\x02bc"))
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzKey[string](t, src)
		fuzzKey[int32](t, src)
		fuzzKey[[2]float32](t, src)
		fuzzKey[float64](t, src)
		fuzzKey[deepKey](t, src)
		fuzzKey[[3]string](t, src)
	})
}

// fuzzKey wants of all bytes that are taken for a key that they are the key's.
func fuzzKey[K comparable](t *testing.T, src []byte) {
	t.Helper()
	c := keysOf[K](t)
	k, err := c.decode(slices.Clone(src))
	if err == nil && !bytes.Equal(c.append(nil, k), src) {
		t.Fatalf("%x was taken for %T %#v, which is %x", src, k, k, c.append(nil, k))
	}
}

func BenchmarkKeyCodec(b *testing.B) {
	benchKey(b, "string", "5f0c8a9e-1b2c-4d3e")
	benchKey(b, "int64", int64(5))
	benchKey(b, "struct", visitorKey{"site-1", "5f0c8a9e-1b2c-4d3e"})
}

func benchKey[K comparable](b *testing.B, what string, k K) {
	c := keysOf[K](b)
	data := c.append(nil, k)
	b.Run(what+"/encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			data = c.append(data[:0], k)
		}
	})
	b.Run(what+"/decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
