package pipeline

import (
	"fmt"
	"reflect"
)

// Stream is the output of an operator or source, still to be consumed: a node
// of the graph, not records. Streams are values; several consumers of one
// stream each see every record.
type Stream[T any] struct {
	p     *Pipeline
	edges []*edge // one, or several after Union; each ends open, at a consumer to come
}

// KeyedStream is a stream whose records go to subtasks by key, so that all
// records of a key meet the same state.
type KeyedStream[K comparable, T any] struct {
	p     *Pipeline
	edges []*edge
}

// Input is what an operator reads: a [Stream], whose key type is [NoKey], or a
// [KeyedStream].
type Input[K comparable, T any] interface {
	// input is unexported: its signature lets K and T be inferred.
	input() (*Pipeline, []*edge, K, T)
}

func (s Stream[T]) input() (p *Pipeline, e []*edge, k NoKey, v T) { return s.p, s.edges, k, v }

func (s KeyedStream[K, T]) input() (p *Pipeline, e []*edge, k K, v T) { return s.p, s.edges, k, v }

// KeyBy sends every record to the subtask that owns its key. Keys are compared
// with ==; their type must have an identity that outlives the process: strings,
// numbers, booleans, and arrays and structs of these.
//
// Records of one key that come from one split stay in order.
func KeyBy[K comparable, T any](in Stream[T], key func(T) K) KeyedStream[K, T] {
	out := KeyedStream[K, T]{p: in.p}
	for _, e := range in.edges {
		out.edges = append(out.edges, e.through(&keyed[K, T]{key: key}))
	}
	if err := hashable[K](); err != nil {
		in.p.mistake(callSite(), "KeyBy: %v", err)
	}
	if key == nil {
		in.p.mistake(callSite(), "KeyBy: the key function is nil")
	}
	return out
}

// Union merges streams of one type. Records of each input stay in order among
// themselves; the watermark is the lowest of the inputs'.
func Union[T any](first Stream[T], more ...Stream[T]) Stream[T] {
	out := Stream[T]{p: first.p, edges: append([]*edge(nil), first.edges...)}
	for _, s := range more {
		if s.p != first.p {
			first.p.mistake(callSite(), "Union: the streams belong to different pipelines")
			continue
		}
		out.edges = append(out.edges, s.edges...)
	}
	return out
}

// Rebalance spreads records evenly over the subtasks of the next operator,
// batch by batch. Use it before an expensive operator behind a source with few
// splits. It is the one exchange that gives up order: records of one split may
// overtake each other.
func Rebalance[T any](in Stream[T]) Stream[T] {
	return redirect(in, func() connector { return &rebalanced[T]{} })
}

// Broadcast sends every record to every subtask of the next operator.
func Broadcast[T any](in Stream[T]) Stream[T] {
	return redirect(in, func() connector { return &broadcasted[T]{} })
}

func redirect[T any](in Stream[T], via func() connector) Stream[T] {
	out := Stream[T]{p: in.p}
	for _, e := range in.edges {
		out.edges = append(out.edges, e.through(via()))
	}
	return out
}

// Tag names a side output and fixes its type.
type Tag[T any] struct{ name string }

// NewTag returns a tag. The name is unique among the side outputs of one
// operator and appears in the graph and in metrics.
func NewTag[T any](name string) Tag[T] { return Tag[T]{name} }

// Name returns the tag's name.
func (t Tag[T]) Name() string { return t.name }

// SideOutput returns the stream that the operator behind of writes to tag, its
// late records for example. Records written to a tag that nobody asked for are
// dropped and counted.
func SideOutput[T, S any](of Stream[T], tag Tag[S]) Stream[S] {
	if len(of.edges) != 1 || of.edges[0].redirected() {
		of.p.mistake(callSite(), "SideOutput %q: the stream is not the direct output of an operator", tag.name)
		return Stream[S]{p: of.p}
	}
	n := of.edges[0].from
	typ := reflect.TypeFor[S]()
	if tag.name == deadLetterOutput {
		of.p.mistake(callSite(), "SideOutput: the name %q is taken; rejected records are read with DeadLetters", tag.name)
		return Stream[S]{p: of.p}
	}
	if o := n.side(tag.name); o != nil {
		if o.typ != typ {
			of.p.mistake(callSite(), "SideOutput %q of %q is asked for as %v and as %v", tag.name, n.name, o.typ, typ)
			return Stream[S]{p: of.p}
		}
		return Stream[S]{p: of.p, edges: []*edge{newEdge(n, o, &forwarded[S]{})}}
	}
	o := &output{name: tag.name, typ: typ, where: callSite()}
	n.outputs = append(n.outputs, o)
	return Stream[S]{p: of.p, edges: []*edge{newEdge(n, o, &forwarded[S]{})}}
}

// DeadLetters returns the stream of records that could not be decoded or that
// user code rejected, by an error or a panic. Without a consumer of it, the
// first such record stops the job.
//
// It carries what every source, operator and sink of the job rejects, except
// those that consume this stream themselves: what they reject stops the job.
func DeadLetters(p *Pipeline) Stream[DeadLetter] {
	if p.dead == nil {
		p.dead = p.add(&node{name: "dead letters", kind: kindUnion, out: reflect.TypeFor[DeadLetter]()})
		p.dead.build = unionBuilder[DeadLetter]()
	}
	return streamOf[DeadLetter](p, p.dead)
}

// DeadLetter is a record that was taken out of the stream.
type DeadLetter struct {
	// Operator and Subtask say who rejected it.
	Operator string `json:"operator"`
	Subtask  int    `json:"subtask"`
	// Error says why.
	Error string `json:"error"`
	// Split and Offset say where a source found it: a file and a line number, a
	// topic partition and an offset. Empty where an operator rejected it.
	Split  string `json:"split,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	// Time is its event time in milliseconds, where it had one.
	Time int64 `json:"time,omitempty"`
	// Raw is the record as the source read it.
	Raw []byte `json:"raw,omitempty"`
	// Key and Headers are the record's, where its source knows such.
	Key     []byte   `json:"key,omitempty"`
	Headers []Header `json:"headers,omitempty"`
	// Record is the value an operator rejected, rendered as text.
	Record string `json:"record,omitempty"`
}

// Header is a header of a record.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// String renders the letter in one line.
func (d DeadLetter) String() string {
	what := d.Record
	if d.Split != "" {
		what = fmt.Sprintf("%s:%d %q", d.Split, d.Offset, cut(string(d.Raw), 256))
	}
	return fmt.Sprintf("%s: %s: %s", d.Operator, what, d.Error)
}
