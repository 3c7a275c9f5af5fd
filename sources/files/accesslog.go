package files

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// AccessLogEntry is a line of a web server's access log. Fields that the log
// leaves out with "-" are empty. All fields of an entry share the memory of
// one line; a program that keeps one field for long uses strings.Clone.
type AccessLogEntry struct {
	// Host is the client's address or name.
	Host string `json:"host"`
	// Logname is the client's identity by RFC 1413, which hardly any server asks
	// for. User is the authenticated user.
	Logname string `json:"logname,omitempty"`
	User    string `json:"user,omitempty"`
	// Time is when the request was received, in milliseconds since the epoch.
	Time int64 `json:"time"`
	// Method, URL and Protocol are those of the request line. A request line that
	// has not these parts is in URL as a whole, with no method: what a port
	// scanner sent, for example. A request by HTTP/0.9 has no protocol.
	Method   string `json:"method,omitempty"`
	URL      string `json:"url"`
	Protocol string `json:"protocol,omitempty"`
	// Status is the status code of the response, 0 where none was sent.
	Status int `json:"status"`
	// Bytes is the size of the response without headers.
	Bytes int64 `json:"bytes"`
	// Referer and UserAgent are in Combined Log Format only.
	Referer   string `json:"referer,omitempty"`
	UserAgent string `json:"user_agent,omitempty"`
}

// EventTime returns the entry's time, for a watermark strategy.
func (e AccessLogEntry) EventTime() int64 { return e.Time }

// AccessLog reads access logs in Common or Combined Log Format, as Apache and
// nginx write them:
//
//	192.0.2.7 - ann [10/Oct/2025:13:55:36 -0700] "GET /a?b=1 HTTP/1.1" 200 2326 "https://example.org/" "Mozilla/5.0"
//
// Each line may have either. What servers append to the combined format is
// passed over. Escapes in quoted fields, \" \\ \t \n \r \xhh, are resolved;
// other bytes are taken as they are. A line of another shape is rejected.
func AccessLog(pattern string, opts ...Option) *Source[AccessLogEntry] {
	return newSource(pattern, accessLogEntries(), opts)
}

// DecodeAccessLog reads what [AccessLog] reads and makes a T of each entry with
// the given function, which several subtasks call at once. An entry for which
// it returns an error, or panics, is rejected like a line of another shape: the
// dead letter has the file, the line, and the bytes as they stand there. For
// [ErrSkip] the line is passed over. What it rejects does not move the
// watermark.
func DecodeAccessLog[T any](pattern string, decode func(AccessLogEntry) (T, error), opts ...Option) *Source[T] {
	return newSource(pattern, converted(accessLogEntries(), decode), opts)
}

func accessLogEntries() format[AccessLogEntry] {
	f := lines[AccessLogEntry](nil)
	f.open = func(*config) decoding[AccessLogEntry] { // a parser remembers, so each file has its own
		var p accessLogParser
		return decoding[AccessLogEntry]{decode: p.parse}
	}
	return f
}

// accessLogParser parses lines. It remembers the last second, since a busy log
// has many lines in each.
type accessLogParser struct {
	lastText []byte
	lastTime int64
}

func (p *accessLogParser) parse(line []byte, e *AccessLogEntry) error {
	// One string for all fields: a line is kept or dropped as a whole.
	rest := string(line)
	var ok bool
	if e.Host, rest, ok = word(rest); !ok {
		return errors.New("no host")
	}
	if e.Logname, rest, ok = word(rest); !ok {
		return errors.New("no logname")
	}
	// A user name may have spaces; the time's bracket ends it.
	i := strings.Index(rest, " [")
	if i < 0 {
		return errors.New("no time in brackets")
	}
	e.Logname, e.User = dash(e.Logname), dash(unescape(unquote(rest[:i])))
	rest = rest[i+2:]
	if i = strings.IndexByte(rest, ']'); i < 0 {
		return errors.New("time has no closing bracket")
	}
	var err error
	if e.Time, err = p.time(rest[:i]); err != nil {
		return err
	}
	rest = strings.TrimPrefix(rest[i+1:], " ")
	var request string
	if request, rest, ok = quotedField(rest, "-0123456789"); !ok {
		return errors.New("request is not in quotes")
	}
	e.request(request)
	var status, size string
	if status, rest, ok = word(rest); !ok {
		return errors.New("no status")
	}
	size, rest, _ = word(rest)
	n, ok := number64(status)
	if !ok || n > 999 {
		return fmt.Errorf("status %q is no number of three digits", status)
	}
	e.Status = int(n)
	if e.Bytes, ok = number64(size); !ok {
		return fmt.Errorf("size %q is no number", size)
	}
	return e.combined(rest)
}

