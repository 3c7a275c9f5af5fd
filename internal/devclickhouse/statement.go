package devclickhouse

import "strings"

// token is a word, a quoted text, a group in parentheses with all that is within, or
// any other single character of a statement.
type token struct {
	kind       tokenKind
	text       string
	start, end int
}

type tokenKind byte

const (
	word tokenKind = iota + 1
	quoted
	group
	sign
)

// is reports whether the token is the keyword.
func (t token) is(keyword string) bool { return t.kind == word && strings.EqualFold(t.text, keyword) }

// lexer takes a statement apart, as far as it takes to tell an insert and a format.
// What a statement means is the engine's to say.
type lexer struct {
	text string
	at   int
}

// next returns the next token, and a zero one at the end.
func (l *lexer) next() token {
	l.skipBlank()
	if l.at >= len(l.text) {
		return token{start: l.at, end: l.at}
	}
	start, kind := l.at, sign
	switch b := l.text[l.at]; {
	case isWordByte(b):
		kind = word
		for l.at < len(l.text) && isWordByte(l.text[l.at]) {
			l.at++
		}
	case b == '\'' || b == '`' || b == '"':
		kind = quoted
		l.skipQuoted()
	case b == '(':
		kind = group
		l.skipGroup()
	default:
		l.at++
	}
	return token{kind, l.text[start:l.at], start, l.at}
}

func isWordByte(b byte) bool {
	return b == '_' || b == '$' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// skipBlank skips white space and comments.
func (l *lexer) skipBlank() {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.skipTo("\n")
		case strings.HasPrefix(rest, "/*"):
			l.skipTo("*/")
		default:
			return
		}
	}
}

func (l *lexer) skipTo(end string) {
	if i := strings.Index(l.text[l.at:], end); i >= 0 {
		l.at += i + len(end)
		return
	}
	l.at = len(l.text)
}

func (l *lexer) skipQuoted() {
	if end := quotedEnd(l.text, l.at); end >= 0 {
		l.at = end
		return
	}
	l.at = len(l.text)
}

func (l *lexer) skipGroup() {
	l.at++
	for {
		t := l.next()
		if t.kind == 0 || t.text == ")" {
			return
		}
	}
}

// verb returns the first word, in upper case. For a SELECT in parentheses it is "(".
func verb(text string) string {
	l := lexer{text: text}
	t := l.next()
	if t.kind == group {
		return "("
	}
	return strings.ToUpper(t.text)
}

// insert is an INSERT, and where its data is put in.
type insert struct {
	target  string // the table, or FUNCTION and its call
	columns string // in parentheses, if there are any
	input   string // the argument of input(), for INSERT … SELECT … FROM input(…)
	format  string // what FORMAT or VALUES names, if there is either

	// before and after are the statement's text around what names the data: its
	// beginning up to the columns, and the settings; or all up to input and all
	// behind it.
	before, after string
	// data is what follows FORMAT and its name, for data to be within the statement.
	data string
	// whole says that the statement is to be run as it is: its data comes from a
	// SELECT, or it is VALUES with the data behind it.
	whole bool
}

// parseInsert takes an INSERT apart. It reports false for other statements.
func parseInsert(text string) (insert, bool) {
	l := lexer{text: text}
	if !l.next().is("INSERT") {
		return insert{}, false
	}
	t := l.next()
	if t.is("INTO") {
		t = l.next()
	}
	if t.is("TABLE") {
		t = l.next()
	}
	in := insert{}
	t, in.target = l.target(t)
	if t.kind == group && !isQuery(t) {
		in.columns = t.text
		in.before = text[:t.end]
		t = l.next()
	} else {
		in.before = text[:t.start]
	}
	for ; t.kind != 0; t = l.next() {
		switch {
		case t.is("VALUES"):
			in.withData(text, t.start, "Values", t.end)
			in.whole = strings.TrimSpace(in.data) != ""
			return in, true
		case t.is("FORMAT"):
			name := l.next()
			in.withData(text, t.start, name.text, name.end)
			return in, true
		case t.is("SELECT"), t.is("WITH"), t.is("FROM"), t.is("WATCH"), t.kind == group && isQuery(t):
			in.selects(text, lexer{text: text, at: t.start})
			return in, true
		}
	}
	in.withData(text, len(text), "", len(text))
	return in, true
}

