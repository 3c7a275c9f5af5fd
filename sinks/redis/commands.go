package redis

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Commands takes the commands of one record. Fields and values may be strings, bytes,
// numbers, booleans (1 and 0), times (RFC 3339), or have a MarshalText; others reject
// the record.
type Commands struct {
	list    []command
	version string // of those that follow; empty: none
	err     error
}

// command is one that waits to be carried out.
type command struct {
	name    string
	key     string
	args    []string
	version string
	time    int64 // of the record
	record  int   // its index
}

// kinds are what a key must hold for a command, by which a record that does not fit is
// known before its checkpoint. Other commands fit to everything.
var kinds = map[string]string{
	"HSET": "hash", "HDEL": "hash", "HINCRBY": "hash", "ZADD": "zset", "ZREM": "zset", "ZINCRBY": "zset",
	"PFADD": "hll", "XADD": "stream", "SADD": "set", "SREM": "set", "INCRBY": "string",
}

// maxArguments is what a script can hand to a command, with some to spare.
const maxArguments = 4000

func (c *Commands) add(name, key string, args ...any) {
	texts := make([]string, 0, len(args))
	for _, a := range args {
		s, err := text(a)
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("%s %s: %w", name, key, err)
		}
		texts = append(texts, s)
	}
	if len(args) > maxArguments && c.err == nil {
		c.err = fmt.Errorf("%s %s: %d arguments, %d are the most", name, key, len(args), maxArguments)
	}
	c.list = append(c.list, command{name: name, key: key, args: texts, version: c.version})
}

// Set sets a key to a value, whatever it held, for as long as ttl says; 0 is for ever.
func (c *Commands) Set(key string, value any, ttl time.Duration) {
	if ttl > 0 {
		c.add("SET", key, value, "PX", max(ttl.Milliseconds(), 1))
	} else {
		c.add("SET", key, value)
	}
}

// HSet sets fields of a hash: name, value, name, value and so on.
func (c *Commands) HSet(key string, fields ...any) {
	if len(fields) == 0 || len(fields)%2 != 0 {
		c.fail("HSET", key, "fields come with values")
	}
	c.add("HSET", key, fields...)
}

// HDel removes fields of a hash.
func (c *Commands) HDel(key string, fields ...any) { c.add("HDEL", key, fields...) }

// ZAdd gives a member of a sorted set its score.
func (c *Commands) ZAdd(key string, member any, score float64) {
	if math.IsNaN(score) {
		c.fail("ZADD", key, "the score is not a number")
	}
	c.add("ZADD", key, score, member)
}

// ZRem removes members of a sorted set.
func (c *Commands) ZRem(key string, members ...any) { c.add("ZREM", key, members...) }

// SAdd adds members to a set.
func (c *Commands) SAdd(key string, members ...any) { c.add("SADD", key, members...) }

// SRem removes members of a set.
func (c *Commands) SRem(key string, members ...any) { c.add("SREM", key, members...) }

// PFAdd adds elements to a HyperLogLog.
func (c *Commands) PFAdd(key string, elements ...any) { c.add("PFADD", key, elements...) }

// XAdd appends an entry to a stream, which is cut to about the newest maxLen; 0 cuts
// nothing. Redis gives it its id, so with [AtLeastOnce] it is there again after a
// failure: see [Commands.XAddID].
func (c *Commands) XAdd(key string, maxLen int64, fields ...any) {
	c.XAddID(key, "*", maxLen, fields...)
}

// XAddID appends an entry with an id of the program's own, as 1526919030474-55. One
// that is not higher than the stream's last is taken for a repetition and left out: so
// ids must grow, in the order in which records come, and come again.
func (c *Commands) XAddID(key, id string, maxLen int64, fields ...any) {
	if len(fields) == 0 || len(fields)%2 != 0 {
		c.fail("XADD", key, "fields come with values")
	}
	var args []any
	if maxLen > 0 {
		args = append(args, "MAXLEN", "~", maxLen)
	}
	c.add("XADD", key, append(append(args, id), fields...)...)
}

// Del removes a key.
func (c *Commands) Del(key string) { c.add("DEL", key) }

