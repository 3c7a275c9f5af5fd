package operators

import (
	"fmt"

	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// stateVersion is the first byte of the state of every window operator. Raise
// that of the one whose format changes, and read the earlier ones too.
const (
	onceVersion     = 1
	windowsVersion  = 1
	slicesVersion   = 1
	sessionsVersion = 1
	rollupVersion   = 1
)

// Flags that say which of the times that need not be there are.
const (
	hasAlarm = 1 << iota
	hasEarly
)

// flags appends what is set, of an alarm and of an early timer.
func (w *writer) flags(a alarm, early int64) {
	flags := byte(0)
	if a.Set {
		flags |= hasAlarm
	}
	if early != 0 {
		flags |= hasEarly
	}
	w.byte(flags)
	if a.Set {
		w.time(a.At)
	}
	if early != 0 {
		w.time(early)
	}
}

func (r *reader) flags() (a alarm, early int64) {
	flags := r.byte()
	if flags&^(hasAlarm|hasEarly) != 0 {
		r.fail(errForm)
	}
	if flags&hasAlarm != 0 {
		a = alarm{At: r.time(), Set: true}
	}
	if flags&hasEarly != 0 {
		early = r.time()
	}
	return a, early
}

// onceCodec is the codec of [onceWindows].
type onceCodec[A any] struct{ acc state.Codec[A] }

func newOnceCodec[A any](acc state.Codec[A]) state.Codec[onceWindows[A]] { return onceCodec[A]{acc} }

// Append implements [state.Codec].
func (c onceCodec[A]) Append(dst []byte, k *onceWindows[A]) ([]byte, error) {
	w := writer{dst: append(dst, onceVersion)}
	c.put(&w, &k.First)
	if k.More != nil {
		for i := range *k.More {
			c.put(&w, &(*k.More)[i])
		}
	}
	return w.dst, w.err
}

func (c onceCodec[A]) put(w *writer, o *onceWindow[A]) {
	w.time(o.Start)
	put(w, c.acc, &o.Acc)
}

// Decode implements [state.Codec].
func (c onceCodec[A]) Decode(src []byte, k *onceWindows[A]) error {
	r := reader{src: src}
	r.version(onceVersion)
	c.get(&r, &k.First)
	for r.more() {
		if k.More == nil {
			k.More = new([]onceWindow[A])
		}
		*k.More = append(*k.More, onceWindow[A]{})
		c.get(&r, &(*k.More)[len(*k.More)-1])
	}
	return r.end()
}

func (c onceCodec[A]) get(r *reader, o *onceWindow[A]) {
	o.Start = r.time()
	get(r, c.acc, &o.Acc)
}

// windowsCodec is the codec of [keyWindows].
type windowsCodec[A any] struct{ acc state.Codec[A] }

func newWindowsCodec[A any](acc state.Codec[A]) state.Codec[keyWindows[A]] {
	return windowsCodec[A]{acc}
}

// Append implements [state.Codec].
func (c windowsCodec[A]) Append(dst []byte, k *keyWindows[A]) ([]byte, error) {
	w := writer{dst: append(dst, windowsVersion)}
	early := int64(0)
	if k.Rest != nil {
		early = k.Rest.EarlyAt
	}
	w.flags(alarm{}, early)
	for i := range k.len() {
		l := k.at(i)
		w.window(l.Window)
		w.panes(l.Panes)
		put(&w, c.acc, &l.Acc)
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c windowsCodec[A]) Decode(src []byte, k *keyWindows[A]) error {
	r := reader{src: src}
	r.version(windowsVersion)
	if _, early := r.flags(); early != 0 {
		k.rest().EarlyAt = early
	}
	for r.more() {
		l := liveWindow[A]{Window: r.window(), Panes: r.panes()}
		get(&r, c.acc, &l.Acc)
		if l.Window == (window.Window{}) { // which stands for none
			r.fail(errForm)
		}
		k.insert(l)
	}
	return r.end()
}

// slicesCodec is the codec of [keySlices].
type slicesCodec[A any] struct{ acc state.Codec[A] }

func newSlicesCodec[A any](acc state.Codec[A]) state.Codec[keySlices[A]] { return slicesCodec[A]{acc} }

// Append implements [state.Codec].
func (c slicesCodec[A]) Append(dst []byte, k *keySlices[A]) ([]byte, error) {
	w := writer{dst: append(dst, slicesVersion)}
	w.flags(k.Alarm, 0)
	w.uvarint(uint64(len(k.Slices)))
	for i := range k.Slices {
		s := &k.Slices[i]
		w.window(s.Window)
		w.time(s.Last)
		put(&w, c.acc, &s.Acc)
	}
	for _, e := range k.Ended {
		w.window(e.Window)
		w.panes(e.Panes)
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c slicesCodec[A]) Decode(src []byte, k *keySlices[A]) error {
	r := reader{src: src}
	r.version(slicesVersion)
	k.Alarm, _ = r.flags()
	for range r.count(4) {
		s := liveSlice[A]{Window: r.window(), Last: r.time()}
		get(&r, c.acc, &s.Acc)
		k.Slices = append(k.Slices, s)
	}
	for r.more() {
		k.Ended = append(k.Ended, endedWindow{r.window(), r.panes()})
	}
	return r.end()
}

// sessionsCodec is the codec of [keySessions].
type sessionsCodec[A any] struct{ acc state.Codec[A] }

func newSessionsCodec[A any](acc state.Codec[A]) state.Codec[keySessions[A]] {
	return sessionsCodec[A]{acc}
}

// Append implements [state.Codec].
func (c sessionsCodec[A]) Append(dst []byte, k *keySessions[A]) ([]byte, error) {
	w := writer{dst: append(dst, sessionsVersion)}
	w.flags(k.Alarm, k.EarlyAt)
	w.uvarint(k.Set.NextID)
	w.uvarint(uint64(len(k.Set.Live)))
	for _, s := range k.Set.Live {
		w.uvarint(s.ID)
		w.window(s.Window)
		w.time(s.Last)
		w.panes(s.Panes)
	}
	for i := range k.Accs {
		w.uvarint(k.Accs[i].ID)
		put(&w, c.acc, &k.Accs[i].Acc)
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c sessionsCodec[A]) Decode(src []byte, k *keySessions[A]) error {
	r := reader{src: src}
	r.version(sessionsVersion)
	k.Alarm, k.EarlyAt = r.flags()
	k.Set.NextID = r.uvarint()
	for range r.count(6) {
		k.Set.Live = append(k.Set.Live, window.LiveSession{ID: r.uvarint(), Window: r.window(), Last: r.time(), Panes: r.panes()})
	}
	for r.more() {
		a := sessionAcc[A]{ID: r.uvarint()}
		get(&r, c.acc, &a.Acc)
		k.Accs = append(k.Accs, a)
	}
	if r.err == nil && !k.consistent() {
		r.fail(errForm)
	}
	return r.end()
}

// consistent says whether every session has its accumulator.
func (k *keySessions[A]) consistent() bool {
	for _, s := range k.Set.Live {
		if k.acc(s.ID) == nil || s.ID >= k.Set.NextID {
			return false
		}
	}
	return len(k.Set.Live) == len(k.Accs)
}

// rollupCodec is the codec of [rolledKey]. A window must be one of its level:
// it is not where the sizes of a rollup are no longer those that its state was
// written with.
type rollupCodec[A any] struct {
	acc    state.Codec[A]
	levels []window.TumblingAssigner
}

// Append implements [state.Codec].
func (c rollupCodec[A]) Append(dst []byte, k *rolledKey[A]) ([]byte, error) {
	w := writer{dst: append(dst, rollupVersion)}
	w.flags(k.Alarm, 0)
	for i := range k.Live {
		l := &k.Live[i]
		held := uint64(0)
		if l.Held {
			held = 1
		}
		w.uvarint(uint64(l.Level)<<1 | held)
		w.window(l.Window)
		w.panes(l.Panes)
		if l.Held {
			put(&w, c.acc, &l.Acc)
		}
	}
	return w.dst, w.err
}

// Decode implements [state.Codec].
func (c rollupCodec[A]) Decode(src []byte, k *rolledKey[A]) error {
	r := reader{src: src}
	r.version(rollupVersion)
	k.Alarm, _ = r.flags()
	for r.more() {
		u := r.uvarint()
		l := rolledWindow[A]{Window: r.window(), Panes: r.panes(), Held: u&1 == 1}
		if l.Held {
			get(&r, c.acc, &l.Acc)
		}
		if level := u >> 1; level < uint64(len(c.levels)) {
			l.Level = int(level)
		}
		if r.err == nil && (u>>1 != uint64(l.Level) || c.levels[l.Level].Window(l.Window.Start) != l.Window) {
			r.fail(fmt.Errorf("the window %v is none of level %d: the sizes have changed", l.Window, u>>1))
		}
		k.Live = append(k.Live, l)
	}
	return r.end()
}
