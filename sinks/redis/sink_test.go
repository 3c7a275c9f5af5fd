package redis_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/redis"
)

func TestConformance(t *testing.T) {
	w, _ := newWorld(t)
	conformance(t, w)
}

// run is what a test writes: whatever its commands are.
type run func(c *redis.Commands)

func runs(cfg redis.Config) *redis.Sink[run] {
	return redis.Encode(cfg, func(r run, c *redis.Commands) error {
		r(c)
		return nil
	})
}

func TestCommands(t *testing.T) {
	w, _ := newWorld(t)
	testCommands(t, w)
}

func testCommands(t *testing.T, w *world) {
	for _, delivery := range []redis.Delivery{redis.ExactlyOnce, redis.AtLeastOnce} {
		w.FlushDB(t.Context())
		cfg := w.config()
		cfg.Delivery = delivery
		o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
		w.Set(t.Context(), "gone", "x", 0)
		w.HSet(t.Context(), "hash", "old", 1)
		o.write(
			func(c *redis.Commands) { c.Set("string", "é\xff", 0); c.Set("short", 1, time.Hour); c.Del("gone") },
			func(c *redis.Commands) {
				c.HSet("hash", "int", 7, "float", 1.5, "bool", true, "at", time.UnixMilli(0).UTC())
				c.HDel("hash", "old")
			},
			func(c *redis.Commands) {
				c.ZAdd("zset", "a", 1)
				c.ZAdd("zset", "b", math.Inf(1))
				c.ZAdd("zset", "c", 3)
			},
			func(c *redis.Commands) { c.ZRem("zset", "c", "d"); c.SAdd("set", 1, uint16(2), 3); c.SRem("set", 3) },
			func(c *redis.Commands) { c.PFAdd("hll", "x", "y", "x"); c.PFAdd("hll", []byte("z")) },
			func(c *redis.Commands) { c.XAdd("stream", 100, "k", "v"); c.XAddID("ids", "5-1", 0, "k", 1) },
			func(c *redis.Commands) { c.XAddID("ids", "5-1", 0, "k", 2); c.XAddID("ids", "5-2", 0, "k", 3) },
			func(c *redis.Commands) { c.Set("late", 1, 0); c.Expire("late", time.Hour) },
		)
		if _, ok := o.w.(pipeline.Committer); ok {
			w.want("<nil>", "GET", "string")
			o.commit(o.prepare(1))
		}
		o.wantLetters()
		w.want("é\xff", "GET", "string")
		w.want("0", "EXISTS", "gone")
		w.want("[7 1.5 1 1970-01-01T00:00:00Z]", "HMGET", "hash", "int", "float", "bool", "at")
		w.want("4", "HLEN", "hash")
		w.want("[a b]", "ZRANGE", "zset", "0", "-1")
		w.want("2", "SCARD", "set")
		w.want("3", "PFCOUNT", "hll")
		w.want("1", "XLEN", "stream")
		w.want("[[5-1 [k 1]] [5-2 [k 3]]]", "XRANGE", "ids", "-", "+")
		for _, key := range []string{"short", "late"} {
			if ttl := w.TTL(t.Context(), key).Val(); ttl <= 0 {
				t.Errorf("%s lives %v", key, ttl)
			}
		}
	}
}

