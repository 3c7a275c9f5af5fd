package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/scanner"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"
)

// Message is a pointer to a generated Protobuf message M.
type Message[M any] interface {
	*M
	proto.Message
}

// Protobuf reads topics whose values are Protobuf messages, one to a record and
// nothing around it, of the generated type M: Protobuf[pb.Hit] is a source of
// *pb.Hit. A value that is no such message is rejected, and so is a tombstone:
// [ProtobufRecords] shows those. Protobuf has no types on the wire, so that a
// message of another type may pass for one whose fields are unknown; where
// writers use a schema registry, [RegisteredProtobuf] would notice.
//
// Every record has a message of its own, which may be kept and changed.
func Protobuf[M any, T Message[M]](cfg Config) *Source[T] {
	return &Source[T]{cfg: cfg, decode: func(r *kgo.Record, v *T) error {
		if r.Value == nil {
			return errors.New("tombstone: the record has no value")
		}
		return decodeProtobuf(r.Value, v)
	}}
}

// ProtobufRecords is [Protobuf] with each record's key, headers and coordinates,
// and with tombstones, whose Value is nil.
func ProtobufRecords[M any, T Message[M]](cfg Config) *Source[Record[T]] {
	return &Source[Record[T]]{cfg: cfg, decode: func(r *kgo.Record, v *Record[T]) error {
		*v = recordOf[T](r)
		copyInto(v, r, 0)
		if v.Tombstone {
			return nil
		}
		return decodeProtobuf(r.Value, &v.Value)
	}}
}

func decodeProtobuf[M any, T Message[M]](value []byte, v *T) error {
	*v = new(M)
	// It copies strings and bytes, unless it is told not to.
	return proto.Unmarshal(value, *v)
}

// RegisteredProtobuf reads topics whose values are Protobuf messages in the
// registry's wire format, of the generated type M. Everything [Registered] says
// holds here too. A schema that is not Protobuf, or a record whose message is not
// M by its full name, is rejected.
func RegisteredProtobuf[M any, T Message[M]](cfg Config, client *sr.Client) *RegisteredSource[T] {
	want := string(T(new(M)).ProtoReflect().Descriptor().FullName())
	return registered(cfg, client, func(_ context.Context, _ int, schema sr.Schema) (decoder[T], error) {
		if err := checkType(schema, sr.TypeProtobuf); err != nil {
			return nil, err
		}
		file := declaredIn(schema.Schema)
		name, _ := file.at([]int{0})
		first := name == want
		return func(value []byte, v *T) error {
			if first && len(value) > 0 && value[0] == 0 { // as most are: the first message
				return decodeProtobuf(value[1:], v)
			}
			payload, name, err := file.locate(value)
			switch {
			case err != nil:
				return err
			case name != want:
				return fmt.Errorf("the record's message is a %s, not a %s", name, want)
			}
			return decodeProtobuf(payload, v)
		}, nil
	})
}

// declared is a message as the text of a schema declares it, or the file itself.
type declared struct {
	name   string // full name; of the file, its package
	nested []*declared
}

// maxNesting is how many message indexes a record may have. The length comes
// from the record, and is not to be trusted.
const maxNesting = 32

// locate takes the message indexes off a value, and returns what is behind them
// and the name of the message they lead to.
func (d *declared) locate(value []byte) (payload []byte, name string, err error) {
	path, payload, err := wireFormat.DecodeIndex(value, maxNesting)
	if err != nil {
		return nil, "", fmt.Errorf("message indexes: %w", err)
	}
	name, ok := d.at(path)
	if !ok {
		return nil, "", fmt.Errorf("message indexes %v: the schema has no such message", path)
	}
	return payload, name, nil
}

// at returns the full name of the message at a path of indexes.
func (d *declared) at(path []int) (name string, ok bool) {
	for _, i := range path {
		if i < 0 || i >= len(d.nested) {
			return "", false
		}
		d = d.nested[i]
	}
	return d.name, true
}

// declaredIn reads from the text of a schema which messages it declares, in what
// order and in what nesting: that is what message indexes count. The registry
// has accepted the text, so it needs no parser that checks all of it.
func declaredIn(text string) *declared {
	file := &declared{}
	open := []*declared{file} // the blocks around; nil is one of another kind
	tokens := tokensOf(text)
	for i, token := range tokens {
		around := open[len(open)-1]
		switch {
		case token == "package" && around == file && begins(tokens, i):
			end := slices.Index(tokens[i:], ";")
			file.name = strings.Join(tokens[i+1:i+max(end, 1)], "")
		case token == "{":
			var block *declared
			if around != nil && i >= 2 && tokens[i-2] == "message" && begins(tokens, i-2) {
				block = &declared{name: strings.TrimPrefix(around.name+"."+tokens[i-1], ".")}
				around.nested = append(around.nested, block)
			}
			open = append(open, block)
		case token == "}" && len(open) > 1:
			open = open[:len(open)-1]
		}
	}
	return file
}

// begins says whether a statement begins with token i. Types and fields may have
// the names of keywords.
func begins(tokens []string, i int) bool {
	return i == 0 || slices.Contains([]string{";", "{", "}", "export", "local"}, tokens[i-1])
}

// tokensOf returns the tokens of a schema without comments.
func tokensOf(text string) []string {
	var s scanner.Scanner
	s.Init(strings.NewReader(text))
	s.Mode = scanner.ScanIdents | scanner.ScanStrings | scanner.ScanChars | scanner.ScanComments | scanner.SkipComments
	s.Error = func(*scanner.Scanner, string) {} // strings in single quotes are none of Go's
	var tokens []string
	for s.Scan() != scanner.EOF {
		tokens = append(tokens, s.TokenText())
	}
	return tokens
}
