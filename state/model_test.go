package state

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The model tests run random calls on backends that have next to no memory, so
// that keys are evicted and read back all the time, and compare them with Go's
// maps. Snapshots are taken at random, finished while the calls go on, and
// restored at random too: with another number of subtasks, on another kind of
// storage, and with the model as it was when the snapshot began.

// model is what the state of all keys should be.
type model struct {
	counts map[int]int64
	names  map[int]string
	lists  map[int][]int
	maps   map[int]map[int8]int16
	groups map[int]int64
	parts  map[int]map[uint64]string
	mortal map[int]mortalModel
	timers map[timerModel]bool
	now    int64
	newest uint64 // part
}

type mortalModel struct{ val, until int64 }

type timerModel struct {
	time int64
	key  int
	ns   uint32
}

func newModel() *model {
	return &model{
		counts: map[int]int64{}, names: map[int]string{}, lists: map[int][]int{}, maps: map[int]map[int8]int16{},
		groups: map[int]int64{}, parts: map[int]map[uint64]string{}, mortal: map[int]mortalModel{}, timers: map[timerModel]bool{},
	}
}

func (m *model) clone() *model {
	c := *m
	c.counts, c.names, c.groups = maps.Clone(m.counts), maps.Clone(m.names), maps.Clone(m.groups)
	c.mortal, c.timers = maps.Clone(m.mortal), maps.Clone(m.timers)
	c.lists, c.maps, c.parts = map[int][]int{}, map[int]map[int8]int16{}, map[int]map[uint64]string{}
	for k, l := range m.lists {
		c.lists[k] = slices.Clone(l)
	}
	for k, e := range m.maps {
		c.maps[k] = maps.Clone(e)
	}
	for g, p := range m.parts {
		c.parts[g] = maps.Clone(p)
	}
	return &c
}

// subtask is a backend with one of everything declared on it.
type subtask struct {
	b      *Backend[int]
	counts *Value[int, int64]
	names  *Value[int, string]
	lists  *List[int, int]
	maps   *Map[int, int8, int16]
	groups *Group[int, int64]
	parts  *Group[int, album]
	mortal *Value[int, int64]
	timers *TimerQueue[int]
}

// album is a value in parts.
type album struct {
	pages map[uint64]string
	fresh map[uint64]bool
	gone  []uint64
}

func (a *album) put(id uint64, page string) {
	if a.pages == nil {
		a.pages, a.fresh = map[uint64]string{}, map[uint64]bool{}
	}
	a.pages[id], a.fresh[id] = page, true
}

func (a *album) drop(id uint64) {
	if _, ok := a.pages[id]; ok {
		delete(a.pages, id)
		delete(a.fresh, id)
		a.gone = append(a.gone, id)
	}
}

func (a *album) Changed(put func(uint64, []byte), drop func(uint64)) error {
	for id := range a.fresh {
		put(id, []byte(a.pages[id]))
	}
	for _, id := range a.gone {
		drop(id)
	}
	clear(a.fresh)
	a.gone = nil
	return nil
}

func (a *album) All(put func(uint64, []byte)) error {
	for id, page := range a.pages {
		put(id, []byte(page))
	}
	return nil
}

func (a *album) Restore(id uint64, data []byte) error {
	a.put(id, string(data))
	delete(a.fresh, id)
	return nil
}

// world is a job with its state, the model beside it.
type world struct {
	t              *testing.T
	seed           uint64
	rng            *rand.Rand
	fs             vfs.FS
	maxParallelism int
	keys           int
	hash           func(int) uint64
	storage        *Storage
	subtasks       []*subtask
	dirs           int
	step           int
	*model

	saved    []*savedWorld
	finished chan error // of the snapshot under way
}

// savedWorld is a snapshot of all subtasks.
type savedWorld struct {
	*model
	parts []Restored
}

const modelTTL = 100 * time.Millisecond

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d step %d: %s", w.seed, w.step, fmt.Sprintf(format, args...))
}

func (w *world) dir() string {
	w.dirs++
	return fmt.Sprintf("dir-%04d", w.dirs)
}

