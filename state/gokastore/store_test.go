package gokastore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/lovoo/goka/storage"

	"github.com/millrace/millrace/state/gokastore"
)

// onFS returns a builder of storages on a file system.
func onFS(fs vfs.FS, opts ...gokastore.Option) storage.Builder {
	return gokastore.Builder("/tables", append([]gokastore.Option{
		gokastore.Pebble(func(o *pebble.Options) { o.FS = fs }), gokastore.Logger(slog.New(slog.DiscardHandler)),
	}, opts...)...)
}

func open(t testing.TB, build storage.Builder) storage.Storage {
	t.Helper()
	s, err := build("group-table", 3)
	if err == nil {
		err = s.Open()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &closedOnce{Storage: s}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// closedOnce passes on the first Close only: goka's own storage panics at the
// second.
type closedOnce struct {
	storage.Storage
	once sync.Once
}

func (c *closedOnce) Close() (err error) {
	c.once.Do(func() { err = c.Storage.Close() })
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contract is what goka's tests ask of its storages, and what its views and
// processors count on. To see that it says nothing else, it is run on goka's own
// storage, too.
var contract = []struct {
	name string
	test func(t *testing.T, build storage.Builder)
}{
	{"a key that isn't there", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		wantValue(t, s, "missing", nil)
		must(t, s.Delete("missing"))
	}},
	{"set, get, delete", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		for _, recover := range []func() error{func() error { return nil }, s.MarkRecovered} {
			must(t, recover())
			must(t, s.Set("key", []byte("one")))
			wantValue(t, s, "key", []byte("one"))
			must(t, s.Set("key", []byte("two")))
			wantValue(t, s, "key", []byte("two"))
			must(t, s.SetOffset(1))
			wantValue(t, s, "key", []byte("two"))
			must(t, s.Delete("key"))
			wantValue(t, s, "key", nil)
			must(t, s.SetOffset(2))
			wantValue(t, s, "key", nil)
		}
	}},
	{"an empty value is a value", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		must(t, s.Set("empty", []byte{}))
		wantValue(t, s, "empty", []byte{})
		must(t, s.MarkRecovered())
		wantValue(t, s, "empty", []byte{})
		wantPairs(t, s, "empty=")
	}},
	{"values are copied", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		value := []byte("value")
		must(t, s.Set("key", value))
		copy(value, "other")
		for _, recover := range []func() error{func() error { return nil }, s.MarkRecovered} {
			must(t, recover())
			got, err := s.Get("key")
			must(t, err)
			copy(got, "other")
			wantValue(t, s, "key", []byte("value"))
		}
	}},
	{"no offset", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		wantOffset(t, s, -3, -3)
		must(t, s.MarkRecovered())
		wantOffset(t, s, 17, 17)
	}},
	{"offsets of a recovery", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		must(t, s.SetOffset(100))
		wantOffset(t, s, 0, 100)
		must(t, s.Close())
		wantOffset(t, open(t, build), 0, 100)
	}},
	{"offsets after a recovery", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		must(t, s.SetOffset(100))
		must(t, s.MarkRecovered())
		wantOffset(t, s, 0, 100)
		must(t, s.SetOffset(101))
		wantOffset(t, s, 0, 101)
		must(t, s.Close())
		s = open(t, build)
		wantOffset(t, s, 0, 101)
		must(t, s.MarkRecovered())
		wantOffset(t, s, 0, 101)
	}},
	{"records of a recovery", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		must(t, s.Set("a", []byte("1")))
		must(t, s.Set("b", []byte("2")))
		must(t, s.Delete("a"))
		must(t, s.Close())
		wantPairs(t, open(t, build), "b=2")
	}},
	{"the offset is no key", func(t *testing.T, build storage.Builder) {
		s := open(t, build)
		must(t, s.Set("_", []byte("before")))
		must(t, s.SetOffset(777))
		must(t, s.MarkRecovered())
		must(t, s.Set("a", []byte("after")))
		wantPairs(t, s, "_=before", "a=after")
	}},
	{"iterator", func(t *testing.T, build storage.Builder) {
		s := filled(t, build)
		it := iterator(t, s)
		wantAt(t, it, "")
		wantAll(t, it, "key-1=val-1", "key-2=val-2", "key-3=val-3", "other=val")
		wantAt(t, it, "")
		if it.Next() {
			t.Errorf("Next after the end stands at %q", it.Key())
		}
		must(t, it.Err())
	}},
	{"seek", func(t *testing.T, build storage.Builder) {
		it := iterator(t, filled(t, build))
		for _, c := range []struct{ key, at, next string }{
			{"key-2", "key-2=val-2", "key-3=val-3"},
			{"k", "key-1=val-1", "key-2=val-2"},
			{"key-21", "key-3=val-3", "other=val"},
			{"other", "other=val", ""},
			{"p", "", ""},
			{"key-1", "key-1=val-1", "key-2=val-2"},
		} {
			if got, want := it.Seek([]byte(c.key)), c.at != ""; got != want {
				t.Errorf("seek %q: %v, want %v", c.key, got, want)
			}
			wantAt(t, it, c.at)
			if got, want := it.Next(), c.next != ""; got != want {
				t.Errorf("next after seek %q: %v, want %v", c.key, got, want)
			}
			wantAt(t, it, c.next)
		}
	}},
	{"ranges", func(t *testing.T, build storage.Builder) {
		s := filled(t, build)
		must(t, s.Set("\xff\xff", []byte("last")))
		for _, c := range []struct {
			start, limit string
			want         []string
		}{
			{"key-2", "other", []string{"key-2=val-2", "key-3=val-3"}},
			{"key-2", "key-3\x00", []string{"key-2=val-2", "key-3=val-3"}},
			{"", "key-2", []string{"key-1=val-1"}},
			{"key-", "", []string{"key-1=val-1", "key-2=val-2", "key-3=val-3"}},
			{"key-1", "", []string{"key-1=val-1"}},
			{"\xff", "", []string{"\xff\xff=last"}},
			{"z", "a", nil},
			{"key-2", "key-2", nil},
			{"", "", []string{"key-1=val-1", "key-2=val-2", "key-3=val-3", "other=val", "\xff\xff=last"}},
		} {
			it, err := s.IteratorWithRange([]byte(c.start), []byte(c.limit))
			must(t, err)
			if got := pairs(t, it); !slices.Equal(got, c.want) {
				t.Errorf("range %q to %q: got %q, want %q", c.start, c.limit, got, c.want)
			}
			it.Release()
		}
		it, err := s.IteratorWithRange([]byte("key-2"), []byte("key-3"))
		must(t, err)
		defer it.Release()
		if !it.Seek([]byte("a")) {
			t.Error("seek before the range finds nothing")
		}
		wantAt(t, it, "key-2=val-2")
		if it.Seek([]byte("key-3")) {
			t.Error("seek finds the limit")
		}
	}},
	{"iterators see a moment", func(t *testing.T, build storage.Builder) {
		s := filled(t, build)
		it := iterator(t, s)
		must(t, s.Set("key-1", []byte("changed")))
		must(t, s.Delete("key-2"))
		must(t, s.Set("new", []byte{}))
		must(t, s.SetOffset(6))
		wantAll(t, it, "key-1=val-1", "key-2=val-2", "key-3=val-3", "other=val")
		wantPairs(t, s, "key-1=changed", "key-3=val-3", "new=", "other=val")
	}},
	{"release", func(t *testing.T, build storage.Builder) {
		it := iterator(t, filled(t, build))
		if !it.Next() {
			t.Fatal("nothing there")
		}
		it.Release()
		if it.Next() || it.Seek([]byte("key-2")) {
			t.Error("a released iterator moves")
		}
		wantAt(t, it, "")
		it.Release()
	}},
	{"merged", func(t *testing.T, build storage.Builder) {
		// A view merges the iterators of its partitions, with seeks.
		var all []storage.Iterator
		for p := range int32(3) {
			s, err := build("other", p)
			must(t, err)
			t.Cleanup(func() { must(t, s.Close()) })
			for k := range 4 {
				must(t, s.Set(fmt.Sprintf("%d-%d", k, p), fmt.Append(nil, k*10+int(p))))
			}
			must(t, s.SetOffset(4))
			must(t, s.MarkRecovered())
			all = append(all, iterator(t, s))
		}
		it := storage.NewMultiIterator(all)
		wantAll(t, it, "0-0=0", "0-1=1", "0-2=2", "1-0=10", "1-1=11", "1-2=12", "2-0=20", "2-1=21", "2-2=22", "3-0=30", "3-1=31", "3-2=32")
		if !it.Seek([]byte("2-1")) {
			t.Fatal("seek finds nothing")
		}
		wantAll(t, it, "2-1=21", "2-2=22", "3-0=30", "3-1=31", "3-2=32")
	}},
	{"readers beside a writer", func(t *testing.T, build storage.Builder) { readBesideWriter(t, open(t, build)) }},
}