func TestKinds(t *testing.T) {
	w, _ := newWorld(t)
	type hit struct{ page, visitor string }
	hits := []hit{{"/a", "1"}, {"/b", "2"}, {"/a", "2"}}
	write := func(s *redis.Sink[hit]) { mustOpen(t, s, pipeline.SinkEnv{Run: "a"}).write(hits...) }
	cfg := w.config()
	cfg.Delivery = redis.AtLeastOnce
	write(redis.Strings(cfg, 0, func(h hit) (string, any) { return "last:" + h.page, h.visitor }))
	write(redis.Hashes(cfg, func(h hit) (string, []any) { return "hash:" + h.page, []any{h.visitor, 1} }))
	write(redis.SortedSets(cfg, func(h hit) (string, string, float64) { return "top", h.page, float64(len(h.visitor)) }))
	write(redis.HyperLogLogs(cfg, func(h hit) (string, string) { return "uv:" + h.page, h.visitor }))
	write(redis.Streams(cfg, 0, func(h hit) (string, []any) { return "log", []any{"page", h.page} }))
	w.want("2", "GET", "last:/a")
	w.want("2", "HLEN", "hash:/a")
	w.want("[/a /b]", "ZRANGE", "top", "0", "-1")
	w.want("2", "PFCOUNT", "uv:/a")
	w.want("3", "XLEN", "log")
}

func TestRejected(t *testing.T) {
	w, _ := newWorld(t)
	testRejected(t, w)
}

// testRejected has records that can't be written, which shows as they are encoded, by
// the keys there are, and only as commands are carried out.
func testRejected(t *testing.T, w *world) {
	for _, delivery := range []redis.Delivery{redis.ExactlyOnce, redis.AtLeastOnce} {
		w.FlushDB(t.Context())
		w.Set(t.Context(), "text", "no number", 0)
		w.SAdd(t.Context(), "set", 1)
		cfg := w.config()
		cfg.Delivery = delivery
		sink := redis.Encode(cfg, func(r run, c *redis.Commands) error {
			if r == nil {
				return errors.New("nothing to do")
			}
			r(c)
			return nil
		})
		o := mustOpen(t, sink, pipeline.SinkEnv{Run: "a"})
		o.write(nil,
			func(c *redis.Commands) { c.HSet("hash", "odd") },
			func(c *redis.Commands) { c.ZAdd("zset", "m", math.NaN()) },
			func(c *redis.Commands) { c.Set("key", struct{}{}, 0) },
			func(*redis.Commands) { panic("boom") })
		o.wantLetters("nothing to do", "fields come with values", "not a number", "a struct {} is no value", "boom")
		o.letters = nil
		o.write(
			func(c *redis.Commands) { c.Set("before", 1, 0); c.ZAdd("set", "m", 1) },
			func(c *redis.Commands) { c.Set("fine", 1, 0) },
			func(c *redis.Commands) { c.PFAdd("text", "x") })
		o.wantLetters("WRONGTYPE", "WRONGTYPE")
		if d := o.letters[0]; d.Time != 1000 || d.Record == "" {
			t.Errorf("got %+v", d)
		}
		o.letters = nil
		if delivery == redis.AtLeastOnce {
			w.want("1", "GET", "fine")
			continue
		}
		o.write(func(c *redis.Commands) { c.IncrBy("text", 1); c.SAdd("later", 1) }, func(c *redis.Commands) { c.IncrBy("n", 5) })
		o.commit(o.prepare(1))
		o.wantLetters()
		w.want("0", "EXISTS", "before")
		w.want("1", "GET", "fine")
		w.want("5", "GET", "n")
		o.write()
		o.wantLetters("INCRBY text 1: ERR value is not an integer")
		w.want("1", "LLEN", "millrace:sink:rejected:a:0")
		o.write()
		o.wantLetters("INCRBY text 1")
		o.commit(o.prepare(2))
		w.want("0", "EXISTS", "millrace:sink:rejected:a:0")
		o.write(func(c *redis.Commands) { c.IncrBy("text", 2) })
		o.commit(o.prepare(3))
		o.write()
		o.wantLetters("INCRBY text 1", "INCRBY text 2")
	}
}