// open starts the job, from a snapshot or from nothing.
func (w *world) open(from *savedWorld) {
	w.t.Helper()
	var err error
	w.storage, err = NewStorage(StorageConfig{
		Dir: w.dir(), FS: w.fs, Memory: 8 << 20, InMemory: w.rng.IntN(4) == 0, Logger: quiet(),
	})
	if err != nil {
		w.fatalf("%v", err)
	}
	w.storage.budget = []int64{1, 4 << 10, 64 << 10}[w.rng.IntN(3)]
	w.model = newModel()
	if from != nil {
		w.model = from.clone()
	}
	n := min([]int{1, 2, 3}[w.rng.IntN(3)], w.maxParallelism)
	w.subtasks = nil
	for i := range n {
		w.subtasks = append(w.subtasks, w.openSubtask(RangeOf(i, n, w.maxParallelism), from))
	}
	w.compare()
}

func (w *world) openSubtask(owned Range, from *savedWorld) *subtask {
	w.t.Helper()
	b := NewBackend[int](w.maxParallelism, owned)
	var restored []Restored
	if from != nil {
		for _, part := range from.parts {
			if part.Owned.First <= owned.Last && part.Owned.Last >= owned.First {
				part.Dir = w.copyDir(part.Dir)
				restored = append(restored, part)
			}
		}
	}
	if err := b.Attach(w.storage, fmt.Sprint("subtask ", owned), restored); err != nil {
		w.fatalf("attach: %v", err)
	}
	b.hasher = w.hash
	b.SetClock(func(Clock) int64 { return w.now })
	s := declareAll(b)
	s.timers.chunk = []int{1, 20, loadChunk}[w.rng.IntN(3)]
	s.mortal.life.queue.chunk = s.timers.chunk
	if err := b.Ready(); err != nil {
		w.fatalf("ready: %+v inMemory %v owned %v from %v", err, w.storage.inMemory, owned, restored)
	}
	return s
}

func declareAll(b *Backend[int]) *subtask {
	namespaces := []string{"a", "b"}
	return &subtask{
		b:      b,
		counts: NewValue[int64](b, "counts"),
		names:  NewValue[string](b, "names"),
		lists:  NewList[int](b, "lists"),
		maps:   NewMap[int8, int16](b, "maps"),
		groups: NewGroup[int64](b, "groups"),
		parts:  NewGroup[album](b, "parts"),
		mortal: NewValue[int64](b, "mortal", TTL(modelTTL, EventTime)),
		timers: NewTimerQueue(b, "timers", &namespaces),
	}
}

func (w *world) copyDir(dir string) string {
	to := w.dir()
	if ok, err := vfs.Clone(w.fs, w.fs, dir, to); err != nil || !ok {
		w.fatalf("copy %q: %v, %v", dir, ok, err)
	}
	return to
}

// use makes a key the current one of its subtask.
func (w *world) use(key int) *subtask {
	hash := w.hash(key)
	s := w.subtasks[SubtaskOf(KeyGroup(hash, w.maxParallelism), len(w.subtasks), w.maxParallelism)]
	s.b.SetKey(key, hash)
	return s
}

func (w *world) close() {
	w.join()
	for _, s := range w.subtasks {
		if err := s.b.Close(); err != nil {
			w.fatalf("close: %v", err)
		}
	}
	w.storage.Close()
}

// snapshot begins one on all subtasks and finishes it on a goroutine.
func (w *world) snapshot() {
	w.join()
	saved := &savedWorld{model: w.clone()}
	var under []*Snapshotting
	var dirs []string
	for i, s := range w.subtasks {
		sn, err := s.b.Snapshot()
		if err != nil {
			w.fatalf("snapshot: %v", err)
		}
		part := Restored{Owned: s.b.Owned()}
		if sn.Unchanged {
			part.Dir = w.saved[len(w.saved)-1].parts[i].Dir
		} else {
			part.Dir = w.dir()
			under, dirs = append(under, sn), append(dirs, part.Dir)
		}
		saved.parts = append(saved.parts, part)
	}
	done := make(chan error, 1)
	w.finished = done
	w.saved = append(w.saved, saved)
	go func() {
		for i, sn := range under {
			if _, err := sn.Finish(context.Background(), dirs[i]); err != nil {
				done <- err
			}
		}
		close(done)
	}()
}

// join waits for the snapshot under way.
func (w *world) join() {
	if w.finished != nil {
		if err := <-w.finished; err != nil {
			w.fatalf("finish: %v", err)
		}
		w.finished = nil
	}
}