// combined takes the fields that follow in Combined Log Format, if any.
func (e *AccessLogEntry) combined(rest string) error {
	if rest == "" {
		return nil
	}
	var ok bool
	if e.Referer, rest, ok = quotedField(rest, `"`); !ok {
		return errors.New("referer is not in quotes")
	}
	if rest != "" {
		if e.UserAgent, _, ok = quotedField(rest, ""); !ok {
			return errors.New("user agent is not in quotes")
		}
	}
	e.Referer, e.UserAgent = dash(unescape(e.Referer)), dash(unescape(e.UserAgent))
	return nil
}

// request takes a request line apart. Spaces inside the URL, which some
// clients send, stay in it.
func (e *AccessLogEntry) request(line string) {
	line = dash(unescape(line))
	method, rest, ok := strings.Cut(line, " ")
	if !ok || !isMethod(method) {
		e.URL = line
		return
	}
	e.Method, e.URL = method, rest
	if i := strings.LastIndexByte(rest, ' '); i >= 0 && strings.HasPrefix(rest[i+1:], "HTTP/") {
		e.URL, e.Protocol = rest[:i], rest[i+1:]
	}
}

func isMethod(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// word returns what stands before the next space.
func word(s string) (first, rest string, ok bool) {
	i := strings.IndexByte(s, ' ')
	if i < 0 {
		return s, "", s != ""
	}
	return s[:i], s[i+1:], i > 0
}

// quotedField returns a field in quotes as it stands between them, and what
// follows it and a space: nothing, or one of the given characters. Some
// programs do not escape quotes, so one that something else follows is taken
// for part of the field.
func quotedField(s, follows string) (field, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	for at := 1; ; {
		i := strings.IndexAny(s[at:], `"\`)
		if i < 0 {
			return "", s, false
		}
		at += i
		if s[at] == '"' {
			if at++; ends(s[at:], follows) {
				return s[1 : at-1], strings.TrimPrefix(s[at:], " "), true
			}
			continue
		}
		if at += 2; at >= len(s) {
			return "", s, false
		}
	}
}

// ends says whether a field may end before rest.
func ends(rest, follows string) bool {
	if rest == "" || rest == " " {
		return true
	}
	return rest[0] == ' ' && (follows == "" || strings.IndexByte(follows, rest[1]) >= 0)
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// unescape resolves what servers write for bytes that would break the line. An
// escape that is none of theirs stays.
func unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, c)
		case 't':
			b = append(b, '\t')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 'x':
			if i+2 < len(s) {
				if hi, lo := hex(s[i+1]), hex(s[i+2]); hi >= 0 && lo >= 0 {
					b = append(b, byte(hi<<4|lo))
					i += 2
					continue
				}
			}
			b = append(b, '\\', 'x')
		default:
			b = append(b, '\\', c)
		}
	}
	return string(b)
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// number64 reads a number without sign; "-" is none, hence 0.
func number64(s string) (int64, bool) {
	if s == "-" {
		return 0, true
	}
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// time reads a time such as 10/Oct/2025:13:55:36 -0700.
func (p *accessLogParser) time(s string) (int64, error) {
	if string(p.lastText) == s { // compares without allocating
		return p.lastTime, nil
	}
	t, err := time.Parse("02/Jan/2006:15:04:05 -0700", s)
	if err != nil {
		return 0, fmt.Errorf("time %q is not like 10/Oct/2025:13:55:36 -0700", s)
	}
	p.lastText = append(p.lastText[:0], s...)
	p.lastTime = t.UnixMilli()
	return p.lastTime, nil
}
