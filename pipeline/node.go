package pipeline

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/millrace/millrace/state"
)

// nodeKind is what a node of the graph does.
type nodeKind uint8

const (
	kindSource nodeKind = iota
	kindOperator
	kindUnion // passes records on; only the dead-letter stream is one
	kindSink
)

func (k nodeKind) String() string {
	return [...]string{"source", "operator", "union", "sink"}[k]
}

// node is a source, operator or sink of the graph. Its types are known only to
// build, the closure that makes the instance of one subtask.
type node struct {
	p                *Pipeline
	id               int
	name             string
	kind             nodeKind
	where            string // the user's file and line
	parallelism      int
	fixedParallelism bool
	out              reflect.Type
	outputs          []*output // the main output first, unless a sink
	in               []*edge
	strategy         any // a WatermarkStrategy, on sources
	eventTime        bool
	needsEventTime   bool
	build            func(*buildEnv) *instance
}

// output is one of a node's outputs: the main one, or a side output.
type output struct {
	name  string // "" for the main one
	typ   reflect.Type
	where string
	edges []*edge
}

// edge connects an output with an input of a consumer. It starts open, as the
// inside of a Stream; consuming it makes a closed copy.
type edge struct {
	from    *node
	out     *output
	conn    connector
	to      *node
	input   int
	forward connector // the connector before KeyBy and the like changed it
	chained bool      // decided by the plan
}

func newEdge(n *node, o *output, plain connector) *edge {
	return &edge{from: n, out: o, conn: plain, forward: plain}
}

func (e *edge) through(c connector) *edge {
	redirected := *e
	redirected.conn = c
	return &redirected
}

func (e *edge) redirected() bool { return e.conn != e.forward }

// deadLetterOutput is the name of the output that rejected records leave by.
const deadLetterOutput = "dead letters"

func (p *Pipeline) add(n *node) *node {
	n.p, n.id, n.where = p, len(p.nodes), callSite()
	n.parallelism = p.cfg.parallelism
	if n.kind == kindUnion {
		n.parallelism, n.fixedParallelism = 1, true
	}
	if n.out != nil {
		n.outputs = []*output{{typ: n.out, where: n.where}}
	}
	switch {
	case n.name == "":
		p.mistake(n.where, "the %v has no name", n.kind)
	case n.kind != kindUnion:
		p.checkDuplicate(n)
	}
	p.nodes = append(p.nodes, n)
	return n
}

func (p *Pipeline) checkDuplicate(n *node) {
	for _, other := range p.nodes {
		if other.name == n.name && other.kind != kindUnion {
			p.mistake(n.where, "the name %q is taken by the %v at %s", n.name, other.kind, other.where)
			return
		}
	}
}

func (n *node) apply(opts []OperatorOption) {
	for _, o := range opts {
		o.applyTo(n)
	}
	if n.parallelism < 1 || n.parallelism > n.p.cfg.maxParallelism {
		n.p.mistake(n.where, "%v %q: parallelism %d is not between 1 and the maximum parallelism %d",
			n.kind, n.name, n.parallelism, n.p.cfg.maxParallelism)
	}
	if n.strategy != nil && n.kind != kindSource {
		n.p.mistake(n.where, "%v %q: a watermark strategy is an option of sources only", n.kind, n.name)
	}
}

// consume closes edges at an input of n.
func (n *node) consume(input int, edges []*edge) {
	for _, open := range edges {
		e := *open
		e.to, e.input = n, input
		n.in = append(n.in, &e)
		e.out.edges = append(e.out.edges, &e)
	}
}

// side returns the side output of that name, or nil.
func (n *node) side(name string) *output {
	for _, o := range n.outputs {
		if o.name == name && name != "" {
			return o
		}
	}
	return nil
}

func streamOf[T any](p *Pipeline, n *node) Stream[T] {
	return Stream[T]{p: p, edges: []*edge{newEdge(n, n.outputs[0], &forwarded[T]{})}}
}

func hashable[K comparable]() error {
	_, err := state.HasherFor[K]()
	return err
}

// callSite returns the file and line of the nearest caller outside this
// module's own building functions: the user's line.
func callSite() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if !inLibrary(f.Function) || !more {
			return fmt.Sprintf("%s:%d", shortPath(f.File), f.Line)
		}
	}
}

const module = "github.com/millrace/millrace/"

func inLibrary(function string) bool {
	for _, room := range []string{"pipeline.", "pipeline/pipelinetest.", "operators."} {
		if strings.HasPrefix(function, module+room) {
			return true
		}
	}
	return false
}

// shortPath keeps a file's folder and name, which is what one looks for.
func shortPath(file string) string {
	parts := strings.Split(file, "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

// inspect looks for mistakes that only the whole graph shows.
func (p *Pipeline) inspect() []*mistake {
	var found []*mistake
	add := func(where, format string, args ...any) {
		found = append(found, &mistake{where, fmt.Sprintf(format, args...)})
	}
	if len(p.nodes) == 0 {
		add("pipeline", "the graph is empty")
	}
	for _, n := range p.nodes {
		for _, o := range n.outputs {
			if len(o.edges) == 0 {
				add(o.where, "%s is not used", outputName(n, o))
			}
		}
		if n.kind != kindSource && n.kind != kindUnion && len(n.in) == 0 {
			add(n.where, "%v %q has no input", n.kind, n.name)
		}
		if n.needsEventTime {
			for _, src := range n.sources() {
				if !src.eventTime {
					add(n.where, "operator %q works in event time, but its source %q has no watermark strategy", n.name, src.name)
				}
			}
		}
	}
	if n := p.cycle(); n != nil {
		add(n.where, "%v %q is its own input: the graph has a cycle", n.kind, n.name)
	}
	return found
}

func outputName(n *node, o *output) string {
	if n.kind == kindUnion {
		return "the dead-letter stream"
	}
	if o.name == "" {
		return fmt.Sprintf("the output of %v %q", n.kind, n.name)
	}
	return fmt.Sprintf("side output %q of %v %q", o.name, n.kind, n.name)
}

// sources returns the sources upstream of n, n included.
func (n *node) sources() []*node {
	var all []*node
	for _, up := range n.upstream(nil) {
		if up.kind == kindSource {
			all = append(all, up)
		}
	}
	return all
}

// upstream returns n and every node it reads from, directly or not.
func (n *node) upstream(seen []*node) []*node {
	if slices.Contains(seen, n) {
		return seen
	}
	seen = append(seen, n)
	for _, e := range n.in {
		seen = e.from.upstream(seen)
	}
	return seen
}

// cycle returns a node that is upstream of itself, or nil. The verbs of this
// package cannot make one; the check guards graphs that a Stream kept by
// mistake from elsewhere might.
func (p *Pipeline) cycle() *node {
	for _, n := range p.nodes {
		for _, e := range n.in {
			if e.from != n && slices.Contains(e.from.upstream(nil), n) {
				return n
			}
		}
	}
	return nil
}