// crash throws everything away, and restores some snapshot.
func (w *world) crash() {
	w.close()
	var from *savedWorld
	if i := w.rng.IntN(len(w.saved)+1) - 1; i >= 0 {
		from = w.saved[i]
	}
	w.saved = nil
	w.open(from)
	w.snapshot() // the first snapshot can't lean on another
}

func (w *world) run(steps int) {
	w.open(nil)
	w.snapshot()
	for ; w.step < steps; w.step++ {
		switch r := w.rng.IntN(1000); {
		case r < 3:
			w.snapshot()
		case r < 4:
			w.crash()
		case r < 6:
			w.compare()
		case r < 60:
			for _, s := range w.subtasks {
				s.b.Relieve()
			}
		case r < 90:
			w.advance()
		case r < 100:
			w.prefetch()
		default:
			w.change(w.rng.IntN(w.keys))
		}
	}
	w.crash()
	w.drain()
	w.close()
}

func (w *world) prefetch() {
	s := w.subtasks[w.rng.IntN(len(w.subtasks))]
	var keys []int
	var hashes []uint64
	for range w.rng.IntN(100) {
		k := w.rng.IntN(w.keys)
		if h := w.hash(k); s.b.Owned().Contains(KeyGroup(h, w.maxParallelism)) {
			keys, hashes = append(keys, k), append(hashes, h)
		}
	}
	s.b.Prefetch(keys, hashes)
}

// change makes one random call.
func (w *world) change(k int) {
	w.t.Helper()
	s := w.use(k)
	switch w.rng.IntN(8) {
	case 0:
		w.changeCount(s, k)
	case 1:
		w.changeName(s, k)
	case 2:
		w.changeList(s, k)
	case 3:
		w.changeMap(s, k)
	case 4:
		w.changeGroup(s, k)
	case 5:
		w.changeMortal(s, k)
	default:
		w.changeTimer(s, k)
	}
}

func (w *world) changeCount(s *subtask, k int) {
	n := int64(w.step)
	want, known := w.counts[k]
	switch w.rng.IntN(5) {
	case 0:
		s.counts.Set(n)
		w.counts[k] = n
	case 1:
		s.counts.Clear()
		delete(w.counts, k)
	case 2:
		if p := s.counts.Ptr(); (p != nil) != known || known && *p != want {
			w.fatalf("Ptr of %d is %v, want %d, %v", k, p, want, known)
		} else if known {
			*p += n
			w.counts[k] += n
		}
	case 3:
		p := s.counts.Upsert()
		if *p != want {
			w.fatalf("Upsert of %d is %d, want %d", k, *p, want)
		}
		if again := s.counts.Ptr(); again != p {
			w.fatalf("the pointer of %d has moved within one record", k)
		}
		*p += n
		w.counts[k] += n
	case 4:
		if got, ok := s.counts.Get(); got != want || ok != known {
			w.fatalf("Get of %d is %d, %v; want %d, %v", k, got, ok, want, known)
		}
	}
}

func (w *world) changeName(s *subtask, k int) {
	switch w.rng.IntN(3) {
	case 0:
		s.names.Clear()
		delete(w.names, k)
	default:
		name := fmt.Sprint("name ", w.step)
		if w.rng.IntN(2) == 0 {
			s.names.Set(name)
		} else {
			*s.names.Upsert() = name
		}
		w.names[k] = name
	}
}

func (w *world) changeList(s *subtask, k int) {
	switch w.rng.IntN(3) {
	case 0:
		s.lists.Append(w.step, w.step+1)
		w.lists[k] = append(w.lists[k], w.step, w.step+1)
	case 1:
		s.lists.Set([]int{w.step})
		w.lists[k] = []int{w.step}
	case 2:
		s.lists.Set(nil)
		delete(w.lists, k)
	}
}

func (w *world) changeMap(s *subtask, k int) {
	mk := int8(w.rng.IntN(3))
	if w.rng.IntN(2) == 0 {
		s.maps.Put(mk, int16(w.step))
		if w.maps[k] == nil {
			w.maps[k] = map[int8]int16{}
		}
		w.maps[k][mk] = int16(w.step)
		return
	}
	s.maps.Delete(mk)
	if delete(w.maps[k], mk); len(w.maps[k]) == 0 {
		delete(w.maps, k)
	}
}