// Expire has a key removed after some time, counted from when the command is carried
// out.
func (c *Commands) Expire(key string, ttl time.Duration) { c.add("PEXPIRE", key, ttl.Milliseconds()) }

// IncrBy adds to a number. It is only for [ExactlyOnce], as are the other increments;
// with AtLeastOnce, count in the job and write the result.
func (c *Commands) IncrBy(key string, n int64) { c.add("INCRBY", key, n) }

// HIncrBy adds to a number in a field of a hash. Only for [ExactlyOnce].
func (c *Commands) HIncrBy(key string, field any, n int64) { c.add("HINCRBY", key, field, n) }

// ZIncrBy adds to the score of a member of a sorted set. Only for [ExactlyOnce].
func (c *Commands) ZIncrBy(key string, member any, n float64) { c.add("ZINCRBY", key, n, member) }

// Version says how new the commands are that follow, for a sink with [AtLeastOnce]: a
// number that never falls for what they write, such as a count, or the time of the
// last change. A Set, a field of an HSet and a member of a ZAdd then give way to one
// that is there with a higher version, so that what is repeated after a failure does
// not take anything back. It costs an entry in a hash beside each key:
// millrace:versions:{key}. With ExactlyOnce nothing is repeated, and it does nothing.
func (c *Commands) Version(n int64) {
	if n < 0 {
		c.fail("Version", strconv.FormatInt(n, 10), "it is negative")
	}
	c.version = fmt.Sprintf("%019d", n)
}

func (c *Commands) fail(name, key, why string) {
	if c.err == nil {
		c.err = fmt.Errorf("%s %s: %s", name, key, why)
	}
}

// reset is for the next record.
func (c *Commands) reset() { c.list, c.version, c.err = c.list[:0], "", nil }

// bytes returns about how much the commands are to send and to keep.
func (c *Commands) bytes() int {
	n := 0
	for i := range c.list {
		n += len(c.list[i].name) + len(c.list[i].key)
		for _, a := range c.list[i].args {
			n += len(a) + 8
		}
	}
	return n
}

// text returns a value as Redis has it.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int8, int16, int32, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32), nil
	case bool:
		if v {
			return "1", nil
		}
		return "0", nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		return string(b), err
	}
	return "", fmt.Errorf("a %T is no value for Redis", v)
}

// A chunk is commands as they wait in Redis: for each, its record's time, and the
// number and the lengths of its words.

func encodeChunk(list []command) []byte {
	b := []byte{chunkVersion}
	b = binary.AppendUvarint(b, uint64(len(list)))
	word := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, c := range list {
		b = binary.AppendVarint(b, c.time)
		b = binary.AppendUvarint(b, uint64(len(c.args)))
		word(c.name)
		word(c.key)
		for _, a := range c.args {
			word(a)
		}
	}
	return b
}

const chunkVersion = 1

var errDamaged = errors.New("what waits in Redis is damaged")

func decodeChunk(b []byte) ([]command, error) {
	if len(b) == 0 || b[0] != chunkVersion {
		return nil, fmt.Errorf("%w, or of another version", errDamaged)
	}
	d := decoder{rest: b[1:]}
	n := d.number()
	if n > uint64(len(b)) {
		return nil, errDamaged
	}
	list := make([]command, 0, n)
	for range n {
		list = append(list, d.command())
		if d.failed {
			return nil, errDamaged
		}
	}
	if d.failed || len(d.rest) > 0 {
		return nil, errDamaged
	}
	return list, nil
}

type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) command() (c command) {
	time, n := binary.Varint(d.rest)
	d.skip(n)
	args := d.number()
	if args > maxArguments+10 {
		d.failed = true
		return c
	}
	c.time, c.name, c.key = time, d.word(), d.word()
	for range args {
		c.args = append(c.args, d.word())
	}
	return c
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.rest)
	d.skip(n)
	return v
}

func (d *decoder) word() string {
	n := d.number()
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) skip(n int) {
	if n <= 0 || d.failed {
		d.failed = true
		return
	}
	d.rest = d.rest[n:]
}