// TestLettersSurvive has a job killed between the commit that finds commands to be
// refused and the checkpoint that has them as dead letters.
func TestLettersSurvive(t *testing.T) {
	w, _ := newWorld(t)
	w.Set(t.Context(), "text", "no number", 0)
	env := func(run string, prepared ...[]byte) pipeline.SinkEnv {
		return pipeline.SinkEnv{Run: run, Checkpoints: true, Prepared: prepared}
	}
	a := mustOpen(t, runs(w.config()), env("a"))
	a.write(func(c *redis.Commands) { c.IncrBy("text", 1) })
	first := a.prepare(1)
	a.commit(first)
	wantError(t, a.w.(pipeline.Closer).Close(), "millrace:sink:rejected:a:0")
	var second []byte
	for _, run := range []string{"b", "c"} { // the first of them does not complete its checkpoint
		b := mustOpen(t, runs(w.config()), env(run, first))
		b.commit(first)
		b.write()
		b.wantLetters("INCRBY text 1")
		second = b.prepare(2)
	}
	d := mustOpen(t, runs(w.config()), env("d", second))
	d.commit(second)
	d.write()
	d.wantLetters()
	w.want("0", "EXISTS", "millrace:sink:rejected:a:0")
}

// TestIncrements counts by adding up, with commits that are repeated.
func TestIncrements(t *testing.T) {
	w, _ := newWorld(t)
	add := func(c *redis.Commands) {
		c.IncrBy("n", 1)
		c.HIncrBy("h", "n", 2)
		c.ZIncrBy("z", "n", 0.5)
	}
	cfg := w.config()
	cfg.BatchCommands = 3
	var prepared [][]byte
	for i := range 10 {
		o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: fmt.Sprint("run", i), Checkpoints: true, Prepared: prepared})
		for _, p := range prepared {
			o.commit(p)
		}
		o.write(add, add, add)
		prepared = [][]byte{o.prepare(int64(2*i + 1))}
		o.write(add)
		prepared = append(prepared, o.prepare(int64(2*i+2)))
		if i%2 == 0 {
			o.commit(prepared[0])
		}
		o.write(add) // never to be seen
	}
	o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "last", Checkpoints: true, Prepared: prepared})
	o.commit(prepared[0])
	o.commit(prepared[1])
	w.want("40", "GET", "n")
	w.want("80", "HGET", "h", "n")
	w.want("20", "ZSCORE", "z", "n")
	for i := range int64(20) {
		o.write(add)
		o.commit(o.prepare(21 + i))
	}
	if fields := w.HLen(t.Context(), "millrace:sink").Val(); fields > 8 {
		t.Errorf("the sink's hash grows: %v", w.HGetAll(t.Context(), "millrace:sink").Val())
	}
	keys := w.Keys(t.Context(), "millrace:*").Val()
	if len(keys) != 1 {
		t.Errorf("keys are left: %v", keys)
	}
	cfg.Delivery = redis.AtLeastOnce
	a := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
	err := a.w.Write(t.Context(), &pipeline.Records[run]{Values: []run{add}, Times: []int64{1}})
	wantError(t, err, "are for ExactlyOnce")
}