func (w *world) changeGroup(s *subtask, k int) {
	g := KeyGroup(w.hash(k), w.maxParallelism)
	if w.rng.IntN(2) == 0 {
		*s.groups.Upsert() += int64(k)
		w.groups[g] += int64(k)
		return
	}
	a := s.parts.Upsert()
	if w.parts[g] == nil {
		w.parts[g] = map[uint64]string{}
	}
	if w.newest++; w.rng.IntN(3) > 0 {
		a.put(w.newest, fmt.Sprint("page ", w.step))
		w.parts[g][w.newest] = fmt.Sprint("page ", w.step)
		return
	}
	for id := range w.parts[g] {
		a.drop(id)
		delete(w.parts[g], id)
		break
	}
}

func (w *world) changeMortal(s *subtask, k int) {
	ttl := modelTTL.Milliseconds()
	until := max(w.now+ttl, w.mortal[k].until) // its step is 1
	m, known := w.mortal[k]
	switch w.rng.IntN(4) {
	case 0:
		s.mortal.Set(int64(w.step))
		w.mortal[k] = mortalModel{int64(w.step), until}
	case 1:
		*s.mortal.Upsert() = int64(w.step)
		w.mortal[k] = mortalModel{int64(w.step), until}
	case 2:
		if p := s.mortal.Ptr(); (p != nil) != known || known && *p != m.val {
			w.fatalf("Ptr of mortal %d is %v, want %v, %v", k, p, m, known)
		} else if known {
			*p++
			w.mortal[k] = mortalModel{m.val + 1, until}
		}
	case 3:
		s.mortal.Clear()
		delete(w.mortal, k)
	}
}

func (w *world) changeTimer(s *subtask, k int) {
	// Some times are shared by very many timers, others by one or two.
	at := w.now + int64(w.rng.IntN(300)) - 5
	if w.rng.IntN(2) == 0 {
		at = (w.now/200 + 1 + int64(w.rng.IntN(3))) * 200
	}
	tm := timerModel{at, k, uint32(w.rng.IntN(2))}
	e := TimerEntry[int]{Key: k, Hash: w.hash(k), Namespace: tm.ns}
	if w.rng.IntN(3) == 0 {
		s.timers.Delete(e, at)
		delete(w.timers, tm)
		return
	}
	s.timers.Set(e, at, !w.timers[tm] && w.rng.IntN(2) == 0)
	w.timers[tm] = true
}

// advance lets time pass: timers fire and values expire.
func (w *world) advance() {
	w.now += int64(w.rng.IntN(30))
	for _, s := range w.subtasks {
		w.advanceTimers(s)
		if err := s.b.Expire(EventTime, w.now); err != nil {
			w.fatalf("expire: %v", err)
		}
	}
	for k, m := range w.mortal {
		if m.until <= w.now {
			delete(w.mortal, k)
		}
	}
}

func (w *world) advanceTimers(s *subtask) {
	w.t.Helper()
	w.checkEarliest(s)
	last, nested := int64(math.MinInt64), false
	s.timers.Advance(w.now, func(e TimerEntry[int], at int64) bool {
		tm := timerModel{at, e.Key, e.Namespace}
		if !w.timers[tm] {
			w.fatalf("timer %v fired, but is not set", tm)
		}
		delete(w.timers, tm)
		if at < last && !nested {
			w.fatalf("timer at %d fired after one at %d", at, last)
		}
		last = at
		if w.rng.IntN(3) == 0 {
			nested = true // may set a timer for a time that has passed
			w.use(e.Key)
			w.changeTimer(s, e.Key)
			w.changeCount(s, e.Key)
		}
		return true
	})
	if err := s.timers.Err(); err != nil {
		w.fatalf("advance: %v", err)
	}
	for tm := range w.timers {
		if tm.time <= w.now && w.use(tm.key) == s {
			w.fatalf("timer %v did not fire at %d", tm, w.now)
		}
	}
}

func (w *world) checkEarliest(s *subtask) {
	w.t.Helper()
	want, any := int64(math.MaxInt64), false
	for tm := range w.timers {
		if w.use(tm.key) == s {
			want, any = min(want, tm.time), true
		}
	}
	// A time whose timers were all deleted may still be named.
	if got, ok := s.timers.Earliest(); any && (!ok || got > want) {
		w.fatalf("the earliest timer is at %d, %v; want %d", got, ok, want)
	}
}

