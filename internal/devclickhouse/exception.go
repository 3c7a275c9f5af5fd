package devclickhouse

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// exception is an error of ClickHouse's, as its clients see it.
type exception struct {
	code    int
	message string
	name    string // of the code, such as UNKNOWN_TABLE
}

// Error is the text that ClickHouse's HTTP interface answers with.
func (e *exception) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s (%s)", e.code, e.message, e.name)
}

// exceptionText is how libchdb reports one.
var exceptionText = regexp.MustCompile(`(?s)^Code: (\d+)\. DB::(?:\w*Exception|ErrnoException): (.*?)(?: \(([A-Z][A-Z0-9_]*)\))?\s*$`)

// innerText is an exception within the message of another, of the same code, which
// adds nothing.
var innerText = regexp.MustCompile(`(?s)^Code: (\d+)\. DB::\w*Exception: (.*?) \(([A-Z][A-Z0-9_]*)\) \(version [^)]*\)`)

// ourFile is what an exception tells of the file that an insert's data comes from: to
// the client there is none.
var ourFile = regexp.MustCompile(`: \(in file/uri ` + memoryFiles + `\d+\)|: While executing File|: data for INSERT was parsed from file`)

func parseException(text string) *exception {
	m := exceptionText.FindStringSubmatch(text)
	if m == nil {
		return &exception{code: int(proto.ErrUnknownException), message: strings.TrimSpace(text), name: "UNKNOWN_EXCEPTION"}
	}
	e := &exception{message: m[2], name: m[3]}
	e.code, _ = strconv.Atoi(m[1]) // digits
	if inner := innerText.FindStringSubmatch(e.message); inner != nil && inner[1] == m[1] {
		e.message = inner[2]
	}
	e.message = ourFile.ReplaceAllString(e.message, "")
	return e
}

// asException makes any error one of ClickHouse's.
func asException(err error) *exception {
	if e, ok := err.(*exception); ok { //nolint:errorlint // not wrapped anywhere
		return e
	}
	return &exception{code: int(proto.ErrUnknownException), message: err.Error(), name: "UNKNOWN_EXCEPTION"}
}

// isCode reports whether the error is an exception of the code.
func isCode(err error, code proto.Error) bool {
	e, ok := err.(*exception) //nolint:errorlint // not wrapped anywhere
	return ok && e.code == int(code)
}

// status is the HTTP status that ClickHouse's own server answers with.
func (e *exception) status() int {
	switch proto.Error(e.code) {
	case proto.ErrRequiredPassword:
		return http.StatusUnauthorized
	case proto.ErrUnknownUser, proto.ErrWrongPassword, proto.ErrAuthenticationFailed:
		return http.StatusForbidden
	case proto.ErrBadArguments, proto.ErrSyntaxError, proto.ErrCannotParseText, proto.ErrCannotParseEscapeSequence,
		proto.ErrCannotParseQuotedString, proto.ErrCannotParseInputAssertionFailed, proto.ErrCannotParseDate,
		proto.ErrCannotParseDatetime, proto.ErrCannotParseNumber, proto.ErrIncorrectData, proto.ErrTypeMismatch,
		proto.ErrValueIsOutOfRangeOfDataType:
		return http.StatusBadRequest
	case proto.ErrUnknownTable, proto.ErrUnknownFunction, proto.ErrUnknownIdentifier, proto.ErrUnknownType,
		proto.ErrUnknownStorage, proto.ErrUnknownDatabase, proto.ErrUnknownSetting, proto.ErrUnknownAggregateFunction,
		proto.ErrUnknownFormat, proto.ErrUnknownDatabaseEngine, proto.ErrUnknownTypeOfQuery:
		return http.StatusNotFound
	case proto.ErrTimeoutExceeded:
		return http.StatusRequestTimeout
	case proto.ErrNotImplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}