func TestVersions(t *testing.T) {
	w, _ := newWorld(t)
	cfg := w.config()
	cfg.Delivery = redis.AtLeastOnce
	o := mustOpen(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
	set := func(version int64) run {
		return func(c *redis.Commands) {
			c.Version(version)
			c.Set("s", version, 0)
			c.ZAdd("z{tag}", "m", float64(version))
			c.ZAdd("z{tag}", fmt.Sprint(version), 1)
			c.HSet("h", "f", version, fmt.Sprint(version), 1)
		}
	}
	o.write(set(3), set(10), set(9))
	w.ScriptFlush(t.Context()) // a server that was restarted knows no scripts
	o.write(set(10), set(2), func(c *redis.Commands) { c.Version(-1) })
	o.wantLetters("it is negative")
	w.want("10", "GET", "s")
	w.want("10", "ZSCORE", "z{tag}", "m")
	w.want("10", "HGET", "h", "f")
	w.want("5", "HLEN", "h")
	w.want("1", "EXISTS", "millrace:versions:z{tag}")
	w.want("1", "EXISTS", "millrace:versions:{s}")
}

func TestFenced(t *testing.T) {
	w, _ := newWorld(t)
	set := func(n int) run { return func(c *redis.Commands) { c.Set("n", n, 0) } }
	env := func(run string, prepared ...[]byte) pipeline.SinkEnv {
		return pipeline.SinkEnv{Run: run, Checkpoints: true, Prepared: prepared}
	}
	a := mustOpen(t, runs(w.config()), env("a"))
	a.write(set(1))
	waits := a.prepare(1)
	b := mustOpen(t, runs(w.config()), env("b"))
	wantError(t, a.w.(pipeline.Committer).Commit(t.Context(), waits), "fenced: another process")
	err := a.w.Write(t.Context(), &pipeline.Records[run]{Values: []run{set(1)}, Times: []int64{1}})
	wantError(t, errors.Join(err, a.w.(pipeline.Flusher).Flush(t.Context())), "fenced")
	b.write(set(10))
	first := b.prepare(1)
	b.commit(first)
	_, err = open(t, runs(w.config()), env("c"))
	wantError(t, err, `sink "millrace:sink" has committed up to checkpoint 1 of run b, and the job starts anew`, `HSET "millrace:sink" last_run "" last_checkpoint 0`)
	b.write(set(11))
	b.commit(b.prepare(2))
	_, err = open(t, runs(w.config()), env("c", first))
	wantError(t, err, "starts from checkpoint 1, which is not behind it")
	w.want("11", "GET", "n")
}

// TestLost starts on a server that has not what it had.
func TestLost(t *testing.T) {
	w, m := newWorld(t)
	a := mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(func(c *redis.Commands) { c.Set("n", 1, 0) })
	waits := a.prepare(1)
	m.FlushAll()
	err := a.w.Write(t.Context(), &pipeline.Records[run]{Values: []run{func(c *redis.Commands) { c.Set("n", 2, 0) }}, Times: []int64{1}})
	wantError(t, errors.Join(err, a.w.(pipeline.Flusher).Flush(t.Context())), "Redis has lost what the sink keeps there", "appendonly")
	wantError(t, a.w.(pipeline.Committer).Commit(t.Context(), waits), "has lost commands that waited", `HSET "millrace:sink" last_run "" last_checkpoint 0`)
	start := func() (*one[run], error) {
		return open(t, runs(w.config()), pipeline.SinkEnv{Run: "b", Checkpoints: true, Prepared: [][]byte{waits}})
	}
	_, err = start()
	wantError(t, err, `Redis knows nothing of sink "millrace:sink"`, `HSET "millrace:sink" last_run "" last_checkpoint 0`)
	w.want("2", "HSET", "millrace:sink", "last_run", "", "last_checkpoint", 0)
	b, err := start()
	if err != nil {
		t.Fatal(err)
	}
	b.commit(waits)
	b.write(func(c *redis.Commands) { c.Set("n", 3, 0) })
	b.commit(b.prepare(2))
	w.want("3", "GET", "n")
}

// TestLostList goes on from nowhere when the server has lost the beginning of what
// waits, as one does that a replica took over from too early.
func TestLostList(t *testing.T) {
	w, _ := newWorld(t)
	a := mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	a.write(func(c *redis.Commands) { c.IncrBy("n", 1) })
	a.write(func(c *redis.Commands) { c.IncrBy("n", 1) })
	w.want("OK", "LTRIM", "millrace:sink:piece:a:0:0", 0, 0)
	err := a.w.Write(t.Context(), &pipeline.Records[run]{Values: []run{func(c *redis.Commands) { c.IncrBy("n", 1) }}, Times: []int64{1}})
	wantError(t, errors.Join(err, a.w.(pipeline.Flusher).Flush(t.Context())), "Redis has lost what the sink keeps there")
}

// TestFromEarlier carries commands out again, from an earlier checkpoint, as a refused
// start tells how to.
func TestFromEarlier(t *testing.T) {
	w, _ := newWorld(t)
	add := func(n int64) run { return func(c *redis.Commands) { c.IncrBy("n", n) } }
	env := func(run string, prepared ...[]byte) pipeline.SinkEnv {
		return pipeline.SinkEnv{Run: run, Checkpoints: true, Prepared: prepared}
	}
	a := mustOpen(t, runs(w.config()), env("a"))
	a.write(add(1))
	first := a.prepare(1)
	a.commit(first)
	a.write(add(10))
	second := a.prepare(2)
	a.commit(second)
	b := mustOpen(t, runs(w.config()), env("b", second)) // which forgets what the first was
	b.commit(second)
	b.write(add(100))
	b.commit(b.prepare(3))
	_, err := open(t, runs(w.config()), env("c", first))
	wantError(t, err, "starts from checkpoint 1, which is not behind it", `HSET "millrace:sink" last_run "" last_checkpoint 0`)
	w.want("0", "HSET", "millrace:sink", "last_run", "", "last_checkpoint", 0)
	for i := range 2 { // also when it is killed before its first commit
		c := mustOpen(t, runs(w.config()), env(fmt.Sprint("c", i), first))
		c.commit(first)
		c.write(add(1000))
		if i == 1 {
			c.commit(c.prepare(2))
		}
	}
	w.want("1111", "GET", "n")
	_, err = open(t, runs(w.config()), env("d", first))
	wantError(t, err, "starts from checkpoint 1, which is not behind it")
}

// TestLargeCommands sends few of them at a time, and none that is beyond all bounds.
func TestLargeCommands(t *testing.T) {
	w, _ := newWorld(t)
	a := mustOpen(t, runs(w.config()), pipeline.SinkEnv{Run: "a", Checkpoints: true})
	set := func(key string, size int) run {
		return func(c *redis.Commands) { c.Set(key, strings.Repeat("x", size), 0) }
	}
	a.write(set("a", 5<<20), set("b", 5<<20), set("c", 5<<20), set("large", 65<<20))
	a.wantLetters("67108864 are the most")
	w.want("2", "LLEN", "millrace:sink:piece:a:0:0")
	a.commit(a.prepare(1))
	w.want("3", "EXISTS", "a", "b", "c", "large")
}

func TestStartErrors(t *testing.T) {
	w, m := newWorld(t)
	start := func(cfg redis.Config) error {
		cfg.StartTimeout = 300 * time.Millisecond
		_, err := open(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
		return err
	}
	m.RequireAuth("secret")
	wantError(t, start(redis.Config{URL: "redis://:wrong@" + m.Addr()}), m.Addr(), "WRONGPASS")
	wantError(t, start(w.config()), "NOAUTH")
	if err := start(redis.Config{Client: &goredis.UniversalOptions{Addrs: []string{m.Addr()}, Password: "secret"}}); err != nil {
		t.Error(err)
	}
	wantError(t, start(redis.Config{URL: "redis://127.0.0.1:1"}), "Redis did not answer within 300ms", "connection refused")
}

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]redis.Config{
		"URL is empty":                   {},
		"both set":                       {URL: "redis://x", Client: &goredis.UniversalOptions{}},
		"Delivery is 7":                  {URL: "redis://x", Delivery: 7},
		"ID and HashTag are for":         {URL: "redis://x", Delivery: redis.AtLeastOnce, ID: "x"},
		"without braces":                 {URL: "redis://x", HashTag: "{x}"},
		"BatchCommands is -1":            {URL: "redis://x", BatchCommands: -1},
		"StartTimeout is negative":       {URL: "redis://x", StartTimeout: -1},
		"URL: redis: invalid URL scheme": {URL: "http://x"},
	} {
		_, err := open(t, runs(cfg), pipeline.SinkEnv{Run: "a"})
		wantError(t, err, "invalid config: ", want)
	}
}
