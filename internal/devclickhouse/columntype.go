package devclickhouse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// typeName is a type as ClickHouse writes it, taken apart: Array(Nullable(String)) is
// Array with the one argument Nullable(String).
type typeName struct {
	name string
	args []string
}

func parseTypeName(text string) (typeName, error) {
	text = strings.TrimSpace(text)
	open := strings.IndexByte(text, '(')
	if open < 0 {
		return typeName{name: text}, nil
	}
	if !strings.HasSuffix(text, ")") {
		return typeName{}, fmt.Errorf("type %s: no closing parenthesis", text)
	}
	args, err := splitArguments(text[open+1 : len(text)-1])
	if err != nil {
		return typeName{}, fmt.Errorf("type %s: %w", text, err)
	}
	return typeName{name: text[:open], args: args}, nil
}

// splitArguments splits at the commas that are outside parentheses and quotes.
func splitArguments(text string) ([]string, error) {
	var args []string
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\'', '`', '"':
			end := quotedEnd(text, i)
			if end < 0 {
				return nil, fmt.Errorf("no end of the quote at %d", i)
			}
			i = end - 1
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				args, start = append(args, strings.TrimSpace(text[start:i])), i+1
			}
		}
	}
	if last := strings.TrimSpace(text[start:]); last != "" {
		args = append(args, last)
	}
	return args, nil
}

// quotedEnd returns the position behind the quoted text that begins at i, or -1.
// A quote within is doubled or has a backslash before it.
func quotedEnd(text string, i int) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case text[i] != quote:
		case i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return -1
}

// widths are the types whose values have all the same size.
var widths = map[string]int{
	"Nothing": 1, "Bool": 1, "Int8": 1, "UInt8": 1, "Int16": 2, "UInt16": 2, "Int32": 4, "UInt32": 4,
	"Int64": 8, "UInt64": 8, "Int128": 16, "UInt128": 16, "Int256": 32, "UInt256": 32,
	"BFloat16": 2, "Float32": 4, "Float64": 8, "Date": 2, "Date32": 4, "DateTime": 4, "DateTime64": 8,
	"Time": 4, "Time64": 8, "Enum8": 1, "Enum16": 2, "UUID": 16, "IPv4": 4, "IPv6": 16,
	"Decimal32": 4, "Decimal64": 8, "Decimal128": 16, "Decimal256": 32, "Point": 16,
}

// aliases are types that are written like others.
var aliases = map[string]string{
	"Ring": "Array(Point)", "LineString": "Array(Point)", "Polygon": "Array(Ring)",
	"MultiLineString": "Array(LineString)", "MultiPolygon": "Array(Polygon)",
}

// parseColumn returns what copies columns of a type.
func parseColumn(text string) (column, error) {
	t, err := parseTypeName(text)
	if err != nil {
		return nil, err
	}
	if width, ok := widths[t.name]; ok {
		return fixedColumn(width), nil
	}
	if alias, ok := aliases[t.name]; ok {
		return parseColumn(alias)
	}
	switch {
	case t.name == "String":
		return stringColumn{}, nil
	case t.name == "Dynamic":
		return &dynamicColumn{}, nil
	case t.name == "JSON":
		return parseJSON(t.args)
	case strings.HasPrefix(t.name, "Interval"):
		return fixedColumn(8), nil
	case t.name == "FixedString" && len(t.args) == 1:
		n, err := strconv.Atoi(t.args[0])
		return fixedColumn(n), err
	case t.name == "Decimal" && len(t.args) > 0:
		return decimalColumn(t.args[0])
	}
	return parseNested(text, t)
}

func decimalColumn(precision string) (column, error) {
	p, err := strconv.Atoi(precision)
	switch {
	case p <= 9:
		return fixedColumn(4), err
	case p <= 18:
		return fixedColumn(8), err
	case p <= 38:
		return fixedColumn(16), err
	}
	return fixedColumn(32), err
}

// parseNested is for the types that are made of others.
func parseNested(text string, t typeName) (column, error) {
	switch t.name {
	case "SimpleAggregateFunction": // the function's name, then the type
		t.args = t.args[min(1, len(t.args)):]
	case "Tuple", "Nested":
		for i := range t.args {
			t.args[i] = withoutName(t.args[i])
		}
	case "Nullable", "Array", "Map", "LowCardinality", "Variant":
	default:
		return nil, fmt.Errorf("the development server does not send or take columns of type %s in this protocol", text)
	}
	var elems []column
	for _, arg := range t.args {
		elem, err := parseColumn(arg)
		if err != nil {
			return nil, err
		}
		elems = append(elems, elem)
	}
	switch n := len(elems); {
	case t.name == "Tuple":
		return tupleColumn(elems), nil
	case t.name == "Nested" && n > 0:
		return arrayColumn{tupleColumn(elems)}, nil
	case t.name == "Variant" && n > 0:
		return &variantColumn{elems: elems}, nil
	case t.name == "Map" && n == 2:
		return arrayColumn{tupleColumn(elems)}, nil
	case n != 1 || t.name == "Map":
		return nil, fmt.Errorf("type %s: has %d types within", text, n)
	case t.name == "Nullable":
		return nullableColumn{elems[0]}, nil
	case t.name == "Array":
		return arrayColumn{elems[0]}, nil
	case t.name == "LowCardinality":
		return lowCardinalityColumn(elems[0]), nil
	}
	return elems[0], nil
}

// withoutName returns the type of a tuple's element, which may have a name before it.
func withoutName(element string) string {
	if element == "" {
		return element
	}
	if element[0] == '`' || element[0] == '"' {
		if end := quotedEnd(element, 0); end > 0 {
			return strings.TrimSpace(element[end:])
		}
		return element
	}
	name, rest, ok := strings.Cut(element, " ")
	if !ok || strings.ContainsRune(name, '(') {
		return element
	}
	return strings.TrimSpace(rest)
}

// parseJSON finds the typed paths among the arguments: those that are no limits and
// no paths to skip. They are stored in the order of their names.
func parseJSON(args []string) (column, error) {
	paths := map[string]column{}
	var names []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "SKIP ") || strings.HasPrefix(arg, "max_dynamic_") {
			continue
		}
		text := withoutName(arg)
		elem, err := parseColumn(text)
		if err != nil {
			return nil, err
		}
		name := strings.ReplaceAll(strings.TrimSpace(strings.TrimSuffix(arg, text)), "`", "")
		names, paths[name] = append(names, name), elem
	}
	slices.Sort(names)
	c := &jsonColumn{}
	for _, name := range names {
		c.typed = append(c.typed, paths[name])
	}
	return c, nil
}