// withData takes what is between the columns and the format for the settings, and what
// is behind the format, and the line's end, for data.
func (in *insert) withData(text string, head int, format string, data int) {
	in.format = format
	in.after = strings.TrimRight(text[len(in.before):head], "; \t\r\n")
	in.data = strings.TrimLeft(text[data:], " \t")
	if in.data != "" && in.data[0] == ';' {
		in.data = strings.TrimLeft(in.data[1:], " \t")
	}
	in.data = strings.TrimPrefix(strings.TrimPrefix(in.data, "\r"), "\n")
}

// selects looks for input(…) in the SELECT. Where there is one, the data comes from the
// client.
func (in *insert) selects(text string, l lexer) {
	in.whole = true
	start, end := 0, 0
	found, format := in.findInput(l, 0)
	if found != nil {
		start, end = found[0], found[1]
		in.whole = false
	}
	if format == 0 {
		format = len(text)
	} else {
		f := lexer{text: text, at: format}
		f.next()
		name := f.next()
		in.withData(text, format, name.text, name.end)
	}
	if in.whole {
		return
	}
	in.before, in.after = text[:start], strings.TrimRight(text[end:format], "; \t\r\n")
}

// findInput returns where input(…) stands, and where FORMAT does.
func (in *insert) findInput(l lexer, offset int) (at []int, format int) {
	for t := l.next(); t.kind != 0; t = l.next() {
		switch {
		case t.kind == group && len(t.text) > 2:
			if inner, _ := in.findInput(lexer{text: t.text[1 : len(t.text)-1]}, offset+t.start+1); inner != nil {
				at = inner
			}
		case t.is("FORMAT"):
			return at, offset + t.start
		case t.is("input"):
			start := t.start
			if t = l.next(); t.kind == group {
				in.input = t.text
				at = []int{offset + start, offset + t.end}
			}
		}
	}
	return at, 0
}

// from returns the statement that takes its data from a file.
func (in insert) from(file, format string) string {
	if in.input != "" {
		structure := strings.TrimSuffix(strings.TrimPrefix(in.input, "("), ")")
		return in.before + "file(" + quote(file) + ", " + quote(format) + ", " + structure + ", 'none')" + in.after
	}
	return in.before + " FROM INFILE " + quote(file) + " COMPRESSION 'none' " + in.after + " FORMAT " + format
}

// target reads on behind a table's name, or a function's call, whose first token it is
// given.
func (l *lexer) target(t token) (token, string) {
	start := t.start
	if t.is("FUNCTION") {
		l.next() // its name
		end := l.next().end
		return l.next(), l.text[start:end]
	}
	end := t.end
	for t = l.next(); t.text == "."; t = l.next() {
		end = l.next().end
	}
	return t, l.text[start:end]
}

func isQuery(t token) bool {
	v := verb(strings.TrimPrefix(t.text, "("))
	return v == "SELECT" || v == "WITH"
}

// splitFormat returns a statement without its FORMAT clause, and the format's name.
func splitFormat(text string) (string, string) {
	l := lexer{text: text}
	var before token
	for t := l.next(); t.kind != 0; before, t = t, l.next() {
		if !t.is("FORMAT") || before.is("AS") || before.text == "," {
			continue
		}
		name := l.next()
		end := lexer{text: text, at: l.at}
		after := end.next()
		if name.kind == word && (after.kind == 0 || after.is("SETTINGS") || after.text == ";") {
			return text[:t.start] + text[name.end:], name.text
		}
	}
	return text, ""
}

// quote writes a text as a literal.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// quoteName writes a name as an identifier.
func quoteName(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// withoutSync returns a DROP or DETACH without what has it wait until the data is gone:
// chdb runs no task that removes it, so it would wait for ever.
func withoutSync(text string) string {
	switch verb(text) {
	case "DROP", "DETACH":
	default:
		return text
	}
	l := lexer{text: text}
	for before, t := l.next(), l.next(); t.kind != 0; before, t = t, l.next() {
		if isObject(before) || before.text == "." || before.text == "," { // then it is a name
			continue
		}
		if t.is("SYNC") {
			return text[:t.start] + text[t.end:]
		}
		if t.is("NO") {
			if delay := l.next(); delay.is("DELAY") {
				return text[:t.start] + text[delay.end:]
			}
		}
	}
	return text
}

// isObject reports whether a name follows the token in a DROP.
func isObject(t token) bool {
	for _, keyword := range []string{"TABLE", "VIEW", "DICTIONARY", "DATABASE", "EXISTS", "EMPTY"} {
		if t.is(keyword) {
			return true
		}
	}
	return false
}