func TestContract(t *testing.T) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			t.Run("pebble", func(t *testing.T) { c.test(t, onFS(vfs.NewMem())) })
			t.Run("no log", func(t *testing.T) {
				fs := vfs.NewMem()
				c.test(t, onFS(fs, gokastore.Pebble(func(o *pebble.Options) { o.FS, o.DisableWAL = fs, true })))
			})
			t.Run("goka", func(t *testing.T) { c.test(t, storage.DefaultBuilder(t.TempDir())) })
		})
	}
}

func filled(t *testing.T, build storage.Builder) storage.Storage {
	s := open(t, build)
	must(t, s.Set("key-3", []byte("val-3")))
	must(t, s.Set("key-1", []byte("val-1")))
	must(t, s.SetOffset(5))
	must(t, s.MarkRecovered())
	must(t, s.Set("key-2", []byte("val-2")))
	must(t, s.Set("other", []byte("val")))
	return s
}

func iterator(t *testing.T, s storage.Storage) storage.Iterator {
	t.Helper()
	it, err := s.Iterator()
	must(t, err)
	t.Cleanup(it.Release)
	return it
}

func wantValue(t testing.TB, s storage.Storage, key string, want []byte) {
	t.Helper()
	got, err := s.Get(key)
	must(t, err)
	if string(got) != string(want) || (got == nil) != (want == nil) {
		t.Errorf("get %q: %q (nil: %v), want %q (nil: %v)", key, got, got == nil, want, want == nil)
	}
	if has, err := s.Has(key); err != nil || has != (want != nil) {
		t.Errorf("has %q: %v, %v", key, has, err)
	}
}

