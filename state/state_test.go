package state_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/state"
)

// TestRule20_KeyGroupRanges: at every parallelism the ranges are contiguous,
// cover every group once, differ by at most one in size, and agree with
// SubtaskOf.
func TestRule20_KeyGroupRanges(t *testing.T) {
	for _, groups := range []int{1, 2, 7, 128, 1000} {
		for par := 1; par <= groups && par <= 140; par++ {
			next, smallest, largest := 0, groups, 0
			for s := range par {
				r := state.RangeOf(s, par, groups)
				if r.First != next {
					t.Fatalf("%d groups over %d: subtask %d starts at %d, want %d", groups, par, s, r.First, next)
				}
				for g := r.First; g <= r.Last; g++ {
					if state.SubtaskOf(g, par, groups) != s || !r.Contains(g) {
						t.Fatalf("%d groups over %d: group %d is not of subtask %d", groups, par, g, s)
					}
				}
				next = r.Last + 1
				smallest, largest = min(smallest, r.Len()), max(largest, r.Len())
			}
			if next != groups || largest-smallest > 1 {
				t.Fatalf("%d groups over %d: cover %d groups in sizes from %d to %d", groups, par, next, smallest, largest)
			}
		}
	}
}

type (
	userID    string
	compound  struct{ Site, User string }
	withBlank struct {
		A int
		_ int
		B bool
	}
)

// TestRule20_HashIsStable pins hashes: a checkpoint is read by key group, so a
// hash that changed between releases would lose state silently.
func TestRule20_HashIsStable(t *testing.T) {
	check(t, "millrace", 0x1a8807b3c9996a19)
	check(t, userID("millrace"), 0x1a8807b3c9996a19)
	check(t, 42, 0xa759ea27d4727622)
	check(t, int64(42), 0xa759ea27d4727622)
	check(t, uint32(42), 0xa759ea27d4727622)
	check(t, compound{"shop", "ann"}, 0xed49cba54f22c302)
	check(t, [2]int16{1, 2}, 0x152ed9115cf35c56)
	check(t, 1.5, 0x49f7b96b6b5ccaf9)
	check(t, true, 0x8a4127811b21e730)
}

func check[K comparable](t *testing.T, k K, want uint64) {
	t.Helper()
	h, err := state.HasherFor[K]()
	if err != nil {
		t.Fatal(err)
	}
	if got := h(k); got != want {
		t.Errorf("hash of %T %v is %#x, want %#x", k, k, got, want)
	}
}

func TestEqualKeysHashEqually(t *testing.T) {
	h, _ := state.HasherFor[withBlank]()
	one, other := withBlank{A: 1, B: true}, withBlank{A: 1, B: true}
	*(*int)(unsafe.Add(unsafe.Pointer(&other), unsafe.Sizeof(int(0)))) = 99 // the blank field
	if one != other || h(one) != h(other) {
		t.Error("blank fields take part in the hash")
	}
	f, _ := state.HasherFor[[1]float64]()
	negativeZero := 0.0
	negativeZero = -negativeZero
	if f([1]float64{negativeZero}) != f([1]float64{0}) {
		t.Error("0 and -0 are equal keys with different hashes")
	}
	s, _ := state.HasherFor[compound]()
	if s(compound{"ab", "c"}) == s(compound{"a", "bc"}) {
		t.Error("the fields of a composite key run into each other")
	}
}

func TestKeyTypesWithoutIdentity(t *testing.T) {
	_, err := state.HasherFor[*int]()
	refused(t, err, "ptr")
	_, err = state.HasherFor[any]()
	refused(t, err, "interface")
	_, err = state.HasherFor[struct{ Who struct{ C chan int } }]()
	refused(t, err, "field Who: field C")
}

func refused(t *testing.T, err error, mention string) {
	t.Helper()
	if !errors.Is(err, state.ErrKeyType) || !strings.Contains(err.Error(), mention) {
		t.Errorf("error is %v, want %v mentioning %q", err, state.ErrKeyType, mention)
	}
}

func TestHashDoesNotAllocate(t *testing.T) {
	s, _ := state.HasherFor[string]()
	c, _ := state.HasherFor[compound]()
	key := compound{"shop", strings.Repeat("x", 200)}
	if n := testing.AllocsPerRun(1000, func() { s(key.User); c(key) }); n > 0 {
		t.Errorf("hashing allocates %v times", n)
	}
}

func whole[K comparable]() *state.Backend[K] {
	return state.NewBackend[K](state.DefaultMaxParallelism, state.Range{First: 0, Last: state.DefaultMaxParallelism - 1})
}

func setKey(b *state.Backend[string], k string) {
	h, _ := state.HasherFor[string]()
	b.SetKey(k, h(k))
}

func TestStateSpeaksOfTheCurrentKey(t *testing.T) {
	b := whole[string]()
	n := state.NewValue[int](b, "n")
	l := state.NewList[string](b, "l")
	m := state.NewMap[string, int](b, "m")
	for i, k := range []string{"a", "b", "a"} {
		setKey(b, k)
		n.Set(i)
		l.Append(fmt.Sprint(i))
		m.Put("at", i)
	}
	setKey(b, "a")
	if v, ok := n.Get(); !ok || v != 2 {
		t.Errorf("n of a is %d, %v", v, ok)
	}
	if got := l.Get(); !slices.Equal(got, []string{"0", "2"}) {
		t.Errorf("l of a is %v", got)
	}
	if v, ok := m.Get("at"); !ok || v != 2 {
		t.Errorf("m of a is %d, %v", v, ok)
	}
	n.Clear()
	l.Set(nil)
	m.Delete("at")
	if _, ok := n.Get(); ok || l.Get() != nil || m.Len() != 0 {
		t.Error("a is not forgotten")
	}
	if b.Len() != 3 { // b's value, list and map
		t.Errorf("%d entries are left, want 3", b.Len())
	}
}

func TestGroupIsSharedByItsKeys(t *testing.T) {
	b := whole[string]()
	g := state.NewGroup[int](b, "seen")
	for i := range 10_000 {
		setKey(b, fmt.Sprint(i))
		*g.Upsert()++
	}
	total := 0
	g.Each(func(group int, n *int) {
		if *n < 20 { // 10,000 keys over 128 groups are 78 each
			t.Errorf("group %d has only %d keys", group, *n)
		}
		total += *n
	})
	if total != 10_000 || g.Len() != state.DefaultMaxParallelism {
		t.Errorf("%d keys in %d groups", total, g.Len())
	}
}

func TestDeclarationMistakes(t *testing.T) {
	b := whole[string]()
	state.NewValue[int](b, "x")
	state.NewList[int](b, "x")
	state.NewValue[int](b, "")
	for _, want := range []string{`"x" is declared twice`, "name is empty"} {
		if err := b.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	r := state.Refuse[string](errors.New("no key here"))
	state.NewValue[int](r, "x")
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "no key here") {
		t.Errorf("error is %v", err)
	}
}