// drain fires all timers there are, which shows what they are.
func (w *world) drain() {
	w.now = math.MaxInt64
	for _, s := range w.subtasks {
		s.timers.Advance(w.now, func(e TimerEntry[int], at int64) bool {
			tm := timerModel{at, e.Key, e.Namespace}
			if !w.timers[tm] {
				w.fatalf("timer %v fired, but is not set", tm)
			}
			delete(w.timers, tm)
			return true
		})
	}
	if len(w.timers) > 0 {
		w.fatalf("%d timers did not fire", len(w.timers))
	}
}

// compare compares everything, in one way or the other.
func (w *world) compare() {
	w.t.Helper()
	if w.rng.IntN(2) == 0 {
		w.compareKeys()
	}
	w.compareEach()
	w.compareGroups()
}

func (w *world) compareKeys() {
	w.t.Helper()
	for _, k := range w.rng.Perm(w.keys) {
		s := w.use(k)
		n, ok := s.counts.Get()
		if want, known := w.counts[k]; n != want || ok != known {
			w.fatalf("count of %d is %d, %v; want %d, %v", k, n, ok, want, known)
		}
		name, ok := s.names.Get()
		if want, known := w.names[k]; name != want || ok != known {
			w.fatalf("name of %d is %q, %v; want %q, %v", k, name, ok, want, known)
		}
		if got, want := s.lists.Get(), w.lists[k]; !slices.Equal(got, want) {
			w.fatalf("list of %d is %v, want %v", k, got, want)
		}
		if got, want := maps.Collect(s.maps.All()), w.maps[k]; !maps.Equal(got, want) {
			w.fatalf("map of %d is %v, want %v", k, got, want)
		}
		n, ok = s.mortal.Get()
		if want, known := w.mortal[k]; n != want.val || ok != known {
			w.fatalf("mortal %d is %d, %v; want %v, %v", k, n, ok, want, known)
		}
	}
}

func (w *world) compareEach() {
	w.t.Helper()
	counts, names := map[int]int64{}, map[int]string{}
	ownCounts, ownNames := 0, 0
	for _, s := range w.subtasks {
		s.counts.Each(func(k int, n *int64) bool {
			if _, twice := counts[k]; twice {
				w.fatalf("Each gives the count of %d twice", k)
			}
			counts[k] = *n
			return true
		})
		s.names.Each(func(k int, name *string) bool { names[k] = *name; return true })
		ownCounts += s.counts.Len()
		ownNames += s.names.Len()
	}
	if !maps.Equal(counts, w.counts) {
		w.fatalf("Each gives the counts %v, want %v", counts, w.counts)
	}
	if !maps.Equal(names, w.names) {
		w.fatalf("Each gives the names %v, want %v", names, w.names)
	}
	if ownCounts != len(w.counts) || ownNames != len(w.names) {
		w.fatalf("%d counts and %d names are said to be there, want %d and %d", ownCounts, ownNames, len(w.counts), len(w.names))
	}
}

func (w *world) compareGroups() {
	w.t.Helper()
	groups := map[int]int64{}
	for _, s := range w.subtasks {
		s.groups.Each(func(g int, n *int64) { groups[g] = *n })
		s.parts.Each(func(g int, a *album) {
			if !maps.Equal(a.pages, w.parts[g]) {
				w.fatalf("parts of group %d are %v, want %v", g, a.pages, w.parts[g])
			}
		})
	}
	if !maps.Equal(groups, w.groups) {
		w.fatalf("groups are %v, want %v", groups, w.groups)
	}
}

func newWorld(t *testing.T, seed uint64, fs vfs.FS) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 20)), fs: fs}
	w.maxParallelism = []int{1, 7, DefaultMaxParallelism}[w.rng.IntN(3)]
	w.keys = []int{10, 300, 2000}[w.rng.IntN(3)]
	w.hash, _ = HasherFor[int]()
	if w.rng.IntN(4) == 0 {
		w.keys = min(w.keys, 300)
		groups := uint64(w.maxParallelism)
		w.hash = func(k int) uint64 { return uint64(k%3) << 32 * 64 * groups }
	}
	return w
}

// TestRule20_StateAgainstModel runs random calls, snapshots, crashes and
// restores at other splits of the key groups.
func TestRule20_StateAgainstModel(t *testing.T) {
	for seed := range modelSeeds() {
		newWorld(t, seed, vfs.NewMem()).run(8000)
	}
}

func modelSeeds() uint64 {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_MODEL_SEEDS")); err == nil {
		return uint64(n)
	}
	if testing.Short() || raceEnabled { // which takes ten times as long
		return 5
	}
	return 12
}
