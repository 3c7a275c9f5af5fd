package clickhouse

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/ClickHouse/ch-go"
	chproto "github.com/ClickHouse/ch-go/proto"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// exception is what the server answers, by whichever protocol.
type exception struct {
	code chproto.Error
	text string
}

func (e *exception) Error() string { return e.text }

// exceptionOf returns the server's answer in err, nil if there is none.
func exceptionOf(err error) *exception {
	if e := (*exception)(nil); errors.As(err, &e) {
		return e
	}
	if e := (*ch.Exception)(nil); errors.As(err, &e) {
		message := strings.TrimSpace(strings.TrimPrefix(e.Message, e.Name+":"))
		return &exception{e.Code, fmt.Sprintf("code %d: %s", int(e.Code), message)}
	}
	if e := (*clickhouse.Exception)(nil); errors.As(err, &e) {
		return &exception{chproto.Error(e.Code), fmt.Sprintf("code %d: %s", e.Code, e.Message)}
	}
	return nil
}

// unsentError is of an attempt that has not got as far as sending the block.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// mayBeThere says whether the table may have a block, or some of it, though the insert
// has failed.
func mayBeThere(err error) bool {
	if unsent := (*unsentError)(nil); errors.As(err, &unsent) {
		return false
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	e := exceptionOf(err) // of these, what the server says before it begins
	return e == nil || e.code != chproto.ErrTooManyParts && e.code != chproto.ErrTooManySimultaneousQueries
}

// isAboutTLS says whether two sides don't trust or don't understand each other: at the
// start, nothing is gained by waiting.
func isAboutTLS(err error) bool {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &certificate) || errors.As(err, &record)
}

// verdict is what an insert that failed means.
type verdict int

const (
	passing verdict = iota // try again
	refusal                // it is about some of the rows
	lasting                // it is about the statement, the table or the rights
)

// judge judges an error of an insert. What is no answer of the server is the
// network's, and passes.
func judge(err error) verdict {
	var status *statusError
	e := exceptionOf(err)
	switch {
	case e == nil && errors.As(err, &status):
		return status.verdict()
	case e == nil:
		return passing
	case e.code == chproto.ErrTooManyParts && strings.Contains(e.text, "single INSERT block"):
		return refusal // of one block: its pieces have fewer
	case passingCodes[e.code]:
		return passing
	case strings.Contains(e.text, "while pushing to view"):
		// The table has the block already, so it must not come again in pieces.
		return lasting
	case refusalCodes[e.code]:
		return refusal
	}
	return lasting
}

// passingCodes are the server's answers that another moment, or another connection,
// may change.
var passingCodes = codes(
	chproto.ErrAttemptToReadAfterEOF, chproto.ErrCannotReadAllData, chproto.ErrChecksumDoesntMatch,
	chproto.ErrCannotAllocateMemory, chproto.ErrUnexpectedPacketFromClient, chproto.ErrUnexpectedEndOfFile,
	chproto.ErrTimeoutExceeded, chproto.ErrTooSlow, chproto.ErrQuotaExceeded,
	chproto.ErrTooManySimultaneousQueries, chproto.ErrNoFreeConnection, chproto.ErrSocketTimeout, chproto.ErrNetworkError,
	chproto.ErrNoZookeeper, chproto.ErrAborted, chproto.ErrMemoryLimitExceeded, chproto.ErrTableIsReadOnly,
	chproto.ErrNotEnoughSpace, chproto.ErrUnexpectedZookeeperError, chproto.ErrTooManyParts, chproto.ErrNoActiveReplicas,
	chproto.ErrAllConnectionTriesFailed, chproto.ErrTooFewLiveReplicas, chproto.ErrUnsatisfiedQuorumForPreviousWrite,
	chproto.ErrUnknownStatusOfInsert, chproto.ErrQueryWasCancelled, chproto.ErrAllReplicasLost,
	chproto.ErrCannotScheduleTask, chproto.ErrDeadlockAvoided, chproto.ErrKeeperException,
	chproto.ErrConcurrentAccessNotSupported, chproto.ErrReceivedErrorTooManyRequests,
	// S3_ERROR, REPLICA_STATUS_CHANGED, TOO_MANY_MUTATIONS, SERVER_OVERLOADED
	499, 574, 692, 745,
)

// refusalCodes are the server's answers that are about values. An answer that is not
// listed stops the job: rather that than all rows in the dead letters because of a
// mistake in the table.
var refusalCodes = codes(
	chproto.ErrViolatedConstraint, chproto.ErrFunctionThrowIfValueIsNonZero, chproto.ErrCannotInsertNullInOrdinaryColumn,
	chproto.ErrCannotConvertType, chproto.ErrArgumentOutOfBound, chproto.ErrIncorrectData, chproto.ErrBadArguments,
	chproto.ErrTooLargeStringSize, chproto.ErrTooLargeArraySize, chproto.ErrIllegalDivision, chproto.ErrDecimalOverflow,
	chproto.ErrCannotParseText, chproto.ErrCannotParseNumber, chproto.ErrCannotParseDate, chproto.ErrCannotParseDatetime,
	chproto.ErrCannotParseUUID, chproto.ErrCannotParseEscapeSequence, chproto.ErrCannotParseQuotedString,
	chproto.ErrCannotParseInputAssertionFailed, chproto.ErrCannotParseDomainValueFromString,
	chproto.ErrValueIsOutOfRangeOfDataType, chproto.ErrZeroArrayOrTupleIndex, chproto.ErrSizesOfArraysDontMatch,
	chproto.ErrCannotParseBool, chproto.ErrCannotParseIpv4, chproto.ErrCannotParseIpv6,
	691, // UNKNOWN_ELEMENT_OF_ENUM
)

func codes(all ...chproto.Error) map[chproto.Error]bool {
	set := map[chproto.Error]bool{}
	for _, c := range all {
		set[c] = true
	}
	return set
}

// statusError is an answer over HTTP that is none of ClickHouse, but of something in
// between.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.code, e.body) }

func (e *statusError) verdict() verdict {
	if e.code >= 500 || e.code == 429 || e.code == 408 {
		return passing
	}
	return lasting
}