func wantOffset(t testing.TB, s storage.Storage, def, want int64) {
	t.Helper()
	if got, err := s.GetOffset(def); err != nil || got != want {
		t.Errorf("offset %d, %v, want %d", got, err, want)
	}
}

// wantAt checks where an iterator stands, "" for nowhere.
func wantAt(t testing.TB, it storage.Iterator, want string) {
	t.Helper()
	key := it.Key()
	value, err := it.Value()
	if want == "" {
		if key != nil || value != nil {
			t.Errorf("the iterator stands at %q=%q, want nowhere", key, value)
		}
		return
	}
	if got := string(key) + "=" + string(value); got != want || err != nil {
		t.Errorf("the iterator stands at %q, %v, want %q", got, err, want)
	}
}

func wantAll(t testing.TB, it storage.Iterator, want ...string) {
	t.Helper()
	if got := pairs(t, it); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func wantPairs(t testing.TB, s storage.Storage, want ...string) {
	t.Helper()
	it, err := s.Iterator()
	must(t, err)
	defer it.Release()
	wantAll(t, it, want...)
}

func pairs(t testing.TB, it storage.Iterator) []string {
	t.Helper()
	var all []string
	for it.Next() {
		value, err := it.Value()
		must(t, err)
		all = append(all, string(it.Key())+"="+string(value))
	}
	must(t, it.Err())
	return all
}

// readBesideWriter checks that readers see each key's values in order, and that
// an iterator's pairs are of one moment: the writer sets them in turn.
func readBesideWriter(t *testing.T, s storage.Storage) {
	const rounds, keys = 300, 4
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for last := ""; ; {
				select {
				case <-done:
					return
				default:
				}
				got, err := s.Get("key-0")
				if err != nil || string(got) < last {
					t.Errorf("got %q, %v after %q", got, err, last)
					return
				}
				last = string(got)
				if _, err := s.GetOffset(0); err != nil {
					t.Error(err)
				}
				if !inTurn(t, s) {
					return
				}
			}
		})
	}
	for r := range rounds {
		for k := range keys {
			must(t, s.Set(fmt.Sprintf("key-%d", k), fmt.Appendf(nil, "%06d", r)))
		}
		must(t, s.SetOffset(int64(r+1)))
		if r == rounds/2 {
			must(t, s.MarkRecovered())
		}
	}
	close(done)
	readers.Wait()
}

