package realkafka

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Line is a record as kcat printed it.
type Line struct {
	Partition int32
	Offset    int64
	Key       []byte // nil when there is none
	Value     []byte // nil for a tombstone
}

// Kcat reads a topic from its beginning to its end with kcat, which is built on
// librdkafka: what it sees is what is there, whatever our own client thinks. With
// committed, it leaves out transactions that were aborted, and ends before one that
// is open. The lines of a partition are in order. Where kcat is not installed, the
// test is skipped; withkafka says so at the start.
func Kcat(t testing.TB, brokers []string, topic string, committed bool) []Line {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Skip("kcat is not installed: Debian's package is kcat")
	}
	isolation := "read_uncommitted"
	if committed {
		isolation = "read_committed"
	}
	cmd := exec.CommandContext(t.Context(), "kcat", "-C", "-q", "-e", "-b", strings.Join(brokers, ","), "-t", topic,
		"-o", "beginning", "-X", "isolation.level="+isolation, "-f", kcatFormat)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kcat: %v\n%s", err, stderr.Bytes())
	}
	lines, err := parseKcat(out)
	if err != nil {
		t.Fatalf("kcat: %v", err)
	}
	return lines
}

// kcatFormat has lengths ahead of key and value, which may hold anything.
const kcatFormat = `%p %o %K %S %k%s\n`

func parseKcat(out []byte) ([]Line, error) {
	var lines []Line
	for p := (parser{rest: out}); len(p.rest) > 0; {
		l := Line{Partition: int32(p.number()), Offset: int64(p.number())}
		key, value := p.number(), p.number()
		l.Key, l.Value = p.field(key), p.field(value)
		if p.field(1); p.bad {
			return nil, fmt.Errorf("its output is not as asked for after %d records: %.100q", len(lines), p.rest)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// parser reads what kcatFormat says, until something is bad.
type parser struct {
	rest []byte
	bad  bool
}

// number reads a number and the space behind it.
func (p *parser) number() int {
	text, rest, ok := bytes.Cut(p.rest, []byte(" "))
	n, err := strconv.Atoi(string(text))
	if !ok || err != nil {
		p.bad = true
		return 0
	}
	p.rest = rest
	return n
}

// field reads n bytes; -1 are none.
func (p *parser) field(n int) []byte {
	if p.bad || n > len(p.rest) {
		p.bad = true
		return nil
	}
	if n < 0 {
		return nil
	}
	field := p.rest[:n:n]
	p.rest = p.rest[n:]
	return field
}
