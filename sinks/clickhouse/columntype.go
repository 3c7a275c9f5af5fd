package clickhouse

import (
	"strconv"
	"strings"
)

// columnType is a ClickHouse type, taken apart as far as the sink needs it.
type columnType struct {
	name string   // "Nullable"
	args []string // "UInt8"
	text string   // "Nullable(UInt8)"
}

// parseType never fails: what it does not understand has a name that nobody knows.
func parseType(text string) columnType {
	text = strings.TrimSpace(text)
	t := columnType{name: text, text: text}
	open := strings.IndexByte(text, '(')
	if open < 0 || !strings.HasSuffix(text, ")") {
		return t
	}
	t.name, t.args = text[:open], splitList(text[open+1:len(text)-1])
	if t.name == "SimpleAggregateFunction" && len(t.args) == 2 { // stored as what it aggregates
		return parseType(t.args[1])
	}
	return t
}

// splitList splits at the commas that are neither within brackets nor quotes.
func splitList(s string) []string {
	var parts []string
	depth, from := 0, 0
	var quote byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '`' || c == '"':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	return append(parts, strings.TrimSpace(s[from:]))
}

// inner returns the first argument as a type.
func (t columnType) inner() columnType {
	if len(t.args) == 0 {
		return columnType{}
	}
	return parseType(t.args[0])
}

// number returns an argument that is a number, 0 if there is none.
func (t columnType) number(i int) int {
	if i >= len(t.args) {
		return 0
	}
	n, err := strconv.Atoi(t.args[i])
	if err != nil {
		return 0
	}
	return n
}

// nullable says whether the column takes NULL.
func (t columnType) nullable() bool {
	switch t.name {
	case "Nullable", "Dynamic", "Variant":
		return true
	case "LowCardinality":
		return t.inner().nullable()
	}
	return false
}

// enumValues returns the names of an Enum8 or Enum16 and their numbers.
func (t columnType) enumValues() map[string]int16 {
	values := map[string]int16{}
	for i, arg := range t.args {
		end := strings.LastIndexByte(arg, '\'')
		if !strings.HasPrefix(arg, "'") || end < 1 {
			continue
		}
		n := i + 1
		if eq := strings.IndexByte(arg[end:], '='); eq >= 0 {
			n, _ = strconv.Atoi(strings.TrimSpace(arg[end+eq+1:]))
		}
		values[unescape(arg[1:end])] = int16(n)
	}
	return values
}

var unescape = strings.NewReplacer(`\\`, `\`, `\'`, `'`, `''`, `'`, `\n`, "\n", `\t`, "\t", `\r`, "\r", `\0`, "\x00").Replace

// quoteName quotes an identifier.
func quoteName(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// quoteText quotes a string.
func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func quoteNames(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quoteName(n)
	}
	return strings.Join(quoted, ", ")
}