func inTurn(t *testing.T, s storage.Storage) bool {
	it, err := s.Iterator()
	if err != nil {
		t.Error(err)
		return false
	}
	defer it.Release()
	var first, last string
	for it.Next() {
		value, err := it.Value()
		if err != nil {
			t.Error(err)
		}
		if first == "" {
			first = string(value)
		}
		last = string(value)
	}
	a, _ := strconv.Atoi(first) // "" before the first round
	b, _ := strconv.Atoi(last)
	if b > a || b < a-1 {
		t.Errorf("an iterator shows %q beside %q", first, last)
		return false
	}
	return true
}

func TestNilValueIsRefused(t *testing.T) {
	s := open(t, onFS(vfs.NewMem()))
	if err := s.Set("key", nil); err == nil || !strings.Contains(err.Error(), `set "key": value is nil`) {
		t.Errorf("got %v", err)
	}
	wantValue(t, s, "key", nil)
}

func TestAnyKeyMayBeUsed(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, onFS(fs))
	keys := []string{"", "\x00offset", "__offset", "offset", "\xff\xff"}
	for i, k := range keys {
		must(t, s.Set(k, []byte{byte('0' + i)}))
	}
	must(t, s.SetOffset(9))
	must(t, s.Close())
	s = open(t, onFS(fs))
	wantOffset(t, s, 0, 9)
	wantPairs(t, s, "=0", "\x00offset=1", "__offset=2", "offset=3", "\xff\xff=4")
}

func TestClosed(t *testing.T) {
	s := filled(t, onFS(vfs.NewMem())).(*closedOnce).Storage
	it := iterator(t, s)
	it.Next()
	must(t, s.Close())
	must(t, s.Close())
	_, get := s.Get("key-1")
	_, has := s.Has("key-1")
	_, offset := s.GetOffset(0)
	_, iter := s.Iterator()
	if it.Next() || it.Seek(nil) || it.Key() != nil {
		t.Error("an iterator moves though its storage is closed")
	}
	_, value := it.Value()
	for i, err := range []error{get, has, offset, iter, s.Set("a", []byte("b")), s.Delete("a"), s.SetOffset(1), s.MarkRecovered(), it.Err(), value} {
		if !errors.Is(err, gokastore.ErrClosed) {
			t.Errorf("call %d: got %v, want ErrClosed", i, err)
		}
	}
	it.Release()
}

// TestCloseWhileReading is a view that stops while somebody looks at it.
func TestCloseWhileReading(t *testing.T) {
	s := filled(t, onFS(vfs.NewMem()))
	var readers sync.WaitGroup
	reading := make(chan struct{}, 4)
	for range 4 {
		readers.Go(func() {
			for n := 0; ; n++ {
				it, err := s.Iterator()
				if err == nil {
					for it.Next() {
						_, err = it.Value()
					}
					err = errors.Join(err, it.Err())
					it.Release()
				}
				if err != nil {
					if !errors.Is(err, gokastore.ErrClosed) {
						t.Error(err)
					}
					return
				}
				if n == 10 {
					reading <- struct{}{}
				}
			}
		})
	}
	for range 4 {
		<-reading
	}
	must(t, s.Close())
	readers.Wait()
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	build := gokastore.Builder(filepath.Join(dir, "tables"), gokastore.CacheSize(1<<20))
	s, err := build("group-table", 12)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	if _, err := os.Stat(filepath.Join(dir, "tables", "group-table.12")); err != nil {
		t.Error(err)
	}
	if _, err := build("group-table", 12); err == nil || !strings.Contains(err.Error(), "group-table.12") {
		t.Errorf("a second storage on one directory: got %v", err)
	}
	other, err := build("group-table", 1)
	must(t, err)
	must(t, other.Close())
	if _, err := gokastore.Builder(dir, gokastore.CacheSize(-1))("t", 0); err == nil {
		t.Error("a negative size is taken")
	}
}

func TestLevelDBIsRefused(t *testing.T) {
	dir := t.TempDir()
	old, err := storage.DefaultBuilder(dir)("group-table", 0)
	must(t, err)
	must(t, old.Set("key", []byte("value")))
	must(t, old.Close())
	_, err = gokastore.Builder(dir)("group-table", 0)
	if err == nil || !strings.Contains(err.Error(), "group-table.0") {
		t.Errorf("a directory of LevelDB is opened, or not named: %v", err)
	}
}
